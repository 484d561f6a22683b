"""A cTrader Open API server in front of a market object: for tests and drills, over TLS, with faults on demand.

    venue = CTraderVenue(market, account=12345)
    await venue.start(tls)          # venue.port is where it listens
    venue.faults.duplicate = True

It is as strict as the real one where that matters to a client: authentication in order, request limits, tokens
that expire, one book per subscription with quote ids that are never used twice.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from emp.access.ctrader.enums import AccessRights, AccountType, ClientPermissionScope
from emp.access.ctrader.messages import (
    ProtoOAAccountsTokenInvalidatedEvent,
    ProtoOAClientDisconnectEvent,
    ProtoOAExecutionEvent,
    ProtoOAOrderErrorEvent,
)
from emp.access.ctrader.wire import Message
from emp.core.clock import Clock, LiveClock
from emp.core.contracts import OrderUpdate
from emp.core.records import Array
from emp.sim.venues.ctrader.account import Account, Market, Refusal
from emp.sim.venues.ctrader.connection import Connection
from emp.sim.venues.ctrader.faults import Faults


class CTraderVenue:
    """The server: one account, any number of connections."""

    def __init__(
        self,
        market: Market,
        *,
        account: int = 12_345,
        kind: AccountType = AccountType.NETTED,
        client: tuple[str, str] = ("app", "app-secret"),
        token: str = "access-1",
        refresh: str = "refresh-1",
        digits: int = 5,
        clock: Clock | None = None,
    ) -> None:
        self.market = market
        self.client = client
        self.token, self.refresh = token, refresh
        self.token_lifetime_s = 2_592_000
        self.rights = AccessRights.FULL_ACCESS
        self.scope = ClientPermissionScope.SCOPE_TRADE
        self.live = False
        self.swap_free = False
        self.terms: dict[str, dict[str, Any]] = {}  # by instrument: fields of its ProtoOASymbol that differ
        self.limit = 50
        self.exceeded = 0
        self.faults = Faults()
        self.port = 0
        self.clock = clock or LiveClock()
        self.digits = {i.name: digits for i in market.instruments}
        self.account = Account(account, market, kind, self.digits, self._tell)
        self.connections: list[Connection] = []
        self.received: list[Message] = []  # all requests, for tests to look at
        self.quote_id = 0
        self._answering: Connection | None = None
        self._request = ""
        self._server: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None
        market.listen(self._event, self._report)

    async def start(self, tls: ssl.SSLContext, port: int = 0) -> None:
        """Listen on loopback."""
        self._tls = tls
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break all connections and stop listening."""
        for connection in list(self.connections):
            connection.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def restart(self) -> None:
        """Go down and come back on the same port, with the books and orders of before."""
        assert self._tls is not None
        port = self.port
        await self.stop()
        await self.start(self._tls, port)

    # --- what a drill does ---

    def invalidate_token(self) -> None:
        """Let the access token expire now."""
        self.token = f"void-{self.token}"
        event = ProtoOAAccountsTokenInvalidatedEvent(
            ctid_trader_account_ids=(self.account.account,), reason="Access Token is expired"
        )
        for connection in self.connections:
            connection.authorised = False
            connection.send(event)

    def end_account(self) -> None:
        """End the account's session, leave the connection."""
        for connection in self.connections:
            connection.end_account()

    def end_client(self, reason: str) -> None:
        """Cancel the application's connection."""
        for connection in list(self.connections):
            connection.send(ProtoOAClientDisconnectEvent(reason=reason))
            connection.close()

    def write_raw(self, data: bytes) -> None:
        """Put bytes on every connection as they are."""
        for connection in self.connections:
            connection.write(data)

    # --- what the market does ---

    def _event(self, instrument: str, row: Array) -> None:
        for connection in self.connections:
            connection.show(instrument, row)
        self.account.on_event(instrument)

    def _report(self, update: OrderUpdate) -> None:
        try:
            self.account.on_report(update)
        except Refusal as refusal:
            self._refuse(refusal)

    def _tell(self, event: ProtoOAExecutionEvent) -> None:
        if self.faults.lose_reports > 0:
            self.faults.lose_reports -= 1
            return
        for connection in self.connections:
            if connection.authorised:
                name = self._request if connection is self._answering else None
                for _ in range(2 if self.faults.duplicate else 1):
                    connection.send(event, name)

    def serve(self, connection: "Connection", name: str, act: Callable[[], None]) -> None:
        """Run an order request, so that the events it causes carry its name."""
        self._answering, self._request = connection, name
        try:
            act()
        except Refusal as refusal:
            self._refuse(refusal)
        finally:
            self._answering, self._request = None, ""

    def _refuse(self, refusal: Refusal) -> None:
        event = ProtoOAOrderErrorEvent(
            ctid_trader_account_id=self.account.account,
            error_code=str(refusal.code),
            order_id=refusal.order_id,
            description=refusal.text,
        )
        for connection in self.connections:
            if connection is self._answering or self._answering is None:
                connection.send(event, self._request or None)
