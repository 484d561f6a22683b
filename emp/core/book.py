"""The one answer to what a book is: the same as another, whole lots, believed or not and why.

Every door (recordings, FIX, cTrader, the simulator) puts a book into an EVENT row and asks here, so that one
market gives one sequence of books through all of them. A door does, per row:

1. write prices (ticks) and sizes (its own units) of at most LEVELS levels per side, best first, and n_bid, n_ask;
2. `to_lots`, or `quotes_only` where the feed has no sizes at all;
3. `judge`: a row that is not ACCEPTED makes no event and is counted under its reason. The instrument is stale
   until the next good book, which is compared with the last good one.

What is in use is told by n_bid and n_ask alone: 0 and less are prices (crude oil on 2020-04-20, spreads).
"""

from typing import Any

import numpy as np

from emp.core.codes import EventFlag, Quarantine
from emp.core.numba.fastmath import divide
from emp.core.numba.jit import kernel
from emp.core.records import LEVELS

MAX_LOTS = 1_000_000_000_000
"""A size beyond this is absurd."""

MAX_TICKS = 1_000_000_000_000
"""A price further than this from zero is absurd."""

FAR = 2
"""A mid or trade more than this factor off the last good mid is absurd, unless it is near it in spreads."""

NEAR = 16
"""So many usual spreads or moves off the last good mid a price is never absurd, whatever the factor."""

FAR_ROWS, FAR_NS = 32, 5_000_000_000
"""After more than so many books in a row that agree with each other, over so long, a far price is where the market is
now: a wrong feed, too, sends many at once.
"""

SLOW_ROWS, SLOW_NS = 3, 60_000_000_000
"""So few are enough over so long: not every market moves often."""

MOST_DOUBLINGS = 6
"""So often at most the time over which far books must agree is doubled: once for each fill of ours that contradicts."""

FORGIVEN_NS = 3_600_000_000_000
"""For each such time without another contradiction one is forgotten."""

UNIT_SPAN = 32
"""Good books over which the usual spread or move is a mean (exponential, weight 1 / UNIT_SPAN)."""

JUDGE = np.dtype(
    [
        ("known", "?"),  # a good book has been seen
        ("mid2", "i8"),  # bid + ask of the last good book: twice its mid, ticks
        ("unit2", "f8"),  # the usual spread or move of the mid, whichever is larger, twice, ticks
        ("far2", "i8"),  # bid + ask of the last of the far books in a row, and how many there were
        ("far_rows", "i8"),
        ("far_since", "i8"),  # when the first of them was, ns UTC
        ("far_trades", "i8"),  # trades where they are, less those where the last good mid is, since then
        (
            "contradicted",
            "i8",
        ),  # how often a fill of ours was far from the last good mid; one less for each hour
        ("contradicted_at", "i8"),  # the first book since, ns UTC, or since this was made less; 0: none yet
        ("proved2", "i8"),  # twice the price of the newest of these fills, ticks
        ("sub_lot", "i8"),  # levels left out because they held less than one lot, over all rows
    ],
    align=True,
)
"""What `judge` remembers of one instrument's good books; all zero before the first."""

ACCEPTED = int(Quarantine.ACCEPTED)
_MALFORMED = int(Quarantine.MALFORMED)
_CROSSED = int(Quarantine.CROSSED)
_LOCKED = int(Quarantine.LOCKED)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)
_ONE_SIDED = int(Quarantine.ONE_SIDED)
NO_SIZE = int(EventFlag.NO_SIZE)


@kernel
def same_book(a: Any, b: Any) -> bool:
    """Whether two EVENT rows show the same levels."""
    if a.n_bid != b.n_bid or a.n_ask != b.n_ask:
        return False
    for i in range(a.n_bid):
        if a.bid_px[i] != b.bid_px[i] or a.bid_sz[i] != b.bid_sz[i]:
            return False
    for i in range(a.n_ask):  # noqa: SIM110  kernels compile no generators
        if a.ask_px[i] != b.ask_px[i] or a.ask_sz[i] != b.ask_sz[i]:
            return False
    return True


@kernel
def copy_book(a: Any, b: Any) -> None:
    """Copy the book of EVENT row b into row a, and with it whether its sizes are known (NO_SIZE)."""
    a.n_bid = b.n_bid
    a.n_ask = b.n_ask
    a.flags = (a.flags & ~np.uint32(NO_SIZE)) | (b.flags & np.uint32(NO_SIZE))
    for i in range(LEVELS):
        a.bid_px[i] = b.bid_px[i]
        a.bid_sz[i] = b.bid_sz[i]
        a.ask_px[i] = b.ask_px[i]
        a.ask_sz[i] = b.ask_sz[i]


@kernel
def _side_to_lots(px: Any, sz: Any, n: int, unit: int, inverse: float) -> int:
    """Sizes of one side in lots, without its levels of less than one; returns how many are left."""
    empty = 0
    if unit == 1:
        for i in range(n):
            empty += sz[i] == 0
    else:
        for i in range(n):
            sz[i] = divide(sz[i], unit, inverse)
            empty += sz[i] == 0
    if empty == 0:  # nearly always: nothing has to move
        return n
    kept = 0
    for i in range(n):
        if sz[i] != 0:
            px[kept] = px[i]
            sz[kept] = sz[i]
            kept += 1
    first = kept
    if kept == 0 and n > 0:
        first = 1  # the best price stays where it is: its side may need it
        sz[0] = 0
    for i in range(first, n):
        px[i] = 0
        sz[i] = 0
    return kept


@kernel
def to_lots(row: Any, unit: int, inverse: float) -> int:
    """Bring a row's sizes from a venue's units to whole lots, rounded down; return the levels left out.

    A level that then holds less than one lot, or had no size at all, is not there. Where that would leave a
    side empty although a price was quoted, its best price stays, and the row becomes a book of quotes without
    sizes (`quotes_only`).

    Args:
        row: EVENT record with n_bid and n_ask levels, sizes in units; levels beyond them must be 0.
        unit: units per lot; 1 where sizes are lots already.
        inverse: 1 / unit.
    """
    n_bid, n_ask = row.n_bid, row.n_ask
    bids = _side_to_lots(row.bid_px, row.bid_sz, n_bid, unit, inverse)
    asks = _side_to_lots(row.ask_px, row.ask_sz, n_ask, unit, inverse)
    left_out = n_bid + n_ask - bids - asks
    if (bids == 0 and n_bid > 0) or (asks == 0 and n_ask > 0):
        quotes_only(row)
    else:
        row.n_bid = bids
        row.n_ask = asks
    return left_out


@kernel
def quotes_only(row: Any) -> None:
    """Make a row's book one of quotes without sizes: the best price of each side, sizes 0, NO_SIZE.

    Prices behind the best tell nothing without their sizes, and not every door can pass them on.
    """
    row.flags |= NO_SIZE
    for i in range(row.n_bid):
        row.bid_sz[i] = 0
        if i > 0:
            row.bid_px[i] = 0
    for i in range(row.n_ask):
        row.ask_sz[i] = 0
        if i > 0:
            row.ask_px[i] = 0
    row.n_bid = min(row.n_bid, 1)
    row.n_ask = min(row.n_ask, 1)


@kernel
def judge_touch(row: Any) -> int:
    """Why the best prices of an EVENT row cannot be believed, or ACCEPTED; needs no memory.

    One-sided, crossed, locked, or a best level without a size in a book that has sizes.
    """
    if row.n_bid == 0 or row.n_ask == 0:
        return _ONE_SIDED
    bid, ask = row.bid_px[0], row.ask_px[0]
    if bid >= ask:
        return _CROSSED if bid > ask else _LOCKED
    if row.flags & NO_SIZE == 0 and (row.bid_sz[0] <= 0 or row.ask_sz[0] <= 0):
        return _ABSURD_SIZE
    return ACCEPTED


@kernel
def _judge_side(px: Any, sz: Any, n: int, away: int, least: int) -> int:
    """Why the levels of a side cannot be, or ACCEPTED.

    `away` is the direction in which prices must go, +1 for asks and -1 for bids; `least` the smallest size.
    """
    if n < 0 or n > LEVELS:
        return _MALFORMED
    if n == 0:
        return ACCEPTED
    last = px[0]
    for i in range(1, n):
        if (px[i] - last) * away <= 0:
            return _MALFORMED
        last = px[i]
    if abs(px[0]) > MAX_TICKS or abs(last) > MAX_TICKS:  # the ends tell, since the levels are in order
        return _ABSURD_PRICE
    for i in range(n):
        if sz[i] < least or sz[i] > MAX_LOTS:
            return _ABSURD_SIZE
    return ACCEPTED


@kernel
def far_off(a: int, b: int, unit2: float) -> bool:
    """Whether two prices (in half ticks) are too far from each other to follow one another.

    |a - b| > (FAR - 1) min(|a|, |b|), which for prices of one sign says that one is more than FAR times the
    other, and |a - b| > NEAR unit2, without which everything would be far from a price of about zero.
    """
    distance = abs(a - b)
    return bool(distance > (FAR - 1) * min(abs(a), abs(b)) and distance > NEAR * unit2)


@kernel
def insist(rows: int, over_ns: int) -> bool:
    """Whether so many far books in a row that agree, over so long, say where the market is now."""
    return bool((rows > FAR_ROWS and over_ns >= FAR_NS) or (rows >= SLOW_ROWS and over_ns >= SLOW_NS))


@kernel
def _forgive(state: Any, now: int) -> None:
    """Forget contradictions that are long over, one for each FORGIVEN_NS."""
    if state.contradicted_at == 0 or now < state.contradicted_at:
        state.contradicted_at = now
    over = (now - state.contradicted_at) // FORGIVEN_NS
    state.contradicted = max(0, state.contradicted - over)
    state.contradicted_at += over * FORGIVEN_NS


@kernel
def judge(row: Any, state: Any, now: int) -> int:
    """Why the book of an EVENT row cannot be used, or ACCEPTED; `state`, a JUDGE record, remembers the good ones. `now`
    is when the book was, ns UTC, by one clock for all of an instrument's.

    In this order:

    - bids, then asks: levels that are not strictly worse one after the other: MALFORMED; a price beyond MAX_TICKS:
      ABSURD_PRICE; a size below one lot (below 0 in a book without sizes) or beyond MAX_LOTS: ABSURD_SIZE;
    - an empty side: ONE_SIDED. So is a best price of exactly 0 where 0 is too far off the last good mid or there
      is none yet: that is how many feeds write that nobody quotes;
    - a mid too far off the last good one (`far_off`, against the usual spread or move over good books before):
      ABSURD_PRICE, until such books in a row that agree with each other `insist`; where a fill of ours has contradicted
      what was believed (`filled`), twice as long for each time, but for books near the newest such fill;
    - bid above ask: CROSSED; bid equal to ask: LOCKED.
    """
    least = 0 if row.flags & NO_SIZE else 1
    fault = _judge_side(row.bid_px, row.bid_sz, row.n_bid, -1, least)
    if fault == ACCEPTED:
        fault = _judge_side(row.ask_px, row.ask_sz, row.n_ask, 1, least)
    if fault != ACCEPTED:
        return fault
    if row.n_bid == 0 or row.n_ask == 0:
        return _ONE_SIDED
    bid, ask = row.bid_px[0], row.ask_px[0]
    if (bid == 0 or ask == 0) and (not state.known or far_off(0, state.mid2, state.unit2)):
        return _ONE_SIDED
    mid2 = bid + ask
    if state.contradicted:
        _forgive(state, now)
    if state.known and far_off(mid2, state.mid2, state.unit2):
        if state.far_rows == 0 or now < state.far_since or far_off(mid2, state.far2, state.unit2):
            state.far_rows = 0
            state.far_since = now
            state.far_trades = 0
        state.far2 = mid2
        state.far_rows += 1
        doublings = state.contradicted if far_off(mid2, state.proved2, state.unit2) else 0
        if not insist(state.far_rows, (now - state.far_since) >> doublings):
            return _ABSURD_PRICE
    if bid >= ask:
        state.far_rows = 0
        return _CROSSED if bid > ask else _LOCKED
    # a jump that others had to confirm says nothing of usual moves
    move = abs(mid2 - state.mid2) if state.known and state.far_rows == 0 else 0
    state.far_rows = 0
    size2 = float(max(move, 2 * (ask - bid)))
    state.unit2 += (size2 - state.unit2) / UNIT_SPAN if state.known else size2
    state.mid2 = mid2
    state.known = True
    return ACCEPTED


@kernel
def heard(px: int, state: Any) -> None:
    """A trade at `px` ticks is told; before `judge` of the book that comes with it, or after it.

    Books far off in a row are no market that has moved while others trade where it was: where more trades of their time
    are near the last good mid than near these books, they begin anew. A trade near both says nothing, nor one near
    neither. A market that has jumped may still tell some trades late, or at a mean price. `state` is a JUDGE record.
    """
    if state.far_rows == 0:
        return
    here = not far_off(2 * px, state.mid2, state.unit2)
    there = not far_off(2 * px, state.far2, state.unit2)
    if here == there:
        return
    state.far_trades += 1 if there else -1
    if state.far_trades < 0:
        state.far_rows = 0


@kernel
def filled(px: int, state: Any) -> None:
    """A fill of ours at `px` ticks has just happened, told by a report: what spoils books need not spoil it.

    Near the last good mid, and far from books that are not believed yet: these begin anew, whatever else was traded.
    Far from the last good mid, near those: one more trade there. Far from the last good mid else: a wrong one was
    believed; the fill says where the market is until a book does, and from now on a jump to elsewhere must be agreed on
    twice as long. `state` is a JUDGE record.
    """
    if not state.known:
        return
    there = state.far_rows > 0 and not far_off(2 * px, state.far2, state.unit2)
    if not far_off(2 * px, state.mid2, state.unit2):
        if not there:
            state.far_rows = 0
        return
    if there:
        state.far_trades += 1
        return
    state.mid2 = state.proved2 = 2 * px
    state.far_rows = 0
    state.contradicted = min(state.contradicted + 1, MOST_DOUBLINGS)
    state.contradicted_at = 0


@kernel
def judge_trade(px: int, qty: int, state: Any) -> int:
    """Why a trade at `px` ticks of `qty` signed lots cannot be, or ACCEPTED; `state` is a JUDGE record.

    Without a good book before it: ONE_SIDED. No lots, or beyond MAX_LOTS: ABSURD_SIZE. A price too far off the
    last good mid: ABSURD_PRICE.
    """
    if not state.known:
        return _ONE_SIDED
    if qty == 0 or abs(qty) > MAX_LOTS:
        return _ABSURD_SIZE
    if abs(px) > MAX_TICKS or far_off(2 * px, state.mid2, state.unit2):
        return _ABSURD_PRICE
    return ACCEPTED
