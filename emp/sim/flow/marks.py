"""What an event of a given type does to the book: price, size, and which order is withdrawn.

Shared by Hawkes and queue-reactive flow. Cancels pick an order by its age, drawn from the recorded ages of
cancelled orders, so lifetimes keep their heavy tail; where no such order is left, one is drawn at random.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.rng import next_u64, one_of
from emp.sim.book.book import (
    BEST,
    BUY,
    LO,
    MARKET,
    MASK,
    ORDER_WORDS,
    ORDERS,
    OWNER,
    PREV,
    PX,
    QTY,
    SELL,
    SEQ,
    SIDE,
    STAMP,
    TAIL,
    cancel,
    level_of,
    u,
)
from emp.sim.book.matching import submit
from emp.sim.flow.observe import AT, CANCEL_AT, DEEP, HIT, IN, KINDS, gap_behind
from emp.sim.flow.state import DELETE, RECENT, TRADE, note, place

_S54 = np.uint64(54)
_S56 = np.uint64(56)
_LOW = np.uint64((1 << 20) - 1)
_LOW_UNIT = 2.0**-20


@kernel
def bucket(x: Any, edges: Any) -> int:
    """Index of the bucket of x between ascending edges."""
    n = 0
    for k in range(len(edges)):
        n += x >= edges[k]
    return n


@kernel
def draw(table: Any, r: Any) -> Any:
    """A random entry of a table of 1024 quantiles."""
    return table[next_u64(r) >> _S54]


@kernel
def draw_ticks(table: Any, level: float, r: Any) -> int:
    """A random distance of a table of 256 quantiles, times the level, rounded to whole ticks by chance.

    The table is read by the draw's highest bits, the rounding is done by its lowest.
    """
    bits = next_u64(r)
    x = table[bits >> _S56] * level + np.float64(bits & _LOW) * _LOW_UNIT
    return max(1, int(x))


@kernel
def _unfit(b: Any, h: int, side: int) -> int:
    """0 where a record holds an order of the market behind the best price of a side.

    The answer is as good as random, so the conditions are joined by arithmetic: a branch would be foretold wrongly.
    """
    gone = (int(b[u(h + QTY)]) - 1) >> 31
    best = int(b[u(h + PX)] == b[u(BEST + side)])
    return gone | int(b[u(h + OWNER)]) | (int(b[u(h + SIDE)]) ^ side) | best


@kernel
def _aged_order(b: Any, s: Any, side: int, age: int) -> int:
    """A live order behind the best price of about this age in events, 0 where none is near."""
    for k in range(16):
        step = (k + 1) >> 1
        back = age + (step if k & 1 else -step)
        if back < 1 or back >= RECENT or back > s.seq:
            continue
        i = u((s.seq - back) & (RECENT - 1))
        h = int(s.recent[i])
        if (int(b[u(h + SEQ)]) ^ int(s.stamp[i])) | _unfit(b, h, side) == 0:
            return h
    return 0


@kernel
def _best_order(b: Any, side: int, age: int) -> int:
    """The order at the best price whose age comes nearest from above; 0 where all are ours.

    About every other event brings an order, so an order's age in events is twice its age in arrivals.
    """
    h = int(b[u(level_of(b, side, int(b[u(BEST + side)])) + TAIL)])
    found = 0
    for _ in range(16):
        if h == 0:
            break
        if b[u(h + OWNER)] == 0:
            found = h
            if 2 * (b[u(STAMP)] - b[u(h + SEQ)]) >= age:
                break
        h = int(b[u(h + PREV)])
    return found


@kernel
def _any_order(b: Any, s: Any, side: int, r: Any) -> int:
    start = int(b[u(ORDERS)])
    n = (s.high - start) // ORDER_WORDS + 1
    for _ in range(128):
        h = start + ORDER_WORDS * one_of(n, r)
        if _unfit(b, h, side) == 0:
            return h
    return 0


@kernel
def apply_limit(flow: Any, kind: int, side: int) -> None:
    """A limit order inside the spread, at the best price, or deeper."""
    b, s, p, r = flow.book, flow.state[0], flow.params[0], flow.rng
    sign = 1 - 2 * side
    best = int(b[u(BEST + side)])
    other = int(b[u(BEST + 1 - side)])
    lo = int(b[u(LO)])
    hi = lo + int(b[u(MASK)])
    empty = best == (lo if side == BUY else hi)
    if empty:
        best = s.ref - sign * p.start_spread
        if (other - best) * sign <= 0:
            best = other - sign
    px = best
    spread = (other - best) * sign
    wide = u(bucket(spread / s.level, p.spread_edges))
    if kind == IN:
        ticks = draw_ticks(p.in_ticks[wide], s.level, r)
        px = best + sign * min(ticks, spread - 1) if not empty else best
    elif kind == DEEP:
        gap = u(bucket(gap_behind(b, side) / s.level, p.deep_gaps))
        px = best - sign * draw_ticks(p.deep_ticks[wide, gap], s.reach, r)
    place(flow, side, px, draw(p.limit_qty[kind], r))
    i = u(s.seq & (RECENT - 1))
    s.recent[i] = s.handle
    s.stamp[i] = b[u(s.handle + SEQ)] if s.handle != 0 else -1


@kernel
def market_qty(have: int, drawn: int) -> int:
    """Lots of a market order that meets `have`: 0 asks for all of them, below 0 for more, else for no more."""
    return min(drawn, have) if drawn > 0 else max(-drawn, have)


@kernel
def apply_type(flow: Any, what: int) -> None:
    """Apply an event of type `kind + 6 * side`."""
    b, s, p, r = flow.book, flow.state[0], flow.params[0], flow.rng
    side = SELL if what >= KINDS else BUY
    kind = what - KINDS * side
    s.type = what
    s.stamp[u(s.seq & (RECENT - 1))] = -1
    if kind in (IN, AT, DEEP):
        apply_limit(flow, kind, side)
        return
    best = int(b[u(BEST + side)])
    lo = int(b[u(LO)])
    if best == (lo if side == BUY else lo + int(b[u(MASK)])):
        s.skipped += 1
        s.qty = 0
        return
    if kind == HIT:
        have = int(b[u(level_of(b, side, best))])
        qty = market_qty(have, draw(p.hit_qty[u(bucket(have, p.size_edges))], r))
        submit(b, flow.fills, 1 - side, 0, qty, MARKET, 0, 0)
        note(s, TRADE, side, best, qty, 0)
        return
    if kind == CANCEL_AT:
        h = _best_order(b, side, draw(p.age[0], r))
    else:
        h = _aged_order(b, s, side, draw(p.age[1], r))
        if h == 0:
            h = _any_order(b, s, side, r)
    if h == 0:
        s.skipped += 1
        s.qty = 0
        return
    px = int(b[u(h + PX)])
    note(s, DELETE, side, px, cancel(b, h), h)
