"""What a world's venue is reached by: FIX in one of its dialects, or cTrader's Open API; session, bytes and all.

The market behind either is the world's `Exchange`. What befalls reports happens between the venue's own books and
whoever is connected: a FIX venue has no books but the exchange's, a broker of the Open API keeps an account of its own,
which hears everything.
"""

import ssl
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from emp.access.ctrader.access import CTraderAccess
from emp.access.ctrader.enums import OrderType, TradeSide
from emp.access.ctrader.messages import ProtoOAExecutionEvent, ProtoOANewOrderReq
from emp.access.ctrader.parts import ProtoOAPosition
from emp.access.ctrader.settings import Credentials, Settings
from emp.access.fix.client import FixAccess
from emp.access.fix.dialect import dialect
from emp.access.fix.settings import FixSettings
from emp.access.port import LinkState, MarketAccess
from emp.app.chaos.venue import WatchedVenue
from emp.core.clock import Clock
from emp.core.config.secrets import Secret
from emp.core.contracts import Command, OrderUpdate
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.sim.chaos.exchange import Exchange
from emp.sim.chaos.network import Network
from emp.sim.chaos.plan import OPEN_API
from emp.sim.venues.ctrader.account import Working
from emp.sim.venues.ctrader.venue import CTraderVenue
from emp.sim.venues.fix.faults import Faults
from emp.sim.venues.fix.venue import VenueSettings

HOST, PORT = "venue", 9_000
ACCOUNT = "7"

Arrived = Callable[[str, str, bool], None]
"""Told of every order that arrives: its id, its kind, whether it says that it is a repeat."""


class Door(Protocol):
    """One venue, and how it is reached."""

    tells_fees: bool  # its reports say what a fill cost, in the engine's own units
    tells_trades: bool  # its market data tell what others trade
    tells_corrections: bool  # it has words for a trade that is taken back

    async def start(self) -> None:
        """Let the venue listen; in its own process."""

    def settings(self) -> dict[str, Any]:
        """The section `access` of the engine's configuration."""

    def access(self, clock: Clock) -> MarketAccess:
        """What the engine reaches it with."""

    def weather(self, faults: Faults) -> None:
        """What befalls messages of the session, where its dialect has something that can be befallen."""

    def forget(self) -> None:
        """The venue's memory of its session is gone; whoever is connected is cut off."""

    def lose_orders(self, n: int) -> None:
        """The next orders never arrive."""

    def by_hand(self, instrument: str, lots: int, *, told: bool) -> None:
        """Somebody trades on the account."""


class FixDoor:
    """A FIX venue."""

    def __init__(self, name: str, exchange: Exchange, clock: Clock, arrived: Arrived, runs: Any) -> None:
        """`runs` is the folder in which the engine keeps sequence numbers."""
        self._exchange, self._runs = exchange, runs
        self._dialect = dialect(name)
        self._symbols = {one.name: str(k) for k, one in enumerate(exchange.instruments, 1)}
        self._password = Secret("drill")
        self.tells_fees = bool(self._dialect.fee_tag)
        self.tells_trades = bool(self._dialect.aggressor_tag)  # in others this venue shows none
        self.tells_corrections = self._dialect.exec_id
        asked = VenueSettings(
            dialect=self._dialect, host=HOST, port=PORT, password=self._password, symbols=self._symbols
        )
        self.venue = WatchedVenue(exchange, list(exchange.instruments), asked, clock=clock)
        self.venue.arrived = arrived

    async def start(self) -> None:
        """Listen."""
        await self.venue.start()

    def settings(self) -> dict[str, Any]:
        """Of the section `access`."""
        return {
            "connection_protocol": "fix",
            "host": HOST,
            "port": PORT,
            "account": ACCOUNT,
            "dialect": self._dialect.name,
            "sender_comp_id": "EMP",
            "target_comp_id": "EMPVENUE",
        }

    def access(self, clock: Clock) -> MarketAccess:
        """The product's FIX session."""
        settings = FixSettings(
            host=HOST,
            port=PORT,
            sender="EMP",
            target="EMPVENUE",
            dialect=self._dialect,
            tls=False,
            account=ACCOUNT,
            symbols=self._symbols,
            username=Secret("EMP"),
            password=self._password,
            store=self._runs / "fix-sequence",
            reset_on_loss=True,
        )
        return FixAccess(settings, clock)

    def weather(self, faults: Faults) -> None:
        """Messages change places, are damaged, or are not sent."""
        self.venue.plan.faults = faults

    def forget(self) -> None:
        """Sequence numbers begin anew."""
        self.venue.forget_numbers()

    def lose_orders(self, n: int) -> None:
        """Any command counts."""
        self._exchange.faults.lost_orders += n

    def by_hand(self, instrument: str, lots: int, *, told: bool) -> None:
        """The exchange's books are the account's."""
        self._exchange.by_hand(instrument, lots, told=told)


class _Behind:
    """The exchange, as the broker of an Open API sees it; and the sink of its market."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.instruments: Sequence[Instrument] = exchange.instruments
        self._on_event: Callable[[str, Array], None]
        self._on_report: Callable[[OrderUpdate], None]

    def book(self, instrument: str) -> Array | None:
        """The newest row."""
        return self._exchange.pit(instrument).book

    def listen(
        self, on_event: Callable[[str, Array], None], on_report: Callable[[OrderUpdate], None]
    ) -> None:
        """Who hears."""
        self._on_event, self._on_report = on_event, on_report

    def take(self, command: Command) -> None:
        """To the exchange."""
        self._exchange.take(command)

    def events(self, rows: Array) -> None:
        """From the exchange."""
        for row in rows:
            self._on_event(self.instruments[int(row["instrument"])].name, row)

    def report(self, update: OrderUpdate) -> None:
        """From the exchange."""
        self._on_report(update)

    def link(self, state: LinkState) -> None:
        """It is always there."""

    def ended(self, error: Exception | None) -> None:
        """It never ends."""

    async def ready(self) -> None:
        """It always is."""


class _Broker(CTraderVenue):
    """The broker, whose execution events meet with what the exchange's faults make of reports."""

    exchange: Exchange

    def _tell(self, event: ProtoOAExecutionEvent) -> None:
        known = None if event.order is None else self.account.orders.get(event.order.order_id)
        if known is None or not self.exchange.is_silent(known.name):
            self.exchange.pass_on(lambda: CTraderVenue._tell(self, event))


class OpenApiDoor:
    """A broker of the Open API: its account hears everything, its clients what faults leave of it."""

    tells_fees = False  # its commissions are the account's, in money
    tells_trades = False
    tells_corrections = False

    def __init__(self, exchange: Exchange, clock: Clock, arrived: Arrived, network: Network) -> None:
        self._exchange = exchange
        exchange.tells_all = True
        network.sealed = True
        self._behind = _Behind(exchange)
        self.venue = _Broker(self._behind, account=int(ACCOUNT), clock=clock)
        self.venue.exchange = exchange
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        take = self.venue.account.new_order

        def watched(request: ProtoOANewOrderReq, ts: int) -> None:
            arrived(request.client_order_id or "", "new", False)
            take(request, ts)

        self.venue.account.new_order = watched  # type: ignore[method-assign]
        stop_out = self.venue.account._stop_out

        def stopped(position: ProtoOAPosition) -> None:
            pit = exchange.pit(self.venue.account.symbols[position.trade_data.symbol_id].name)
            pit.others += abs(pit.position)  # nobody has told the engine before it is connected
            stop_out(position)

        self.venue.account._stop_out = stopped  # type: ignore[method-assign]

    async def start(self) -> None:
        """Listen, and let the market begin."""
        await self._exchange.connect(self._exchange.instruments, self._behind)
        await self.venue.start(self._tls, PORT)

    def settings(self) -> dict[str, Any]:
        """Of the section `access`."""
        return {"connection_protocol": "ctrader", "host": "127.0.0.1", "port": PORT, "account": ACCOUNT}

    def access(self, clock: Clock) -> MarketAccess:
        """The product's Open API session."""
        credentials = Credentials(
            client_id=Secret("app"), client_secret=Secret("app-secret"), access_token=Secret("access-1")
        )
        return CTraderAccess(
            Settings(account=int(ACCOUNT)),
            credentials,
            host="127.0.0.1",
            port=PORT,
            clock=clock,
            tls=self._tls,
        )

    def weather(self, faults: Faults) -> None:
        """Nothing comes between the messages of one stream under TLS."""

    def forget(self) -> None:
        """Whoever is connected is cut off: a session has no memory."""
        for connection in tuple(self.venue.connections):
            connection.abort()

    def lose_orders(self, n: int) -> None:
        """Never read, so that the account knows nothing of them."""
        self.venue.faults.lose_orders += n

    def by_hand(self, instrument: str, lots: int, *, told: bool) -> None:
        """The account has an order that no client of the API has sent."""
        if not lots:
            return
        account, exchange = self.venue.account, self._exchange
        traded = exchange.pit(instrument).instrument
        symbol = 1 + exchange.instruments.index(traded)
        request = ProtoOANewOrderReq(
            ctid_trader_account_id=account.account,
            symbol_id=symbol,
            order_type=OrderType.MARKET,
            trade_side=TradeSide.BUY if lots > 0 else TradeSide.SELL,
            volume=abs(lots) * round(traded.lot * 100),
        )
        order_id, name = account._new_id(), exchange.next_hand()
        order = Working(order_id, request, traded, self.venue.digits[instrument], name)
        account.orders[order_id] = account._by_name[name] = order
        exchange.by_hand(instrument, lots, told=told)


def open_door(
    name: str, exchange: Exchange, clock: Clock, arrived: Arrived, network: Network, runs: Any
) -> FixDoor | OpenApiDoor:
    """The door of that name; `clock` is the venue's."""
    if name == OPEN_API:
        return OpenApiDoor(exchange, clock, arrived, network)
    return FixDoor(name, exchange, clock, arrived, runs)
