"""The limit order book: price-time priority in one flat int32 array.

Layout: a header of `HEADER` words, the levels of the bid side, the levels of the ask side, one bit per level
that says whether orders rest there, then the orders. Everything a book is lies in that array, so a clone is one
copy and two books are equal exactly when their words are. A handle is the offset of an order's record, so a
cancel needs no lookup; handle 0 is no order. The price window is a ring: level of a price is `px & mask`, and
`slide` moves the window.

Prices are ticks, quantities lots, both int32. The lowest and highest price of the window are reserved: they
mean "no bid" and "no ask", and hold the market orders that wait for an auction.
"""

from typing import Any

import numpy as np

from emp.core.errors import UsageError
from emp.core.numba.bits import leading_zeros, trailing_zeros
from emp.core.numba.jit import inlined, kernel
from emp.core.records import Array

# header words
MASK = 0  # number of ticks in the window, a power of two, minus 1
LO = 1  # lowest price of the window
BEST = 2  # best bid (LO: none); BEST + 1 is the best ask (LO + MASK: none)
FREE = 4  # first free order record, linked through NEXT
LIVE = 5  # orders in the book
ORDERS = 6  # offset of the first order record
END = 7  # offset behind the last order record
PHASE = 8
STP = 9
REPLACE = 10
STAMP = 11  # arrivals so far: priority within a level
STATUS = 12  # outcome of the last submit, cancel, reduce or replace
FILLED = 13  # lots that the last submit traded
TRADE_PX = 14  # worst price traded since `clear_trade`
TRADE_QTY = 15  # lots traded since then, > 0 buyer-initiated
TRADE_LAST = 16  # unsigned lots traded at TRADE_PX
N_FILLS = 17  # rows written to the fill log
LOST_FILLS = 18  # fills that found the log full
ADDED = 19  # lots that ever rested, modulo 2**32
CANCELLED = 20  # lots withdrawn
TRADED = 21  # lots of resting orders that traded
OWN_LIVE = 22  # orders in the book whose owner is not 0
NUMBERED = 23  # offset of the first record outside the free list
HEADER = 32
MIN_TICKS = 64

# level words
QTY = 0
COUNT = 1
HEAD = 2
TAIL = 3

# order words (QTY = 0: the record is free)
PX = 1
NEXT = 2
PREV = 3
OWNER = 4  # 0: the anonymous market
SIDE = 5
SEQ = 6  # STAMP at arrival
TAG = 7  # the owner's own number for the order
ORDER_WORDS = 8

BUY, SELL = 0, 1

# kinds of order
LIMIT, MARKET, IOC, FOK, POST_ONLY = 0, 1, 2, 3, 4

# phases
CONTINUOUS, AUCTION, HALTED = 0, 1, 2

# self-trade prevention: what goes when an owner would meet himself
STP_NONE, STP_CANCEL_NEW, STP_CANCEL_OLD, STP_DECREMENT = 0, 1, 2, 3

# replace rule: does a smaller size at the same price keep its place?
REPLACE_KEEPS, REPLACE_LOSES = 0, 1

# outcomes
OK_RESTING, OK_FILLED, OK_EXPIRED, OK_CANCELLED, OK_REDUCED = 0, 1, 2, 3, 4
BAD_PRICE, BAD_QTY, BAD_POST, BAD_FOK, BAD_PHASE, BAD_FULL, BAD_HANDLE = 10, 11, 12, 13, 14, 15, 16

FILL = np.dtype(
    [
        ("maker", "i4"),  # owner of the resting order
        ("maker_tag", "i4"),
        ("taker", "i4"),
        ("taker_tag", "i4"),
        ("side", "i4"),  # of the taker
        ("px", "i4"),
        ("qty", "i4"),
        ("leaves", "i4"),  # lots the maker still has
        ("ahead", "i4"),  # lots that stood before the maker when this aggressor arrived
        ("handle", "i4"),  # of the maker
    ],
    align=True,
)
"""A trade in which a named owner took part."""

u = np.uint64


def new_book(
    lo: int,
    ticks: int = 8192,
    orders: int = 4096,
    stp: int = STP_CANCEL_OLD,
    replace: int = REPLACE_KEEPS,
    numbered: int = 0,
) -> Array:
    """Return an empty book in continuous trading for prices lo < px < lo + ticks - 1.

    `ticks` must be a power of two; `orders` is how many may rest at once. `numbered` more records stand
    behind them outside the free list, for a replay that gives every order its record beforehand.
    """
    if ticks < MIN_TICKS or ticks & (ticks - 1):
        raise UsageError(
            f"a book's price window must be a power of two of at least {MIN_TICKS} ticks, was {ticks}"
        )
    start = HEADER + 8 * ticks + max(8, ticks // 16)
    free_end = start + orders * ORDER_WORDS
    b = np.zeros(free_end + numbered * ORDER_WORDS, np.int32)
    b[MASK], b[LO], b[BEST], b[BEST + 1] = ticks - 1, lo, lo, lo + ticks - 1
    b[STP], b[REPLACE], b[ORDERS], b[END], b[NUMBERED] = stp, replace, start, len(b), free_end
    records = np.arange(start, free_end, ORDER_WORDS, dtype=np.int32)
    b[records[:-1] + NEXT] = records[1:]
    b[FREE] = start
    return b


def new_fills(n: int = 4096) -> Array:
    """Return an empty fill log; its count is the book's N_FILLS."""
    return np.zeros(n, FILL)


@inlined
def level_of(b: Any, side: int, px: int) -> int:
    """Offset of a price level."""
    mask = int(b[MASK])
    return HEADER + ((side * (mask + 1) + (px & mask)) << 2)


@kernel
def level_qty(b: Any, side: int, px: int) -> int:
    """Lots resting at a price; 0 outside the window."""
    if px < b[LO] or px > b[LO] + b[MASK]:
        return 0
    return int(b[u(level_of(b, side, px))])


@inlined
def _mark(b: Any, lv: int) -> None:
    """Turn over the bit that says whether orders rest at a level."""
    i = (lv - HEADER) >> 2
    b[u(HEADER + 8 * (int(b[MASK]) + 1) + (i >> 5))] ^= 1 << (i & 31)


@inlined
def _marks(b: Any, side: int, px: int) -> Any:
    """The word of bits in which the level of a price lies."""
    ticks = int(b[MASK]) + 1
    return u(b[u(HEADER + 8 * ticks + ((side * ticks + (px & (ticks - 1))) >> 5))] & 0xFFFFFFFF)


@kernel
def marked(b: Any, side: int, px: int) -> bool:
    """Whether orders rest at a price, by its bit."""
    return bool((_marks(b, side, px) >> u(px & 31)) & u(1))


@inlined
def next_level(b: Any, side: int, px: int) -> int:
    """The next price with orders, going away from the touch; the window's end where there is none."""
    if side == BUY:
        end = int(b[LO])
        px -= 1
        while px > end:
            below = _marks(b, BUY, px) << u(63 - (px & 31))
            if below != 0:
                return max(px - int(leading_zeros(below)), end)
            px -= (px & 31) + 1
        return end
    end = int(b[LO]) + int(b[MASK])
    px += 1
    while px < end:
        above = _marks(b, SELL, px) >> u(px & 31)
        if above != 0:
            return min(px + int(trailing_zeros(above)), end)
        px += 32 - (px & 31)
    return end


@inlined
def _empty_level(b: Any, side: int, px: int) -> None:
    if px == b[u(BEST + side)]:
        b[u(BEST + side)] = next_level(b, side, px)


@inlined
def rest_at(b: Any, h: int, side: int, px: int, qty: int, owner: int, tag: int) -> None:
    """Put an order behind all others of its price, in the free record `h`."""
    lv = level_of(b, side, px)
    tail = int(b[u(lv + TAIL)])
    b[u(h + QTY)] = qty
    b[u(h + PX)] = px
    b[u(h + NEXT)] = 0
    b[u(h + PREV)] = tail
    b[u(h + OWNER)] = owner
    b[u(h + SIDE)] = side
    b[u(STAMP)] += 1
    b[u(h + SEQ)] = b[u(STAMP)]
    b[u(h + TAG)] = tag
    if tail == 0:
        b[u(lv + HEAD)] = h
        _mark(b, lv)
        if side == BUY:
            if px > b[u(BEST)]:
                b[u(BEST)] = px
        elif px < b[u(BEST + 1)]:
            b[u(BEST + 1)] = px
    else:
        b[u(tail + NEXT)] = h
    b[u(lv + TAIL)] = h
    b[u(lv + QTY)] += qty
    b[u(lv + COUNT)] += 1
    b[u(LIVE)] += 1
    b[u(ADDED)] += qty
    if owner != 0:
        b[u(OWN_LIVE)] += 1


@inlined
def unlink(b: Any, h: int, lv: int) -> None:
    """Take a record out of its level's queue, leaving the level's quantity to the caller."""
    after = int(b[u(h + NEXT)])
    before = int(b[u(h + PREV)])
    if before == 0:
        b[u(lv + HEAD)] = after
    else:
        b[u(before + NEXT)] = after
    if after == 0:
        b[u(lv + TAIL)] = before
        if before == 0:
            _mark(b, lv)
    else:
        b[u(after + PREV)] = before
    b[u(lv + COUNT)] -= 1
    b[u(LIVE)] -= 1
    if b[u(h + OWNER)] != 0:
        b[u(OWN_LIVE)] -= 1
    b[u(h + QTY)] = 0


@inlined
def release(b: Any, h: int) -> None:
    """Give a record back to the free list; numbered records belong to their replay."""
    if h < b[u(NUMBERED)]:
        b[u(h + NEXT)] = b[u(FREE)]
        b[u(FREE)] = h


@inlined
def take_out(b: Any, h: int) -> int:
    """Withdraw an order without giving its record back; return its lots."""
    side = int(b[u(h + SIDE)])
    px = int(b[u(h + PX)])
    qty = int(b[u(h + QTY)])
    lv = level_of(b, side, px)
    b[u(lv + QTY)] -= qty
    unlink(b, h, lv)
    b[u(CANCELLED)] += qty
    if b[u(lv + QTY)] == 0:
        _empty_level(b, side, px)
    return qty


@kernel
def alive(b: Any, h: int) -> bool:
    """Whether a handle names an order in the book."""
    if h < b[ORDERS] or h >= b[END] or (h - b[ORDERS]) % ORDER_WORDS != 0:
        return False
    return bool(b[u(h + QTY)] > 0)


@kernel
def cancel(b: Any, h: int) -> int:
    """Withdraw an order and free its record; return the lots withdrawn, 0 where there was none."""
    if not alive(b, h):
        b[u(STATUS)] = BAD_HANDLE
        return 0
    qty = take_out(b, h)
    release(b, h)
    b[u(STATUS)] = OK_CANCELLED
    return qty


@inlined
def shrink(b: Any, h: int, by: int, traded: bool) -> None:
    """Reduce a live order by less than its size; it keeps its place."""
    lv = level_of(b, int(b[u(h + SIDE)]), int(b[u(h + PX)]))
    b[u(h + QTY)] -= by
    b[u(lv + QTY)] -= by
    if traded:
        b[u(TRADED)] += by
    else:
        b[u(CANCELLED)] += by


@kernel
def reduce(b: Any, h: int, by: int) -> int:
    """Make an order smaller in place; by its whole size or more withdraws it. Return the lots withdrawn."""
    if not alive(b, h) or by <= 0:
        b[u(STATUS)] = BAD_QTY if by <= 0 else BAD_HANDLE
        return 0
    if by >= b[u(h + QTY)]:
        return cancel(b, h)
    shrink(b, h, by, False)
    b[u(STATUS)] = OK_REDUCED
    return by


@kernel
def ahead_of(b: Any, h: int) -> int:
    """Lots that stand before an order in its queue."""
    total = 0
    h = int(b[u(h + PREV)])
    while h != 0:
        total += b[u(h + QTY)]
        h = int(b[u(h + PREV)])
    return total


@inlined
def clear_trade(b: Any) -> None:
    """Forget the last trade and the logged fills: the next event starts."""
    b[u(TRADE_PX)] = 0
    b[u(TRADE_QTY)] = 0
    b[u(TRADE_LAST)] = 0
    b[u(N_FILLS)] = 0


@kernel
def slide(b: Any, lo: int) -> int:
    """Move the price window; orders that fall out are withdrawn. Return their number.

    The best prices must lie strictly inside the new window, and no auction may be collecting.
    """
    ticks = int(b[MASK]) + 1
    old = int(b[LO])
    no_bid = b[BEST] == old
    no_ask = b[BEST + 1] == old + ticks - 1
    out = 0
    for px in range(old, old + ticks):
        if px <= lo or px >= lo + ticks - 1:
            for side in range(2):
                lv = level_of(b, side, px)
                while b[lv + HEAD] != 0:
                    cancel(b, int(b[lv + HEAD]))
                    out += 1
    b[LO] = lo
    if no_bid or b[BEST] == old:
        b[BEST] = lo
    if no_ask or b[BEST + 1] == old + ticks - 1:
        b[BEST + 1] = lo + ticks - 1
    return out
