"""The broker's side of a trading account for the cTrader venue: orders, positions, deals, in protocol terms.

Orders go to a market object, whose reports become execution events. Everything is kept as the protocol speaks
of it: volumes in 0.01 units, order prices as doubles, times in ms.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from emp.access.ctrader.enums import (
    AccountType,
    DealStatus,
    ErrorCode,
    ExecutionType,
    OrderType,
    PositionStatus,
    TimeInForce,
    TradeSide,
    VenueOrderStatus,
)
from emp.access.ctrader.messages import (
    ProtoOAAmendOrderReq,
    ProtoOAAmendPositionSLTPReq,
    ProtoOAExecutionEvent,
    ProtoOANewOrderReq,
)
from emp.access.ctrader.parts import ProtoOADeal, ProtoOAOrder, ProtoOAPosition, ProtoOATradeData
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, Replace
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.sim.venues.ctrader.money import MONEY_DIGITS, Money

MS = 1_000_000
_CANCEL = "-cancel"  # what the id of a cancel has at the market, behind that of its order
COMMISSION = -3
"""Charged per deal, in cents of the deposit currency."""


class Market(Protocol):
    """What stands behind the venue: it shows books and executes orders."""

    instruments: Sequence[Instrument]

    def book(self, instrument: str) -> Array | None:
        """The latest EVENT row of an instrument, or None where there is none yet."""

    def listen(
        self, on_event: Callable[[str, Array], None], on_report: Callable[[OrderUpdate], None]
    ) -> None:
        """Register who hears of EVENT rows (instrument, row) and of reports."""

    def take(self, command: Command) -> None:
        """Take an order, a replacement or a cancel; the outcome is a report, possibly before this returns."""


class Refusal(Exception):  # noqa: N818  the broker's word
    """The broker takes no such request."""

    def __init__(self, code: ErrorCode, text: str = "", order_id: int | None = None) -> None:
        super().__init__(text)
        self.code, self.text, self.order_id = code, text, order_id


class Working(msgspec.Struct):
    """An order as the broker keeps it."""

    order_id: int
    request: ProtoOANewOrderReq
    instrument: Instrument
    digits: int
    name: str  # its id at the market
    status: VenueOrderStatus = VenueOrderStatus.ORDER_STATUS_ACCEPTED
    executed: int = 0
    price: float | None = None  # of executions, volume-weighted
    ts_ms: int = 0
    deals: list[ProtoOADeal] = msgspec.field(default_factory=list)

    def told(self) -> ProtoOAOrder:
        """The order as the protocol tells it."""
        r = self.request
        return ProtoOAOrder(
            order_id=self.order_id,
            trade_data=ProtoOATradeData(symbol_id=r.symbol_id, volume=r.volume, trade_side=r.trade_side),
            order_type=r.order_type,
            order_status=self.status,
            execution_price=self.price,
            executed_volume=self.executed,
            utc_last_update_timestamp=self.ts_ms,
            base_slippage_price=r.base_slippage_price,
            slippage_in_points=r.slippage_in_points,
            limit_price=r.limit_price,
            client_order_id=r.client_order_id,
            time_in_force=r.time_in_force,
            position_id=r.position_id,
        )


class Account:
    """One trading account in front of a market."""

    def __init__(
        self,
        account: int,
        market: Market,
        kind: AccountType,
        digits: dict[str, int],
        tell: Callable[[ProtoOAExecutionEvent], None],
    ) -> None:
        self.account = account
        self.kind = kind
        self.orders: dict[int, Working] = {}
        self.positions: dict[int, ProtoOAPosition] = {}
        self.symbols = {i + 1: instrument for i, instrument in enumerate(market.instruments)}
        self.money = Money(market, self.symbols)
        self._digits = digits
        self._market = market
        self._tell = tell
        self._by_name: dict[str, Working] = {}  # by every id that an order has or had at the market
        self._amends: dict[
            str, tuple[Working, ProtoOANewOrderReq]
        ] = {}  # on their way: what they make of an order
        self._next = 1_000

    def _new_id(self) -> int:
        self._next += 1
        return self._next

    def new_order(self, request: ProtoOANewOrderReq, ts: int) -> None:
        """Check an order and give it to the market; raise Refusal."""
        instrument = self.symbols.get(request.symbol_id)
        if instrument is None:
            raise Refusal(ErrorCode.ENTITY_NOT_FOUND, "no such symbol")
        lot = round(instrument.lot * 100)
        if request.volume <= 0 or request.volume % lot:
            raise Refusal(ErrorCode.TRADING_BAD_VOLUME, f"volume {request.volume} is no multiple of {lot}")
        if request.position_id is not None and request.position_id not in self.positions:
            raise Refusal(ErrorCode.POSITION_NOT_FOUND, f"no position {request.position_id}")
        digits = self._digits[instrument.name]
        side = 1 if request.trade_side == TradeSide.BUY else -1
        price = self._limit(request, side, digits)
        if price is None or round(price, digits) != price or price <= 0:
            raise Refusal(ErrorCode.TRADING_BAD_PRICES, "a price within the symbol's digits is needed")
        order = Working(self._new_id(), request, instrument, digits, name=f"v{self._next}", ts_ms=ts // MS)
        self.orders[order.order_id] = self._by_name[order.name] = order
        self._market.take(
            NewOrder(
                cl_ord_id=order.name,
                instrument=instrument.name,
                side=side,
                qty=request.volume // lot,
                px=round(price / instrument.tick),
                immediate=request.time_in_force == TimeInForce.IMMEDIATE_OR_CANCEL,
                ts=ts,
                reason=Reason.NO_EDGE,
                decision_seq=0,
            )
        )

    @staticmethod
    def _limit(request: ProtoOANewOrderReq, side: int, digits: int) -> float | None:
        """The worst price that an order accepts."""
        if request.order_type == OrderType.LIMIT:
            return request.limit_price
        if request.order_type == OrderType.MARKET_RANGE and request.base_slippage_price is not None:
            distance = (request.slippage_in_points or 0) / 10**digits
            return round(request.base_slippage_price + side * distance, digits)
        return None

    def cancel(self, order_id: int, ts: int) -> None:
        """Ask the market to cancel; raise Refusal where nothing is left to cancel."""
        order = self.orders.get(order_id)
        if order is None or order.status != VenueOrderStatus.ORDER_STATUS_ACCEPTED:
            raise Refusal(ErrorCode.ORDER_NOT_FOUND, f"order {order_id} is not working")
        self._market.take(
            CancelOrder(
                cl_ord_id=order.name + _CANCEL,
                orig=order.name,
                instrument=order.instrument.name,
                ts=ts,
                reason=Reason.NO_EDGE,
            )
        )

    def amend(self, request: ProtoOAAmendOrderReq, ts: int) -> None:
        """Ask the market to change an order; raise Refusal where nothing is left to change."""
        order = self.orders.get(request.order_id)
        if order is None or order.status != VenueOrderStatus.ORDER_STATUS_ACCEPTED:
            raise Refusal(ErrorCode.ORDER_NOT_FOUND, f"order {request.order_id} is not working")
        instrument, before = order.instrument, order.request
        lot = round(instrument.lot * 100)
        volume, price = request.volume or before.volume, request.limit_price or before.limit_price
        if volume <= 0 or volume % lot:
            raise Refusal(ErrorCode.TRADING_BAD_VOLUME, f"volume {volume} is no multiple of {lot}")
        if price is None or round(price, order.digits) != price or price <= 0:
            raise Refusal(ErrorCode.TRADING_BAD_PRICES, "a price within the symbol's digits is needed")
        name = f"v{self._new_id()}"
        self._amends[name] = order, msgspec.structs.replace(before, volume=volume, limit_price=price)
        self._market.take(
            Replace(
                cl_ord_id=name,
                orig=order.name,
                instrument=instrument.name,
                side=1 if before.trade_side == TradeSide.BUY else -1,
                qty=volume // lot,
                px=round(price / instrument.tick),
                ts=ts,
                reason=Reason.NO_EDGE,
                decision_seq=0,
            )
        )

    def amend_stop(self, request: ProtoOAAmendPositionSLTPReq, ts: int) -> None:
        """Change a position's stop; raise Refusal where it would be reached at once."""
        position = self.positions.get(request.position_id)
        if position is None:
            raise Refusal(ErrorCode.POSITION_NOT_FOUND, f"no position {request.position_id}")
        data, price = position.trade_data, request.stop_loss
        instrument = self.symbols[data.symbol_id]
        digits = self._digits[instrument.name]
        if price is not None and (price <= 0 or round(price, digits) != price):
            raise Refusal(ErrorCode.TRADING_BAD_STOPS, "a price within the symbol's digits is needed")
        if price is not None and self._reached(position, price):
            raise Refusal(ErrorCode.TRADING_BAD_STOPS, "the market is beyond that stop")
        self.positions[position.position_id] = msgspec.structs.replace(position, stop_loss=price)
        stop = self._stop_order(position, self._new_id(), ts)
        self._event(ExecutionType.ORDER_ACCEPTED, stop, None, self.positions[position.position_id])

    def on_event(self, instrument: str) -> None:
        """The market has moved: close what has reached its stop."""
        for position in tuple(self.positions.values()):
            if self.symbols[position.trade_data.symbol_id].name != instrument:
                continue
            if position.stop_loss is not None and self._reached(position, position.stop_loss):
                self.positions[position.position_id] = msgspec.structs.replace(position, stop_loss=None)
                self._stop_out(position)

    def _reached(self, position: ProtoOAPosition, price: float) -> bool:
        """Whether the price at which a position can be closed is at a stop or beyond."""
        instrument = self.symbols[position.trade_data.symbol_id]
        book = self._market.book(instrument.name)
        buys = position.trade_data.trade_side == TradeSide.BUY
        if book is None or not book["n_bid" if buys else "n_ask"]:
            return False
        if buys:
            return bool(round(int(book["bid_px"][0]) * instrument.tick, 9) <= price)
        return bool(round(int(book["ask_px"][0]) * instrument.tick, 9) >= price)

    def _stop_order(self, position: ProtoOAPosition, order_id: int, ts: int) -> Working:
        """The order that a position's stop is, and becomes."""
        data = position.trade_data
        instrument = self.symbols[data.symbol_id]
        against = TradeSide.SELL if data.trade_side == TradeSide.BUY else TradeSide.BUY
        request = ProtoOANewOrderReq(
            ctid_trader_account_id=self.account,
            symbol_id=data.symbol_id,
            order_type=OrderType.STOP_LOSS_TAKE_PROFIT,
            trade_side=against,
            volume=data.volume,
            position_id=position.position_id,
        )
        name = f"v{order_id}"
        return Working(order_id, request, instrument, self._digits[instrument.name], name, ts_ms=ts // MS)

    def _stop_out(self, position: ProtoOAPosition) -> None:
        """Close a position at the market: what a stop that was reached does."""
        book = self._market.book(self.symbols[position.trade_data.symbol_id].name)
        assert book is not None
        stop = self._stop_order(position, self._new_id(), int(book["ts"]))
        self.orders[stop.order_id] = self._by_name[stop.name] = stop
        side = 1 if stop.request.trade_side == TradeSide.BUY else -1
        touch = int(book["ask_px" if side > 0 else "bid_px"][0])
        self._market.take(
            NewOrder(
                cl_ord_id=stop.name,
                instrument=stop.instrument.name,
                side=side,
                qty=stop.request.volume // round(stop.instrument.lot * 100),
                px=max(1, touch + side * touch // 10),
                immediate=True,
                ts=int(book["ts"]),
                reason=Reason.NO_EDGE,
                decision_seq=0,
            )
        )

    def _amended(self, update: OrderUpdate) -> None:
        """The market has changed an order; to the client it keeps its id."""
        order, request = self._amends.pop(update.replacement)
        order.request = request
        order.name, order.ts_ms = update.clOrdID, update.ts // MS
        self._by_name[order.name] = order
        self._event(ExecutionType.ORDER_REPLACED, order)

    def on_report(self, update: OrderUpdate) -> None:
        """Turn a report of the market into an execution event; raise Refusal where it refuses an order."""
        if update.replacement in self._amends:
            self._amended(update)
            return
        if update.clOrdID in self._amends and update.status is OrderStatus.REJECTED:
            refused, _ = self._amends.pop(update.clOrdID)
            raise Refusal(ErrorCode.TRADING_BAD_PRICES, update.text, refused.order_id)
        if update.status is OrderStatus.REJECTED and update.clOrdID.endswith(_CANCEL):
            kept = self._by_name.get(update.clOrdID.removesuffix(_CANCEL))
            if kept is not None:
                self._event(ExecutionType.ORDER_CANCEL_REJECTED, kept)
            return
        order = self._by_name.get(update.clOrdID)
        if order is None:
            return
        order.ts_ms = update.ts // MS
        volume = update.filled * round(order.instrument.lot * 100)
        deal = position = None
        if volume > order.executed:
            deal, position = self._fill(order, volume - order.executed, update)
        if update.status is OrderStatus.REJECTED:
            order.status = VenueOrderStatus.ORDER_STATUS_REJECTED
            raise Refusal(ErrorCode.TRADING_BAD_PRICES, update.text, order.order_id)
        kinds = {
            OrderStatus.NEW: ExecutionType.ORDER_ACCEPTED,
            OrderStatus.PARTIALLY_FILLED: ExecutionType.ORDER_PARTIAL_FILL,
            OrderStatus.FILLED: ExecutionType.ORDER_FILLED,
            OrderStatus.CANCELED: ExecutionType.ORDER_CANCELLED,
            OrderStatus.EXPIRED: ExecutionType.ORDER_EXPIRED,
        }
        ended = {
            OrderStatus.FILLED: VenueOrderStatus.ORDER_STATUS_FILLED,
            OrderStatus.CANCELED: VenueOrderStatus.ORDER_STATUS_CANCELLED,
            OrderStatus.EXPIRED: VenueOrderStatus.ORDER_STATUS_EXPIRED,
        }
        order.status = ended.get(update.status, order.status)
        if update.status in kinds:
            self._event(kinds[update.status], order, deal, position)

    def _fill(self, order: Working, volume: int, update: OrderUpdate) -> tuple[ProtoOADeal, ProtoOAPosition]:
        price = round(update.price * order.instrument.tick, order.digits)
        position = self._position(order, volume, price)
        deal = ProtoOADeal(
            deal_id=self._new_id(),
            order_id=order.order_id,
            position_id=position.position_id,
            volume=order.request.volume,
            filled_volume=volume,
            symbol_id=order.request.symbol_id,
            create_timestamp=order.ts_ms,
            execution_timestamp=update.ts // MS,
            execution_price=price,
            trade_side=order.request.trade_side,
            deal_status=DealStatus.FILLED,
            commission=COMMISSION,
            money_digits=MONEY_DIGITS,
        )
        order.deals.append(deal)
        done = order.executed + volume
        order.price = ((order.price or 0.0) * order.executed + price * volume) / done
        order.executed = done
        return deal, position

    def _position(self, order: Working, volume: int, price: float) -> ProtoOAPosition:
        """Book a fill: into the position it names, the symbol's one of a netted account, or a new one."""
        request = order.request
        held = self.positions.get(request.position_id or 0)
        if held is None and self.kind == AccountType.NETTED:
            held = next(
                (p for p in self.positions.values() if p.trade_data.symbol_id == request.symbol_id), None
            )
        before = 0
        if held is not None:
            sign = 1 if held.trade_data.trade_side == TradeSide.BUY else -1
            before = sign * held.trade_data.volume
        after = before + (volume if request.trade_side == TradeSide.BUY else -volume)
        grows = abs(after) > abs(before)
        old = held.price or price if held is not None else price
        flips = before * after < 0
        average = price if flips or not before else old
        if grows and before and not flips:
            average = (abs(before) * old + volume * price) / abs(after)
        status = PositionStatus.POSITION_STATUS_OPEN if after else PositionStatus.POSITION_STATUS_CLOSED
        position = ProtoOAPosition(
            position_id=held.position_id if held is not None else self._new_id(),
            trade_data=ProtoOATradeData(
                symbol_id=request.symbol_id,
                volume=abs(after),
                trade_side=TradeSide.BUY if after >= 0 else TradeSide.SELL,
            ),
            position_status=status,
            swap=0 if held is None else held.swap,
            price=average,
            used_margin=self.money.margin(request.symbol_id, abs(after)),
            money_digits=MONEY_DIGITS,
            stop_loss=None if flips or held is None else held.stop_loss,
        )
        self.positions[position.position_id] = position
        if not after:
            del self.positions[position.position_id]
        return position

    def _event(
        self,
        kind: ExecutionType,
        order: Working,
        deal: ProtoOADeal | None = None,
        position: ProtoOAPosition | None = None,
    ) -> None:
        self._tell(
            ProtoOAExecutionEvent(
                ctid_trader_account_id=self.account,
                execution_type=kind,
                position=position,
                order=order.told(),
                deal=deal,
            )
        )

    def roll(self, symbol: int, long: float, short: float) -> None:
        """Charge what is held of a symbol: a unit held on a side receives so much of the price's unit."""
        for position in [p for p in self.positions.values() if p.trade_data.symbol_id == symbol]:
            rolled = self.positions[position.position_id] = self.money.rolled(position, long, short)
            self._tell(
                ProtoOAExecutionEvent(
                    ctid_trader_account_id=self.account, execution_type=ExecutionType.SWAP, position=rolled
                )
            )

    def working(self) -> tuple[ProtoOAOrder, ...]:
        """Orders that work."""
        accepted = VenueOrderStatus.ORDER_STATUS_ACCEPTED
        return tuple(o.told() for o in self.orders.values() if o.status == accepted)
