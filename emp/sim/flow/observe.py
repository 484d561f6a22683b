"""Order flow as twelve event types with what stood in the book just before: real and simulated alike.

Six kinds per side: a limit order inside the spread, at the best price, deeper; a cancel at the best price,
deeper; a market order against the side (Jain, Muzy, Kochems and Bacry, "Limit order book simulations with a
compound Hawkes process", arXiv 2312.08927). The type is `kind + 6 * side`. Executions of one instant on one
side are one market order.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.sim.book.book import (
    BEST,
    BUY,
    LIVE,
    LO,
    MASK,
    SELL,
    level_qty,
    next_level,
    u,
)
from emp.sim.flow.state import ADD, TRADE

IN, AT, DEEP, CANCEL_AT, CANCEL_DEEP, HIT = range(6)
KINDS = 6
TYPES = 12

MOST_RANKS = 64

OBS = np.dtype(
    [
        ("ts", "i8"),
        ("type", "i4"),
        ("sign", "i4"),  # of a market order: +1 buyer-initiated, -1 seller-initiated, else 0
        ("dist", "i4"),  # ticks from the best price of the order's own side, > 0 deeper
        ("rank", "i4"),  # prices with orders before its own, of its side, at most MOST_RANKS
        ("age", "i4"),  # of a cancelled order, in events since it arrived; -1 unknown
        ("age_ns", "i8"),
        ("qty", "i8"),
        ("bid", "i8"),
        ("ask", "i8"),
        ("bid_sz", "i8"),
        ("ask_sz", "i8"),
        ("gap_bid", "i4"),  # ticks from the best to the second price, 0 where there is none
        ("gap_ask", "i4"),
        ("live", "i8"),  # orders in the book
    ],
    align=True,
)
"""One event and the book before it."""


@kernel
def gap_behind(b: Any, side: int) -> int:
    """Ticks from a side's best to its second price, 0 where it has no second."""
    best = int(b[u(BEST + side)])
    second = next_level(b, side, best)
    if second == b[u(LO)] or second == b[u(LO)] + b[u(MASK)]:
        return 0
    return abs(second - best)


@kernel
def rank_of(b: Any, side: int, px: int) -> int:
    """How many prices with orders lie before a price of a side, at most MOST_RANKS."""
    sign = 1 - 2 * side
    at = int(b[u(BEST + side)])
    end = int(b[u(LO)]) + (0 if side == BUY else int(b[u(MASK)]))
    n = 0
    while n < MOST_RANKS and at != end and (at - px) * sign > 0:
        at = next_level(b, side, at)
        n += 1
    return n


@kernel
def look(b: Any, o: Any) -> bool:
    """Write the touch into an OBS row; return whether both sides have a price."""
    bid = int(b[BEST])
    ask = int(b[BEST + 1])
    o.bid = bid
    o.ask = ask
    o.bid_sz = level_qty(b, BUY, bid)
    o.ask_sz = level_qty(b, SELL, ask)
    o.gap_bid = gap_behind(b, BUY)
    o.gap_ask = gap_behind(b, SELL)
    o.live = b[LIVE]
    return bool(bid != b[LO] and ask != b[LO] + b[MASK])


@kernel
def classify(o: Any, kind: int, side: int, px: int, qty: int) -> None:
    """Complete an OBS row, whose touch is known, by the message that came."""
    best = o.bid if side == BUY else o.ask
    dist = (best - px) * (1 - 2 * side)
    o.dist = dist
    o.qty = qty
    o.sign = 0
    o.age = -1
    if kind == TRADE:
        o.type = HIT + KINDS * side
        o.sign = 2 * side - 1
        return
    if kind == ADD:
        what = IN if dist < 0 else (AT if dist == 0 else DEEP)
    else:
        what = CANCEL_AT if dist <= 0 else CANCEL_DEEP
    o.type = what + KINDS * side
