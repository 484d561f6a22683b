"""Which report may follow which: the rules of an order's life, apart from the bookkeeping.

After the order state matrices of FIX 4.4 (volume 4, appendix D), with two freedoms a network needs: a report
may arrive late, and then tells nothing new; a fill may still be told after a cancel, and then counts.
"""

from enum import StrEnum

import msgspec

from emp.core.codes import OrderStatus, WorkingState
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, QueryOrder, Replace
from emp.execution.pace import passed, pause_ns

_ACCEPTED = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})

_WORKING = {
    OrderStatus.PENDING_NEW: WorkingState.IN_FLIGHT,
    OrderStatus.PENDING_CANCEL: WorkingState.CANCELLING,
    OrderStatus.PENDING_REPLACE: WorkingState.REPLACING,
    OrderStatus.UNKNOWN: WorkingState.UNKNOWN,
}


class Alarm(StrEnum):
    """Why a report or command was quarantined."""

    UNKNOWN_ORDER = "unknown_order"  # about an order we never sent
    CONTRADICTION = "contradiction"  # another content under an identity already seen
    MISMATCH = "mismatch"  # instrument or side is not the order's
    OVERFILL = "overfill"  # more filled than ordered, or a negative quantity
    IMPOSSIBLE_STATUS = "impossible_status"  # status and quantity disagree, or the order had ended otherwise


class Order(msgspec.Struct):
    """What we know of one order."""

    command: NewOrder  # as it is now: id, quantity and price are those of the last replacement in force
    original: NewOrder  # as it was first sent
    index: int  # of its instrument
    most: int  # largest quantity that was ever in force or asked for
    status: OrderStatus = OrderStatus.PENDING_NEW
    filled: int = 0
    cancel: CancelOrder | None = None  # the newest cancel, while it is not refused
    replacement: Replace | None = None  # on its way: neither refused nor in force
    cancels_refused: int = 0  # in a row
    cancelled_at: int = 0  # ns; when the last of them was sent
    asked_at: int = 0  # ns; when something was last sent that the venue owes an answer to
    queue_ahead: int = -1
    booked: dict[
        int, tuple[float, float]
    ] = {}  # cumulative quantity -> (price, fee) of the fill that reached it

    settled: int = (
        0  # lots whose whole cost a correction has told: a fill that comes late changes nothing of it
    )
    changes: list[str] = []  # ids of the cancels and replacements of it, whatever became of them
    reports: list[tuple[str, str]] = []  # (clOrdID, execID) of what was told of it

    @property
    def leaves(self) -> int:
        """Lots that may still fill, by the larger quantity while a replacement is on its way."""
        return 0 if self.status.terminal else self.limit - self.filled

    @property
    def limit(self) -> int:
        """The most that may fill in all: the quantity in force, or the larger one that is asked for."""
        pending = self.replacement
        return self.command.qty if pending is None else max(self.command.qty, pending.qty)

    @property
    def asked_as(self) -> str:
        """The id under which the venue is asked what became of it: that of a replacement on its way comes first.

        A venue that does not know that id has not carried the replacement out; the order is asked for next.
        """
        return self.command.cl_ord_id if self.replacement is None else self.replacement.cl_ord_id

    @property
    def working(self) -> WorkingState:
        """The status as the decision sees it, for an order that has not ended."""
        return _WORKING.get(self.status, WorkingState.RESTING)

    @property
    def awaited(self) -> bool:
        """Whether the venue owes an answer: an immediate order cannot rest, so its end is still to be told."""
        return self.working is not WorkingState.RESTING or self.command.immediate

    def may_cancel(self, now_ns: int) -> bool:
        """Whether a cancel may leave: one that was refused time and again waits longer each time."""
        return passed(now_ns, self.cancelled_at, pause_ns(self.cancels_refused))

    def query(self, ts: int) -> QueryOrder:
        """Ask the venue about it."""
        return QueryOrder(cl_ord_id=self.asked_as, instrument=self.command.instrument, ts=ts)


def impossible(order: Order, update: OrderUpdate) -> Alarm | None:
    """Why this report cannot be true of this order, or None where it can."""
    command = order.command
    if update.instrument not in ("", command.instrument) or update.side not in (0, command.side):
        return Alarm.MISMATCH
    if not 0 <= update.filled <= order.limit:
        return Alarm.OVERFILL
    if update.correction:  # may lower what was filled, and open again what had ended
        return None if order.filled or update.filled == 0 else Alarm.IMPOSSIBLE_STATUS
    if not _agrees(order, update.status, update.filled) or not _may_follow(order, update):
        return Alarm.IMPOSSIBLE_STATUS
    return None


def _agrees(order: Order, status: OrderStatus, filled: int) -> bool:
    """Whether a status can go with a cumulative quantity, told of the order as it is, was, or is asked to be."""
    if status in (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.REJECTED):
        return filled == 0
    if status is OrderStatus.PARTIALLY_FILLED:
        return 0 < filled < order.most
    if status is OrderStatus.FILLED:
        pending = order.replacement
        return filled == order.command.qty or (pending is not None and filled == pending.qty)
    if status in (OrderStatus.PENDING_CANCEL, OrderStatus.PENDING_REPLACE):
        return filled <= order.most  # FIX: these hide that an order has filled
    return filled < order.most


def _may_follow(order: Order, update: OrderUpdate) -> bool:
    """Whether a report can be told of an order in this state, be it late."""
    if update.status is OrderStatus.REJECTED and order.filled:
        return False
    if not order.status.terminal:
        return True
    if order.status is OrderStatus.REJECTED and update.filled:
        return False
    if update.status is OrderStatus.FILLED:  # the last fill was told after the cancel
        return order.status is not OrderStatus.REJECTED
    return not update.status.terminal or update.status is order.status


def next_status(order: Order, update: OrderUpdate) -> OrderStatus:
    """Status after a possible report whose quantity `order.filled` contains already."""
    if order.filled == order.command.qty and (
        order.replacement is None or update.status is OrderStatus.FILLED
    ):
        return OrderStatus.FILLED
    if order.status.terminal:
        return order.status
    if update.status.terminal or update.status is OrderStatus.UNKNOWN:
        return update.status
    late = update.filled < order.filled
    if late or order.status is OrderStatus.PENDING_CANCEL or update.status not in _ACCEPTED:
        return order.status
    return standing(order)


def standing(order: Order) -> OrderStatus:
    """Status of an order that works and on which no cancel is under way."""
    if order.replacement is not None:
        return OrderStatus.PENDING_REPLACE
    if order.filled == order.command.qty:
        return OrderStatus.FILLED
    return OrderStatus.PARTIALLY_FILLED if order.filled else OrderStatus.NEW
