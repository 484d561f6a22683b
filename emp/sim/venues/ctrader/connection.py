"""One client's connection to the cTrader venue: it reads requests, answers them, and shows the books."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from emp.access.ctrader.enums import AccessRights, ClientPermissionScope, ErrorCode
from emp.access.ctrader.messages import (
    BY_PAYLOAD,
    ProtoHeartbeatEvent,
    ProtoOAAccountAuthReq,
    ProtoOAAccountAuthRes,
    ProtoOAAccountDisconnectEvent,
    ProtoOAAccountLogoutReq,
    ProtoOAAccountLogoutRes,
    ProtoOAAccountsTokenInvalidatedEvent,
    ProtoOAAmendOrderReq,
    ProtoOAAmendPositionSLTPReq,
    ProtoOAApplicationAuthReq,
    ProtoOAApplicationAuthRes,
    ProtoOACancelOrderReq,
    ProtoOADepthEvent,
    ProtoOAErrorRes,
    ProtoOAGetAccountListByAccessTokenReq,
    ProtoOAGetAccountListByAccessTokenRes,
    ProtoOANewOrderReq,
    ProtoOAOrderDetailsReq,
    ProtoOAOrderDetailsRes,
    ProtoOAOrderErrorEvent,
    ProtoOAOrderListReq,
    ProtoOAOrderListRes,
    ProtoOAReconcileReq,
    ProtoOAReconcileRes,
    ProtoOARefreshTokenReq,
    ProtoOARefreshTokenRes,
    ProtoOASpotEvent,
    ProtoOASubscribeDepthQuotesReq,
    ProtoOASubscribeDepthQuotesRes,
    ProtoOASubscribeSpotsReq,
    ProtoOASubscribeSpotsRes,
    ProtoOASymbolByIdReq,
    ProtoOASymbolByIdRes,
    ProtoOASymbolsListReq,
    ProtoOASymbolsListRes,
    ProtoOATraderReq,
    ProtoOATraderRes,
    ProtoOAUnsubscribeDepthQuotesReq,
    ProtoOAUnsubscribeDepthQuotesRes,
    ProtoOAUnsubscribeSpotsReq,
    ProtoOAUnsubscribeSpotsRes,
    ProtoOAVersionReq,
    ProtoOAVersionRes,
)
from emp.access.ctrader.outbox import frame
from emp.access.ctrader.parts import (
    ProtoMessage,
    ProtoOACtidTraderAccount,
    ProtoOADepthQuote,
    ProtoOALightSymbol,
    ProtoOASymbol,
    ProtoOATrader,
)
from emp.access.ctrader.wire import Message, decode
from emp.core.clock import Clock
from emp.core.records import Array
from emp.sim.venues.ctrader.account import Account, Market
from emp.sim.venues.ctrader.faults import Faults
from emp.sim.venues.ctrader.money import USD

S = 1_000_000_000
POINT = 100_000


class Server(Protocol):
    """What a connection needs of the venue that it belongs to."""

    market: Market
    account: Account
    client: tuple[str, str]
    token: str
    refresh: str
    token_lifetime_s: int
    rights: AccessRights
    swap_free: bool
    scope: ClientPermissionScope
    live: bool
    terms: dict[str, dict[str, Any]]
    limit: int
    exceeded: int
    quote_id: int
    faults: Faults
    clock: Clock
    digits: dict[str, int]
    connections: list["Connection"]
    received: list[Message]

    def serve(self, connection: "Connection", name: str, act: Callable[[], None]) -> None:
        """Run an order request, so that the events it causes carry its name."""


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, venue: Server) -> None:
        self._venue = venue
        self._transport: Any = None
        self._buffer = bytearray()
        self._times: deque[int] = deque(maxlen=venue.limit)
        self.known = False  # the application
        self.authorised = False  # the account
        self.spots: set[int] = set()
        self.depth: dict[int, dict[tuple[int, int], tuple[int, int]]] = {}  # (side, px) -> (id, size)

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        self._transport = transport
        self._venue.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        if self in self._venue.connections:
            self._venue.connections.remove(self)

    def abort(self) -> None:
        """Break the connection."""
        self._transport.abort()

    def close(self) -> None:
        """Close the connection after what is written."""
        self._transport.close()

    # --- out ---

    def send(self, message: Message, name: str | None = None) -> None:
        """Send a message, as the faults allow."""
        faults = self._venue.faults
        data = frame(message, name)
        if faults.silent:
            return
        if faults.cut_frame:
            self.write(data[: faults.cut_frame])
            faults.cut_frame = 0
            self.close()
        elif faults.delay_s:
            asyncio.get_running_loop().call_later(faults.delay_s, self.write, data)
        else:
            self.write(data)

    def write(self, data: bytes) -> None:
        """Write bytes, one by one where the venue is slow."""
        if self._transport.is_closing():
            return
        for part in (data[i : i + 1] for i in range(len(data))) if self._venue.faults.slow else (data,):
            self._transport.write(part)

    def show(self, instrument: str, row: Array) -> None:
        """Send what changed of a book to who subscribed."""
        for symbol, facts in self._venue.account.symbols.items():
            if facts.name != instrument or not self.authorised:
                continue
            points = round(facts.tick * POINT)
            if symbol in self.spots and row["n_bid"] and row["n_ask"]:
                self.send(
                    ProtoOASpotEvent(
                        ctid_trader_account_id=self._venue.account.account,
                        symbol_id=symbol,
                        bid=int(row["bid_px"][0]) * points,
                        ask=int(row["ask_px"][0]) * points,
                        timestamp=int(row["ts"]) // 1_000_000,
                    )
                )
            if symbol in self.depth:
                self._show_depth(symbol, row, points, round(facts.lot * 100))

    def _show_depth(self, symbol: int, row: Array, points: int, lot: int) -> None:
        shown = self.depth[symbol]
        now = {(1, int(row["bid_px"][i])): int(row["bid_sz"][i]) for i in range(row["n_bid"])}
        now |= {(-1, int(row["ask_px"][i])): int(row["ask_sz"][i]) for i in range(row["n_ask"])}
        gone = [key for key, (_, size) in shown.items() if now.get(key) != size]
        deleted = [shown.pop(key)[0] for key in gone]
        quotes = []
        for (side, px), size in now.items():
            if (side, px) not in shown:
                self._venue.quote_id += 1
                shown[side, px] = (self._venue.quote_id, size)
                quotes.append(
                    ProtoOADepthQuote(
                        id=self._venue.quote_id,
                        size=size * lot or 1,  # a quote without a size: less than any lot
                        bid=px * points if side > 0 else None,
                        ask=px * points if side < 0 else None,
                    )
                )
        if self._venue.faults.shuffle_deletes and deleted:
            deleted = [*reversed(deleted), deleted[0], (1 << 60) + deleted[0]]
        if quotes or deleted:
            self.send(
                ProtoOADepthEvent(
                    ctid_trader_account_id=self._venue.account.account,
                    symbol_id=symbol,
                    new_quotes=tuple(quotes),
                    deleted_quotes=tuple(deleted),
                )
            )

    def end_account(self) -> None:
        """End the account's session."""
        self.authorised = False
        self.spots.clear()
        self.depth.clear()
        self.send(ProtoOAAccountDisconnectEvent(ctid_trader_account_id=self._venue.account.account))

    # --- in ---

    def data_received(self, data: bytes) -> None:
        """Serve the requests that are complete."""
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < 4 + size:
                return
            envelope = decode(ProtoMessage, bytes(self._buffer[4 : 4 + size]))
            del self._buffer[: 4 + size]
            message = decode(BY_PAYLOAD[envelope.payload_type], envelope.payload or b"")
            self._venue.received.append(message)
            self._serve(message, envelope.client_msg_id or "")

    def _refuse(self, name: str, code: ErrorCode, text: str = "") -> None:
        self.send(ProtoOAErrorRes(error_code=str(code), description=text), name)

    def _serve(self, message: Message, name: str) -> None:
        if isinstance(message, ProtoHeartbeatEvent):
            return
        now = self._venue.clock.monotonic_ns()
        if len(self._times) == self._venue.limit and now - self._times[0] < S:
            self._venue.exceeded += 1
            self._refuse(name, ErrorCode.REQUEST_FREQUENCY_EXCEEDED)
            return
        self._times.append(now)
        if isinstance(message, ProtoOAApplicationAuthReq):
            self._application(message, name)
        elif isinstance(message, ProtoOAVersionReq):
            self.send(ProtoOAVersionRes(version="91"), name)
        elif not self.known:
            self._refuse(name, ErrorCode.CH_CLIENT_NOT_AUTHENTICATED)
        elif isinstance(message, ProtoOARefreshTokenReq):
            self._refresh(message, name)
        elif isinstance(message, ProtoOAAccountAuthReq):
            self._account(message, name)
        elif isinstance(message, ProtoOAGetAccountListByAccessTokenReq):
            self._accounts(message, name)
        elif not self.authorised:
            self._refuse(name, ErrorCode.ACCOUNT_NOT_AUTHORIZED)
        elif not self._order(message, name) and not self._subscription(message, name):
            self._question(message, name)

    def _application(self, message: ProtoOAApplicationAuthReq, name: str) -> None:
        if (message.client_id, message.client_secret) != self._venue.client:
            self._refuse(name, ErrorCode.CH_CLIENT_AUTH_FAILURE, f"bad secret {message.client_secret}")
            return
        self.known = True
        self.send(ProtoOAApplicationAuthRes(), name)

    def _refresh(self, message: ProtoOARefreshTokenReq, name: str) -> None:
        venue = self._venue
        if message.refresh_token != venue.refresh:
            self._refuse(name, ErrorCode.CH_ACCESS_TOKEN_INVALID, f"bad token {message.refresh_token}")
            return
        number = int(venue.refresh.rpartition("-")[2]) + 1
        venue.token, venue.refresh = f"access-{number}", f"refresh-{number}"
        if self.authorised:
            self.authorised = False
            self.send(
                ProtoOAAccountsTokenInvalidatedEvent(
                    ctid_trader_account_ids=(venue.account.account,), reason="token was refreshed"
                )
            )
        self.send(
            ProtoOARefreshTokenRes(
                access_token=venue.token,
                token_type="bearer",
                expires_in=venue.token_lifetime_s,
                refresh_token=venue.refresh,
            ),
            name,
        )

    def _account(self, message: ProtoOAAccountAuthReq, name: str) -> None:
        account = self._venue.account.account
        if message.ctid_trader_account_id != account:
            self._refuse(name, ErrorCode.CH_CTID_TRADER_ACCOUNT_NOT_FOUND)
        elif message.access_token != self._venue.token:
            self._refuse(name, ErrorCode.CH_ACCESS_TOKEN_INVALID, f"bad token {message.access_token}")
        elif self.authorised:
            self._refuse(name, ErrorCode.ALREADY_LOGGED_IN)
        else:
            self.authorised = True
            self.send(ProtoOAAccountAuthRes(ctid_trader_account_id=account), name)

    def _accounts(self, message: ProtoOAGetAccountListByAccessTokenReq, name: str) -> None:
        venue = self._venue
        if message.access_token != venue.token:
            self._refuse(name, ErrorCode.CH_ACCESS_TOKEN_INVALID, f"bad token {message.access_token}")
            return
        mine = ProtoOACtidTraderAccount(ctid_trader_account_id=venue.account.account, is_live=venue.live)
        self.send(
            ProtoOAGetAccountListByAccessTokenRes(
                access_token=venue.token, permission_scope=venue.scope, ctid_trader_account=(mine,)
            ),
            name,
        )

    def _order(self, message: Message, name: str) -> bool:
        venue, ts = self._venue, self._venue.clock.now_ns()
        if isinstance(message, ProtoOANewOrderReq):
            order = message
            if venue.faults.lose_orders > 0:
                venue.faults.lose_orders -= 1
            elif venue.faults.refuse_orders:
                self._refuse_order(name, ErrorCode(venue.faults.refuse_orders))
            else:
                venue.serve(self, name, lambda: venue.account.new_order(order, ts))
        elif isinstance(message, ProtoOACancelOrderReq):
            order_id = message.order_id
            venue.serve(self, name, lambda: venue.account.cancel(order_id, ts))
        elif isinstance(message, ProtoOAAmendOrderReq):
            amend = message
            venue.serve(self, name, lambda: venue.account.amend(amend, ts))
        elif isinstance(message, ProtoOAAmendPositionSLTPReq):
            stop = message
            venue.serve(self, name, lambda: venue.account.amend_stop(stop, ts))
        else:
            return False
        return True

    def _refuse_order(self, name: str, code: ErrorCode) -> None:
        account = self._venue.account.account
        self.send(ProtoOAOrderErrorEvent(ctid_trader_account_id=account, error_code=str(code)), name)

    def _subscription(self, message: Message, name: str) -> bool:
        venue = self._venue
        account = venue.account.account
        if isinstance(message, ProtoOASubscribeSpotsReq | ProtoOASubscribeDepthQuotesReq):
            spots = isinstance(message, ProtoOASubscribeSpotsReq)
            ids = set(message.symbol_id)
            if not ids <= venue.account.symbols.keys():
                self._refuse(name, ErrorCode.ENTITY_NOT_FOUND, "no such symbol")
                return True
            if venue.faults.refuse_depth and not spots:
                self._refuse(name, ErrorCode(venue.faults.refuse_depth), "no depth for this account")
                return True
            if ids & (self.spots if spots else self.depth.keys()):
                self._refuse(name, ErrorCode.ALREADY_SUBSCRIBED)
                return True
            if spots:
                self.spots |= ids
                self.send(ProtoOASubscribeSpotsRes(ctid_trader_account_id=account), name)
            else:
                self.depth.update((i, {}) for i in ids)
                self.send(ProtoOASubscribeDepthQuotesRes(ctid_trader_account_id=account), name)
            for symbol in message.symbol_id:
                row = venue.market.book(venue.account.symbols[symbol].name)
                if row is not None:
                    self.show(venue.account.symbols[symbol].name, row)
        elif isinstance(message, ProtoOAUnsubscribeSpotsReq):
            self.spots -= set(message.symbol_id)
            self.send(ProtoOAUnsubscribeSpotsRes(ctid_trader_account_id=account), name)
        elif isinstance(message, ProtoOAUnsubscribeDepthQuotesReq):
            for symbol in message.symbol_id:
                self.depth.pop(symbol, None)
            self.send(ProtoOAUnsubscribeDepthQuotesRes(ctid_trader_account_id=account), name)
        else:
            return False
        return True

    def _question(self, message: Message, name: str) -> None:
        venue, mine = self._venue, self._venue.account
        account = mine.account
        answer = mine.money.answer(message, account, mine.positions)
        if answer is not None:
            pass
        elif isinstance(message, ProtoOATraderReq):
            trader = ProtoOATrader(
                ctid_trader_account_id=account,
                balance=mine.money.balance,
                swap_free=venue.swap_free,
                deposit_asset_id=USD,
                access_rights=venue.rights,
                account_type=mine.kind,
                money_digits=2,
            )
            answer = ProtoOATraderRes(ctid_trader_account_id=account, trader=trader)
        elif isinstance(message, ProtoOASymbolsListReq):
            answer = ProtoOASymbolsListRes(ctid_trader_account_id=account, symbol=self._light_symbols())
        elif isinstance(message, ProtoOASymbolByIdReq):
            answer = ProtoOASymbolByIdRes(
                ctid_trader_account_id=account,
                symbol=tuple(self._symbol(i) for i in message.symbol_id if i in mine.symbols),
            )
        elif isinstance(message, ProtoOAReconcileReq):
            answer = ProtoOAReconcileRes(
                ctid_trader_account_id=account,
                position=tuple(mine.positions.values()),
                order=mine.working(),
            )
        elif isinstance(message, ProtoOAOrderDetailsReq):
            order = mine.orders.get(message.order_id)
            if order is None:
                self._refuse(name, ErrorCode.ORDER_NOT_FOUND)
                return
            answer = ProtoOAOrderDetailsRes(
                ctid_trader_account_id=account, order=order.told(), deal=tuple(order.deals)
            )
        elif isinstance(message, ProtoOAOrderListReq):
            span = (message.from_timestamp or 0, message.to_timestamp or 1 << 62)
            found = tuple(o.told() for o in mine.orders.values() if span[0] <= o.ts_ms <= span[1])
            answer = ProtoOAOrderListRes(ctid_trader_account_id=account, order=found, has_more=False)
        elif isinstance(message, ProtoOAAccountLogoutReq):
            self.send(ProtoOAAccountLogoutRes(ctid_trader_account_id=account), name)
            self.end_account()
            return
        else:
            self._refuse(name, ErrorCode.INVALID_REQUEST)
            return
        self.send(answer, name)

    def _light_symbols(self) -> tuple[ProtoOALightSymbol, ...]:
        return tuple(
            ProtoOALightSymbol(symbol_id=i, symbol_name=s.name, enabled=True, quote_asset_id=USD)
            for i, s in self._venue.account.symbols.items()
        )

    def _symbol(self, symbol: int) -> ProtoOASymbol:
        facts = self._venue.account.symbols[symbol]
        lot = round(facts.lot * 100)
        told = ProtoOASymbol(
            symbol_id=symbol,
            digits=self._venue.digits[facts.name],
            pip_position=4,
            min_volume=lot,
            max_volume=1_000 * lot,
            step_volume=lot,
        )
        return msgspec.structs.replace(told, **self._venue.terms.get(facts.name, {}))
