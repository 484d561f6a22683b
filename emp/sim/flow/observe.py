"""Order flow as twelve event types with what stood in the book just before: real and simulated alike.

Six kinds per side: a limit order inside the spread, at the best price, deeper; a cancel at the best price,
deeper; a market order against the side (Jain, Muzy, Kochems and Bacry, "Limit order book simulations with a
compound Hawkes process", arXiv 2312.08927). The type is `kind + 6 * side`. Executions of one instant on one
side are one market order.
"""

from typing import Any

import numpy as np

from emp.core.jit import kernel
from emp.core.records import Array
from emp.sim.book import BEST, BUY, LIVE, LO, MASK, SELL, clear_trade, level_qty, new_fills, next_level, u
from emp.sim.flow.state import ADD, DELETE, REDUCE, TRADE
from emp.sim.replay import SEED, Plan, replay_message

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


@kernel
def observe_messages(b: Any, fills: Any, msgs: Any, out: Any, born: Any, born_ns: Any) -> int:
    """Replay planned messages and write one OBS row per event; return the rows. `born` is per record."""
    n = 0
    for i in range(len(msgs)):
        m = msgs[i]
        clear_trade(b)
        event = m.kind in (ADD, REDUCE, DELETE, TRADE)
        if event and look(b, out[n]):
            o = out[n]
            o.ts = m.ts
            same = n > 0 and out[n - 1].type == HIT + KINDS * m.side and out[n - 1].ts == m.ts
            if m.kind == TRADE and same:
                out[n - 1].qty += m.qty
            else:
                classify(o, m.kind, m.side, m.px, m.qty)
                o.rank = rank_of(b, m.side, m.px)
                if m.kind in (REDUCE, DELETE) and born[m.handle] >= 0:
                    o.age = n - born[m.handle]
                    o.age_ns = m.ts - born_ns[m.handle]
                n += 1
        if m.kind == ADD:
            born[m.handle] = n - 1
            born_ns[m.handle] = m.ts
        elif m.kind == SEED:
            born[m.handle] = -1
        replay_message(b, fills, m)
    return n


def observe_replay(plan: Plan) -> Array:
    """OBS rows of a recording."""
    out = np.zeros(len(plan.msgs) + 1, OBS)
    born = np.full(plan.records, -1, np.int64)
    n = observe_messages(plan.new_book(), new_fills(64), plan.msgs, out, born, born.copy())
    return out[:n]
