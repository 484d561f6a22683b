"""One trade of a capacity curve: follow somebody's metaorder with a size, then give the position back."""

from typing import Any

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.sim.book.book import BEST, BUY, IOC, LO, MARKET, MASK, POST_ONLY, SELL, clear_trade, level_qty
from emp.sim.book.matching import submit
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.world.desk import (
    FREE,
    RESTING,
    SLOTS,
    collect,
    decision_ns,
    deliver,
    desk_cancel,
    desk_new,
    run_desk,
    worth,
)

FIELDS = ("pnl", "lots", "reached", "move", "first", "hours", "at_once")
"""What a trade leaves: money, lots traded, share of the size reached when the metaorder ends and after the first
order, signed mid moves to the same two moments, hours it took."""

EXIT = 8  # decisions in which the position is given back before it is sold at any price


@kernel
def two_sided(b: Any) -> bool:
    """Whether both sides have a price."""
    return bool(b[BEST] != b[LO] and b[BEST + 1] != b[LO] + b[MASK])


@kernel
def depth_samples(world: Any, out: Any) -> None:
    """First-level quantity of both sides, averaged, every 20 events of an undisturbed market."""
    world = borrowed(world)
    b = world.flow.book
    for i in range(len(out)):
        run_desk(world, 2**62, 20)
        out[i] = 0
        for side in range(2):
            px = int(b[BEST + side])
            if px != b[LO] and px != b[LO] + b[MASK]:
                out[i] += 0.5 * level_qty(b, side, px)


@kernel
def trade_toward(world: Any, now: int, want: int, bid: int, ask: int, passive: bool) -> None:
    """Move the position to `want`: post at the best price and follow it, or take what it shows."""
    d = world.desk[0]
    gap = want - d.seen_position
    busy = False
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE:
            continue
        stale = gap == 0 or (o.side == BUY) != (gap > 0) or o.px != (bid if o.side == BUY else ask)
        if o.state == RESTING and stale:
            desk_cancel(world, now, slot)
        busy = True
    if gap == 0 or busy:
        return
    side = BUY if gap > 0 else SELL
    if passive:
        desk_new(world, now, side, bid if side == BUY else ask, abs(gap), POST_ONLY)
    else:
        desk_new(world, now, side, ask if side == BUY else bid, abs(gap), IOC)


@kernel
def _others_order(world: Any, side: int, qty: int) -> None:
    """A market order of the metaorder; it may meet orders of ours."""
    flow = world.flow
    clear_trade(flow.book)
    submit(flow.book, flow.fills, side, 0, qty, MARKET, 0, 0)
    collect(world)
    if flow.params[0].model == QUEUE_REACTIVE:
        remember_ours(flow.state[0], flow.params[0], side, qty)


@kernel
def play_trade(
    world: Any, side: int, size: int, passive: bool, children: int, child_qty: int, every: int, out: Any
) -> None:
    """Follow a metaorder of `children` market orders on `side` with `size` lots, then leave; `out` gets FIELDS.

    A decision comes every `every` events, sees the book as it was then, and acts a feed latency and the
    strategy's own compute time later. Size 0 only watches.
    """
    world = borrowed(world)
    b, s, d = world.flow.book, world.flow.state[0], world.desk[0]
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
        act = decision_ns(world)
        if step < children:
            _others_order(world, side, child_qty)
        run_desk(world, act, 1 << 30)
        deliver(world, act)
        if good and size > 0:
            want = sign * size if step < children else 0
            trade_toward(world, act, want, bid, ask, passive)
        run_desk(world, 2**62, every)
    _close_out(world)
    out[0] = worth(world)
    out[1] = d.maker_lots + d.taker_lots
    out[5] = (s.now - began) / 3.6e12


@kernel
def _close_out(world: Any) -> None:
    """Withdraw everything and sell what is left at any price, so that what is left is money."""
    s, d = world.flow.state[0], world.desk[0]
    for _ in range(50):
        deliver(world, s.now)
        idle = True
        for slot in range(SLOTS):
            if d.orders[slot].state == RESTING:
                desk_cancel(world, s.now, slot)
            idle = idle and d.orders[slot].state == FREE
        if idle and d.seen_position == 0:
            break
        if idle:
            side = SELL if d.seen_position > 0 else BUY
            desk_new(world, s.now, side, 0, abs(d.seen_position), MARKET)
        run_desk(world, 2**62, 20)
