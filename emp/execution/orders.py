"""Our orders: one pure state machine, driven by the commands we send and the reports that come back.

Nothing here reads a clock, sends or stores. A fill is what a report adds to its order's cumulative quantity,
so a missing report heals with the next one and a repeated or late one adds nothing. What cannot have happened
is quarantined with its reason, never applied: an alarm for the engine, which must halt and reconcile.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from emp.core.account import apply_fill, correct_fill
from emp.core.codes import OrderStatus, WorkingState
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace
from emp.core.records import ACCOUNT, WORKING, Array
from emp.core.replacement import consents, replaced
from emp.execution.transitions import Alarm, Order, impossible, next_status, standing

KEPT_ENDED = 1_000
"""Orders that have ended and are still known: what is told of one this late is looked up where it was recorded."""


class Quarantined(msgspec.Struct, frozen=True):
    """A message that was not applied."""

    reason: Alarm
    message: OrderUpdate | Command
    text: str


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """What a report added to an order's cumulative quantity."""

    cl_ord_id: str
    instrument: str
    side: int
    qty: int
    px: int
    fee: float
    maker: bool
    ts: int


class Applied(msgspec.Struct, frozen=True):
    """What a report changed: nothing (repeated, late, quarantined), a status, a fill, or an alarm."""

    changed: bool = False
    fill: Fill | None = None
    alarm: Quarantined | None = None
    stranger: Fill | None = None  # of an order that is none of ours: not booked here


_URGENCY = {
    WorkingState.NONE: 0,
    WorkingState.RESTING: 1,
    WorkingState.REPLACING: 2,
    WorkingState.CANCELLING: 3,
    WorkingState.IN_FLIGHT: 4,
    WorkingState.UNKNOWN: 5,
}


class OrderManager:
    """Orders of all instruments of a run; keeps the shared ACCOUNT and WORKING records current.

    `accounts` and `working` are arrays with one record per name in `instruments`; the compiled step reads the
    same memory. Where an instrument has several open orders (while flattening), its WORKING record shows the
    one whose state forbids most.
    """

    def __init__(
        self, instruments: Sequence[str], accounts: Array | None = None, working: Array | None = None
    ) -> None:
        self.instruments = tuple(instruments)
        self.accounts: Array = np.zeros(len(instruments), ACCOUNT) if accounts is None else accounts
        self.working: Array = np.zeros(len(instruments), WORKING) if working is None else working
        self.quarantined: list[Quarantined] = []
        self.prices = [0.0] * len(self.instruments)
        """Ticks at which lots of each instrument were traded or valued last; 0 before any was."""
        self._index = {name: i for i, name in enumerate(self.instruments)}
        self._orders: dict[str, Order] = {}  # by the id under which each was first sent
        self._open: dict[str, Order] = {}
        self._ended: deque[str] = deque()  # oldest first; one that works again stands here too
        self._order_of: dict[str, str] = {}  # id of a cancel or replacement -> its order's first id
        self._refused: set[str] = set()  # ids of replacements that the venue refused
        self._seen: dict[tuple[str, str], OrderUpdate] = {}
        self._strangers: dict[
            str, int
        ] = {}  # lots that orders which are none of ours have filled, by their ids
        self._showing = True
        for index in range(len(self.instruments)):
            self._show(index)

    def order(self, cl_ord_id: str) -> Order | None:
        """The order that has or had that id, or that the cancel or replacement of that id is about."""
        return self._orders.get(self._order_of.get(cl_ord_id, cl_ord_id))

    def open_orders(self, instrument: str = "") -> list[Order]:
        """Orders that may still fill, oldest first."""
        return [o for o in list(self._open.values()) if instrument in ("", o.command.instrument)]

    @property
    def any_open(self) -> bool:
        """Whether any order may still fill."""
        return bool(self._open)

    def position(self, instrument: str) -> int:
        """Lots held, signed."""
        return int(self.accounts[self._index[instrument]]["position"])

    def sent(self, command: Command) -> Quarantined | None:
        """Note a command that is in the ledger and leaves now; the identical one again changes nothing."""
        if isinstance(command, NewOrder):
            return self._sent_new(command)
        order = self.order(command.cl_ord_id if isinstance(command, QueryOrder) else command.orig)
        if order is None:
            return self._quarantine(Alarm.UNKNOWN_ORDER, command, "no such order")
        if not isinstance(command, QueryOrder):
            name = order.original.cl_ord_id
            if self._order_of.get(command.cl_ord_id) == name:
                return None
            if command.cl_ord_id in self._orders or command.cl_ord_id in self._order_of:
                return self._quarantine(Alarm.CONTRADICTION, command, "the id is taken")
            if isinstance(command, Replace):
                problem = _refused_replacement(order, command)
                if problem is not None:
                    return self._quarantine(*problem)
            self._order_of[command.cl_ord_id] = name
            order.changes.append(command.cl_ord_id)
        if not order.status.terminal:
            self._ask(order, command)
            self._show(order.index)
        return None

    @staticmethod
    def _ask(order: Order, command: CancelOrder | QueryOrder | Replace) -> None:
        """The venue owes an answer about an order that works."""
        order.asked_at = max(order.asked_at, command.ts)
        if isinstance(command, CancelOrder):
            order.cancel, order.status = command, OrderStatus.PENDING_CANCEL
        elif isinstance(command, QueryOrder):
            order.status = OrderStatus.UNKNOWN
        else:
            order.replacement, order.most = command, max(order.most, command.qty)
            if order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED):
                order.status = OrderStatus.PENDING_REPLACE

    def _sent_new(self, command: NewOrder) -> Quarantined | None:
        known = self._orders.get(command.cl_ord_id)
        if known is not None and known.original == command:
            return None
        if known is not None or command.cl_ord_id in self._order_of:
            return self._quarantine(Alarm.CONTRADICTION, command, "the id is taken")
        index = self._index.get(command.instrument)
        if index is None:
            return self._quarantine(Alarm.MISMATCH, command, "not an instrument of this run")
        order = Order(command, command, index, most=command.qty, asked_at=command.ts)
        self._orders[command.cl_ord_id] = self._open[command.cl_ord_id] = order
        self._show(index)
        return None

    def apply(self, update: OrderUpdate) -> Applied:
        """Apply a report once: (clOrdID, execID) identifies it. An alarm in the answer must halt trading."""
        key = (update.clOrdID, update.execID)
        seen = self._seen.get(key)
        if seen is not None:
            if seen == update:
                return Applied()
            return self._alarm(Alarm.CONTRADICTION, update, "another report had the same clOrdID and execID")
        self._seen[key] = update
        order = self.order(update.clOrdID)
        if order is None:
            applied = self._alarm(Alarm.UNKNOWN_ORDER, update, "no such order")
            return msgspec.structs.replace(applied, stranger=self.note_stranger(update))
        order.reports.append(key)
        if update.status is OrderStatus.REJECTED and update.clOrdID != order.command.cl_ord_id:
            return self._change_refused(order, update)
        problem = impossible(order, update)
        if problem is not None:
            return self._alarm(problem, update, f"the order was {order.status}, {order.filled} filled")
        if update.replacement in self._refused:
            return self._alarm(Alarm.CONTRADICTION, update, "the replacement was refused before")
        if update.correction:
            return self._correct(order, update)
        before = (order.status, order.filled, order.queue_ahead, order.command)
        if order.replacement is not None and consents(order.command, order.replacement, update):
            _carry_out(order, order.replacement, update)
        fill = self._book(order, update)
        order.status, was = next_status(order, update), order.status
        if was is OrderStatus.UNKNOWN and order.working is WorkingState.RESTING:
            order.cancel = (
                None  # asked after a silence, the venue says that it works: the cancel never arrived
            )
        if fill is not None and fill.maker:
            order.queue_ahead = 0  # what was ahead has traded before us
        elif update.queue_ahead >= 0 and update.filled == order.filled:
            order.queue_ahead = update.queue_ahead
        if order.status.terminal:
            self._end(order)
        self._show(order.index)
        after = (order.status, order.filled, order.queue_ahead, order.command)
        return Applied(after != before, fill)

    def _end(self, order: Order) -> None:
        """It can fill no more, unless the venue takes back what has filled."""
        name = order.original.cl_ord_id
        if self._open.pop(name, None) is not None:
            self._ended.append(name)

    def note_stranger(self, update: OrderUpdate) -> Fill | None:
        """Note and return what a report adds to an order of somebody else on our account: by hand, or by the venue."""
        name = update.clOrdID
        added = update.filled - self._strangers.get(name, 0)
        if added <= 0 or update.side not in (1, -1) or update.instrument not in self._index:
            return None
        self._strangers[name] = update.filled
        return Fill(
            cl_ord_id=name,
            instrument=update.instrument,
            side=update.side,
            qty=added,
            px=update.price,
            fee=update.fee,
            maker=update.maker,
            ts=update.ts,
        )

    def _change_refused(self, order: Order, update: OrderUpdate) -> Applied:
        """The venue did not cancel or replace: the order stands as it was, or has ended already.

        A rejection under an id that the order no longer has says nothing of the order.
        """
        if order.cancel is not None and order.cancel.cl_ord_id == update.clOrdID:
            if order.status.terminal:
                return Applied()
            order.cancels_refused += 1
            order.cancelled_at = order.cancel.ts
            order.cancel = None
            order.status = standing(order)
        elif order.replacement is not None and order.replacement.cl_ord_id == update.clOrdID:
            order.replacement = None
            self._refused.add(update.clOrdID)
            # Asked after a silence, the venue does not know the replacement; what became of the order itself it
            # has not said: UNKNOWN stays, and the order is asked for by its own id next.
            if order.status is OrderStatus.PENDING_REPLACE:
                order.status = standing(order)
            if order.status.terminal:  # all of it had filled while the replacement was on its way
                self._end(order)
        else:
            return Applied()
        self._show(order.index)
        return Applied(changed=True)

    def _book(self, order: Order, update: OrderUpdate) -> Fill | None:
        """Book the quantity that the report adds; correct the price of what an earlier jump had booked."""
        account = self.accounts[order.index]
        side, done = order.command.side, update.filled
        if done == 0:
            return None
        price, fee = order.booked.get(done, (update.price, 0.0))
        if done in order.booked:
            if fee == 0.0 != update.fee:  # a status had told the quantity, this is the fill itself
                account["fees"] += update.fee
                order.booked[done] = (price, update.fee)
            return None
        if done < order.settled:  # its cost is in what the correction said
            account["fees"] += update.fee
            return None
        below = max((c for c in order.booked if c < done), default=0)
        above = min((c for c in order.booked if c > done), default=0)
        order.booked[done] = (update.price, update.fee)
        if above:
            correct_fill(account, side, done - below, float(order.booked[above][0]), update.price, update.fee)
            return None
        order.filled = done
        self.prices[order.index] = float(update.price)
        apply_fill(account, side, done - below, update.price, update.fee)
        return Fill(
            cl_ord_id=order.command.cl_ord_id,
            instrument=order.command.instrument,
            side=side,
            qty=done - below,
            px=update.price,
            fee=update.fee,
            maker=update.maker,
            ts=update.ts,
        )

    def _correct(self, order: Order, update: OrderUpdate) -> Applied:
        """The venue took fills back or changed them: what stands is `filled` lots at `average`; fees stay."""
        account, side = self.accounts[order.index], order.command.side
        cost, below = 0.0, 0
        for done in sorted(order.booked):
            cost += (done - below) * order.booked[done][0]
            below = done
        changed = update.filled != order.filled or cost != update.filled * update.average
        account["position"] += side * (update.filled - order.filled)
        account["cash"] += side * (cost - update.filled * update.average)
        order.filled = order.settled = update.filled
        order.booked = {update.filled: (update.average, 0.0)} if update.filled else {}
        name = order.original.cl_ord_id
        if update.leaves and order.status.terminal:  # what was taken back works again
            order.status = OrderStatus.PARTIALLY_FILLED if order.filled else OrderStatus.NEW
            self._open[name] = order
        elif not update.leaves and order.status is OrderStatus.FILLED and order.filled < order.command.qty:
            order.status = OrderStatus.CANCELED
        elif order.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED):
            order.status = OrderStatus.PARTIALLY_FILLED if order.filled else OrderStatus.NEW
        self._show(order.index)
        return Applied(changed=changed)

    def recall(self, messages: Sequence[Command | OrderUpdate]) -> None:
        """Learn of orders from what was sent and reported of them, in order; their fills are booked already."""
        accounts, working, prices = self.accounts.copy(), self.working.copy(), list(self.prices)
        known = len(self.quarantined)
        for message in messages:
            if isinstance(message, OrderUpdate):
                self.apply(message)
            else:
                self.sent(message)
        self.accounts[...], self.working[...], self.prices = accounts, working, prices
        del self.quarantined[known:]  # it was said when it was told

    def forget_ended(self) -> None:
        """Know nothing more of orders that have ended, but of the newest; `recall` brings one back."""
        while len(self._ended) > KEPT_ENDED:
            name = self._ended.popleft()
            if name in self._open or name not in self._orders:
                continue
            order = self._orders.pop(name)
            for change in order.changes:
                self._order_of.pop(change, None)
                self._refused.discard(change)
            for told in order.reports:
                self._seen.pop(told, None)

    @property
    def strangers(self) -> dict[str, int]:
        """Lots that orders which are none of ours have filled, by their ids."""
        return self._strangers

    def count_from(self, filled: Mapping[str, int]) -> None:
        """Lots that orders of others, by their ids, have filled and that the position holds already."""
        for name, lots in filled.items():
            self._strangers[name] = max(lots, self._strangers.get(name, 0))

    def adjust(self, instrument: str, qty: int, fee: float = 0.0) -> None:
        """Take in a difference of position that no order of ours explains, in signed lots; `value` books what it is
        worth.
        """
        account = self.accounts[self._index[instrument]]
        account["position"] += qty
        account["fees"] += fee

    def value(self, instrument: str, qty: int, px: float) -> None:
        """Book that `qty` lots of an adjustment are worth `px` ticks each; no fee."""
        self.accounts[self._index[instrument]]["cash"] -= qty * px
        self.prices[self._index[instrument]] = px

    def timeouts(self, now_ns: int, timeout_ns: int) -> list[QueryOrder]:
        """Queries to send about orders whose answer is overdue: never a second order."""
        return [
            o.query(now_ns) for o in self._open.values() if o.awaited and now_ns - o.asked_at >= timeout_ns
        ]

    @contextmanager
    def unshown(self) -> Iterator[None]:
        """Bring the WORKING records up to date once, when the block is left: for a ledger that is told again."""
        self._showing = False
        try:
            yield
        finally:
            self._showing = True
            for index in range(len(self.instruments)):
                self._show(index)

    def _show(self, index: int) -> None:
        """Write the instrument's WORKING record from its open orders."""
        if not self._showing:
            return
        record = self.working[index]
        shown = max(
            (o for o in self._open.values() if o.index == index),
            key=lambda o: (_URGENCY[o.working], o.command.ts),
            default=None,
        )
        if shown is None:
            record["state"], record["side"], record["px"], record["leaves"] = WorkingState.NONE, 0, 0, 0
            record["queue_ahead"], record["ts"], record["immediate"] = -1, 0, False
            return
        command = shown.command
        record["state"], record["side"], record["px"] = shown.working, command.side, command.px
        record["leaves"], record["queue_ahead"] = shown.leaves, shown.queue_ahead
        record["ts"], record["immediate"] = command.ts, command.immediate

    def _alarm(self, reason: Alarm, update: OrderUpdate, text: str) -> Applied:
        return Applied(alarm=self._quarantine(reason, update, text))

    def _quarantine(self, reason: Alarm, message: OrderUpdate | Command, text: str) -> Quarantined:
        kept = Quarantined(reason, message, text)
        self.quarantined.append(kept)
        return kept


def _refused_replacement(order: Order, command: Replace) -> tuple[Alarm, Replace, str] | None:
    """Why a replacement cannot be one of this order, or None where it can."""
    if (command.instrument, command.side) != (order.command.instrument, order.command.side):
        return Alarm.MISMATCH, command, "instrument or side is not the order's"
    if order.replacement is not None and not order.status.terminal:
        return Alarm.CONTRADICTION, command, "another replacement is on its way"
    return None


def _carry_out(order: Order, pending: Replace, update: OrderUpdate) -> None:
    """The replacement is in force. The place in the queue is kept by a smaller size at the same price alone."""
    before = order.command
    order.command, order.replacement = replaced(before, pending, update), None
    order.most = max(order.most, order.command.qty)
    if order.command.px != before.px or order.command.qty > before.qty:
        order.queue_ahead = -1
    if order.status is OrderStatus.PENDING_REPLACE:
        order.status = standing(order)
