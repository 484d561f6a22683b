"""Orders of one session: bodies of what leaves, OrderUpdates from what comes back, each report once.

A report is known by (clOrdID, execID). Where a venue gives no execID, or repeats none in an answer about status,
one is derived: "D" and the first 24 hex digits of the SHA-256 of the values of tags 37, 150, 39, 14, 151, 6 and 60,
joined by SOH; an answer to a status request adds tag 52, because asking again may bring the same answer.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from emp.access.fix.dialect import Dialect
from emp.access.fix.message import Message, readable
from emp.access.fix.reports import (
    CORRECTIONS,
    DERIVED,
    NOTHING,
    STATUS,
    Figures,
    Order,
    derived_id,
    fill_price,
    read_figures,
)
from emp.access.fix.text import FieldError, Scale, Stamp, utc_ns
from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace

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
        self._scales = scales
        self._symbols = {name: symbol.encode() for name, symbol in symbols.items()}
        self._names = {symbol.encode(): name for name, symbol in symbols.items()}
        self._party = account or sender
        self._account = f"1={account}\x01".encode() if account else b""
        self._stamp = Stamp(dialect.stamp_digits)
        self._templates = {
            (name, side, immediate): (self._template(name, side, immediate), scale)
            for name, scale in scales.items()
            for side in (1, -1)
            for immediate in (False, True)
        }
        self._known: dict[str, Order] = {}
        self._requests: dict[str, str] = {}  # id of a cancel or replace -> id of the order it is about
        self._seen: dict[tuple[str, str], None] = {}
        self._sent: dict[int, tuple[str, str]] = {}  # number of a message -> (its type, its clOrdID)

    # --- what leaves ----------------------------------------------------------------------------------------

    def body(self, command: Command) -> tuple[bytes, bytes]:
        """(MsgType, body) of a command."""
        if isinstance(command, NewOrder):
            return b"D", self._new(command)
        if isinstance(command, CancelOrder):
            return b"F", self._cancel(command)
        if isinstance(command, Replace):
            return b"G", self._replace(command)
        return b"H", self._query(command)

    def sent(self, seq: int, kind: bytes, cl_ord_id: str) -> None:
        """Remember under which number a message left, for a reject that names nothing else."""
        self._sent[seq] = (kind.decode(), cl_ord_id)
        _forget(self._sent)

    def forget_numbers(self) -> None:
        """Numbers have begun anew."""
        self._sent.clear()

    def _new(self, order: NewOrder) -> bytes:
        self._known[order.cl_ord_id] = Order(
            order.instrument, order.side, order.px, order.qty, immediate=order.immediate
        )
        if len(self._known) > REMEMBERED:
            _forget(self._known)
        template, scale = self._templates[order.instrument, order.side, order.immediate]
        return template % (
            order.cl_ord_id.encode(),
            self._stamp(order.ts),
            scale.qty(order.qty),
            scale.px(order.px),
        )

    def _template(self, name: str, side: int, immediate: bool) -> bytes:
        """A NewOrderSingle with room for its id, time, quantity and price; nothing else differs between orders."""
        fixed = self._account + self._instrument(name) + (b"54=1\x01" if side > 0 else b"54=2\x01")
        body = b"11=%s\x01" + fixed.replace(b"%", b"%%")
        body += b"60=%s\x0138=%s\x0140=2\x0144=%s\x01"
        if not immediate:
            body += self.dialect.post_only.replace("|", "\x01").encode()
        if self.dialect.time_in_force:
            body += b"59=3\x01" if immediate else b"59=1\x01"
        return body

    def _cancel(self, cancel: CancelOrder) -> bytes:
        self._requests[cancel.cl_ord_id] = cancel.orig
        _forget(self._requests)
        body = b"41=%s\x0111=%s\x01" % (cancel.orig.encode(), cancel.cl_ord_id.encode())
        known = self._known.get(cancel.orig)
        if known is not None and known.venue_id:
            body += b"37=%s\x01" % known.venue_id.encode()
        if self.dialect.full_cancel:
            body += self._account + self._instrument(cancel.instrument)
            side, qty = (known.side, known.qty) if known is not None else (1, 0)
            quantity = self._scales[cancel.instrument].qty(qty)
            body += b"54=%c\x0160=%s\x0138=%s\x01" % (
                49 if side > 0 else 50,
                self._stamp(cancel.ts),
                quantity,
            )
        return body

    def _replace(self, order: Replace) -> bytes:
        scale = self._scales[order.instrument]
        known = self._known.get(order.orig)
        self._known[order.cl_ord_id] = Order(order.instrument, order.side, order.px, order.qty)
        self._requests[order.cl_ord_id] = order.orig
        body = b"41=%s\x0111=%s\x01" % (order.orig.encode(), order.cl_ord_id.encode())
        if known is not None and known.venue_id:
            body += b"37=%s\x01" % known.venue_id.encode()
        if self.dialect.full_cancel:
            side = 49 if order.side > 0 else 50
            body += self._account + self._instrument(order.instrument)
            body += b"54=%c\x0160=%s\x0140=2\x01" % (side, self._stamp(order.ts))
        return body + b"38=%s\x0144=%s\x01" % (scale.qty(order.qty), scale.px(order.px))

    def _query(self, query: QueryOrder) -> bytes:
        known = self._known.get(query.cl_ord_id)
        body = b"11=%s\x01" % query.cl_ord_id.encode()
        side = known.side if known is not None else 1
        if self.dialect.full_cancel:
            body += self._account + self._instrument(query.instrument)
        return body + b"54=%c\x01" % (49 if side > 0 else 50)

    def mass_status(self, request: str) -> bytes:
        """Body of an OrderMassStatusRequest for all our orders."""
        return f"584={request}\x01585=7\x01".encode()

    def positions(self, request: str, now_ns: int) -> bytes:
        """Body of a RequestForPositions."""
        body = f"710={request}\x01"
        if self.dialect.full_positions:
            stamp = self._stamp(now_ns).decode()
            body += f"724=0\x01453=1\x01448={self._party}\x01447=D\x01452=3\x011={self._party}\x01581=1\x01"
            body += f"715={stamp[:8]}\x0160={stamp}\x01"
        return body.encode()

    def _instrument(self, name: str) -> bytes:
        symbol = self._symbols[name]
        if self.dialect.symbol_tag == 55:
            return b"55=%s\x01" % symbol
        return b"55=[N/A]\x0148=%s\x0122=8\x01" % symbol

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

    def name_of(self, message: Message | Mapping[int, bytes]) -> str:
        """The instrument a message is about, empty where it is none of ours."""
        return self._names.get(message.get(self.dialect.symbol_tag) or b"", "")

    def status_of(self, message: Message) -> OrderUpdate:
        """An answer to a mass status request as an update, whatever was seen before; FieldError as for `report`."""
        figures = self._figures(message)
        order_id = self._order_id(message)
        return self._update(
            message, order_id, self._exec_id(message), figures, self._learn(message, order_id, figures)
        )

    def _execution(self, message: Message) -> list[OrderUpdate]:
        figures = self._figures(message)
        order_id = self._order_id(message)
        if figures is NOTHING:  # neither the order nor the instrument is ours
            self.counts["foreign"] += 1
            return []
        exec_id = self._exec_id(message)
        if not self._first(order_id, exec_id):
            return []
        replaced = message.text(150) == "5" and order_id in self._requests
        if replaced:
            self._succeed(self._requests[order_id], order_id)
        previous = self._learn(message, order_id, figures)
        update = self._update(message, order_id, exec_id, figures, previous)
        return [msgspec.structs.replace(update, replacement=order_id) if replaced else update]

    def _figures(self, message: Message) -> Figures:
        """The numbers of a report, which must stand before anything is noted of it."""
        known, name = self._known.get(self._order_id(message)), self.name_of(message)
        symbol = message.get(self.dialect.symbol_tag)
        if known is not None and symbol is not None and name != known.instrument:
            raise FieldError(f"a report on an order of {known.instrument} names {readable(symbol)}")
        scale = self._scales.get(name or (known.instrument if known is not None else ""))
        if scale is None:
            return NOTHING
        figures = read_figures(message, scale, self.dialect.fee_tag)
        if message.text(150) in CORRECTIONS and (figures.filled is None or message.get(6) is None):
            raise FieldError("a cancelled or corrected trade without CumQty (14) and AvgPx (6)")
        return figures

    def _order_id(self, message: Message) -> str:
        """The id of the order that a report is about: reports on a cancel name the cancel in 11, the order in 41."""
        own, original = message.text(11), message.text(41)
        if message.text(150) == "5":
            return own
        if own in self._requests and own not in self._known:
            return self._requests[own]
        if original and message.text(39) in ("4", "6"):
            return original
        return own or original

    def _learn(self, message: Message, order_id: str, figures: Figures) -> tuple[int, float]:
        """Take in what a report says of the order; returns (filled, average) before it."""
        order = self._known.get(order_id)
        name = self.name_of(message) or (order.instrument if order is not None else "")
        scale = self._scales.get(name)
        if scale is None:
            return 0, 0.0
        if order is None:
            side = 1 if message.get(54) == b"1" else -1
            order = Order(name, side, figures.px, figures.qty)
            self._known[order_id] = order
            _forget(self._known)
        before = order.filled, order.average
        order.venue_id = message.text(37, order.venue_id)
        order.status = _status(message, figures)
        if figures.filled is not None:
            order.filled = figures.filled
            order.average = figures.average
        return before

    def _update(
        self, message: Message, order_id: str, exec_id: str, figures: Figures, before: tuple[int, float]
    ) -> OrderUpdate:
        order = self._known.get(order_id, Order("", 0, 0, 0))
        corrected = message.text(150) in CORRECTIONS
        return OrderUpdate(
            clOrdID=order_id,
            execID=exec_id,
            status=_status(message, figures),
            filled=order.filled,
            price=order.px if corrected else fill_price(figures, order, before),
            ts=self._time(message),
            instrument=order.instrument,
            side=order.side,
            leaves=figures.leaves,
            fee=figures.fee,
            maker=message.get(851) == b"1",
            queue_ahead=message.integer(self.dialect.queue_tag) if self.dialect.queue_tag else -1,
            text=message.text(58),
            correction=corrected,
            average=order.average if corrected else 0.0,
        )

    def _succeed(self, orig: str, successor: str) -> None:
        """The order goes on under the replacement's id, with what has filled."""
        old, new = self._known.get(orig), self._known.get(successor)
        if old is not None and new is not None:
            old.status = OrderStatus.REPLACED
            new.filled, new.average = old.filled, old.average

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
                text=message.text(58),
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
