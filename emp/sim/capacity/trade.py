"""One trade of a capacity curve: follow somebody's metaorder with a size, then give the position back."""

from typing import Any

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.sim.book.book import BEST, BUY, IOC, LO, MARKET, MASK, POST_ONLY, SELL, clear_trade, level_qty
from emp.sim.book.matching import submit
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.world.desk import FREE, RESTING, SLOTS, collect, deliver, desk_cancel, desk_new, run_desk, worth
from emp.sim.world.latency import FEED, draw_latency

FIELDS = ("pnl", "lots", "reached", "move", "first", "hours", "at_once")
"""What a trade leaves: money, lots traded, share of the size reached when the metaorder ends and after the first
order, signed mid moves to the same two moments, hours it took."""

EXIT = 8  # decisions in which the position is given back before it is sold at any price


@kernel
def two_sided(b: Any) -> bool:
    """Whether both sides have a price."""
    return bool(b[BEST] != b[LO] and b[BEST + 1] != b[LO] + b[MASK])


@kernel
def depth_samples(b: Any, fills: Any, s: Any, p: Any, r: Any, d: Any, m: Any, r2: Any, out: Any) -> None:
    """First-level quantity of both sides, averaged, every 20 events of an undisturbed market."""
    b, fills, r, r2 = borrowed(b), borrowed(fills), borrowed(r), borrowed(r2)
    for i in range(len(out)):
        run_desk(b, fills, s, p, r, d, m, r2, 2**62, 20)
        out[i] = 0
        for side in range(2):
            px = int(b[BEST + side])
            if px != b[LO] and px != b[LO] + b[MASK]:
                out[i] += 0.5 * level_qty(b, side, px)


@kernel
def trade_toward(
    d: Any, m: Any, r2: Any, now: int, load: float, want: int, bid: int, ask: int, passive: bool
) -> None:
    """Move the position to `want`: post at the best price and follow it, or take what it shows."""
    gap = want - d.seen_position
    busy = False
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE:
            continue
        stale = gap == 0 or (o.side == BUY) != (gap > 0) or o.px != (bid if o.side == BUY else ask)
        if o.state == RESTING and stale:
            desk_cancel(d, m, r2, now, load, slot)
        busy = True
    if gap == 0 or busy:
        return
    side = BUY if gap > 0 else SELL
    if passive:
        desk_new(d, m, r2, now, load, side, bid if side == BUY else ask, abs(gap), POST_ONLY)
    else:
        desk_new(d, m, r2, now, load, side, ask if side == BUY else bid, abs(gap), IOC)


@kernel
def _others_order(b: Any, fills: Any, s: Any, p: Any, d: Any, m: Any, r2: Any, side: int, qty: int) -> None:
    """A market order of the metaorder; it may meet orders of ours."""
    clear_trade(b)
    submit(b, fills, side, 0, qty, MARKET, 0, 0)
    collect(b, fills, s, d, m, r2)
    if p.model == QUEUE_REACTIVE:
        remember_ours(s, p, side, qty)


@kernel
def play_trade(
    b: Any,
    fills: Any,
    s: Any,
    p: Any,
    r: Any,
    d: Any,
    m: Any,
    r2: Any,
    side: int,
    size: int,
    passive: bool,
    children: int,
    child_qty: int,
    every: int,
    out: Any,
) -> None:
    """Follow a metaorder of `children` market orders on `side` with `size` lots, then leave; `out` gets FIELDS.

    A decision comes every `every` events, sees the book as it was then, and acts a feed latency and the
    strategy's own compute time later. Size 0 only watches.
    """
    b, fills, r, r2 = borrowed(b), borrowed(fills), borrowed(r), borrowed(r2)
    sign = 1 - 2 * side
    began = s.now
    mid = 0.5 * (b[BEST] + b[BEST + 1])
    start = mid
    for step in range(children + EXIT):
        bid, ask = int(b[BEST]), int(b[BEST + 1])
        good = two_sided(b)
        if good:
            mid = 0.5 * (bid + ask)
        if step == 1:
            out[4] = (mid - start) * sign
            out[6] = d.position * sign / size if size > 0 else 0.0
        if step == children:
            out[3] = (mid - start) * sign
            out[2] = d.position * sign / size if size > 0 else 0.0
        act = s.now + draw_latency(m, FEED, s.load, r2) + int(m.compute_ns)
        if step < children:
            _others_order(b, fills, s, p, d, m, r2, side, child_qty)
        run_desk(b, fills, s, p, r, d, m, r2, act, 1 << 30)
        deliver(d, act)
        if good and size > 0:
            want = sign * size if step < children else 0
            trade_toward(d, m, r2, act, s.load, want, bid, ask, passive)
        run_desk(b, fills, s, p, r, d, m, r2, 2**62, every)
    _close_out(b, fills, s, p, r, d, m, r2)
    out[0] = worth(b, d)
    out[1] = d.maker_lots + d.taker_lots
    out[5] = (s.now - began) / 3.6e12


@kernel
def _close_out(b: Any, fills: Any, s: Any, p: Any, r: Any, d: Any, m: Any, r2: Any) -> None:
    """Withdraw everything and sell what is left at any price, so that what is left is money."""
    for _ in range(50):
        deliver(d, s.now)
        idle = True
        for slot in range(SLOTS):
            if d.orders[slot].state == RESTING:
                desk_cancel(d, m, r2, s.now, s.load, slot)
            idle = idle and d.orders[slot].state == FREE
        if idle and d.seen_position == 0:
            break
        if idle:
            side = SELL if d.seen_position > 0 else BUY
            desk_new(d, m, r2, s.now, s.load, side, 0, abs(d.seen_position), MARKET)
        run_desk(b, fills, s, p, r, d, m, r2, 2**62, 20)
