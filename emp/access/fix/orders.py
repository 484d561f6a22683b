"""Orders of one session: bodies of what leaves, OrderUpdates from what comes back, each report once.

A report is known by (clOrdID, execID). Where a venue gives no execID, or repeats none in an answer about status,
one is derived: "D" and the first 24 hex digits of the SHA-256 of the values of tags 37, 150, 39, 14, 151, 6 and 60,
joined by SOH; an answer to a status request adds tag 52, because asking again may bring the same answer.
"""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from emp.access.fix.bodies import Bodies
from emp.access.fix.dialect import Dialect
from emp.access.fix.message import Message, readable
from emp.access.fix.reports import (
    CORRECTIONS,
    DERIVED,
    NOTHING,
    STATUS,
    Figures,
    Order,
    average_after,
    derived_id,
    note_fill,
    read_figures,
    require_what_counts,
    sharp_price,
    splits,
    stands,
    told_price,
)
from emp.access.fix.text import FieldError, Scale, utc_ns
from emp.access.fix.wire import EMPTY_FIELD
from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder
from emp.core.replacement import SAYS_NOTHING

REMEMBERED = 100_000
"""Reports and orders remembered, oldest forgotten first; the ledger keeps all of them."""


class Orders:
    """Builds order messages and understands their reports."""

    def __init__(
        self,
        scales: Mapping[str, Scale],
        symbols: Mapping[str, str],
        dialect: Dialect,
        account: str = "",
        sender: str = "",
    ) -> None:
        self.dialect = dialect
        self.counts: Counter[str] = Counter()
        self.net = dict.fromkeys(scales, 0)  # lots that fills of orders of ours have made, per instrument
        self.traded = False  # whether anything has filled
        self._scales = scales
        self._symbols = {name: symbol.encode() for name, symbol in symbols.items()}
        self._names = {symbol.encode(): name for name, symbol in symbols.items()}
        self.bodies = Bodies(scales, self._symbols, dialect, account, sender)
        self._known: dict[str, Order] = {}
        self._requests: dict[str, str] = {}  # id of a cancel or replace -> id of the order it is about
        self._named: dict[
            str, str
        ] = {}  # the venue's id of an order (37) -> ours, empty where it is no one's alone
        self._seen: dict[tuple[str, str], None] = {}
        self._sent: dict[int, tuple[str, str]] = {}  # number of a message -> (its type, its clOrdID)

    # --- what leaves ----------------------------------------------------------------------------------------

    def body(self, command: Command) -> tuple[bytes, bytes]:
        """(MsgType, body) of a command."""
        if isinstance(command, NewOrder):
            self._known[command.cl_ord_id] = Order(
                command.instrument, command.side, command.px, command.qty, immediate=command.immediate
            )
            if len(self._known) > REMEMBERED:
                _forget(self._known)
            return b"D", self.bodies.new(command)
        if isinstance(command, QueryOrder):
            return b"H", self.bodies.query(command, self._known.get(command.cl_ord_id))
        self._requests[command.cl_ord_id] = command.orig
        _forget(self._requests)
        known = self._known.get(command.orig)
        if isinstance(command, CancelOrder):
            return b"F", self.bodies.cancel(command, known)
        self._known[command.cl_ord_id] = Order(command.instrument, command.side, command.px, command.qty)
        return b"G", self.bodies.replace(command, known)

    def sent(self, seq: int, kind: bytes, cl_ord_id: str) -> None:
        """Remember under which number a message left, for a reject that names nothing else."""
        self._sent[seq] = (kind.decode(), cl_ord_id)
        _forget(self._sent)

    def forget_numbers(self) -> None:
        """Numbers have begun anew."""
        self._sent.clear()

    # --- what comes back ------------------------------------------------------------------------------------

    def report(self, message: Message) -> list[OrderUpdate]:
        """Updates that an ExecutionReport, CancelReject, BusinessReject or Reject makes; none when seen before.

        FieldError where a number of a report is none: nothing of it is then noted.
        """
        match message.kind:
            case "8":
                return self._execution(message)
            case "9":
                return self._cancel_reject(message)
            case "j":
                return self._refused(message, message.text(379))
            case "3":
                return self._refused(message, "")
        return []

    def request_of(self, message: Message) -> str:
        """The id under which the message that a reject refers to was sent, empty where unknown."""
        return self._sent.get(message.integer(45), ("", ""))[1]

    def sent_between(self, first: int, last: int) -> list[str]:
        """The ids under which messages left with these numbers."""
        if last - first < len(self._sent):
            return [self._sent[seq][1] for seq in range(first, last + 1) if seq in self._sent]
        return [cl_ord_id for seq, (_, cl_ord_id) in self._sent.items() if first <= seq <= last]

    def name_of(self, message: Message | Mapping[int, bytes]) -> str:
        """The instrument a message is about, empty where it is none of ours."""
        return self._names.get(message.get(self.dialect.symbol_tag) or b"", "")

    def status_of(self, message: Message) -> list[OrderUpdate]:
        """An answer to a mass status request as updates, whatever was seen before; FieldError as for `report`."""
        figures = self._figures(message)
        order_id = self._order_id(message)
        before = self._learn(message, order_id, figures)
        return self._updates(message, order_id, self._exec_id(message), figures, before)

    def fresh_price(self, message: Message, cl_ord_id: str) -> int:
        """At what an order has just filled, in ticks, by a report that was taken in; 0 where that tells no price of a
        fill, is sent again, or answers a question.
        """
        order = self._known.get(cl_ord_id)
        if (
            order is None
            or message.kind != "8"
            or message.poss_dup
            or message.text(150) in ("I", *CORRECTIONS)
        ):
            return 0
        return order.fresh_px

    def dispute(self, message: Message) -> str:
        """A report was refused: the id of the order that it names, which has to be asked for; empty for none of ours.

        What the venue says of it next is what stands, also where that is less than was known.
        """
        order_id = self._order_id(message) if message.kind == "8" else ""
        order = self._known.get(order_id)
        if order is None:
            return ""
        order.disputed = True
        return order_id

    def newest_filled(self, instrument: str, most: int) -> list[str]:
        """The ids of at most so many orders that have filled, newest first."""
        found: dict[int, str] = {}  # an order goes by the last of its ids
        for cl_ord_id, order in reversed(self._known.items()):
            if order.instrument == instrument and order.filled and id(order) not in found:
                found[id(order)] = cl_ord_id
                if len(found) == most:
                    break
        return list(found.values())

    def dispute_order(self, cl_ord_id: str) -> None:
        """What the venue says next of this order is what stands, also where that is less than was known."""
        self._known[cl_ord_id].disputed = True

    def disputed(self, cl_ord_id: str) -> bool:
        """Whether that is still awaited."""
        order = self._known.get(cl_ord_id)
        return order is not None and order.disputed

    def instrument_of(self, cl_ord_id: str) -> str:
        """The instrument of an order that is known."""
        return self._known[cl_ord_id].instrument

    def _execution(self, message: Message) -> list[OrderUpdate]:
        order_id, exec_id = self._order_id(message), self._exec_id(message)
        if (order_id, exec_id) in self._seen:
            self.counts["duplicates"] += 1
            return []
        figures = self._figures(message)
        if figures is NOTHING:  # neither the order nor the instrument is ours
            self.counts["foreign"] += 1
            return []
        self._first(order_id, exec_id)
        replaced = message.text(150) == "5" and order_id in self._requests
        before = self._learn(message, order_id, figures)
        updates = self._updates(message, order_id, exec_id, figures, before)
        return (
            [msgspec.structs.replace(updates[0], replacement=order_id), *updates[1:]] if replaced else updates
        )

    def _figures(self, message: Message) -> Figures:
        """The numbers of a report, which must stand before anything is noted of it."""
        known, name = self._known.get(self._order_id(message)), self.name_of(message)
        symbol = message.get(self.dialect.symbol_tag)
        if known is not None and symbol is not None and name != known.instrument:
            raise FieldError(f"a report on an order of {known.instrument} names {readable(symbol)}")
        scale = self._scales.get(name or (known.instrument if known is not None else ""))
        if scale is None:
            return NOTHING
        require_what_counts(message)
        if not self._order_id(message) and message.flags & EMPTY_FIELD:
            raise FieldError("a report that names an order by an empty tag")
        figures = read_figures(message, scale, self.dialect.fee_tag)
        return stands(known, message, figures) if message.text(150) in CORRECTIONS else figures

    def _order_id(self, message: Message) -> str:
        """The id of the order that a report is about: reports on a cancel name the cancel in 11, the order in 41."""
        own, original = message.text(11), message.text(41)
        if message.text(150) == "5":
            return own
        if own in self._requests and own not in self._known:
            return self._requests[own]
        if original and message.text(39) in ("4", "6"):
            return original
        return own or original or self._named.get(message.text(37), "")

    def _learn(self, message: Message, order_id: str, figures: Figures) -> tuple[int, float]:
        """Take in what a report says of the order; returns (filled, average) before it.

        Where it tells under a replacement's id what only an order can be, the replacement is in force: that report
        may be all that is heard of it.
        """
        pending = self._pending(order_id)
        if pending and (message.text(150) == "5" or _status(message, figures) not in SAYS_NOTHING):
            self._succeed(self._requests[order_id], order_id)
            pending = False
        order = self._known.get(order_id)
        name = self.name_of(message) or (order.instrument if order is not None else "")
        scale = self._scales.get(name)
        if scale is None:
            return 0, 0.0
        new = order is None
        if order is None:
            side = 1 if message.get(54) == b"1" else -1
            order = Order(name, side, figures.px, figures.qty)
            self._known[order_id] = order
            _forget(self._known)
        before = order.filled, order.average
        self._name(order, order_id, message.text(37))
        if message.get(39) is not None:
            order.status = _status(message, figures)
        note_fill(order, message, figures)
        # a venue that has forgotten an order "rejects" it: that says nothing of what it had filled
        forgotten = order.status is OrderStatus.REJECTED and order.filled > 0
        lowers = message.text(150) in CORRECTIONS or (order.disputed and not forgotten)
        if figures.filled is not None and (figures.filled >= order.filled or lowers):
            order.filled, order.average = figures.filled, average_after(figures, *before)
            self.traded |= order.filled > 0
            # of an earlier run, or not ours: held before; of a replacement that is not in force: the order's own
            if not new and not pending:
                self.net[name] += order.side * (order.filled - before[0])
        return before

    def _name(self, order: Order, order_id: str, venue_id: str) -> None:
        """Note what the venue calls an order, for reports that name it by nothing else."""
        if venue_id and venue_id != order.venue_id:
            other = self._known.get(self._named.get(venue_id, order_id))
            self._named[venue_id] = order_id if other is order else ""
            _forget(self._named)
            order.venue_id = venue_id

    def _updates(
        self, message: Message, order_id: str, exec_id: str, figures: Figures, before: tuple[int, float]
    ) -> list[OrderUpdate]:
        """What a report says, and after it what it cost where no price in whole ticks does."""
        update = self._update(message, order_id, exec_id, figures, before)
        order = self._known.get(order_id)
        if order is not None:
            tick = self._scales[order.instrument].instrument.tick
            order.fresh_px = sharp_price(message, figures, order, before, tick)
        if order is None or update.correction or figures.filled is None or math.isnan(figures.average):
            return [update]
        if order.disputed and message.text(150) == "I":
            order.disputed = False
            if update.status is OrderStatus.REJECTED and order.filled:
                return []
            order.fills.clear()
            if order.filled < before[0] or (order.filled == before[0] and order.average != before[1]):
                return [_stands_at(update, order.average, exec_id)]
        if splits(message, figures, order, before, tick):
            return [update, _stands_at(update, order.average, f"{exec_id}A")]
        return [update]

    def _update(
        self, message: Message, order_id: str, exec_id: str, figures: Figures, before: tuple[int, float]
    ) -> OrderUpdate:
        order = self._known.get(order_id, Order("", 0, 0, 0))
        corrected = message.text(150) in CORRECTIONS
        told = told_price(figures, order, before)
        return OrderUpdate(
            clOrdID=order_id,
            execID=exec_id,
            status=_status(message, figures),
            filled=order.filled if figures.filled is None else figures.filled,
            price=order.px if corrected or told is None else told,
            ts=self._time(message),
            instrument=order.instrument,
            side=order.side,
            leaves=figures.leaves,
            fee=figures.fee,
            maker=message.get(851) == b"1",
            queue_ahead=message.integer(self.dialect.queue_tag) if self.dialect.queue_tag else -1,
            text=message.words(58),
            correction=corrected,
            average=order.average if corrected else 0.0,
        )

    def _succeed(self, orig: str, successor: str) -> None:
        """The order goes on under the replacement's id: one order, known by both."""
        order, new = self._known[orig], self._known[successor]
        order.px, order.qty = new.px, new.qty
        self._known[successor] = order
        if order.venue_id:
            self._named[order.venue_id] = successor

    def _pending(self, cl_ord_id: str) -> bool:
        """Whether this is a replacement that is not in force: the order that it is about has not taken its id."""
        order = self._known.get(self._requests[cl_ord_id]) if cl_ord_id in self._requests else None
        return order is not None and order is not self._known.get(cl_ord_id, order)

    def in_force(self, cl_ord_id: str) -> str:
        """The id of the order that goes on under this one by a replacement, empty where none does."""
        if cl_ord_id not in self._requests or cl_ord_id not in self._known or self._pending(cl_ord_id):
            return ""
        return self._requests[cl_ord_id]

    def _cancel_reject(self, message: Message) -> list[OrderUpdate]:
        """A cancel or replace was refused: its own id is rejected, the order stands as it was."""
        return self._said(message, message.text(11), OrderStatus.REJECTED)

    def _refused(self, message: Message, named: str) -> list[OrderUpdate]:
        """A message of ours was refused: that id is dead; a refused query tells that the order never arrived."""
        kind, sent_id = self._sent.get(message.integer(45), ("", ""))
        kind = message.text(372, kind)
        order_id = named if named in self._known or named in self._requests else sent_id
        if not order_id or kind not in ("D", "F", "G", "H"):
            self.counts["refused"] += 1
            return []
        known = self._known.get(order_id)
        if kind == "H" and known is not None and known.status.terminal:  # forgotten since it ended
            known.disputed = False
            self.counts["refused"] += 1
            return []
        if kind == "H" and known is not None and known.status is not OrderStatus.PENDING_NEW:
            return self._said(message, order_id, OrderStatus.UNKNOWN)
        return self._said(message, order_id, OrderStatus.REJECTED)

    def original(self, cl_ord_id: str) -> str:
        """The order that a cancel or replace of ours is about, empty where it is neither."""
        return self._requests.get(cl_ord_id, "")

    def _said(self, message: Message, order_id: str, status: OrderStatus) -> list[OrderUpdate]:
        """An update that carries no fill."""
        exec_id = derived_id(message, (35, 34, 52, 45, 11, 58))
        if not self._first(order_id, exec_id):
            return []
        order = self._known.get(order_id, Order("", 0, 0, 0))
        if status is not OrderStatus.UNKNOWN:
            order.status = status
        return [
            OrderUpdate(
                clOrdID=order_id,
                execID=exec_id,
                status=status,
                filled=order.filled,
                price=order.px,
                ts=self._time(message),
                instrument=order.instrument,
                side=order.side,
                leaves=0 if status.terminal else order.qty - order.filled,
                text=message.words(58),
            )
        ]

    def _exec_id(self, message: Message) -> str:
        """The venue's execID, or one derived from the report."""
        given = message.text(17)
        status = message.text(150) == "I"
        if self.dialect.exec_id and given and given != "0" and not status:
            return given
        return derived_id(message, (*DERIVED, 52) if status else DERIVED)

    def _first(self, order_id: str, exec_id: str) -> bool:
        """Whether the report is new; a second one is counted and dropped."""
        key = order_id, exec_id
        if key in self._seen:
            self.counts["duplicates"] += 1
            return False
        self._seen[key] = None
        _forget(self._seen)
        return True

    def _time(self, message: Message) -> int:
        stamp = utc_ns(message.get(60))
        return stamp if stamp >= 0 else message.sent_ns

    def must_cancel(self, update: OrderUpdate) -> bool:
        """Whether an order meant to be immediate now rests, because the venue has no such order over FIX."""
        order = self._known.get(update.clOrdID)
        return (
            not self.dialect.time_in_force
            and order is not None
            and order.immediate
            and update.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)
        )


def _stands_at(update: OrderUpdate, average: float, exec_id: str) -> OrderUpdate:
    """The update as a correction: what it says is filled stands at this average."""
    return msgspec.structs.replace(update, execID=exec_id, correction=True, average=average, fee=0.0)


def _status(message: Message, figures: Figures) -> OrderStatus:
    """The order's status (39). Where it says "replaced", as before FIX 4.3, the quantities tell how the order is."""
    status = STATUS.get(message.text(39), OrderStatus.UNKNOWN)
    if status is not OrderStatus.REPLACED:
        return status
    if figures.leaves == 0:
        return OrderStatus.FILLED
    return OrderStatus.PARTIALLY_FILLED if figures.filled else OrderStatus.NEW


def _forget(table: dict[Any, Any]) -> None:
    """Keep a table bounded: drop its oldest row."""
    if len(table) > REMEMBERED:
        del table[next(iter(table))]
