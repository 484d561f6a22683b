"""Invariants of a book, checkable after any event."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import (
    ADDED,
    AUCTION,
    BEST,
    BUY,
    CANCELLED,
    COUNT,
    FREE,
    HEAD,
    LIVE,
    LO,
    MASK,
    NEXT,
    NUMBERED,
    ORDER_WORDS,
    ORDERS,
    OWN_LIVE,
    OWNER,
    PHASE,
    PREV,
    PX,
    QTY,
    SELL,
    SEQ,
    SIDE,
    TAIL,
    TRADED,
    level_of,
    marked,
)

FAULTS = (
    "",
    "an order is linked wrongly",
    "an order stands in a level that is not its own",
    "a queue is not in order of arrival",
    "a level's quantity is not the sum of its orders",
    "a level's count is not the number of its orders",
    "a best price is wrong",
    "the book is crossed",
    "the number of live orders is wrong",
    "the free list is wrong",
    "quantity is not conserved",
    "an order without quantity rests",
    "a level's mark does not say whether orders rest there",
)


@kernel
def _check_level(b: Any, side: int, px: int, seen: Any) -> int:
    """Walk one queue, adding to `seen` (orders, lots, own orders)."""
    lv = level_of(b, side, px)
    h = int(b[lv + HEAD])
    before, stamp, total, count = 0, -(2**31), 0, 0
    while h != 0:
        if b[h + PREV] != before or count > 10_000_000:
            return 1
        if b[h + PX] != px or b[h + SIDE] != side:
            return 2
        if b[h + SEQ] <= stamp:
            return 3
        if b[h + QTY] <= 0:
            return 11
        stamp = int(b[h + SEQ])
        total += b[h + QTY]
        count += 1
        seen[2] += b[h + OWNER] != 0
        before = h
        h = int(b[h + NEXT])
    if b[lv + TAIL] != before:
        return 1
    if marked(b, side, px) != (count > 0):
        return 12
    if b[lv + QTY] != total:
        return 4
    if b[lv + COUNT] != count:
        return 5
    seen[0] += count
    seen[1] += total
    return 0


@kernel
def _check_free(b: Any) -> int:
    """Length of the free list, -1 where a record in it is in use or outside."""
    n = 0
    h = int(b[FREE])
    limit = (b[NUMBERED] - b[ORDERS]) // ORDER_WORDS
    while h != 0:
        if h < b[ORDERS] or h >= b[NUMBERED] or b[h + QTY] != 0 or n > limit:
            return -1
        n += 1
        h = int(b[h + NEXT])
    return n


@kernel
def fault(b: Any, seen: Any) -> int:
    """Index in FAULTS of the first broken invariant, 0 where all hold. `seen` is an int64[3] scratch."""
    lo = int(b[LO])
    hi = lo + b[MASK]
    seen[:] = 0
    best_bid, best_ask = lo, hi
    for px in range(lo, hi + 1):
        for side in range(2):
            code = _check_level(b, side, px, seen)
            if code != 0:
                return code
        if b[level_of(b, BUY, px)] != 0 and px != lo:
            best_bid = px
        if b[level_of(b, SELL, px)] != 0 and px < best_ask:
            best_ask = px
    if b[BEST] != best_bid or b[BEST + 1] != best_ask:
        return 6
    if b[PHASE] != AUCTION and best_bid >= best_ask:
        return 7
    if b[LIVE] != seen[0] or b[OWN_LIVE] != seen[2]:
        return 8
    free = _check_free(b)
    numbered = 0
    for h in range(b[NUMBERED], len(b), ORDER_WORDS):
        numbered += b[h + QTY] != 0
    if free < 0 or free + seen[0] - numbered != (b[NUMBERED] - b[ORDERS]) // ORDER_WORDS:
        return 9
    if (int(b[ADDED]) - b[CANCELLED] - b[TRADED] - seen[1]) & 0xFFFFFFFF:
        return 10
    return 0


def check_book(b: Array) -> None:
    """Raise AssertionError naming the first invariant that a book breaks."""
    code = fault(b, np.zeros(3, np.int64))
    if code:
        raise AssertionError(f"order book: {FAULTS[code]}")
