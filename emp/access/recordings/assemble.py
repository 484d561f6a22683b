"""From slots to EVENT rows: books, updates, trades, whole books told level by level, quotes by side or by venue.

An update only means something on a whole book without a gap: until there is one, and from a break in the ids on,
rows are UNKNOWN_ORDER, and the first book after it is a GAP.
"""

from typing import Any

import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.cells import apply_cell, side_of
from emp.access.recordings.orders import ASK, BID, set_level, show
from emp.access.recordings.scan import NO_PRICE, SUB_LOT
from emp.access.recordings.slots import (
    ASK_PX,
    ASK_SZ,
    ASKS,
    BID_PX,
    BID_SZ,
    BIDS,
    BOOK,
    BUYER,
    BY_MAKER,
    BY_ORDERS,
    BY_PRICE,
    CHANGES,
    CLOCK,
    F_LAST,
    FIRST,
    GROUP,
    ID,
    KIND,
    KINDS,
    LAST,
    LEVEL,
    MAX_VENUES,
    PREVIOUS,
    PRINTS,
    PX,
    RECV,
    SELLER,
    SIDE,
    SNAPSHOT,
    SYMBOL,
    SZ,
    TS,
    VENUE,
    WHEN,
)
from emp.core.book import MAX_LOTS, MAX_TICKS
from emp.core.codes import Quarantine
from emp.core.numba.jit import inlined, kernel

_MALFORMED = int(Quarantine.MALFORMED)
_UNKNOWN = int(Quarantine.UNKNOWN_ORDER)
_DUPLICATE = int(Quarantine.DUPLICATE)
_OTHER = int(Quarantine.OTHER_INSTRUMENT)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)

MAX_SKEW_NS = 1_000_000_000
"""In a file that is in order of receipt, exchange time may go back by so much; it is then held at its latest."""


@inlined
def _among(value: int, words: Any) -> bool:
    for i in range(len(words)):  # noqa: SIM110  kernels compile no generators
        if words[i] == value:
            return True
    return False


@inlined
def _signed(t: Any, layout: Any) -> int:
    """+1 where a buyer took, -1 a seller, 0 where the price must tell, 2 where the side cannot be read."""
    if layout.side == BY_PRICE:
        return 0
    if layout.side == BY_ORDERS:
        if t[BUYER] == t[SELLER]:
            return 0
        return 1 if t[BUYER] > t[SELLER] else -1
    if _among(t[SIDE], layout.buys):
        sign = 1
    elif _among(t[SIDE], layout.sells):
        sign = -1
    else:
        return 0 if _among(t[SIDE], layout.no_sides) else 2
    return -sign if layout.side == BY_MAKER else sign


@kernel
def _seen(t: Any, seen: Any) -> bool:
    """Whether the very same trade came before: id, time, price, size and side."""
    key = np.uint64(t[ID])
    for slot in (TS, CLOCK, PX, SZ, SIDE):
        key = (key ^ np.uint64(t[slot])) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    at = np.int64(key & np.uint64(len(seen) - 1))
    if seen[at] == key:
        return True
    seen[at] = key
    return False


@inlined
def _print(t: Any, layout: Any, seen: Any, row: Any) -> Any:
    """A trade without a book of its own: (kind, status)."""
    if t[SZ] == SUB_LOT:
        return fold.PART, 0
    if t[SZ] <= 0:
        return fold.NOTE, _ABSURD_SIZE
    sign = _signed(t, layout)
    if sign == 2:
        return fold.NOTE, _MALFORMED
    if layout.has_ids and t[ID] != 0 and _seen(t, seen):
        return fold.NOTE, _DUPLICATE
    row.trade_px = t[PX]
    row.trade_qty = t[SZ] if sign >= 0 else -t[SZ]
    return (fold.PRINT if sign != 0 else fold.UNSIGNED), 0


@kernel
def _carry(t: Any, state: Any) -> bool:
    """Fill in the side that a row leaves as it was; whether the row is more than a side again as it was."""
    changed = False
    given = 0
    for side in range(2):
        px, sz = (BID_PX, BID_SZ) if side == 0 else (ASK_PX, ASK_SZ)
        if t[px] == NO_PRICE or t[px] == 0:
            t[px] = state.carried[2 * side] if state.carried[2 * side] != 0 else NO_PRICE
            t[sz] = state.carried[2 * side + 1]
        else:
            given += 1
            changed = changed or state.carried[2 * side] != t[px] or state.carried[2 * side + 1] != t[sz]
            state.carried[2 * side] = t[px]
            state.carried[2 * side + 1] = t[sz]
    return changed or given == 2


@kernel
def _moved(t: Any, state: Any) -> bool:
    """Whether the best of all venues is another than before."""
    best = (t[BID_PX], t[BID_SZ], t[ASK_PX], t[ASK_SZ])
    moved = False
    for i in range(4):
        moved = moved or state.carried[i] != best[i]
        state.carried[i] = best[i]
    return moved


@kernel
def _consolidate(t: Any, state: Any, venues: Any) -> None:
    """Put the best of all venues' quotes in place of one venue's."""
    at = 0
    while at < state.n_venues and venues[at].name != t[VENUE]:
        at += 1
    if at == state.n_venues:
        if at == MAX_VENUES:
            return
        state.n_venues += 1
        venues[at].name = t[VENUE]
    mine = venues[at].quote
    mine[0], mine[1], mine[2], mine[3] = t[BID_PX], t[BID_SZ], t[ASK_PX], t[ASK_SZ]
    for v in range(state.n_venues):  # an older quote that the new one crosses stands no more
        other = venues[v].quote
        if v != at and mine[1] > 0 and mine[0] != NO_PRICE and other[2] != NO_PRICE and other[2] <= mine[0]:
            other[2] = NO_PRICE
        if v != at and mine[3] > 0 and mine[2] != NO_PRICE and other[0] != NO_PRICE and other[0] >= mine[2]:
            other[0] = NO_PRICE
    for side in range(2):
        px, sz = (BID_PX, BID_SZ) if side == 0 else (ASK_PX, ASK_SZ)
        sign = 1 if side == 0 else -1
        t[px] = NO_PRICE
        t[sz] = 0
        for v in range(state.n_venues):
            price, size = venues[v].quote[2 * side], venues[v].quote[2 * side + 1]
            if price == NO_PRICE or price == 0 or size <= 0:
                continue
            if t[px] == NO_PRICE or (price - t[px]) * sign > 0:
                t[px] = price
                t[sz] = size
            elif price == t[px]:
                t[sz] += size


@inlined
def _inline(t: Any, layout: Any, row: Any) -> None:
    """Copy the levels of the slots into a row."""
    row.n_bid = layout.bids
    row.n_ask = layout.asks
    for i in range(layout.bids):
        row.bid_px[i] = t[BID_PX + i]
        row.bid_sz[i] = t[BID_SZ + i]
    for i in range(layout.asks):
        row.ask_px[i] = t[ASK_PX + i]
        row.ask_sz[i] = t[ASK_SZ + i]


@kernel
def _sign_by_book(px: int, state: Any) -> int:
    """The aggressor of a trade at px by the book before it (Lee and Ready): above mid a buyer, below a seller."""
    if state.mid2 != 0 and 2 * px != state.mid2:
        return 1 if 2 * px > state.mid2 else -1
    return state.sign if state.sign != 0 else 1


@inlined
def _trade_of_book(t: Any, layout: Any, state: Any) -> Any:
    """Add the trade that a book's row holds to the event that is not over; 0, or why it cannot be."""
    if layout.volume:
        if t[SZ] <= 0:
            return 0
        sign = _sign_by_book(t[PX], state)
    else:
        if len(layout.when_words) > 0 and not _among(t[WHEN], layout.when_words):
            return 0
        if t[SZ] <= 0:
            return 0 if len(layout.when_words) == 0 or t[SZ] == SUB_LOT else _ABSURD_SIZE
        sign = _signed(t, layout)
        if sign == 2:
            return _MALFORMED
        if sign == 0:
            sign = _sign_by_book(t[PX], state)
    if t[PX] == NO_PRICE:
        return _MALFORMED
    if abs(t[PX]) > MAX_TICKS:
        return _ABSURD_PRICE
    state.sign = sign
    if state.qty != 0 and (state.qty > 0) != (sign > 0):
        state.qty = 0  # one event has one aggressor: the later counts
    if state.qty == 0 or (t[PX] - state.px) * sign > 0:
        state.px = t[PX]
        state.px_qty = 0
    if state.px == t[PX]:
        state.px_qty += t[SZ]
    state.qty += sign * t[SZ]
    return 0


@kernel
def _book(t: Any, buf: Any, layout: Any, state: Any, venues: Any, book: Any, levels: Any, row: Any) -> Any:
    """A row that holds the whole book: (kind, status)."""
    fault: Any = 0
    if layout.cells:
        book.n[BID] = 0
        book.n[ASK] = 0
        fault = apply_cell(buf, t[BIDS], BID, layout, levels, book)
        if fault == 0:
            fault = apply_cell(buf, t[ASKS], ASK, layout, levels, book)
        show(levels, book, row)
    else:
        if layout.carry and not _carry(t, state):
            return fold.PART, 0
        if layout.venues:
            _consolidate(t, state, venues)
            if not _moved(t, state):
                return fold.PART, 0  # no better than what other venues show
        _inline(t, layout, row)
    if layout.trades and fault == 0 and layout.rows == BOOK:
        fault = _trade_of_book(t, layout, state)
    if fault != 0:
        return fold.NOTE, fault
    if row.n_bid > 0 and row.n_ask > 0 and row.bid_px[0] != NO_PRICE and row.ask_px[0] != NO_PRICE:
        state.mid2 = row.bid_px[0] + row.ask_px[0]
    if layout.grouped and t[GROUP] & F_LAST == 0:
        return fold.PART, 0
    if state.qty != 0:
        row.trade_px, row.trade_qty, row.trade_qty_last = state.px, state.qty, state.px_qty
        state.qty = 0
        return fold.TRADE, 0
    return (fold.CHANGE if layout.grouped else fold.QUOTE), 0


@kernel
def _break(state: Any) -> None:
    """The book is whole no more."""
    if state.synced == 1:
        state.gaps += 1
    state.synced = 0
    state.gap = 1


@kernel
def _whole(t: Any, state: Any) -> int:
    """A whole book has been told: the kind of its row."""
    again = state.synced == 1
    state.synced = 1
    state.last = t[LAST]
    state.gap = 0
    return fold.CHANGE if again else fold.GAP


@kernel
def _follows(t: Any, layout: Any, state: Any) -> int:
    """1 where an update follows the last one, 0 where the book has it already, -1 where one is missing between."""
    if layout.ids == 0 or state.last == 0:
        return 1
    if t[LAST] <= state.last and layout.ids != 1:
        return 0
    if layout.ids == 3 and t[PREVIOUS] == state.last:
        return 1
    if layout.ids >= 2:
        return 1 if t[FIRST] <= state.last + 1 else -1
    return 1 if t[LAST] == state.last + 1 else (0 if t[LAST] == state.last else -1)


@kernel
def _update(t: Any, buf: Any, layout: Any, state: Any, book: Any, levels: Any) -> Any:
    """Changes of a book in cells: (kind, status)."""
    if state.synced == 0:
        return fold.NOTE, _UNKNOWN
    follows = _follows(t, layout, state)
    if follows < 0:
        _break(state)
        return fold.NOTE, _UNKNOWN
    if follows == 0:
        return fold.PART, 0
    fault = 0
    if t[CHANGES] != 0:
        fault = apply_cell(buf, t[CHANGES], -1, layout, levels, book)
    else:
        fault = apply_cell(buf, t[BIDS], BID, layout, levels, book)
        if fault == 0:
            fault = apply_cell(buf, t[ASKS], ASK, layout, levels, book)
    if fault != 0:
        _break(state)  # what it changed is not known
        return fold.NOTE, fault
    state.last = t[LAST]
    return fold.CHANGE, 0


@kernel
def _level(t: Any, ends: bool, layout: Any, state: Any, book: Any, levels: Any) -> Any:
    """One level: (kind, status). `ends` says that the change ends with it."""
    side = side_of(t[SIDE])
    if side < 0:
        return fold.NOTE, _MALFORMED
    if t[SZ] < 0 or t[SZ] > MAX_LOTS:
        return fold.NOTE, _ABSURD_SIZE
    snapshot = len(layout.whole_words) > 0 and _among(t[SNAPSHOT], layout.whole_words)
    if snapshot and state.loading == 0:
        book.n[BID] = 0
        book.n[ASK] = 0
        state.loading = 1
    if not snapshot:
        state.loading = 0
        if state.synced == 0:
            return fold.NOTE, _UNKNOWN
        if t[LAST] != state.last or layout.ids == 0:
            follows = _follows(t, layout, state)
            if follows < 0:
                _break(state)
                return fold.NOTE, _UNKNOWN
            if follows == 0:
                return fold.PART, 0
    set_level(levels, book, side, t[PX], t[SZ])
    if not ends:
        return fold.PART, 0
    if snapshot:
        return _whole(t, state), 0
    state.last = t[LAST]
    return fold.CHANGE, 0


@kernel
def _differ(t: Any, u: Any) -> bool:
    """Whether two rows of levels belong to different changes."""
    return bool(
        u[TS] != t[TS]
        or u[CLOCK] != t[CLOCK]
        or u[RECV] != t[RECV]
        or u[LAST] != t[LAST]
        or u[SNAPSHOT] != t[SNAPSHOT]
    )


@inlined
def _one(t: Any, ends: bool, buf: Any, layout: Any, state: Any, memory: Any, row: Any) -> Any:
    """What one row does: (kind, status). `memory` is (venues, seen, book, levels)."""
    venues, seen, book, levels = memory
    if layout.rows == BOOK:
        return _book(t, buf, layout, state, venues, book, levels, row)
    if layout.rows == PRINTS:
        return _print(t, layout, seen, row)
    if layout.rows == LEVEL:
        if layout.trades and _among(t[KIND], layout.trade_words):
            return _print(t, layout, seen, row) if state.synced == 1 else (fold.NOTE, _UNKNOWN)
        kind, status = _level(t, ends, layout, state, book, levels)
        show(levels, book, row)
        return kind, status
    word = t[KIND]
    if _among(word, layout.trade_words):
        if len(layout.update_words) > 0 and state.synced == 0:
            return fold.NOTE, _UNKNOWN
        return _print(t, layout, seen, row)
    if _among(word, layout.book_words):
        return _book(t, buf, layout, state, venues, book, levels, row)
    if _among(word, layout.snapshot_words):
        kind, status = _book(t, buf, layout, state, venues, book, levels, row)
        if status != 0:
            _break(state)
            return kind, status
        return _whole(t, state), 0
    if _among(word, layout.update_words):
        kind, status = _update(t, buf, layout, state, book, levels)
        show(levels, book, row)
        return kind, status
    return fold.PART, 0  # of no use here: orders beside recorded books, subscriptions, heartbeats


@kernel
def assemble(
    table: Any, buf: Any, layout: Any, state: Any, memory: Any, rows: Any, kind: Any, status: Any
) -> None:
    """Make EVENT rows, which must be zero, of a table of slots; `status` holds what parsing found."""
    n = len(table)
    for i in range(n):
        t = table[i]
        row = rows[i]
        row.ts = t[TS] + t[CLOCK]
        row.ts_recv = t[RECV] if t[RECV] != 0 else row.ts
        if len(layout.symbols) > 0 and t[SYMBOL] != 0 and not _among(t[SYMBOL], layout.symbols):
            status[i] = _OTHER
        if status[i] != 0:
            if len(layout.update_words) > 0 and status[i] != _OTHER and _among(t[KIND], layout.update_words):
                _break(state)
            continue
        if layout.received or layout.rows == KINDS:
            in_order = not layout.received or row.ts_recv >= state.recv
            if row.ts < state.ts and row.ts > state.ts - MAX_SKEW_NS and in_order:
                row.ts = state.ts
            state.ts = max(row.ts, state.ts) if abs(row.ts - state.ts) < MAX_SKEW_NS else row.ts
            state.recv = row.ts_recv
        ends = True
        if layout.rows == LEVEL and i + 1 < n:
            u = table[i + 1]
            ends = _differ(u, t)
        kind[i], status[i] = _one(t, ends, buf, layout, state, memory, row)


@kernel
def last_group(table: Any) -> int:
    """First row of the group that a table of levels ends in."""
    i = len(table) - 1
    while i > 0:
        t, u = table[i], table[i - 1]
        if _differ(u, t):
            return i
        i -= 1
    return 0
