"""What a recorded market would have done with our orders: the kernels of the paper venue.

Rules, each on the cautious side:

- A resting order joins behind all visible quantity at its price. The quantity ahead shrinks by trades at that
  price, and by cancellations only when the visible level becomes smaller than what we had ahead.
- A trade at a worse price than ours would have met us first: it fills us at our price, by as many lots as would
  have reached us: what was traded beyond our price, or all of it less what stood before us.
- The opposite best quote beyond our price would have traded with us: it fills us at our price, by the lots that
  are shown beyond it, and by the same lots only once. A feed without sizes gives no more evidence than the
  quote, which then fills us whole. The opposite best at our price fills nothing.
- Below the deepest visible level the queue is unknown: all of it is ahead until the level is seen.
- A replacement of a resting order to a smaller size at the same price keeps its place in the queue; any other takes
  it to the end of the queue, our own orders included. One that would take, or comes when as much has filled, is
  refused, and the order stays as it is.
- An immediate order pays the visible levels one by one when it arrives; what is left of it is cancelled. A
  resting order that would take when it arrives is rejected.
- Nothing is matched between a halt and its end: resting orders stay, cancels work, orders and replacements are
  refused. Prints
  of an auction fill nothing, nor does the book that they leave.

Lots are counted by what filled them (`PAPER_VENUE`): those of an order that stood at a better price than anybody
recorded, and those of quotes that would have met it, come from flow that did something else in the recording.

The limit of all this: our fills do not move the recorded market. The quantity that we take is still there for
the next event, nobody reacts to us, and orders of ours never meet each other.
"""

from typing import Any

import numpy as np

from emp.core.codes import EventFlag
from emp.core.numba.bits import trailing_zeros
from emp.core.numba.jit import kernel

ROWS = 64
"""Commands and orders that the venue can hold: as many as there are bits in `PAPER_VENUE.at_work`."""

FREE, NEW, CANCEL, QUERY, REPLACE = 0, 1, 2, 3, 4  # PAPER_ORDER.kind
ON_ITS_WAY, RESTING, ENDED = 1, 2, 3  # PAPER_ORDER.state
STATUS_NEW, STATUS_PARTIAL, STATUS_FILLED, STATUS_CANCELED, STATUS_REJECTED = (
    0,
    1,
    2,
    3,
    4,
)  # PAPER_REPORT.status
NO_TEXT, WOULD_TAKE, NO_BOOK, TOO_LATE, UNKNOWN, UNFILLED, NOT_TRADING = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
)  # PAPER_REPORT.text
BY_QUEUE, BY_SWEEP, BY_IMPROVING, BY_QUOTE, TAKEN = 0, 1, 2, 3, 4  # PAPER_VENUE.lots

PAPER_VENUE = np.dtype(
    [
        ("entry_ns", "i8"),  # from a command's ts to its arrival
        ("report_ns", "i8"),  # from a report's ts to its delivery
        ("maker_fee", "f8"),  # ticks per lot
        ("taker_fee", "f8"),
        ("number", "i8"),  # commands taken
        ("exec_id", "i8"),  # reports made
        ("at_work", "i8"),  # one bit a row: commands on their way and orders resting
        ("pending", "i8"),  # reports in the report array
        ("handed_out", "i8"),  # of these, at the front, handed out by the last step
        ("overflow", "i8"),  # reports that found no room: an error
        ("position", "i8"),  # lots, signed
        ("now", "i8"),
        ("halted", "?"),
        # lots filled: by trades at our price behind the queue; by trades through it; the same where nobody recorded
        # stood at so good a price; by quotes beyond it; taken by immediate orders
        ("lots", "i8", (5,)),
    ],
    align=True,
)
"""State of the venue for one instrument."""

PAPER_ORDER = np.dtype(
    [
        ("kind", "i4"),
        ("state", "i4"),
        ("number", "i8"),  # order of sending: 1, 2, 3 …
        ("id", "i8"),  # as the sender numbers it; 0 where it has a name of its own (`PaperVenue.names`)
        ("place", "i8"),  # order of joining the queue: the number of the command that took it there last
        ("arrive", "i8"),
        ("side", "i8"),
        ("px", "i8"),
        ("qty", "i8"),
        ("filled", "i8"),
        ("immediate", "?"),
        ("status", "i4"),  # as last reported
        ("last_px", "i8"),
        ("ahead", "i8"),  # visible lots ahead of us
        ("leaves_before", "i8"),  # scratch: as it was when the event began
        ("ahead_before", "i8"),
        ("met", "i8"),  # lots of the quote beyond our price that have traded with us
        ("target", "i8"),  # row of the order a cancel, replacement or query is about
        ("target_number", "i8"),
        ("undelivered", "i8"),  # reports about this row that are not delivered
    ],
    align=True,
)
"""A command at the venue: an order, a cancel, a replacement or a query."""

PAPER_REPORT = np.dtype(
    [
        ("row", "i8"),
        (
            "renamed_by",
            "i8",
        ),  # row of the replacement whose id the order has from here on; -1 where it keeps its own
        ("status", "i4"),
        ("text", "i4"),
        ("filled", "i8"),
        ("leaves", "i8"),
        ("price", "i8"),
        ("fee", "f8"),
        ("maker", "?"),
        ("ahead", "i8"),
        ("ts", "i8"),
        ("due", "i8"),
        ("exec_id", "i8"),
    ],
    align=True,
)
"""A report on its way to us."""

HIDDEN = 1 << 60  # ahead of us where the level is not visible: no trade eats through it
_SIZELESS = int(EventFlag.NO_SIZE)
_TRADE = int(EventFlag.TRADE)
_AUCTION = int(EventFlag.AUCTION)
_HALT = int(EventFlag.HALT)
_RESUME = int(EventFlag.RESUME)


@kernel
def visible_at(book: Any, side: int, px: int) -> int:
    """Lots shown at a price on a side of an EVENT; 0 where no order stands there, -1 where one cannot know."""
    if book.flags & _SIZELESS:
        return -1
    n = book.n_bid if side > 0 else book.n_ask
    for level in range(n):
        here = book.bid_px[level] if side > 0 else book.ask_px[level]
        if here == px:
            return book.bid_sz[level] if side > 0 else book.ask_sz[level]
        if (px - here) * side > 0:
            return 0
    return -1


@kernel
def _tell(
    venue: Any,
    orders: Any,
    row: int,
    status: int,
    text: int,
    fee: float,
    maker: bool,
    ahead: int,
    ts: int,
    reports: Any,
) -> None:
    """Queue a report about a row as it stands now."""
    if venue.pending == len(reports):
        venue.overflow += 1
        return
    order = orders[row]
    report = reports[venue.pending]
    venue.pending += 1
    venue.exec_id += 1
    order.undelivered += 1
    order.status = status
    report.row = row
    report.renamed_by = -1
    report.status = status
    report.text = text
    report.filled = order.filled
    report.leaves = order.qty - order.filled if status in (STATUS_NEW, STATUS_PARTIAL) else 0
    report.price = order.last_px if order.filled > 0 else order.px
    report.fee = fee
    report.maker = maker
    report.ahead = -1 if ahead == HIDDEN else ahead
    report.ts = ts
    report.due = ts + venue.report_ns
    report.exec_id = venue.exec_id


@kernel
def _end(venue: Any, orders: Any, row: int) -> None:
    orders[row].state = ENDED
    venue.at_work &= ~(1 << row)


@kernel
def _fill(venue: Any, orders: Any, row: int, qty: int, px: int, how: int, ts: int, reports: Any) -> None:
    """Fill `qty` lots of an order at `px`; `how` is an index of PAPER_VENUE.lots."""
    order = orders[row]
    maker = how != TAKEN
    venue.lots[how] += qty
    order.filled += qty
    order.last_px = px
    venue.position += order.side * qty
    fee = qty * (venue.maker_fee if maker else venue.taker_fee)
    done = order.filled == order.qty
    ahead = order.ahead_before if maker else -1
    _tell(
        venue, orders, row, STATUS_FILLED if done else STATUS_PARTIAL, NO_TEXT, fee, maker, ahead, ts, reports
    )
    if done:
        _end(venue, orders, row)


@kernel
def _cross(venue: Any, orders: Any, row: int, book: Any, reports: Any) -> None:
    """Pay the visible levels up to the order's price, then cancel what is left."""
    order = orders[row]
    n = book.n_ask if order.side > 0 else book.n_bid
    for level in range(n):
        px = book.ask_px[level] if order.side > 0 else book.bid_px[level]
        if (px - order.px) * order.side > 0 or order.state == ENDED:
            break
        left = order.qty - order.filled
        shown = book.ask_sz[level] if order.side > 0 else book.bid_sz[level]
        qty = left if book.flags & _SIZELESS else min(left, shown)
        if qty > 0:
            _fill(venue, orders, row, qty, px, TAKEN, order.arrive, reports)
    if order.state != ENDED:
        _tell(venue, orders, row, STATUS_CANCELED, UNFILLED, 0.0, False, -1, order.arrive, reports)
        _end(venue, orders, row)


@kernel
def _arrive_new(venue: Any, orders: Any, row: int, book: Any, reports: Any) -> None:
    order = orders[row]
    if venue.halted:
        _tell(venue, orders, row, STATUS_REJECTED, NOT_TRADING, 0.0, False, -1, order.arrive, reports)
        _end(venue, orders, row)
        return
    if book.n_bid == 0 or book.n_ask == 0:
        _tell(venue, orders, row, STATUS_REJECTED, NO_BOOK, 0.0, False, -1, order.arrive, reports)
        _end(venue, orders, row)
        return
    if order.immediate:
        _cross(venue, orders, row, book, reports)
        return
    opposite = book.ask_px[0] if order.side > 0 else book.bid_px[0]
    if (order.px - opposite) * order.side >= 0:
        _tell(venue, orders, row, STATUS_REJECTED, WOULD_TAKE, 0.0, False, -1, order.arrive, reports)
        _end(venue, orders, row)
        return
    shown = visible_at(book, order.side, order.px)
    order.state = RESTING
    order.ahead = HIDDEN if shown < 0 else shown
    _tell(venue, orders, row, STATUS_NEW, NO_TEXT, 0.0, False, order.ahead, order.arrive, reports)


@kernel
def _no_replacement(venue: Any, order: Any, command: Any, book: Any) -> int:
    """Why a resting order cannot be replaced, as PAPER_REPORT.text; NO_TEXT where it can."""
    if command.qty <= order.filled:
        return TOO_LATE
    if venue.halted:
        return NOT_TRADING
    if book.n_bid == 0 or book.n_ask == 0:
        return NO_BOOK
    opposite = book.ask_px[0] if order.side > 0 else book.bid_px[0]
    return WOULD_TAKE if (command.px - opposite) * order.side >= 0 else NO_TEXT


@kernel
def _arrive_replace(venue: Any, orders: Any, row: int, target: int, book: Any, reports: Any) -> None:
    """Move or resize the resting order in row `target`, or refuse to."""
    command, order = orders[row], orders[target]
    why = _no_replacement(venue, order, command, book)
    if why != NO_TEXT:
        _tell(venue, orders, row, STATUS_REJECTED, why, 0.0, False, -1, command.arrive, reports)
        return
    if command.px != order.px or command.qty > order.qty:
        shown = visible_at(book, order.side, command.px)
        order.ahead = HIDDEN if shown < 0 else shown
        order.place, order.met = command.number, 0
    order.px, order.qty = command.px, command.qty
    status = STATUS_PARTIAL if order.filled > 0 else STATUS_NEW
    made = venue.pending
    _tell(venue, orders, target, status, NO_TEXT, 0.0, False, order.ahead, command.arrive, reports)
    if venue.pending > made:
        reports[made].renamed_by = row
        command.undelivered += 1  # its id is needed until the report is handed out


@kernel
def _arrive(venue: Any, orders: Any, row: int, book: Any, reports: Any) -> None:
    """Let a command take effect on the book in force when it arrives."""
    command = orders[row]
    if command.kind == NEW:
        _arrive_new(venue, orders, row, book, reports)
        return
    _end(venue, orders, row)
    target = command.target
    known = target >= 0 and orders[target].number == command.target_number
    if command.kind == QUERY:
        if known:
            order = orders[target]
            _tell(venue, orders, target, order.status, NO_TEXT, 0.0, False, -1, command.arrive, reports)
        else:
            _tell(venue, orders, row, STATUS_REJECTED, UNKNOWN, 0.0, False, -1, command.arrive, reports)
    elif known and orders[target].state == RESTING and command.kind == REPLACE:
        _arrive_replace(venue, orders, row, target, book, reports)
    elif known and orders[target].state == RESTING:
        _tell(venue, orders, target, STATUS_CANCELED, NO_TEXT, 0.0, False, -1, command.arrive, reports)
        _end(venue, orders, target)
    else:
        _tell(venue, orders, row, STATUS_REJECTED, TOO_LATE, 0.0, False, -1, command.arrive, reports)


@kernel
def _lowest(rows: int) -> int:
    """The first row of a set of bits that is not empty."""
    row: int = np.int64(trailing_zeros(np.uint64(rows)))  # type: ignore[assignment]
    return row


@kernel
def _next_arrival(orders: Any, at_work: int, before: int) -> int:
    """Row of the earliest command on its way that arrives before a time, or -1."""
    found = -1
    while at_work != 0:
        row = _lowest(at_work)
        at_work &= at_work - 1
        order = orders[row]
        if order.state == ON_ITS_WAY and order.arrive < before:
            if found < 0:
                found = row
            else:
                best = orders[found]
                if order.arrive < best.arrive or (order.arrive == best.arrive and order.number < best.number):
                    found = row
    return found


@kernel
def _note_standing(orders: Any, at_work: int) -> int:
    """Note how the resting orders stand before an event; their rows, one bit each."""
    standing = 0
    while at_work != 0:
        row = _lowest(at_work)
        at_work &= at_work - 1
        order = orders[row]
        if order.state == RESTING:
            order.leaves_before = order.qty - order.filled
            order.ahead_before = order.ahead
            standing |= 1 << row
    return standing


@kernel
def _first_to_join(orders: Any, rows: int) -> int:
    """Of some rows the one whose order joined its queue first."""
    found = _lowest(rows)
    rows &= rows - 1
    while rows != 0:
        row = _lowest(rows)
        rows &= rows - 1
        if orders[row].place < orders[found].place:
            found = row
    return found


@kernel
def _own_ahead(orders: Any, before: int, row: int, traded: int) -> Any:
    """Of our orders before this one at its price: lots open when the event began, and lots the trade filled.

    `before` are the rows of those that joined their queue before it, one bit each.
    """
    mine = orders[row]
    leaves, filled = 0, 0
    while before != 0:
        found = _first_to_join(orders, before)
        before &= ~(1 << found)
        other = orders[found]
        if other.side == mine.side and other.px == mine.px:
            reach = traded - other.ahead_before - leaves
            filled += min(max(reach, 0), other.leaves_before)
            leaves += other.leaves_before
    return leaves, filled


@kernel
def _lots_better(book: Any, side: int, px: int) -> Any:
    """Lots shown on a side at better prices than `px`."""
    total = 0
    n = book.n_bid if side > 0 else book.n_ask
    for level in range(n):
        here = book.bid_px[level] if side > 0 else book.ask_px[level]
        if (here - px) * side <= 0:
            break
        total += book.bid_sz[level] if side > 0 else book.ask_sz[level]
    return total


@kernel
def _by_quote(order: Any, event: Any, own: int) -> Any:
    """Lots that the quotes beyond our price would have traded with us, less those that have already."""
    side, px = order.side, order.px
    if event.flags & _SIZELESS:
        best = event.ask_px[0] if side > 0 else event.bid_px[0]
        quoted = event.n_ask > 0 if side > 0 else event.n_bid > 0
        return order.leaves_before if quoted and (px - best) * side > 0 else 0
    shown = _lots_better(event, -side, px)
    more = max(0, shown - order.met)
    order.met = shown
    return max(0, more - own)


@kernel
def _by_sweep(order: Any, prev_event: Any, event: Any, own: int) -> Any:
    """Lots of a trade through our price that would have reached us."""
    total = abs(event.trade_qty)
    before = _lots_better(prev_event, order.side, order.px)
    reach = max(event.trade_qty_last, total - before - order.ahead_before)
    return max(0, reach - own)


@kernel
def _meet_one(
    venue: Any, orders: Any, before: int, row: int, prev_event: Any, event: Any, reports: Any
) -> None:
    """What one event does to one resting order; `before` are those that joined their queue before it."""
    order = orders[row]
    side, px, leaves = order.side, order.px, order.leaves_before
    if not (venue.halted or event.flags & _AUCTION):
        against = event.flags & _TRADE and event.trade_qty * side < 0
        through = against and (px - event.trade_px) * side > 0
        traded = event.trade_qty_last if against and event.trade_px == px else 0
        own, own_filled = _own_ahead(orders, before, row, traded)
        quoted = _by_quote(order, event, own)
        swept = _by_sweep(order, prev_event, event, own) if through else 0
        queued = max(traded - order.ahead - own, 0)
        if traded > 0 and order.ahead < HIDDEN:
            order.ahead -= min(order.ahead, max(traded - own_filled, 0))
        qty = min(max(quoted, swept, queued), leaves)
        if qty > 0:
            best = prev_event.bid_px[0] if side > 0 else prev_event.ask_px[0]
            how = BY_SWEEP if through else BY_QUEUE
            if (px - best) * side > 0:
                how = BY_IMPROVING
            if quoted > max(swept, queued):
                how = BY_QUOTE
            _fill(venue, orders, row, qty, px, how, event.ts, reports)
    shown = visible_at(event, side, px)
    if shown >= 0:
        order.ahead = min(order.ahead, shown)


@kernel
def venue_advance(venue: Any, orders: Any, book: Any, until: int, reports: Any) -> None:
    """Let every command that arrives before `until` (ns, exclusive) meet `book`, the last EVENT before it."""
    row = _next_arrival(orders, venue.at_work, until)
    while row >= 0:
        _arrive(venue, orders, row, book, reports)
        row = _next_arrival(orders, venue.at_work, until)
    venue.now = until


@kernel
def venue_forget(venue: Any, orders: Any, reports: Any) -> None:
    """Remove the reports that the last step handed out."""
    handed_out = venue.handed_out
    for i in range(handed_out):
        orders[reports[i].row].undelivered -= 1
        if reports[i].renamed_by >= 0:
            orders[reports[i].renamed_by].undelivered -= 1
    for i in range(handed_out, venue.pending):
        reports[i - handed_out] = reports[i]
    venue.pending -= handed_out
    venue.handed_out = 0


@kernel
def venue_due(venue: Any, reports: Any, now: int) -> int:
    """Hand out the reports delivered until `now` (ns, inclusive): return how many, they lie at the front."""
    n = 0
    while n < venue.pending and reports[n].due <= now:
        n += 1
    venue.handed_out = n
    return n


@kernel
def venue_pass(venue: Any, event: Any) -> None:
    """`venue_step` where nothing of ours is there: time passes, and halts are noted."""
    venue.handed_out = 0
    venue.now = event.ts
    if event.flags & _HALT:
        venue.halted = True
    if event.flags & _RESUME:
        venue.halted = False


@kernel
def venue_step(venue: Any, orders: Any, prev_event: Any, event: Any, reports: Any) -> int:
    """Carry the venue over one event, before the engine sees it; return how many reports are due by then.

    Args:
        venue: a PAPER_VENUE record.
        orders: PAPER_ORDER[rows].
        prev_event: the EVENT record before `event`: the book in force until `event.ts`.
        event: the EVENT record that happens now.
        reports: PAPER_REPORT[room]; on return the first n are due, and stay until the next step.

    Commands that arrive before `event.ts` meet the book of `prev_event`; one that arrives at `event.ts` itself
    comes after the event. To be called for every event while `venue.at_work` or `venue.pending` is not 0.
    """
    venue_forget(venue, orders, reports)
    venue_advance(venue, orders, prev_event, event.ts, reports)
    if event.flags & _HALT:
        venue.halted = True
    standing = _note_standing(orders, venue.at_work)
    met = 0
    while standing != met:
        row = _first_to_join(orders, standing & ~met)
        _meet_one(venue, orders, met, row, prev_event, event, reports)
        met |= 1 << row
    if event.flags & _RESUME:
        venue.halted = False
    return venue_due(venue, reports, event.ts)
