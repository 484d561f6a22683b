"""What the venue sends that is no market data, and what it means."""

from typing import Protocol

from emp.access.ctrader.enums import ErrorCode, ExecutionType, OrderType
from emp.access.ctrader.flows import Refused
from emp.access.ctrader.messages import (
    BY_PAYLOAD,
    ProtoErrorRes,
    ProtoOAAccountDisconnectEvent,
    ProtoOAAccountsTokenInvalidatedEvent,
    ProtoOAClientDisconnectEvent,
    ProtoOAErrorRes,
    ProtoOAExecutionEvent,
    ProtoOAOrderErrorEvent,
)
from emp.access.ctrader.orders import Orders
from emp.access.ctrader.outbox import Outbox
from emp.access.ctrader.parts import ProtoMessage
from emp.access.ctrader.positions import Positions
from emp.access.ctrader.runner import Runner
from emp.access.ctrader.settings import Credentials, S
from emp.access.ctrader.stops import Stops
from emp.access.ctrader.symbols import Terms
from emp.access.ctrader.trading import Trading
from emp.access.ctrader.wire import decode
from emp.access.port import Cause
from emp.core.clock import Clock
from emp.core.contracts import OrderUpdate
from emp.core.errors import VenueError


class Host(Protocol):
    """What the reader of frames needs of its session."""

    credentials: Credentials
    clock: Clock
    account: int
    is_ready: bool
    orders: Orders
    positions: Positions
    out: Outbox
    trading: Trading
    stops: Stops
    runner: Runner

    def terms_of(self, symbol_id: int) -> Terms | None:
        """Our terms of a symbol, where it is one of our instruments."""

    def report(self, update: OrderUpdate | None, px: int = 0) -> None:
        """Hand out a report, where there is one."""

    def notice(self, text: str) -> None:
        """Put a line into the log, secrets masked."""

    def drop(self, reason: str, cause: Cause = "lost") -> None:
        """Give the connection up."""

    def reopen(self, *, refresh_first: bool, why: str) -> None:
        """Open the account's session again on the same connection."""


class Inbound:
    """Reads frames for a session."""

    def __init__(self, session: Host) -> None:
        self._s = session

    def frame(self, raw: bytes) -> None:
        """Act on one frame that is no market data."""
        envelope = decode(ProtoMessage, raw)
        cls = BY_PAYLOAD.get(envelope.payload_type)
        if cls is None:
            return
        message = decode(cls, envelope.payload or b"")
        name = envelope.client_msg_id or ""
        if isinstance(message, ProtoOAExecutionEvent):
            self._execution(message, name)
        elif isinstance(message, ProtoOAOrderErrorEvent):
            text = message.description or ""
            if not self._s.stops.refused(name, f"{message.error_code} {text}".rstrip()):
                self._s.trading.refused(name, message.order_id, message.error_code, text)
            self._lost_standing(message.error_code)
        elif isinstance(message, ProtoOAErrorRes | ProtoErrorRes):
            self._error(message, name)
        elif isinstance(message, ProtoOAClientDisconnectEvent):
            why = f"the venue ended the connection: {message.reason or 'no reason given'}"
            self._s.drop(why, "logout")
        elif isinstance(message, ProtoOAAccountsTokenInvalidatedEvent):
            self._invalidated(message)
        elif isinstance(message, ProtoOAAccountDisconnectEvent):
            if self._s.is_ready and message.ctid_trader_account_id == self._s.account:
                self._s.reopen(refresh_first=False, why="the venue ended it")
        else:
            self._s.runner.answer(name, message)

    def _execution(self, event: ProtoOAExecutionEvent, name: str) -> None:
        if event.ctid_trader_account_id != self._s.account:
            return
        if event.position is not None:
            self._s.positions.update(event.position)
        self._s.stops.answered(name)
        self._s.stops.apply()
        if event.order is None or _rests_as_stop(event):
            return
        if event.execution_type == ExecutionType.ORDER_CANCEL_REJECTED:
            self._s.trading.refused(name, event.order.order_id, event.error_code or "cancel rejected", "")
            return
        terms = self._s.terms_of(event.order.trade_data.symbol_id)
        if terms is None:
            return
        now, text = self._s.clock.now_ns(), self._s.credentials.mask(event.error_code or "")
        order, deal = event.order, event.deal
        try:
            replacement = self._s.trading.replacement(name)
            update = self._s.orders.on_execution(
                event.execution_type, order, deal, terms, text, now, replacement
            )
            told = deal.execution_price if deal is not None and self._s.is_ready else None
            self._s.report(update, terms.ticks(told) if told else 0)
        except VenueError as error:
            self._s.notice(str(error))
        self._s.trading.settled(name)

    def _lost_standing(self, code: str) -> None:
        """Log on again where a refusal shows that the venue no longer knows us."""
        if self._s.is_ready and code == ErrorCode.ACCOUNT_NOT_AUTHORIZED:
            self._s.reopen(refresh_first=False, why=code)
        elif self._s.is_ready and code == ErrorCode.CH_CLIENT_NOT_AUTHENTICATED:
            self._s.drop(f"the venue no longer knows us: {code}", "logout")

    def _error(self, message: ProtoOAErrorRes | ProtoErrorRes, name: str) -> None:
        code, text = message.error_code, self._s.credentials.mask(message.description or "")
        retry = message.retry_after if isinstance(message, ProtoOAErrorRes) else None
        if retry and code == ErrorCode.BLOCKED_PAYLOAD_TYPE:
            self._s.out.block(name, retry * S)
        known = (
            self._s.runner.refuse(name, Refused(code, text))
            or self._s.stops.refused(name, f"{code} {text}".rstrip())
            or self._s.trading.refused(name, None, code, text)
        )
        if not known:
            self._s.notice(f"the venue reports {code} {text}".rstrip())
        self._lost_standing(code)

    def _invalidated(self, event: ProtoOAAccountsTokenInvalidatedEvent) -> None:
        if not self._s.is_ready or self._s.account not in event.ctid_trader_account_ids:
            return
        why = f"the token was invalidated: {event.reason or 'no reason given'}"
        self._s.reopen(refresh_first=False, why=why)  # a token that we hold may be good: the venue will say


def _rests_as_stop(event: ProtoOAExecutionEvent) -> bool:
    """Whether an event tells of the stop of a position that has not been reached: no order of anybody's."""
    order = event.order
    return (
        order is not None
        and order.order_type == OrderType.STOP_LOSS_TAKE_PROFIT
        and event.deal is None
        and not order.executed_volume
    )
