"""Our orders inside the kernel: delayed commands, exact queue places, delayed reports, money.

A desk keeps what is true at the venue apart from what we know, because reports take time. Commands and
reports are ordered streams: none overtakes an earlier one of the same direction. All of it is one record, so
a clone is a copy.
"""

from typing import Any

import numpy as np

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
from emp.sim.book.matching import replace, submit
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.flow.state import recentre
from emp.sim.world.latency import CANCEL, ENTRY, MODIFY, REPORT, draw_latency
from emp.sim.world.market import flow_event

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

NEWS = np.dtype(
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
        ("outbox", NEWS, (RING,)),
        ("out_first", "i8"),
        ("out_n", "i8"),
        ("last_in", "i8"),
        ("last_out", "i8"),
        ("serial", "i8"),
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


def new_desk(maker_fee: float, taker_fee: float) -> Array:
    """Return a flat DESK (shape (1,)); fees in ticks per lot, negative for a rebate."""
    d = np.zeros(1, DESK)
    d["maker_fee"], d["taker_fee"] = maker_fee, taker_fee
    return d


@kernel
def _put_command(
    d: Any,
    m: Any,
    r: Any,
    now: int,
    load: float,
    what: int,
    slot: int,
    side: int,
    px: int,
    qty: int,
    kind: int,
) -> bool:
    if d.in_n >= RING:
        d.overflow += 1
        return False
    leg = CANCEL if what == CANCEL_CMD else (MODIFY if what == REPLACE_CMD else ENTRY)
    d.last_in = max(d.last_in, now + draw_latency(m, leg, load, r))
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
def desk_new(d: Any, m: Any, r: Any, now: int, load: float, side: int, px: int, qty: int, kind: int) -> int:
    """Send an order (POST_ONLY, IOC, LIMIT or MARKET); return its slot, -1 where none is free."""
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE:
            if not _put_command(d, m, r, now, load, NEW_CMD, slot, side, px, qty, kind):
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
def desk_cancel(d: Any, m: Any, r: Any, now: int, load: float, slot: int) -> None:
    """Ask for a resting order's withdrawal."""
    o = d.orders[slot]
    if o.state == RESTING and _put_command(d, m, r, now, load, CANCEL_CMD, slot, 0, 0, 0, 0):
        o.state = CANCELLING


@kernel
def desk_replace(d: Any, m: Any, r: Any, now: int, load: float, slot: int, px: int, qty: int) -> None:
    """Ask for a resting order to stand at another price or size; one that would take liquidity stays as it is."""
    o = d.orders[slot]
    if o.state == RESTING and _put_command(d, m, r, now, load, REPLACE_CMD, slot, o.side, px, qty, 0):
        o.state = CANCELLING
        o.px = px


@kernel
def _tell(
    d: Any, m: Any, r: Any, s: Any, what: int, slot: int, qty: int, px: int, ahead: int, maker: int
) -> None:
    if d.out_n >= RING:
        d.overflow += 1
        return
    d.last_out = max(d.last_out, s.now + draw_latency(m, REPORT, s.load, r))
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
def collect(b: Any, fills: Any, s: Any, d: Any, m: Any, r: Any) -> None:
    """Book the fills that the last event logged, and put their reports on the way."""
    for i in range(b[N_FILLS]):
        f = fills[i]
        maker = f.maker == OWNER
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
        _tell(d, m, r, s, FILL, slot, f.qty, f.px, f.ahead, 1 if maker else 0)
    b[N_FILLS] = 0


@kernel
def _replace_arrives(b: Any, fills: Any, s: Any, d: Any, m: Any, r: Any, c: Any) -> None:
    """Move a resting order, or leave it where it is if it would take liquidity there."""
    o = d.orders[c.slot]
    if o.handle == 0:
        return  # filled meanwhile: its report is under way
    if (c.px - b[BEST + 1 - c.side]) * (1 - 2 * c.side) < 0:
        o.handle = replace(b, fills, o.handle, c.px, c.qty)
    else:
        d.rejected += 1
    o.ahead = ahead_of(b, o.handle)
    _tell(d, m, r, s, ACCEPTED, c.slot, int(b[o.handle + QTY]), int(b[o.handle + PX]), o.ahead, 0)


@kernel
def _arrive(b: Any, fills: Any, s: Any, p: Any, d: Any, m: Any, r: Any) -> None:
    """The command at the head of the inbox reaches the book."""
    c = d.inbox[d.in_first]
    d.in_first = (d.in_first + 1) % RING
    d.in_n -= 1
    s.now = max(s.now, c.due)
    o = d.orders[c.slot]
    clear_trade(b)
    if c.what == CANCEL_CMD:
        if o.handle != 0:
            cancel(b, o.handle)
            o.handle = 0
            _tell(d, m, r, s, DONE, c.slot, 0, 0, -1, 0)
        return
    if c.what == REPLACE_CMD:
        _replace_arrives(b, fills, s, d, m, r, c)
        return
    h = submit(b, fills, c.side, c.px, c.qty, c.kind, OWNER, c.slot)
    status = b[STATUS]
    filled = b[FILLED]
    if filled > 0 and p.model == QUEUE_REACTIVE:
        remember_ours(s, p, c.side, filled)
    collect(b, fills, s, d, m, r)
    if status == OK_RESTING:
        o.handle = h
        o.ahead = ahead_of(b, h)
        d.posted_lots += c.qty - filled
        _tell(d, m, r, s, ACCEPTED, c.slot, c.qty - filled, c.px, o.ahead, 0)
    else:
        if status >= 10:
            d.rejected += 1
        elif filled < c.qty:
            d.expired += 1
        _tell(d, m, r, s, DONE, c.slot, 0, 0, -1, 0)
    recentre(b, s)


@kernel
def deliver(d: Any, now: int) -> None:
    """Learn what reports that have reached us by `now` say."""
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
def _reap(b: Any, s: Any, d: Any, m: Any, r: Any) -> None:
    """Notice orders that left the book without a trade: self-trade prevention, a moved price window."""
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.handle != 0 and not (
            alive(b, o.handle) and b[o.handle + TAG] == slot and b[o.handle + 4] == OWNER
        ):
            o.handle = 0
            _tell(d, m, r, s, DONE, slot, 0, 0, -1, 0)


@kernel
def own_live(d: Any) -> int:
    """Orders of ours that rest at the venue."""
    n = 0
    for slot in range(SLOTS):
        n += d.orders[slot].handle != 0
    return n


@kernel
def run_desk(
    b: Any, fills: Any, s: Any, p: Any, r: Any, d: Any, m: Any, r2: Any, until_ns: int, n_max: int
) -> int:
    """Let market and desk go on until `until_ns` or `n_max` market events; return the events."""
    n = 0
    while n < n_max:
        due = d.inbox[d.in_first].due if d.in_n > 0 else until_ns + 1
        if due <= until_ns and due <= s.next:
            _arrive(b, fills, s, p, d, m, r2)
        elif s.next <= until_ns:
            flow_event(b, fills, s, p, r)
            n += 1
            if b[u(N_FILLS)] != 0:
                collect(b, fills, s, d, m, r2)
        else:
            break
    if b[OWN_LIVE] != own_live(d):
        _reap(b, s, d, m, r2)
    return n


@kernel
def worth(b: Any, d: Any) -> float:
    """Cash plus position at mid, less fees, in ticks times lots."""
    mid = 0.5 * (b[2] + b[3])
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
