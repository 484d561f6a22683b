"""Our orders in a simulated market, compiled: what `exchange.py` does, as a venue of `emp.access.venue`.

The market answers: our orders stand in its queue, take what is there, and change what comes next. Commands and reports
take their latency, none overtakes an earlier one of its direction, and what is shown is screened as by every door. The
market is in continuous trading all the time; days with phases have the exchange in Python.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.venue import EVENT_CAME, NO_EVENT, NOTHING_SHOWN, Kernels, register
from emp.core.book import JUDGE
from emp.core.codes import OrderStatus, Quarantine
from emp.core.contracts import OrderUpdate
from emp.core.ids import cl_ord_id
from emp.core.instrument import Instrument
from emp.core.messages import (
    AHEAD,
    FEE,
    ID,
    LEAVES,
    MAKER,
    MESSAGE,
    MORE,
    ORIG,
    PX,
    QTY,
    REPORT,
    SEQ,
    SIDE,
    STATUSES,
    TEXT,
    TS,
    Row,
)
from emp.core.messages import CANCEL as CANCEL_MESSAGE
from emp.core.messages import NEW as NEW_MESSAGE
from emp.core.messages import STATUS as STATUS_AT
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.rng import seeded
from emp.core.records import EVENT, Array
from emp.sim.book.book import (
    BAD_PRICE,
    BEST,
    BUY,
    FILLED,
    IOC,
    LOST_FILLS,
    N_FILLS,
    OK_RESTING,
    OWN_LIVE,
    OWNER,
    POST_ONLY,
    SELL,
    STATUS,
    TAG,
    ahead_of,
    alive,
    cancel,
    clear_trade,
)
from emp.sim.book.matching import replace, submit
from emp.sim.book.view import mark_visible, write_event
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.flow.state import FlowWorld
from emp.sim.world.exchange import REFUSALS
from emp.sim.world.latency import CANCEL as CANCEL_LEG
from emp.sim.world.latency import ENTRY as ENTRY_LEG
from emp.sim.world.latency import REPORT as REPORT_LEG
from emp.sim.world.latency import LatencyConfig, draw_latency, latency_record
from emp.sim.world.market import Market, flow_event, show_book
from emp.sim.world.screen import screen

US = 1  # the owner of our orders in the book, where one engine trades in it
SLOTS = 64  # orders that the venue remembers: those at work, and the last that have ended
RING = 256  # commands, and reports, on their way
KNOWN = 1024  # ids, of which the venue knows the order

ACCEPTED, PARTIALLY_FILLED, FILLED_STATUS, CANCELED, REJECTED, EXPIRED = (
    STATUSES.index(one)
    for one in (
        OrderStatus.NEW,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
        OrderStatus.REJECTED,
        OrderStatus.EXPIRED,
    )
)

# MESSAGE.text of a report; a refusal of the book is its own number (BAD_PRICE and following)
NO_TEXT, REST_EXPIRED, WITHDRAWN, UNKNOWN_ORDER, TOO_LATE, WOULD_TAKE = 0, 1, 2, 3, 4, 5
ENDED = 100  # and the index of the status with which the order ended
OF_CANCEL, OF_REPLACEMENT = 1000, 2000  # added where a command is refused, and the order stays as it is
FILLED_BITS = (
    40  # MESSAGE.more of a refused command: the order's id, and from this bit on what of it had filled
)

SIM_ORDER = np.dtype(
    [
        ("id", "i8"),
        ("side", "i8"),  # +1 buy, -1 sell
        ("px", "i8"),
        ("qty", "i8"),
        ("leaves", "i8"),
        ("filled", "i8"),
        ("handle", "i8"),  # of the order in the book
        ("status", "i8"),
        ("rests", "?"),
    ],
    align=True,
)
"""One of our orders, as the venue knows it."""

SIM_VENUE = np.dtype(
    [
        ("owner", "i8"),  # of our orders in the book; engines that share one have different owners
        ("maker_fee", "f8"),  # ticks per lot
        ("taker_fee", "f8"),
        ("seen", "i8"),  # ns: what the market's time is for who sends
        ("last_in", "i8"),
        ("last_out", "i8"),
        ("in_first", "i8"),
        ("in_n", "i8"),
        ("out_first", "i8"),
        ("out_n", "i8"),
        ("handed", "i8"),  # reports at the front that were handed out
        ("next_slot", "i8"),
        ("resting", "i8"),  # orders that rest
        ("reports", "i8"),  # made so far
        ("position", "i8"),  # lots, signed
        ("cash", "f8"),  # ticks times lots, fees not included
        ("fees", "f8"),
        ("fills", "i8"),
        ("lots", "i8"),  # traded
        ("maker_lots", "i8"),
        ("lost", "i8"),  # reports or fills that found no room: an error
    ],
    align=True,
)
"""State of the venue for one instrument."""

ALIAS = np.dtype([("id", "i8"), ("slot", "i8")], align=True)
"""An id that an order has or had."""


class Reactive(NamedTuple):
    """A simulated market with our orders in it."""

    flow: FlowWorld
    venue: Array  # SIM_VENUE[1]
    orders: Array  # SIM_ORDER[SLOTS]
    known: Array  # ALIAS[KNOWN], at the id's remainder
    inbox: Array  # MESSAGE[RING]
    arrivals: Array  # int64[RING], ns
    outbox: Array  # MESSAGE[RING]
    deliveries: Array  # int64[RING], ns
    latency: Array  # LATENCY[1]
    rng: Array  # uint64[1]: the latencies'
    last: Array  # EVENT[1], the last book written
    judge: Array  # JUDGE[1], of the screen
    shown: Array  # EVENT[1], the last event shown
    waiting: Array  # EVENT[1], what was traded since
    hidden: Array  # int64[reasons of codes.Quarantine]: rows kept back


@kernel
def _draw(m: Any, leg: int) -> int:
    return draw_latency(m.latency[0], leg, m.flow.state[0].load, m.rng)


@kernel
def _tell(m: Any, name: int, status: int, px: int, at: int, text: int) -> Any:
    """Put a report on its way; the caller completes what it returns."""
    v = m.venue[0]
    if v.out_n >= RING:
        v.lost += 1
        v.out_n -= 1
    v.last_out = max(v.last_out, at + _draw(m, REPORT_LEG))
    where = (v.out_first + v.out_n) % RING
    v.out_n += 1
    v.reports += 1
    m.deliveries[where] = v.last_out
    out = m.outbox[where]
    out.kind, out.status, out.text, out.id, out.orig, out.px, out.ts = REPORT, status, text, name, 0, px, at
    out.side, out.qty, out.leaves, out.fee, out.maker, out.ahead = 0, 0, 0, 0.0, False, -1
    out.more, out.seq, out.reason, out.immediate = 0, v.reports, 0, False
    return out


@kernel
def _tell_order(m: Any, o: Any, px: int, at: int, ahead: int, text: int) -> Any:
    """Report an order as it stands."""
    out = _tell(m, o.id, o.status, px, at, text)
    out.side, out.qty, out.leaves, out.ahead, out.more = o.side, o.filled, o.leaves, ahead, o.qty
    return out


@kernel
def _finish(m: Any, o: Any, status: int, at: int, text: int) -> None:
    o.status, o.leaves = status, 0
    if o.rests:
        o.rests = False
        m.venue[0].resting -= 1
    _tell_order(m, o, o.px, at, -1, text)


@kernel
def book_ours(m: Any, at: int) -> None:
    """Report the logged fills in which we took part."""
    b, v = m.flow.book, m.venue[0]
    for i in range(b[N_FILLS]):
        f = m.flow.fills[i]
        maker = f.maker == v.owner
        if not maker and f.taker != v.owner:
            continue
        o = m.orders[f.maker_tag if maker else f.taker_tag]
        fee = f.qty * (v.maker_fee if maker else v.taker_fee)
        o.filled += f.qty
        o.leaves -= f.qty
        v.position += o.side * f.qty
        v.cash -= o.side * f.qty * f.px
        v.fees += fee
        v.fills += 1
        v.lots += f.qty
        v.maker_lots += f.qty if maker else 0
        o.status = PARTIALLY_FILLED if o.leaves > 0 else FILLED_STATUS
        out = _tell_order(m, o, f.px, at, f.ahead if maker else 0, NO_TEXT)
        out.fee, out.maker = fee, maker
        if o.leaves == 0 and o.rests:
            o.rests = False
            v.resting -= 1
    v.lost += b[LOST_FILLS]


@kernel
def reap_ours(m: Any, at: int) -> None:
    """Report orders that left the book without a trade: self-trade prevention, a moved price window."""
    b, owner = m.flow.book, m.venue[0].owner
    for slot in range(SLOTS):
        o = m.orders[slot]
        if o.rests and not (
            alive(b, o.handle) and b[o.handle + TAG] == slot and b[o.handle + OWNER] == owner
        ):
            _finish(m, o, CANCELED, at, WITHDRAWN)


@kernel
def _reap(m: Any, at: int) -> None:
    """The same, where nobody else has orders in the book that have an owner."""
    if m.flow.book[OWN_LIVE] != m.venue[0].resting:
        reap_ours(m, at)


@kernel
def _slot_of(m: Any, name: int) -> int:
    """The slot of the order that has or had an id, -1 where it is not known (any more)."""
    alias = m.known[name % KNOWN]
    return alias.slot if alias.id == name else -1


@kernel
def _free_slot(m: Any) -> int:
    """The slot whose order ended first, or was never used."""
    v = m.venue[0]
    for _ in range(SLOTS):
        slot = v.next_slot
        v.next_slot = (slot + 1) % SLOTS
        if not m.orders[slot].rests:
            return slot
    return -1


@kernel
def _know(m: Any, name: int, slot: int) -> None:
    m.known[name % KNOWN].id = name
    m.known[name % KNOWN].slot = slot


@kernel
def _arrive_new(m: Any, c: Any, at: int) -> None:
    """An order reaches the book."""
    flow = m.flow
    b, slot = flow.book, _free_slot(m)
    if slot < 0:
        m.venue[0].lost += 1
        return
    o = m.orders[slot]
    _know(m, c.id, slot)
    o.id, o.side, o.px, o.qty, o.leaves, o.filled, o.handle = c.id, c.side, c.px, c.qty, c.qty, 0, 0
    side = BUY if c.side > 0 else SELL
    handle = submit(
        b, flow.fills, side, c.px, c.qty, IOC if c.immediate else POST_ONLY, int(m.venue[0].owner), slot
    )
    status, filled = b[STATUS], b[FILLED]
    if status >= BAD_PRICE:
        _finish(m, o, REJECTED, at, status)
        return
    if filled > 0 and flow.params[0].model == QUEUE_REACTIVE:
        remember_ours(flow.state[0], flow.params[0], side, filled)
    o.status = ACCEPTED
    _tell_order(m, o, c.px, at, ahead_of(b, handle) if handle != 0 else 0, NO_TEXT)
    if status == OK_RESTING:
        o.handle, o.rests = handle, True
        m.venue[0].resting += 1
    book_ours(m, at)
    if status != OK_RESTING and o.status != FILLED_STATUS:
        _finish(m, o, EXPIRED, at, REST_EXPIRED)


@kernel
def _refuse(m: Any, c: Any, at: int, slot: int, text: int) -> None:
    """A cancel or replacement is not carried out: its own id is rejected, the order stays as it is."""
    of = OF_CANCEL if c.kind == CANCEL_MESSAGE else OF_REPLACEMENT
    out = _tell(m, c.id, REJECTED, 0, at, of + text)
    out.more = c.orig + ((m.orders[slot].filled << FILLED_BITS) if slot >= 0 else 0)


@kernel
def _not_at_work(m: Any, slot: int) -> int:
    """Why nothing can be done about an order; NO_TEXT where something can."""
    if slot < 0:
        return UNKNOWN_ORDER
    return NO_TEXT if m.orders[slot].rests else ENDED + int(m.orders[slot].status)


@kernel
def _arrive_cancel(m: Any, c: Any, at: int) -> None:
    slot = _slot_of(m, c.orig)
    why = _not_at_work(m, slot)
    if why != NO_TEXT:
        _refuse(m, c, at, slot, why)
        return
    o = m.orders[slot]
    cancel(m.flow.book, o.handle)
    _finish(m, o, CANCELED, at, NO_TEXT)


@kernel
def _arrive_replace(m: Any, c: Any, at: int) -> None:
    """Change price or size; the order goes on under the replacement's id."""
    b, slot = m.flow.book, _slot_of(m, c.orig)
    why = _not_at_work(m, slot)
    if why == NO_TEXT:
        o = m.orders[slot]
        opposite = b[BEST + (SELL if o.side > 0 else BUY)]
        if c.qty <= o.filled:
            why = TOO_LATE
        elif (c.px - opposite) * o.side >= 0:
            why = WOULD_TAKE
    if why != NO_TEXT:
        _refuse(m, c, at, slot, why)
        return
    o = m.orders[slot]
    handle = replace(b, m.flow.fills, o.handle, c.px, c.qty - o.filled)
    if b[STATUS] >= BAD_PRICE:  # the book has left the order alone
        _refuse(m, c, at, slot, b[STATUS])
        return
    o.handle, o.px, o.qty, o.leaves, o.id = handle, c.px, c.qty, c.qty - o.filled, c.id
    _know(m, c.id, slot)
    out = _tell_order(m, o, o.px, at, ahead_of(b, handle), NO_TEXT)
    out.orig = c.id


@kernel
def arrive_ours(m: Any) -> int:
    """The command at the head of the inbox reaches the book; return when. Its fills stay in the log for others."""
    v = m.venue[0]
    c, at = m.inbox[v.in_first], m.arrivals[v.in_first]
    v.in_first = (v.in_first + 1) % RING
    v.in_n -= 1
    clear_trade(m.flow.book)
    if c.kind == NEW_MESSAGE:
        _arrive_new(m, c, at)
    elif c.kind == CANCEL_MESSAGE:
        _arrive_cancel(m, c, at)
    else:
        _arrive_replace(m, c, at)
    return at


@kernel
def _next_row(m: Any, until_ns: int, row: Any) -> bool:
    """Let market and orders go on to the next book that is written into `row`, or to `until_ns`."""
    v, flow = m.venue[0], m.flow
    b, s = flow.book, flow.state[0]
    due = m.arrivals[v.in_first] if v.in_n > 0 else until_ns
    came = s.next <= min(due, until_ns)
    if came:
        flow_event(borrowed(flow))
        write_event(borrowed(b), row, s.now, s.seq, 0)
        mark_visible(row, m.last[0])
        if b[N_FILLS] != 0:
            book_ours(m, s.now)
            b[N_FILLS] = 0
    _reap(m, s.now)
    if came or v.in_n == 0 or due > until_ns:
        return came
    at = arrive_ours(m)
    b[N_FILLS] = 0
    _reap(m, at)
    show_book(b, s, row, at, m.last)
    return True


@kernel
def forget_told(m: Any) -> None:
    """Let go of the reports that were handed out."""
    v = m.venue[0]
    v.out_first = (v.out_first + v.handed) % RING
    v.out_n -= v.handed


@kernel
def show_row(m: Any, came: bool, until_ns: int, event: Any) -> tuple[int, int]:
    """Show what came, as `emp.access.venue.advance` says it, with the reports that are due by then."""
    v = m.venue[0]
    v.seen = event[0].ts if came else max(v.seen, until_ns)
    due = 0
    while due < v.out_n and m.deliveries[(v.out_first + due) % RING] <= v.seen:
        due += 1
    v.handed = due
    if not came:
        return NO_EVENT, due
    m.last[0] = event[0]
    if screen(event, m.judge, m.shown, m.waiting, m.hidden) == 0:
        return NOTHING_SHOWN, due
    return EVENT_CAME, due


@kernel
def reactive_advance(m: Any, until_ns: int, event: Any) -> tuple[int, int]:
    """See `emp.access.venue.advance`."""
    forget_told(m)
    return show_row(m, _next_row(m, until_ns, event[0]), until_ns, event)


@kernel
def reactive_report(m: Any, k: int, message: Any) -> None:
    """See `emp.access.venue.report`."""
    told = m.outbox[(m.venue[0].out_first + k) % RING]
    message.kind, message.status, message.text = told.kind, told.status, told.text
    message.id, message.orig, message.side = told.id, told.orig, told.side
    message.qty, message.leaves, message.px, message.ts = told.qty, told.leaves, told.px, told.ts
    message.fee, message.maker, message.ahead = told.fee, told.maker, told.ahead
    message.more, message.seq = told.more, told.seq
    message.reason, message.immediate = 0, False


@kernel
def send_at(m: Any, message: Any, at: int, leg: int) -> bool:
    """Put a command on its way at a time, by a leg of its latency; False where there is no room for it."""
    v = m.venue[0]
    if v.in_n >= RING:
        return False
    v.last_in = max(v.last_in, at + _draw(m, leg))
    where = (v.in_first + v.in_n) % RING
    v.in_n += 1
    m.inbox[where] = message
    m.arrivals[where] = v.last_in
    return True


@kernel
def reactive_send(m: Any, message: Any) -> bool:
    """See `emp.access.venue.send`; it leaves at the time that the market has shown, whatever its `ts`."""
    leg = CANCEL_LEG if message.kind == CANCEL_MESSAGE else ENTRY_LEG
    return bool(send_at(m, message, m.venue[0].seen, leg))


@kernel
def reactive_idle(m: Any) -> bool:
    """See `emp.access.venue.idle`."""
    v = m.venue[0]
    return bool(v.in_n == 0 and v.resting == 0 and v.out_n == v.handed)


@kernel
def reactive_again(m: Any) -> bool:
    """See `emp.access.venue.again`: what has happened here has happened."""
    return False


register(
    Reactive,
    Kernels(reactive_advance, reactive_report, reactive_send, reactive_idle, reactive_again),
)


def reactive(
    market: Market, instrument: Instrument, latency: LatencyConfig, seed: int, owner: int = US
) -> Reactive:
    """A market with an empty account of ours in it. The market's own arrays: what happens here happens to it."""
    venue = np.zeros(1, SIM_VENUE)
    venue["owner"] = owner
    venue["maker_fee"], venue["taker_fee"] = instrument.maker_fee, instrument.taker_fee
    venue["seen"] = market.now_ns
    return Reactive(
        flow=market.flow,
        venue=venue,
        orders=np.zeros(SLOTS, SIM_ORDER),
        known=np.zeros(KNOWN, ALIAS),
        inbox=np.zeros(RING, MESSAGE),
        arrivals=np.zeros(RING, np.int64),
        outbox=np.zeros(RING, MESSAGE),
        deliveries=np.zeros(RING, np.int64),
        latency=latency_record(latency),
        rng=seeded(seed, "latency"),
        last=market.last,
        judge=np.zeros(1, JUDGE),
        shown=np.zeros(1, EVENT),
        waiting=np.zeros(1, EVENT),
        hidden=np.zeros(len(Quarantine), np.int64),
    )


def told(row: Row, run: str, instrument: str) -> OrderUpdate:
    """A report of this venue that a compiled loop logged, in words."""
    return OrderUpdate(
        clOrdID=cl_ord_id(run, row[ID]),
        execID=f"S{row[SEQ]:09d}",
        status=STATUSES[row[STATUS_AT]],
        filled=row[QTY],
        price=row[PX],
        ts=row[TS],
        instrument=instrument,
        side=row[SIDE],
        leaves=row[LEAVES],
        fee=row[FEE],
        maker=row[MAKER],
        queue_ahead=row[AHEAD],
        text=_words(row, run),
        replacement=cl_ord_id(run, row[ORIG]) if row[ORIG] else "",
    )


def _words(row: Row, run: str) -> str:
    """What a report says besides its numbers."""
    text, more = row[TEXT], row[MORE]
    if text >= OF_CANCEL:
        what, why = (
            ("cancel", text - OF_CANCEL) if text < OF_REPLACEMENT else ("replacement", text - OF_REPLACEMENT)
        )
        order, filled = more & ((1 << FILLED_BITS) - 1), more >> FILLED_BITS
        return f"{what} of {cl_ord_id(run, order)}: {_refusal(why, filled)}"
    if text == REST_EXPIRED:
        return f"immediate-or-cancel: {row[QTY]} of {more} lots found a counterparty"
    if text == WITHDRAWN:
        return "withdrawn by the venue"
    return REFUSALS.get(text, "")


def _refusal(why: int, filled: int) -> str:
    """Why a command was not carried out."""
    if why >= ENDED:
        return f"order is {STATUSES[why - ENDED].value}"
    if why == TOO_LATE:
        return f"too late: {filled} lots have filled"
    return {UNKNOWN_ORDER: "unknown order", WOULD_TAKE: "it would have taken liquidity"}.get(why) or REFUSALS[
        why
    ]
