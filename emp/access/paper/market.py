"""A recording whose orders wait in the paper queue, as a venue of the compiled path (`emp.access.venue`)."""

from typing import Any, NamedTuple

import numpy as np

from emp.access.paper.fills import (
    CANCEL,
    ENDED,
    FREE,
    NEW,
    ON_ITS_WAY,
    REPLACE,
    STATUS_CANCELED,
    STATUS_FILLED,
    STATUS_NEW,
    STATUS_PARTIAL,
    STATUS_REJECTED,
    venue_pass,
    venue_step,
)
from emp.access.venue import EVENT_CAME, NO_EVENT, NOTHING_LEFT, Kernels, register
from emp.core.codes import OrderStatus
from emp.core.messages import CANCEL as CANCEL_MESSAGE
from emp.core.messages import NEW as NEW_MESSAGE
from emp.core.messages import REPORT, STATUSES
from emp.core.numba.jit import kernel
from emp.core.records import Array

CURSOR = np.dtype([("next", "i8"), ("seen", "?")], align=True)
"""Where a recording is: the next event, and whether the venue has dealt with it already."""

TOLD = np.zeros(5, np.int32)
"""Index in STATUSES of each PAPER_REPORT.status."""
TOLD[STATUS_NEW] = STATUSES.index(OrderStatus.NEW)
TOLD[STATUS_PARTIAL] = STATUSES.index(OrderStatus.PARTIALLY_FILLED)
TOLD[STATUS_FILLED] = STATUSES.index(OrderStatus.FILLED)
TOLD[STATUS_CANCELED] = STATUSES.index(OrderStatus.CANCELED)
TOLD[STATUS_REJECTED] = STATUSES.index(OrderStatus.REJECTED)


class PaperMarket(NamedTuple):
    """A part of a recording and the paper venue beside it."""

    venue: Array  # PAPER_VENUE[1]
    orders: Array  # PAPER_ORDER[rows]
    reports: Array  # PAPER_REPORT[room]
    events: Array  # EVENT[n]
    before: Array  # EVENT[1]: the event before the first
    cursor: Array  # CURSOR[1]


@kernel
def paper_idle(market: Any) -> bool:
    """See `emp.access.venue.idle`."""
    v = market.venue[0]
    return bool(v.at_work == 0 and v.pending == v.handed_out)


@kernel
def paper_advance(market: Any, until_ns: int, event: Any) -> tuple[int, int]:
    """See `emp.access.venue.advance`."""
    c = market.cursor[0]
    if c.next >= market.events.size:
        return NOTHING_LEFT, 0
    here = market.events[c.next]
    if here.ts > until_ns:
        c.seen = False
        return NO_EVENT, 0
    due = 0
    if c.seen:
        c.seen = False
    elif market.venue[0].at_work == 0 and market.venue[0].pending == 0:
        venue_pass(market.venue[0], here)
    else:
        previous = market.events[c.next - 1] if c.next > 0 else market.before[0]
        due = venue_step(market.venue[0], market.orders, previous, here, market.reports)
    event[0] = here
    c.next += 1
    return EVENT_CAME, due


@kernel
def paper_again(market: Any) -> bool:
    """See `emp.access.venue.again`."""
    market.cursor[0].next -= 1
    return True


@kernel
def paper_report(market: Any, k: int, message: Any) -> None:
    """See `emp.access.venue.report`. A replacement in force takes the order's row under its own id."""
    told = market.reports[k]
    order = market.orders[told.row]
    message.kind, message.status, message.text = REPORT, TOLD[told.status], told.text
    message.orig = 0
    if told.renamed_by >= 0:
        command = market.orders[told.renamed_by]
        order.id, command.id = command.id, order.id
        message.orig = order.id
    message.id, message.side = order.id, order.side
    message.qty, message.leaves, message.px = told.filled, told.leaves, told.price
    message.fee, message.maker, message.ahead = told.fee, told.maker, told.ahead
    message.ts, message.seq = told.ts, told.exec_id


@kernel
def _row_of(orders: Any, name: int) -> int:
    """Row of the order that has, had or is asked to have that id, or -1 where it is not known (any more)."""
    for back in range(orders.size):
        row = orders.size - 1 - back
        order = orders[row]
        if order.id != name:
            continue
        if order.kind == NEW:
            return row
        refused = order.state == ENDED and order.status == STATUS_REJECTED
        if order.kind == REPLACE and order.target >= 0 and not refused:
            return order.target if orders[order.target].number == order.target_number else -1
    return -1


@kernel
def _free_row(orders: Any) -> int:
    """A row never used, or the one whose order ended first, once all about it has been told; -1 where none is."""
    found = -1
    for row in range(orders.size):
        order = orders[row]
        if order.kind == FREE:
            return row
        told = order.state == ENDED and order.undelivered == 0
        if told and (found < 0 or order.number < orders[found].number):
            found = row
    return found


@kernel
def paper_send(market: Any, message: Any) -> bool:
    """See `emp.access.venue.send`; it arrives `entry_ns` after its `ts`."""
    v, orders = market.venue[0], market.orders
    row = _free_row(orders)
    if row < 0:
        return False
    target = -1 if message.kind == NEW_MESSAGE else _row_of(orders, message.orig)
    v.number += 1
    v.at_work |= 1 << row
    o = orders[row]
    o.id, o.number, o.place, o.state = message.id, v.number, v.number, ON_ITS_WAY
    o.arrive = message.ts + v.entry_ns
    o.target, o.target_number = target, orders[target].number
    o.side, o.px, o.qty, o.immediate = 0, 0, 0, False
    o.filled = o.status = o.last_px = o.ahead = o.leaves_before = o.ahead_before = o.met = o.undelivered = 0
    if message.kind == CANCEL_MESSAGE:
        o.kind = CANCEL
    else:
        o.kind = NEW if message.kind == NEW_MESSAGE else REPLACE
        o.side, o.px, o.qty, o.immediate = message.side, message.px, message.qty, message.immediate
    return True


register(PaperMarket, Kernels(paper_advance, paper_report, paper_send, paper_idle, paper_again))
