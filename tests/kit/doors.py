"""Every door to a market with a venue behind it whose end can be watched and spoilt.

A door is opened, the engine trades through `access`, and is shut; `end` saw what the venue told and was asked, and
`position` is the truth.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.ctrader.access import CTraderAccess
from emp.access.ctrader.enums import ExecutionType
from emp.access.ctrader.messages import (
    ProtoOAExecutionEvent,
    ProtoOANewOrderReq,
    ProtoOAOrderDetailsReq,
    ProtoOAOrderListReq,
)
from emp.access.ctrader.settings import Credentials, Settings
from emp.access.fix.client import FixAccess, FixSettings
from emp.access.fix.dialect import CTRADER, PLAIN, Dialect
from emp.access.fix.schedule import Backoff
from emp.access.paper.access import PaperAccess, Playback
from emp.access.paper.venue import PaperVenue
from emp.access.port import LinkState, MarketAccess, ReadCounts
from emp.core.clock import LiveClock
from emp.core.codes import OrderStatus
from emp.core.config.secrets import Secret
from emp.core.contracts import Command, OrderUpdate
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.sim.venues.ctrader.venue import CTraderVenue
from emp.sim.venues.fix.faults import FaultPlan, Faults
from emp.sim.venues.fix.loopback import FixLoopback
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from emp.sim.world.market import zero_intelligence
from emp.sim.world.mock import MockMarket
from tests.kit.instruments import currency_pair
from tests.kit.tls import client_tls, server_tls
from tests.kit.venue import TOO_MANY, Fact, ScriptedMarket, VenueEnd

PAIR = currency_pair()
OTHER = currency_pair("XAUUSD", 0.001, 1.0)
MS = 1_000_000
RECORDED = 6_000
"""Events of the recording: half a minute, longer than any test."""

RECORDED_NS = 1_709_719_200_000_000_000  # Wednesday 2024-03-06, 10:00 UTC


class Door:
    """A way to a market. What a subclass lacks (a link, a trade link of its own) it does not have."""

    name = ""
    orders_over_link = True  # where there is a link at all
    access: MarketAccess

    def __init__(self, folder: Path, pem: Path, *, refuses: bool = False) -> None:
        """With `refuses` the venue does not serve what is subscribed to."""
        self.folder, self.pem, self.refuses = folder, pem, refuses
        self.end = VenueEnd()
        self.clock = LiveClock()

    async def open(self) -> None:
        """Start what is no part of the access, and make the access."""
        raise NotImplementedError

    async def shut(self) -> None:
        """Stop what is no part of the access."""

    @property
    def position(self) -> int:
        """Lots that the venue really holds for us."""
        raise NotImplementedError

    @property
    def orders(self) -> list[str]:
        """Ids of the new orders that arrived at the venue, in order, each as often as it arrived."""
        return self.end.orders

    @property
    def queries(self) -> list[str]:
        """Ids of the orders that the venue was asked about."""
        return self.end.queries

    def marks(self, events: Array) -> list[int]:
        """A number for each EVENT row that rises by one from one event of the venue to the next."""
        return [int(seq) for seq in events["seq"]]

    def scripted(self) -> ScriptedMarket:
        return ScriptedMarket(OTHER if self.refuses else PAIR, self.end)


def sizes(events: Array) -> list[int]:
    """Marks of a `ScriptedMarket` where sequence numbers are not carried over."""
    return [int(size) for size in events["bid_sz"][:, 0]]


# --- in this process --------------------------------------------------------------------------------------------


class Scripted(Door):
    name = "scripted"

    async def open(self) -> None:
        self.access = self.market = self.scripted()
        if self.refuses:
            self.market.refuses = "scripted market: serves something else"

    @property
    def position(self) -> int:
        return self.market.position

    def trade_link(self, *, up: bool) -> None:
        self.market.sink.link(LinkState(channel="trade", up=up, reason="" if up else "as the test wants it"))


class _Mock(MockMarket):
    """The built-in market with its end."""

    def __init__(self, instrument: Instrument, end: VenueEnd, **options: Any) -> None:
        super().__init__(instrument, **options)
        self.end = end

    def take(self, command: Command) -> None:
        self.end.heard(command)
        super().take(command)

    def _report(self, update: OrderUpdate) -> None:
        for one in self.end.tell(update):
            super()._report(one)


class Mock(Door):
    name = "mock"

    async def open(self) -> None:
        start_ns = self.clock.now_ns()
        brisk = zero_intelligence(3, start_ns=start_ns)
        instrument = OTHER if self.refuses else PAIR
        self.market = _Mock(instrument, self.end, seed=3, market=brisk, start_ns=start_ns, speed=2.0)
        self.access = self.front()

    def front(self) -> MarketAccess:
        return self.market

    @property
    def position(self) -> int:
        return int(self.market.exchange.position)


# --- FIX --------------------------------------------------------------------------------------------------------


class _OneCut(FaultPlan):
    """Cuts the next message of market data, or the next report, in two when told to."""

    def __init__(self) -> None:
        super().__init__(Faults())
        self._kinds: tuple[bytes, ...] = ()

    def on_message(self, message: bytes) -> str:
        if not any(b"\x0135=" + kind + b"\x01" in message[:64] for kind in self._kinds):
            return ""
        self._kinds = ()
        self.counts["cut"] += 1
        return "cut"

    def cut_report(self) -> None:
        self._kinds = (b"8",)

    def cut_quotes(self) -> None:
        self._kinds = (b"W", b"X")


class MockOverFix(Mock):
    name = "mock-over-fix"

    def front(self) -> MarketAccess:
        return FixLoopback(self.market, self.clock)

    @property
    def plan(self) -> _OneCut:
        """The faults of the venue, which exists once it is connected."""
        assert isinstance(self.access, FixLoopback)
        venue = self.access._venue
        assert venue is not None
        if not isinstance(venue.plan, _OneCut):
            venue.plan = _OneCut()
        return venue.plan

    def cut_report(self) -> None:
        """Break the connection in the middle of the next report."""
        self.end.cut_next = self.plan.cut_report

    def cut_quotes(self) -> None:
        """Break the connection in the middle of the next message of market data."""
        self.plan.cut_quotes()


class Fix(Door):
    dialect: Dialect

    async def open(self) -> None:
        # slow to dial again, so that there is something to see while a link is down
        backoff = Backoff(first_s=0.3, factor=1.0, longest_s=0.3)
        dialect = msgspec.structs.replace(self.dialect, backoff=backoff, hours=None)
        self.market = ScriptedMarket(PAIR, self.end)
        symbols = {PAIR.name: "1"}
        self.venue = FixVenue(self.market, [PAIR], VenueSettings(dialect=dialect, symbols=symbols))
        self.venue.plan = self.plan = _OneCut()
        self._watch_wire()
        settings = FixSettings(
            host="127.0.0.1",
            port=await self.venue.start(),
            sender="EMP",
            target="EMPVENUE",
            dialect=dialect,
            tls=False,
            timeout_s=5.0,
            symbols={PAIR.name: "2"} if self.refuses else symbols,
            store=self.folder / "sequence",
        )
        self.access = self.front(FixAccess(settings, self.clock))

    def _watch_wire(self) -> None:
        """Orders and queries count as they arrive on the wire, before the venue refuses any."""
        venue = self.venue
        self._orders: list[str] = []
        self._queries: list[str] = []
        order, status = venue.order, venue.status

        def take_order(client: Any, message: Any) -> None:
            self._orders.append(message.text(11))
            order(client, message)

        def take_query(client: Any, message: Any) -> None:
            self._queries.append(message.text(11))
            status(client, message)

        venue.order, venue.status = take_order, take_query  # type: ignore[method-assign]

    def front(self, access: FixAccess) -> MarketAccess:
        return access

    async def shut(self) -> None:
        await self.venue.close()

    @property
    def position(self) -> int:
        return self.market.position

    @property
    def orders(self) -> list[str]:
        return self._orders

    @property
    def queries(self) -> list[str]:
        return self._queries

    def marks(self, events: Array) -> list[int]:
        return sizes(events)

    def cut_report(self) -> None:
        self.end.cut_next = self.plan.cut_report

    def cut_quotes(self) -> None:
        self.plan.cut_quotes()

    def refuse_again(self) -> None:
        """From now on the venue refuses to show what it has shown; orders it still takes."""
        self.venue.names = _Unlisted(self.venue.names)
        self.venue.plan = self.plan
        for client in self.venue.clients:
            if not client.trades or not self.dialect.split:
                client.drop()


class _Unlisted(dict[str, str]):
    """Symbols that nobody may subscribe to."""

    def __contains__(self, key: object) -> bool:
        return False


class FixPlain(Fix):
    name = "fix-plain"
    dialect = PLAIN


class FixCtrader(Fix):
    name = "fix-ctrader"
    dialect = CTRADER

    def trade_link(self, *, up: bool) -> None:
        """Cut the session of orders; the client dials again by itself."""
        for client in self.venue.clients:
            if client.trades and not up:
                client.drop()


# --- the Open API -----------------------------------------------------------------------------------------------

_STATUS = {
    ExecutionType.ORDER_ACCEPTED: OrderStatus.NEW,
    ExecutionType.ORDER_FILLED: OrderStatus.FILLED,
    ExecutionType.ORDER_CANCELLED: OrderStatus.CANCELED,
}


class _OpenApiVenue(CTraderVenue):
    """The cTrader server with its end: what it tells are execution events."""

    def __init__(self, market: ScriptedMarket, end: VenueEnd) -> None:
        super().__init__(market)
        self.end = end

    def _tell(self, event: ProtoOAExecutionEvent) -> None:
        order = event.order
        assert order is not None
        unit = round(PAIR.lot * 100)
        if self.end.spoils(order.executed_volume or 0):
            order = msgspec.structs.replace(
                order, executed_volume=(order.executed_volume or 0) + TOO_MANY * unit
            )
            event = msgspec.structs.replace(event, order=order)
        said = Fact(
            order.client_order_id or "", _STATUS[event.execution_type], (order.executed_volume or 0) // unit
        )
        if self.end.tells(said):
            super()._tell(event)


class OpenApi(Door):
    name = "open-api"

    async def open(self) -> None:
        end_of_market = VenueEnd()  # the market tells everything: what is spoilt are the events made of it
        self.market = ScriptedMarket(OTHER if self.refuses else PAIR, end_of_market)
        self.venue = _OpenApiVenue(self.market, self.end)
        await self.market.connect(self.market.instruments, self.market.listener)
        await self.venue.start(server_tls(self.pem))
        settings = Settings(
            account=self.venue.account.account,
            backoff_first_ns=300 * MS,
            backoff_last_ns=300 * MS,
            answer_ns=500 * MS,
            settle_ns=200 * MS,
        )
        credentials = Credentials(
            client_id=Secret("app"), client_secret=Secret("app-secret"), access_token=Secret("access-1")
        )
        self.access = CTraderAccess(
            settings,
            credentials,
            host="127.0.0.1",
            port=self.venue.port,
            clock=self.clock,
            tls=client_tls(self.pem),
        )

    async def shut(self) -> None:
        await self.venue.stop()
        await self.market.close()

    @property
    def position(self) -> int:
        return self.market.position

    @property
    def orders(self) -> list[str]:
        return [r.client_order_id or "" for r in self.venue.received if isinstance(r, ProtoOANewOrderReq)]

    @property
    def queries(self) -> list[str]:
        """By the broker's id where it is known; else the whole list is asked for, about every open order."""
        asked: list[str] = []
        for request in self.venue.received:
            if isinstance(request, ProtoOAOrderListReq):
                asked += [o.request.client_order_id or "" for o in self.venue.account.orders.values()]
            elif isinstance(request, ProtoOAOrderDetailsReq):
                asked.append(self.venue.account.orders[request.order_id].request.client_order_id or "")
        return asked

    def marks(self, events: Array) -> list[int]:
        return sizes(events)

    def cut_report(self) -> None:
        self.end.cut_next = self.cut_quotes

    def cut_quotes(self) -> None:
        self.venue.faults.cut_frame = 7


# --- paper ------------------------------------------------------------------------------------------------------


class _Recording:
    """What a `ScriptedMarket` would show, recorded: a `Source`."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()

    def batches(self) -> Iterator[Array]:
        market = ScriptedMarket(self.instrument, VenueEnd())
        for first in range(0, RECORDED, 500):
            yield np.concatenate(
                [market.book_at(k, RECORDED_NS + 5 * MS * k) for k in range(first, first + 500)]
            )


class _Paper:
    """What every door with paper fills has: the end is at the paper venue itself."""

    orders_over_link = False
    access: MarketAccess
    end: VenueEnd

    @property
    def position(self) -> int:
        assert isinstance(self.access, PaperAccess)
        return sum(venue.position().qty for venue in self.access._order)


def paper_venue(end: VenueEnd) -> Callable[..., PaperVenue]:
    """Makes paper venues with that end."""

    class Watched(PaperVenue):
        def send(self, command: Command) -> None:
            end.heard(command)
            super().send(command)

        def updates(self, n: int) -> list[OrderUpdate]:
            return [one for update in super().updates(n) for one in end.tell(update)]

    return Watched


class PaperRecording(_Paper, Door):
    name = "paper-recording"

    async def open(self) -> None:
        source = _Recording(OTHER if self.refuses else PAIR)
        self.access = PaperAccess(Playback([source], self.clock), self.clock)


class PaperOverFix(_Paper, Fix):
    name = "paper-over-fix"
    dialect = PLAIN

    def front(self, access: FixAccess) -> MarketAccess:
        return PaperAccess(access, self.clock)

    @property
    def orders(self) -> list[str]:
        return self.end.orders

    @property
    def queries(self) -> list[str]:
        return self.end.queries


DOORS: tuple[type[Door], ...] = (
    Scripted,
    Mock,
    MockOverFix,
    FixPlain,
    FixCtrader,
    OpenApi,
    PaperRecording,
    PaperOverFix,
)


def make_door(kind: type[Door], folder: Path, pem: Path, patch: pytest.MonkeyPatch, **options: Any) -> Door:
    """A door, not yet open."""
    door = kind(folder, pem, **options)
    patch.setattr("emp.access.paper.access.PaperVenue", paper_venue(door.end))
    return door
