"""The one order that works, in compiled loops: the state machine of `orders.py` for the life of a single order.

The rule has at most one order of an instrument at work, so a loop that trades needs no more than this record. It takes
what reports say of that order as `OrderManager` does. A report that can be none of it is not applied: Python, which
knows all orders, must look at it.
"""

from typing import Any

import numpy as np

from emp.core.account import apply_fill
from emp.core.codes import OrderStatus, WorkingState
from emp.core.messages import NEW, REPLACE, STATUSES
from emp.core.numba.jit import kernel
from emp.core.records import Array

(
    PENDING_NEW,
    ACCEPTED,
    PARTIALLY_FILLED,
    FILLED,
    PENDING_CANCEL,
    CANCELED,
    REJECTED,
    EXPIRED,
    UNKNOWN,
    PENDING_REPLACE,
) = (
    STATUSES.index(OrderStatus(name))
    for name in (
        "pending_new",
        "new",
        "partially_filled",
        "filled",
        "pending_cancel",
        "canceled",
        "rejected",
        "expired",
        "unknown",
        "pending_replace",
    )
)
NONE, IN_FLIGHT, RESTING = int(WorkingState.NONE), int(WorkingState.IN_FLIGHT), int(WorkingState.RESTING)
CANCELLING, REPLACING = int(WorkingState.CANCELLING), int(WorkingState.REPLACING)

ORDER = np.dtype(
    [
        ("open", "?"),  # it may still fill
        ("immediate", "?"),
        ("status", "i4"),  # index in STATUSES
        ("side", "i8"),
        ("id", "i8"),  # that the order has now
        ("first", "i8"),  # that it was sent under
        ("qty", "i8"),
        ("px", "i8"),
        ("ts", "i8"),  # when it was decided, or its last replacement in force was
        ("filled", "i8"),
        ("ahead", "i8"),  # lots ahead as the venue told, -1 unknown
        ("cancel", "i8"),  # id of the newest cancel, while it is not refused; 0 none
        ("replacement", "i8"),  # id of the one on its way; 0 none
        ("new_qty", "i8"),
        ("new_px", "i8"),
        ("new_ts", "i8"),
        ("sequence", "i8"),  # of the last id of the run
    ],
    align=True,
)
"""The order at work, or the last one; `sequence` counts on from order to order."""


def no_order(sequence: int) -> Array:
    """ORDER[1]: none is at work, and `sequence` ids have been given."""
    order = np.zeros(1, ORDER)
    order["sequence"] = sequence
    return order


@kernel
def show(o: Any, working: Any) -> None:
    """Write what the decision sees of the order into a WORKING record."""
    if not o.open:
        working.state, working.side, working.px, working.leaves = NONE, 0, 0, 0
        working.queue_ahead, working.ts, working.immediate = -1, 0, False
        return
    state = RESTING
    if o.status == PENDING_NEW:
        state = IN_FLIGHT
    elif o.status == PENDING_CANCEL:
        state = CANCELLING
    elif o.status == PENDING_REPLACE:
        state = REPLACING
    working.state, working.side, working.px = state, o.side, o.px
    working.leaves = _limit(o) - o.filled
    working.queue_ahead, working.ts, working.immediate = o.ahead, o.ts, o.immediate


@kernel
def _limit(o: Any) -> int:
    """The most that may fill in all: the quantity in force, or the larger one that is asked for."""
    return max(o.qty, o.new_qty) if o.replacement != 0 else o.qty


@kernel
def _standing(o: Any) -> int:
    """Status of an order that works and on which no cancel is under way."""
    if o.replacement != 0:
        return PENDING_REPLACE
    if o.filled == o.qty:
        return FILLED
    return PARTIALLY_FILLED if o.filled > 0 else ACCEPTED


@kernel
def note_sent(o: Any, message: Any, working: Any) -> None:
    """Note a command that leaves now; a new order takes the place of one that has ended."""
    if message.kind == NEW:
        o.open, o.immediate, o.status = True, message.immediate, PENDING_NEW
        o.id, o.first, o.side, o.qty, o.px = message.id, message.id, message.side, message.qty, message.px
        o.ts, o.filled, o.ahead, o.cancel, o.replacement = message.ts, 0, -1, 0, 0
    elif message.kind == REPLACE:
        o.replacement, o.new_qty, o.new_px, o.new_ts = message.id, message.qty, message.px, message.ts
        if o.status == ACCEPTED or o.status == PARTIALLY_FILLED:
            o.status = PENDING_REPLACE
    else:
        o.cancel, o.status = message.id, PENDING_CANCEL
    show(o, working)


@kernel
def apply(o: Any, message: Any, account: Any, working: Any) -> bool:
    """Apply a report; False where Python must look at it, and then nothing was changed."""
    status = message.status
    if status == REJECTED and (not o.open or message.id != o.id):
        _refuse(o, message.id)
        show(o, working)
        return True
    if not _possible(o, message):
        return False
    if o.replacement != 0 and _consents(o, message):
        _carry_out(o, message)
    filled = message.qty > o.filled
    if filled:
        apply_fill(account, o.side, message.qty - o.filled, message.px, message.fee)
        o.filled = message.qty
    o.status = _next_status(o, status)
    if filled and message.maker:
        o.ahead = 0  # what was ahead has traded before us
    elif message.ahead >= 0:
        o.ahead = message.ahead
    o.open = o.status not in (FILLED, CANCELED, REJECTED, EXPIRED)
    show(o, working)
    return True


@kernel
def _refuse(o: Any, command: int) -> None:
    """A cancel or a replacement is not carried out; of one that was about an earlier order nothing is to be noted."""
    if not o.open:
        return
    if o.cancel == command:
        o.cancel = 0
        o.status = _standing(o)
    elif o.replacement == command:
        o.replacement = 0
        if o.status == PENDING_REPLACE:
            o.status = _standing(o)
    o.open = o.status != FILLED


@kernel
def _possible(o: Any, message: Any) -> bool:
    """Whether a report, told in the order in which things happened, can be of this order as it is."""
    if not o.open or message.side != o.side:
        return False
    if message.id != o.id and message.id != o.first and message.id != o.replacement:
        return False
    if not o.filled <= message.qty <= _limit(o):
        return False
    status = message.status
    if status in (ACCEPTED, REJECTED):
        return message.qty == 0
    if status == PARTIALLY_FILLED:
        return 0 < message.qty < _limit(o)
    if status == FILLED:
        return message.qty == o.qty or (o.replacement != 0 and message.qty == o.new_qty)
    return status in (CANCELED, EXPIRED) and message.qty < _limit(o)


@kernel
def _consents(o: Any, message: Any) -> bool:
    """Whether a report says that the replacement on its way is in force; see `core.replacement.consents`."""
    if message.orig == o.replacement:
        return True
    if message.status == REJECTED:
        return False
    whole = message.status == FILLED and message.qty == o.new_qty and o.new_qty != o.qty
    return whole or message.qty > o.qty or message.id == o.replacement


@kernel
def _carry_out(o: Any, message: Any) -> None:
    """The replacement is in force. The place in the queue is kept by a smaller size at the same price alone."""
    qty = max(o.new_qty, message.qty)
    if o.new_px != o.px or qty > o.qty:
        o.ahead = -1
    if message.id == o.replacement or message.orig == o.replacement:
        o.id = message.id
    o.qty, o.px, o.ts, o.replacement = qty, o.new_px, o.new_ts, 0
    if o.status == PENDING_REPLACE:
        o.status = _standing(o)


@kernel
def _next_status(o: Any, told: int) -> int:
    """Status after a possible report whose quantity is taken in already."""
    if o.filled == o.qty and (o.replacement == 0 or told == FILLED):
        return FILLED
    if told not in (ACCEPTED, PARTIALLY_FILLED):
        return told
    return PENDING_CANCEL if o.status == PENDING_CANCEL else _standing(o)
