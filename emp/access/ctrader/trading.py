"""Commands into requests, and refusals back into reports.

An order that takes (`immediate`) is a MARKET_RANGE order: its base price is one tick better than the limit, its
range one tick, so the limit is the worst price of a fill; what cannot be filled at once is cancelled by the
venue. An order that rests is a LIMIT order, good till cancelled. The venue has no post-only: an order that would
take against the best price last seen is refused here, but one that crosses while it travels does take.
"""

from typing import Protocol

import msgspec

from emp.access.ctrader.enums import OrderType, TimeInForce, TradeSide
from emp.access.ctrader.feed import Feed
from emp.access.ctrader.messages import (
    ProtoOAAmendOrderReq,
    ProtoOACancelOrderReq,
    ProtoOANewOrderReq,
)
from emp.access.ctrader.orders import Orders, Tracked
from emp.access.ctrader.outbox import Outbox, Sendable
from emp.access.ctrader.positions import Positions
from emp.access.ctrader.settings import Credentials, Settings
from emp.access.ctrader.symbols import Terms, last_digit
from emp.access.ctrader.wire import Message
from emp.core.clock import Clock
from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace

ID_LIMIT = 50
"""Longest client order id that the venue takes."""


class Host(Protocol):
    """What the order side needs of its session."""

    settings: Settings
    credentials: Credentials
    clock: Clock
    account: int
    hedged: bool
    online: bool
    is_ready: bool
    terms: list[Terms]
    orders: Orders
    positions: Positions
    feed: Feed
    out: Outbox

    def report(self, update: OrderUpdate | None) -> None:
        """Hand out a report, where there is one."""

    def notice(self, text: str) -> None:
        """Put a line into the log, secrets masked."""

    def find_out(self, cl_ord_id: str) -> None:
        """Ask the venue what became of an order."""

    def query(self, command: QueryOrder) -> None:
        """Find out about an order, be it one of an earlier process."""


class Trading:
    """The order side of a session."""

    def __init__(self, session: Host) -> None:
        self._s = session
        self._changes: dict[str, CancelOrder | Replace] = {}  # on their way, by id
        self._asked: set[str] = set()  # replacements that went unanswered, so that their order was asked for
        self._unsure: dict[
            str, CancelOrder | Replace
        ] = {}  # where the connection went away before the answer

    def send(self, command: Command) -> None:
        """Check a command and queue it, or refuse it at once."""
        if isinstance(command, QueryOrder):
            change = self._changes.get(command.cl_ord_id)
            if self._s.out.waits(command.cl_ord_id):
                return  # it will leave or be refused
            if change is not None and self._s.is_ready:  # the venue knows no id of a change, only its order's
                self._asked.add(command.cl_ord_id)
                self._s.find_out(change.orig)
            elif self._s.is_ready:
                self._s.query(command)
            else:
                self._s.notice(f"cannot ask about {command.cl_ord_id} now: not logged on")
            return
        problem = self._problem(command)
        if not problem and isinstance(command, NewOrder):
            terms = next(t for t in self._s.terms if t.instrument.name == command.instrument)
            self._s.orders.add(command, terms)
        if problem:
            self.refuse(command, problem)
        else:
            self._s.out.put_command(command)

    def _problem(self, command: Sendable) -> str:
        """Why a command cannot be sent; empty where it can."""
        s = self._s
        if not s.online:
            return "not sent: no connection"
        if not isinstance(command, NewOrder):
            order = s.orders.find(command.orig)
            if order is None:
                return f"not sent: no order {command.orig}"
            if isinstance(command, CancelOrder):
                return ""
            if command.qty <= order.filled:
                return f"not sent: {order.filled} lots have filled already"
        terms = next((t for t in s.terms if t.instrument.name == command.instrument), None)
        if terms is None:
            return f"not sent: not logged on for {command.instrument}"
        if command.cl_ord_id in s.orders.by_client:
            return "not sent: the client order id was used before"
        if not 0 < len(command.cl_ord_id) <= ID_LIMIT:
            return f"not sent: the client order id must have 1 to {ID_LIMIT} characters"
        wrong = terms.refuse_volume(command.qty * terms.lot_volume)
        if wrong:
            return f"not sent: {wrong}"
        bid, ask = s.feed.best(terms.index)
        takes = ask and command.px >= ask if command.side > 0 else bid and command.px <= bid
        if takes and not (isinstance(command, NewOrder) and command.immediate):
            return "not sent: it would take, and the venue has no post-only orders"
        return ""

    def request(self, command: Sendable) -> tuple[Message | None, str]:
        """The request of a command and its name; no message where the order's venue id is still awaited."""
        s = self._s
        if isinstance(command, NewOrder):
            return self._new(command), command.cl_ord_id
        order = s.orders.find(command.orig)
        if order is None or not order.open:
            self.refuse(command, "not sent: the order has ended")
            return None, ""
        if not order.order_id:
            return None, command.cl_ord_id
        if isinstance(command, CancelOrder):
            return (
                ProtoOACancelOrderReq(ctid_trader_account_id=s.account, order_id=order.order_id),
                command.cl_ord_id,
            )
        return (
            ProtoOAAmendOrderReq(
                ctid_trader_account_id=s.account,
                order_id=order.order_id,
                volume=command.qty * order.terms.lot_volume,
                limit_price=order.terms.price(command.px, order.side),
            ),
            command.cl_ord_id,
        )

    def _new(self, command: NewOrder) -> ProtoOANewOrderReq:
        s = self._s
        order = s.orders.by_client[command.cl_ord_id]
        terms, buy = order.terms, command.side > 0
        volume = command.qty * terms.lot_volume
        step = max(terms.tick_points, last_digit(terms.digits))
        limit = terms.price(command.px, command.side)
        base = round(limit - command.side * step / 100_000, terms.digits)
        reduces = s.positions.to_reduce(terms, command.side, volume) if s.hedged else None
        return ProtoOANewOrderReq(
            ctid_trader_account_id=s.account,
            symbol_id=terms.symbol_id,
            order_type=OrderType.MARKET_RANGE if command.immediate else OrderType.LIMIT,
            trade_side=TradeSide.BUY if buy else TradeSide.SELL,
            volume=volume,
            limit_price=None if command.immediate else limit,
            time_in_force=(
                TimeInForce.IMMEDIATE_OR_CANCEL if command.immediate else TimeInForce.GOOD_TILL_CANCEL
            ),
            base_slippage_price=base if command.immediate else None,
            slippage_in_points=step // last_digit(terms.digits) if command.immediate else None,
            position_id=reduces if command.immediate else None,
            client_order_id=command.cl_ord_id,
        )

    def sent(self, command: Sendable) -> None:
        """A command has been handed to the transport."""
        if isinstance(command, NewOrder):
            order = self._s.orders.by_client[command.cl_ord_id]
            order.sent_ns = max(1, self._s.clock.monotonic_ns())
            order.sent_ts = self._s.clock.now_ns()
        else:
            self._changes[command.cl_ord_id] = command

    def refuse(self, command: Sendable, text: str) -> None:
        """Report a command as rejected: it has not left."""
        s, ts = self._s, self._s.clock.now_ns()
        order = s.orders.by_client.get(command.cl_ord_id) if isinstance(command, NewOrder) else None
        if order is not None and order.sent_ns == 0 and order.open:
            s.report(s.orders.local(order, OrderStatus.REJECTED, text, ts))
            return
        s.report(self.rejected(command.cl_ord_id, command.instrument, text))

    def rejected(self, cl_ord_id: str, instrument: str, text: str) -> OrderUpdate:
        """A rejection of something that the venue does not have: an order or cancel that is not tracked."""
        return OrderUpdate(
            clOrdID=cl_ord_id,
            execID=f"{cl_ord_id}-refused",
            status=OrderStatus.REJECTED,
            filled=0,
            price=0,
            ts=self._s.clock.now_ns(),
            instrument=instrument,
            text=self._s.credentials.mask(text),
        )

    def refused(self, name: str, order_id: int | None, code: str, description: str) -> bool:
        """The venue refused a request; False where it was none of ours."""
        s, ts = self._s, self._s.clock.now_ns()
        text = s.credentials.mask(f"{code}: {description}" if description else code)
        name = name if name in self._changes else self._only_change(order_id) or name
        change = self._changes.pop(name, None)
        if change is not None:
            orig = change.orig
            order = s.orders.find(orig)
            instrument = order.terms.instrument.name if order is not None else ""
            s.report(self.rejected(name, instrument, text))
            if order is not None and order.open and s.is_ready:
                s.find_out(orig)
            return True
        order = s.orders.by_client.get(name) or s.orders.by_venue.get(order_id or 0)
        if order is None:
            return False
        if order.order_id == 0 and order.open:
            s.report(s.orders.local(order, OrderStatus.REJECTED, text, ts))
        else:
            s.notice(f"the venue reports {text} about {order.cl_ord_id}")
        return True

    def _only_change(self, order_id: int | None) -> str:
        """The one change that is under way of an order of the venue's; "" where there are none, or several: a refusal
        that names an order and no request can be of nothing else, and who waits for it would wait for a time-out.
        """
        order = self._s.orders.by_venue.get(order_id or 0)
        if order is None:
            return ""
        names = [name for name, change in self._changes.items() if change.orig == order.cl_ord_id]
        return names[0] if len(names) == 1 else ""

    def settled(self, name: str) -> None:
        """A cancel or replacement was answered by an execution event."""
        self._changes.pop(name, None)

    def replacement(self, name: str) -> str:
        """The id of our replacement that a request of that name asked for, empty where it asked for none."""
        return name if isinstance(self._changes.get(name), Replace) else ""

    def compare(self, order: Tracked) -> None:
        """The venue has told how an order stands: settle the replacements of it that were never answered."""
        for name in list(self._asked):
            change = self._changes.get(name)
            if change is None or change.orig == order.cl_ord_id:
                self._asked.discard(name)
            if isinstance(change, Replace) and change.orig == order.cl_ord_id:
                del self._changes[name]
                self._settle(name, change, order)

    def _settle(self, name: str, change: CancelOrder | Replace, order: Tracked) -> None:
        """Say whether a change was carried out, from how its order stands."""
        s = self._s
        if isinstance(change, Replace) and (order.qty, order.px) == (change.qty, change.px):
            status = order.status if order.open else OrderStatus.UNKNOWN
            update = s.orders.local(order, status, "replaced", s.clock.now_ns(), again=True)
            s.report(update and msgspec.structs.replace(update, replacement=name))
        else:
            text = "not carried out: the connection was lost"
            s.report(self.rejected(name, order.terms.instrument.name, text))

    def advance(self, now: int) -> None:
        """Orders whose answer is overdue become unknown; the venue is asked, nothing is sent again."""
        s = self._s
        for order in s.orders.open_orders():
            if order.awaiting and now - order.sent_ns >= s.settings.answer_ns:
                self._lost(order, "no answer in time")
                s.find_out(order.cl_ord_id)

    def disconnected(self, reason: str) -> None:
        """What has not left is refused; what has left unanswered is unknown until the venue can be asked."""
        s = self._s
        for command in s.out.drop_commands():
            self.refuse(command, f"not sent: {reason}")
        for order in s.orders.open_orders():
            if order.awaiting:
                self._lost(order, reason)
        self._unsure.update(self._changes)
        self._changes.clear()

    def ready(self, working: set[int]) -> None:
        """The venue has told what works: a cancel whose order still does was not carried out, nor a replacement whose
        order is as it was.
        """
        s = self._s
        unsure, self._unsure = self._unsure, {}
        for name, change in unsure.items():
            order = s.orders.find(change.orig)
            if order is not None and order.order_id in working:
                self._settle(name, change, order)

    def _lost(self, order: Tracked, text: str) -> None:
        s = self._s
        s.report(s.orders.local(order, OrderStatus.UNKNOWN, text, s.clock.now_ns()))
