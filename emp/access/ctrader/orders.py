"""Our orders as the venue reports them: executions become OrderUpdates, each exactly once.

The venue gives no execution id and may report a thing twice or, around a reconnect, late. So fills are taken
from the cumulative executed volume, and `execID` is derived from the report's content: the same report gives
the same id, another report another one.
"""

import hashlib
from collections.abc import Iterable

import msgspec

from emp.access.ctrader.enums import ExecutionType, TradeSide, VenueOrderStatus
from emp.access.ctrader.parts import ProtoOADeal, ProtoOAOrder
from emp.access.ctrader.symbols import Terms
from emp.core.codes import OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate

FOREIGN = "ctrader:"
"""Begins the clOrdID of an order that was placed without one, by hand for example; its venue id follows."""

KEPT = 10_000
"""Finished orders that are remembered, so that a late duplicate is known as one."""

MONEY_DIGITS = 12
"""Most digits of an amount of money that are believed."""

MS = 1_000_000

_BY_EXECUTION = {
    ExecutionType.ORDER_ACCEPTED: OrderStatus.NEW,
    ExecutionType.ORDER_REPLACED: OrderStatus.NEW,
    ExecutionType.ORDER_FILLED: OrderStatus.FILLED,
    ExecutionType.ORDER_PARTIAL_FILL: OrderStatus.PARTIALLY_FILLED,
    ExecutionType.ORDER_CANCELLED: OrderStatus.CANCELED,
    ExecutionType.ORDER_EXPIRED: OrderStatus.EXPIRED,
    ExecutionType.ORDER_REJECTED: OrderStatus.REJECTED,
}

_BY_STATUS = {
    VenueOrderStatus.ORDER_STATUS_ACCEPTED: OrderStatus.NEW,
    VenueOrderStatus.ORDER_STATUS_FILLED: OrderStatus.FILLED,
    VenueOrderStatus.ORDER_STATUS_REJECTED: OrderStatus.REJECTED,
    VenueOrderStatus.ORDER_STATUS_EXPIRED: OrderStatus.EXPIRED,
    VenueOrderStatus.ORDER_STATUS_CANCELLED: OrderStatus.CANCELED,
}


def _consistent(status: OrderStatus, filled: int, qty: int) -> OrderStatus:
    """The status that goes with what was filled: the venue may cancel or reject the rest of an order."""
    if filled >= qty:
        return OrderStatus.FILLED
    if filled and status is OrderStatus.NEW:
        return OrderStatus.PARTIALLY_FILLED
    if filled and status is OrderStatus.REJECTED:
        return OrderStatus.CANCELED
    return status


class Tracked(msgspec.Struct):
    """One order, as far as we know it."""

    cl_ord_id: str
    terms: Terms
    side: int
    qty: int  # lots
    px: int  # ticks
    immediate: bool
    order_id: int = 0  # the venue's; 0 until it has told
    filled: int = 0  # lots, cumulative
    status: OrderStatus = OrderStatus.PENDING_NEW
    sent_ns: int = 0  # monotonic; 0 while it has not left
    sent_ts: int = 0  # ns UTC
    deals: dict[int, int] = msgspec.field(default_factory=dict)  # filled volume by deal id
    seen: set[str] = msgspec.field(default_factory=set)  # execIDs

    @property
    def awaiting(self) -> bool:
        """Whether it has left and the venue has said nothing yet."""
        return self.status is OrderStatus.PENDING_NEW and self.sent_ns > 0

    @property
    def open(self) -> bool:
        """Whether more may follow."""
        return not self.status.terminal


class Orders:
    """All orders by client id and by the venue's id."""

    def __init__(self) -> None:
        self.by_client: dict[str, Tracked] = {}
        self.by_venue: dict[int, Tracked] = {}
        self.deposit_asset_id = 0
        self.duplicates = 0  # reports dropped because the same had been given before
        self.late = 0  # reports dropped because a later one had been given before
        self._finished: list[str] = []
        self._asked = 0

    def add(self, command: NewOrder, terms: Terms) -> Tracked:
        """Begin to track an order that is about to be sent."""
        order = Tracked(command.cl_ord_id, terms, command.side, command.qty, command.px, command.immediate)
        self.by_client[order.cl_ord_id] = order
        return order

    def find(self, cl_ord_id: str) -> Tracked | None:
        """The order of a client id; one placed without such an id goes by the venue's."""
        if cl_ord_id.startswith(FOREIGN) and cl_ord_id[len(FOREIGN) :].isdigit():
            return self.by_venue.get(int(cl_ord_id[len(FOREIGN) :]))
        return self.by_client.get(cl_ord_id)

    def open_orders(self) -> list[Tracked]:
        """Orders that have left and are not finished."""
        return [o for o in self.by_client.values() if o.open and o.sent_ns > 0]

    def local(
        self, order: Tracked, status: OrderStatus, text: str, ts: int, *, again: bool = False
    ) -> OrderUpdate | None:
        """A report that no message of the venue carries: refused here, lost from sight, or unknown to it."""
        price = order.px
        return self._report(order, status, order.filled, price, 0.0, ts, text, again=again)

    def adopt(self, order: ProtoOAOrder, terms: Terms) -> Tracked:
        """The tracked order that the venue speaks of; made from its words where we did not know it."""
        known = self.by_venue.get(order.order_id)
        if known is None and order.client_order_id:
            known = self.by_client.get(order.client_order_id)
        if known is None:
            data = order.trade_data
            limit = order.limit_price or order.base_slippage_price or order.execution_price or 0.0
            known = Tracked(
                cl_ord_id=order.client_order_id or f"{FOREIGN}{order.order_id}",
                terms=terms,
                side=1 if data.trade_side == TradeSide.BUY else -1,
                qty=terms.lots(data.volume),
                px=terms.ticks(limit),
                immediate=order.limit_price is None,
                sent_ns=1,
            )
            self.by_client[known.cl_ord_id] = known
        known.order_id = order.order_id
        self.by_venue[order.order_id] = known
        return known

    def on_execution(
        self,
        kind: ExecutionType,
        order: ProtoOAOrder,
        deal: ProtoOADeal | None,
        terms: Terms,
        text: str,
        now: int,
        replacement: str = "",
    ) -> OrderUpdate | None:
        """The report that an execution event makes; None where it tells nothing new.

        `replacement` is the id of our command that the event answers, where that changes the order.
        """
        status = _BY_EXECUTION.get(kind)
        if status is None:
            return None
        tracked = self.adopt(order, terms)
        amended = kind == ExecutionType.ORDER_REPLACED and self.amend(tracked, order)
        if kind != ExecutionType.ORDER_REPLACED:
            replacement = ""
        update = self._apply(
            tracked, status, order, (deal,) if deal else (), text, now, told=not amended and not replacement
        )
        return update and msgspec.structs.replace(update, replacement=replacement)

    @staticmethod
    def amend(tracked: Tracked, order: ProtoOAOrder) -> bool:
        """Take in volume and limit price as the venue has them; whether they are others than before."""
        before = (tracked.qty, tracked.px)
        tracked.qty = tracked.terms.lots(order.trade_data.volume)
        tracked.px = tracked.terms.ticks(order.limit_price) if order.limit_price else tracked.px
        return before != (tracked.qty, tracked.px)

    def on_state(
        self,
        order: ProtoOAOrder,
        deals: Iterable[ProtoOADeal],
        terms: Terms,
        now: int,
        *,
        asked: bool = False,
    ) -> OrderUpdate | None:
        """The report that an order's state makes; `asked`: somebody waits for it, give it in any case."""
        tracked = self.adopt(order, terms)
        if not tracked.immediate:
            self.amend(tracked, order)
        status = _BY_STATUS.get(order.order_status, OrderStatus.UNKNOWN)
        filled = terms.lots(order.executed_volume or 0)
        same = filled == tracked.filled and tracked.status in (status, OrderStatus.PARTIALLY_FILLED)
        if same and not asked and (tracked.open or tracked.status is status):
            return None
        return self._apply(tracked, status, order, tuple(deals), "", now, again=asked)

    def describe(self, order: ProtoOAOrder, terms: Terms, now: int) -> OrderUpdate:
        """What the venue says of an order, as an update outside the stream of reports."""
        tracked = self.adopt(order, terms)
        filled = terms.lots(order.executed_volume or 0)
        status = _BY_STATUS.get(order.order_status, OrderStatus.UNKNOWN)
        stamp = (order.utc_last_update_timestamp or 0) * MS or now
        return OrderUpdate(
            clOrdID=tracked.cl_ord_id,
            execID=f"{order.order_id}-state-{stamp}-{filled}",
            status=_consistent(status, filled, tracked.qty),
            filled=filled,
            price=tracked.px,
            ts=stamp,
            instrument=terms.instrument.name,
            side=tracked.side,
            leaves=max(0, tracked.qty - filled),
        )

    def _apply(
        self,
        tracked: Tracked,
        status: OrderStatus,
        order: ProtoOAOrder,
        deals: tuple[ProtoOADeal, ...],
        text: str,
        now: int,
        *,
        again: bool = False,
        told: bool = True,
    ) -> OrderUpdate | None:
        fresh = [d for d in deals if d.deal_id not in tracked.deals and d.filled_volume > 0]
        for deal in fresh:
            tracked.deals[deal.deal_id] = deal.filled_volume
        executed = order.executed_volume
        if executed is None:
            executed = sum(tracked.deals.values())
        if status is OrderStatus.FILLED:
            executed = max(executed, order.trade_data.volume)
        filled = tracked.terms.lots(executed)
        if filled < tracked.filled:
            if not status.terminal:
                self.late += 1
                return None
            filled = tracked.filled
        status = _consistent(status, filled, tracked.qty)
        told = tracked.status.terminal or (status is tracked.status and told)
        if told and filled == tracked.filled and not again:
            self.duplicates += 1
            return None
        price = fresh[-1].execution_price if fresh else None
        if price is None and filled > tracked.filled:
            price = order.execution_price
        ticks = tracked.terms.ticks(price) if price else tracked.px
        stamps = [d.execution_timestamp for d in fresh] or [order.utc_last_update_timestamp or 0]
        ts = stamps[-1] * MS or now
        fee = self._fee(tracked, filled - tracked.filled, fresh)
        return self._report(tracked, status, filled, ticks, fee, ts, text, again=again)

    def _fee(self, order: Tracked, lots: int, deals: list[ProtoOADeal]) -> float:
        """Fee of the new fills, ticks times lots: the venue's commission where it is in the quote currency."""
        if lots <= 0:
            return 0.0
        terms, facts = order.terms, order.terms.instrument
        told = [d for d in deals if d.commission is not None and (d.money_digits or 0) <= MONEY_DIGITS]
        if told and len(told) == len(deals) and terms.quote_asset_id == self.deposit_asset_id != 0:
            money: float = sum(abs(d.commission or 0) / 10.0 ** (d.money_digits or 0) for d in told)
            return money / (facts.tick * facts.point_value)
        return lots * (facts.taker_fee if order.immediate else facts.maker_fee)

    def _report(
        self,
        order: Tracked,
        status: OrderStatus,
        filled: int,
        price: int,
        fee: float,
        ts: int,
        text: str,
        *,
        again: bool = False,
    ) -> OrderUpdate | None:
        leaves = 0 if status.terminal else max(0, order.qty - filled)
        content = f"{status} {filled} {leaves} {price} {fee} {order.qty} {order.px} {text}"
        if order.order_id:
            content += f" {ts}"
        if again:
            self._asked += 1
            content += f" asked {self._asked}"
        name = order.order_id or order.cl_ord_id
        exec_id = f"{name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
        if exec_id in order.seen:
            self.duplicates += 1
            return None
        order.seen.add(exec_id)
        # what is kept stays possible, so that asking helps; the engine must hear the report and halt
        if filled > order.qty:
            return self._update(order, exec_id, status, filled, price, fee, ts, text)
        was_open, new_fill = order.open, filled > order.filled
        order.filled = filled
        if was_open or status is OrderStatus.FILLED:
            order.status = status
        if was_open and not order.open:
            self._finish(order)
        update = self._update(order, exec_id, status, filled, price, fee, ts, text)
        return msgspec.structs.replace(update, leaves=leaves, maker=new_fill and not order.immediate)

    @staticmethod
    def _update(
        order: Tracked,
        exec_id: str,
        status: OrderStatus,
        filled: int,
        price: int,
        fee: float,
        ts: int,
        text: str,
    ) -> OrderUpdate:
        return OrderUpdate(
            clOrdID=order.cl_ord_id,
            execID=exec_id,
            status=status,
            filled=filled,
            price=price,
            ts=ts,
            instrument=order.terms.instrument.name,
            side=order.side,
            fee=fee,
            text=text,
        )

    def _finish(self, order: Tracked) -> None:
        self._finished.append(order.cl_ord_id)
        if len(self._finished) > 2 * KEPT:
            for name in self._finished[:KEPT]:
                gone = self.by_client.pop(name, None)
                if gone is not None:
                    self.by_venue.pop(gone.order_id, None)
            del self._finished[:KEPT]
