"""Our orders inside the kernel: delayed commands, exact queue places, delayed reports, money.

A desk keeps what is true at the venue apart from what we know, because reports take time. Commands and
reports are ordered streams: none overtakes an earlier one of the same direction. All of it is one record, so
a clone is a copy.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    FILLED,
    IOC,
    MARKET,
    N_FILLS,
    OK_RESTING,
    OWN_LIVE,
    POST_ONLY,
    PX,
    QTY,
    SELL,
    STATUS,
    TAG,
    ahead_of,
    alive,
    cancel,
    clear_trade,
    u,
)
from emp.sim.book.book import OWNER as OWNER_WORD
from emp.sim.book.matching import replace, submit
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.flow.state import FlowWorld, recentre
from emp.sim.world.latency import CANCEL, ENTRY, FEED, MODIFY, REPORT, draw_latency
from emp.sim.world.tape import FlowTape, next_event

SLOTS = 8
RING = 64

OWNER = 1
FREE, SENT, RESTING, CANCELLING = 0, 1, 2, 3
NEW_CMD, CANCEL_CMD, REPLACE_CMD = 0, 1, 2
ACCEPTED, FILL, DONE = 0, 1, 2

ORDER = np.dtype(
    [
        ("handle", "i8"),  # at the venue; 0 where it does not rest
        ("state", "i8"),  # what we know: FREE, SENT, RESTING, CANCELLING
        ("side", "i8"),
        ("px", "i8"),
        ("leaves", "i8"),  # what we know
        ("sent_ns", "i8"),
        ("ahead", "i8"),  # lots before us when it was accepted
        ("serial", "i8"),  # tells this order from an earlier one in the same slot
    ],
    align=True,
)

COMMAND = np.dtype(
    [
        ("due", "i8"),
        ("what", "i8"),
        ("slot", "i8"),
        ("side", "i8"),
        ("px", "i8"),
        ("qty", "i8"),
        ("kind", "i8"),
    ],
    align=True,
)

DESK_REPORT = np.dtype(
    [
        ("due", "i8"),
        ("what", "i8"),
        ("slot", "i8"),
        ("serial", "i8"),
        ("qty", "i8"),
        ("px", "i8"),
        ("ahead", "i8"),
        ("maker", "i8"),
    ],
    align=True,
)

DESK = np.dtype(
    [
        ("orders", ORDER, (SLOTS,)),
        ("inbox", COMMAND, (RING,)),
        ("in_first", "i8"),
        ("in_n", "i8"),
        ("outbox", DESK_REPORT, (RING,)),
        ("out_first", "i8"),
        ("out_n", "i8"),
        ("last_in", "i8"),
        ("last_out", "i8"),
        ("serial", "i8"),
        ("owner", "i8"),  # whose orders they are in the book; desks that share one have different owners
        ("maker_fee", "f8"),  # ticks per lot
        ("taker_fee", "f8"),
        # true at the venue
        ("position", "i8"),
        ("cash", "f8"),  # ticks times lots
        ("fees", "f8"),
        # what we know
        ("seen_position", "i8"),
        # counters
        ("orders_sent", "i8"),
        ("rejected", "i8"),
        ("expired", "i8"),
        ("maker_fills", "i8"),
        ("taker_fills", "i8"),
        ("maker_lots", "i8"),
        ("taker_lots", "i8"),
        ("posted_lots", "i8"),  # lots that came to rest
        ("ahead_sum", "i8"),  # of lots before us at our maker fills
        ("overflow", "i8"),  # commands or reports that found a ring full
    ],
    align=True,
)


class World(NamedTuple):
    """Everything that the kernels of a desk in a market work on; see `FlowWorld`."""

    flow: FlowWorld | FlowTape
    desk: Array  # DESK, shape (1,)
    latency: Array  # LATENCY, shape (1,)
    rng: Array  # uint64 (1,): the desk's own, so that its latencies do not change what the flow draws


def new_desk(maker_fee: float, taker_fee: float, owner: int = OWNER) -> Array:
    """Return a flat DESK (shape (1,)); fees in ticks per lot, negative for a rebate. Owner 0 is the market's."""
    d = np.zeros(1, DESK)
    d["maker_fee"], d["taker_fee"], d["owner"] = maker_fee, taker_fee, owner
    return d


@kernel
def _draw(world: Any, leg: int) -> int:
    """One delay of a leg at the present load."""
    return draw_latency(world.latency[0], leg, world.flow.state[0].load, world.rng)


@kernel
def _put_command(world: Any, now: int, what: int, slot: int, side: int, px: int, qty: int, kind: int) -> bool:
    d = world.desk[0]
    if d.in_n >= RING:
        d.overflow += 1
        return False
    leg = CANCEL if what == CANCEL_CMD else (MODIFY if what == REPLACE_CMD else ENTRY)
    d.last_in = max(d.last_in, now + _draw(world, leg))
    c = d.inbox[(d.in_first + d.in_n) % RING]
    d.in_n += 1
    c.due = d.last_in
    c.what = what
    c.slot = slot
    c.side = side
    c.px = px
    c.qty = qty
    c.kind = kind
    return True


@kernel
def desk_new(world: Any, now: int, side: int, px: int, qty: int, kind: int) -> int:
    """Send an order (POST_ONLY, IOC, LIMIT or MARKET); return its slot, -1 where none is free."""
    d = world.desk[0]
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE:
            if not _put_command(world, now, NEW_CMD, slot, side, px, qty, kind):
                return -1
            d.serial += 1
            d.orders_sent += 1
            o.state = SENT
            o.handle = 0
            o.side = side
            o.px = px
            o.leaves = qty
            o.sent_ns = now
            o.ahead = -1
            o.serial = d.serial
            return slot
    return -1


@kernel
def desk_cancel(world: Any, now: int, slot: int) -> None:
    """Ask for a resting order's withdrawal."""
    o = world.desk[0].orders[slot]
    if o.state == RESTING and _put_command(world, now, CANCEL_CMD, slot, 0, 0, 0, 0):
        o.state = CANCELLING


@kernel
def desk_replace(world: Any, now: int, slot: int, px: int, qty: int) -> None:
    """Ask for a resting order to stand at another price or size; one that would take liquidity stays as it is."""
    o = world.desk[0].orders[slot]
    if o.state == RESTING and _put_command(world, now, REPLACE_CMD, slot, o.side, px, qty, 0):
        o.state = CANCELLING
        o.px = px


@kernel
def tell(world: Any, what: int, slot: int, qty: int, px: int, ahead: int, maker: int) -> None:
    """Put a report about a slot's order on the way."""
    d = world.desk[0]
    if d.out_n >= RING:
        d.overflow += 1
        return
    d.last_out = max(d.last_out, world.flow.state[0].now + _draw(world, REPORT))
    n = d.outbox[(d.out_first + d.out_n) % RING]
    d.out_n += 1
    n.due = d.last_out
    n.what = what
    n.slot = slot
    n.serial = d.orders[slot].serial
    n.qty = qty
    n.px = px
    n.ahead = ahead
    n.maker = maker


@kernel
def collect(world: Any) -> None:
    """Book the fills that the last event logged, put their reports on the way, and empty the log."""
    book_fills(world)
    world.flow.book[N_FILLS] = 0


@kernel
def book_fills(world: Any) -> None:
    """Book the logged fills in which this desk took part, and put their reports on the way."""
    b, d = world.flow.book, world.desk[0]
    for i in range(b[N_FILLS]):
        f = world.flow.fills[i]
        maker = f.maker == d.owner
        if not maker and f.taker != d.owner:
            continue
        slot = f.maker_tag if maker else f.taker_tag
        o = d.orders[slot]
        sign = 1 - 2 * o.side
        d.position += sign * f.qty
        d.cash -= sign * f.qty * f.px
        if maker:
            d.fees += d.maker_fee * f.qty
            d.maker_fills += 1
            d.maker_lots += f.qty
            d.ahead_sum += f.ahead
            if f.leaves == 0:
                o.handle = 0
        else:
            d.fees += d.taker_fee * f.qty
            d.taker_fills += 1
            d.taker_lots += f.qty
        tell(world, FILL, slot, f.qty, f.px, f.ahead, 1 if maker else 0)


@kernel
def _rests(b: Any, d: Any, slot: int) -> bool:
    """Whether a slot's handle still names our order, which a moved price window may have withdrawn."""
    h = d.orders[slot].handle
    return bool(alive(b, h) and b[h + TAG] == slot and b[h + OWNER_WORD] == d.owner)


@kernel
def _replace_arrives(world: Any, c: Any) -> None:
    """Move a resting order, or leave it where it is if it would take liquidity there."""
    b, d = world.flow.book, world.desk[0]
    o = d.orders[c.slot]
    if o.handle == 0:
        return  # filled meanwhile: its report is under way
    if not _rests(b, d, c.slot):
        o.handle = 0
        tell(world, DONE, c.slot, 0, 0, -1, 0)
        return
    if (c.px - b[BEST + 1 - c.side]) * (1 - 2 * c.side) < 0:
        o.handle = replace(b, world.flow.fills, o.handle, c.px, c.qty)
    else:
        d.rejected += 1
    o.ahead = ahead_of(b, o.handle)
    tell(world, ACCEPTED, c.slot, int(b[o.handle + QTY]), int(b[o.handle + PX]), o.ahead, 0)


@kernel
def arrive(world: Any) -> None:
    """The command at the head of the inbox reaches the book; its fills stay in the log for other desks."""
    flow, d = world.flow, world.desk[0]
    b, s, p = flow.book, flow.state[0], flow.params[0]
    c = d.inbox[d.in_first]
    d.in_first = (d.in_first + 1) % RING
    d.in_n -= 1
    s.now = max(s.now, c.due)
    o = d.orders[c.slot]
    clear_trade(b)
    if c.what == CANCEL_CMD:
        if o.handle != 0:
            if _rests(b, d, c.slot):
                cancel(b, o.handle)
            o.handle = 0
            tell(world, DONE, c.slot, 0, 0, -1, 0)
        return
    if c.what == REPLACE_CMD:
        _replace_arrives(world, c)
        return
    h = submit(b, flow.fills, c.side, c.px, c.qty, c.kind, int(d.owner), c.slot)
    status = b[STATUS]
    filled = b[FILLED]
    if filled > 0 and p.model == QUEUE_REACTIVE:
        remember_ours(s, p, c.side, filled)
    book_fills(world)
    if status == OK_RESTING:
        o.handle = h
        o.ahead = ahead_of(b, h)
        d.posted_lots += c.qty - filled
        tell(world, ACCEPTED, c.slot, c.qty - filled, c.px, o.ahead, 0)
    else:
        if status >= 10:
            d.rejected += 1
        elif filled < c.qty:
            d.expired += 1
        tell(world, DONE, c.slot, 0, 0, -1, 0)
    recentre(b, s)


@kernel
def deliver(world: Any, now: int) -> None:
    """Learn what reports that have reached us by `now` say."""
    d = world.desk[0]
    while d.out_n > 0 and d.outbox[d.out_first].due <= now:
        n = d.outbox[d.out_first]
        d.out_first = (d.out_first + 1) % RING
        d.out_n -= 1
        o = d.orders[n.slot]
        if n.what == FILL:
            d.seen_position += n.qty * (1 - 2 * o.side)
        if o.serial != n.serial:
            continue
        if n.what == FILL:
            o.leaves -= n.qty
            if o.leaves <= 0:
                o.state = FREE
        elif n.what == ACCEPTED:
            if o.state != FREE:
                o.state = RESTING
                o.px = n.px
                o.leaves = n.qty
        else:
            o.state = FREE


@kernel
def reap(world: Any) -> None:
    """Notice orders that left the book without a trade: self-trade prevention, a moved price window."""
    b, d = world.flow.book, world.desk[0]
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.handle != 0 and not _rests(b, d, slot):
            o.handle = 0
            tell(world, DONE, slot, 0, 0, -1, 0)


@kernel
def own_live(d: Any) -> int:
    """Orders of ours that rest at the venue."""
    n = 0
    for slot in range(SLOTS):
        n += d.orders[slot].handle != 0
    return n


@kernel
def run_desk(world: Any, until_ns: int, n_max: int) -> int:
    """Let market and desk go on until `until_ns` or `n_max` market events; return the events."""
    world = borrowed(world)
    b, s, d = world.flow.book, world.flow.state[0], world.desk[0]
    n = 0
    while n < n_max:
        due = d.inbox[d.in_first].due if d.in_n > 0 else until_ns + 1
        if due <= until_ns and due <= s.next:
            arrive(world)
            b[u(N_FILLS)] = 0
        elif s.next <= until_ns:
            next_event(world.flow)
            n += 1
            if b[u(N_FILLS)] != 0:
                collect(world)
        else:
            break
    if b[OWN_LIVE] != own_live(d):
        reap(world)
    return n


@kernel
def decision_ns(world: Any) -> int:
    """When a decision on the book as it is now reaches the wire: a feed latency and the own compute time later."""
    return world.flow.state[0].now + _draw(world, FEED) + int(world.latency[0].compute_ns)


@kernel
def worth(world: Any) -> float:
    """Cash plus position at mid, less fees, in ticks times lots."""
    b, d = world.flow.book, world.desk[0]
    mid = 0.5 * (b[BEST] + b[BEST + 1])
    return d.cash + d.position * mid - d.fees


__all__ = [
    "BUY",
    "IOC",
    "MARKET",
    "POST_ONLY",
    "SELL",
    "desk_cancel",
    "desk_new",
    "new_desk",
    "run_desk",
    "worth",
]
