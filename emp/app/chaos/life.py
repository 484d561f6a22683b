"""One process of the engine in a world, and what passes between it and its access."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from emp.access.port import LinkState, MarketAccess, OthersTrade, Sink, TellsOthers
from emp.core.approval import Cleared, command_of
from emp.core.contracts import Command, OrderUpdate, VenuePosition
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.engine.protection import Protects
from emp.observe.board import Board
from emp.sim.chaos.loop import Process

if TYPE_CHECKING:
    import asyncio

    from emp.app.wiring.live import Running


class Life(msgspec.Struct, weakref=True):
    """From a start to its end."""

    process: Process
    began_ns: int
    running: Any = None  # emp.app.wiring.live.Running, while there is one
    task: Any = None
    board: Board | None = None
    said: str = ""  # how it ended; "" while it runs, or in order
    seen: bool = False  # whether the owner has noticed its end
    buried: bool = False
    acknowledged: int = 0  # the newest row that its ledger had acknowledged
    links: dict[str, bool] = {}
    newest_ns: dict[int, int] = {}  # when the newest market data of each instrument reached it
    second: bool = False
    began: bool = False  # whether it has begun to trade
    failed: bool = False  # something has failed it, and what is held is closed before it ends
    summed_up: int = 0  # the newest checkpoint of its ledger that was looked at
    knew: int = 0  # fills that it had applied when it died
    run: str = ""  # that it goes on with, or has begun

    @property
    def over(self) -> bool:
        """Whether it runs no more."""
        task: asyncio.Task[None] | None = self.task
        if self.process.dead:
            return self.buried
        if task is not None and task.done():
            if not self.said and not task.cancelled() and task.exception() is not None:
                error = task.exception()
                self.said = f"{type(error).__name__}: {error}"
            return True
        return False

    @property
    def trading(self) -> bool:
        """Whether its start is over."""
        running: Running | None = self.running
        return not self.over and running is not None and running.live.connected.is_set()


class Listens(Protocol):
    """Who hears what passes."""

    def on_send(self, life: Life, command: Command) -> None:
        """The engine hands a command to its access."""

    def on_events(self, life: Life, rows: Array) -> None:
        """Market data reach the engine."""

    def on_link(self, up: bool) -> None:
        """A connection came up or went down."""

    def on_report(self, life: Life, update: OrderUpdate) -> None:
        """A report reaches the engine."""


class Watched:
    """An access whose every word is heard; it is the engine's access, and the sink of its own."""

    def __init__(self, access: MarketAccess, life: Life, heard: Listens) -> None:
        self._access, self._life, self._heard = access, life, heard
        self._sink: Sink

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """As the access."""
        self._sink = sink
        await self._access.connect(instruments, self)

    def send(self, cleared: Cleared) -> None:
        """As the access."""
        self._heard.on_send(self._life, command_of(cleared))
        self._access.send(cleared)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """As the access."""
        return await self._access.open_orders()

    async def positions(self) -> Sequence[VenuePosition]:
        """As the access."""
        return await self._access.positions()

    @property
    def explaining(self) -> bool:
        """As the access."""
        return bool(getattr(self._access, "explaining", False))

    async def close(self) -> None:
        """As the access."""
        await self._access.close()

    def events(self, rows: Array) -> None:
        """To the engine."""
        self._heard.on_events(self._life, rows)
        self._sink.events(rows)

    def report(self, update: OrderUpdate) -> None:
        """To the engine."""
        self._heard.on_report(self._life, update)
        self._sink.report(update)

    def link(self, state: LinkState) -> None:
        """To the engine."""
        self._life.links = {**self._life.links, state.channel: state.up}
        self._heard.on_link(state.up)
        self._sink.link(state)

    def ended(self, error: Exception | None) -> None:
        """To the engine."""
        self._sink.ended(error)

    async def ready(self) -> None:
        """As the engine."""
        await self._sink.ready()


class _WatchedBroker(Watched):
    """The same of an access whose venue keeps stops, and tells what others have traded."""

    def protect(self, instrument: str, side: int, px: int) -> None:
        """As the access."""
        cast(Protects, self._access).protect(instrument, side, px)

    def protected(self, instrument: str) -> int:
        """As the access."""
        return cast(Protects, self._access).protected(instrument)

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        """As the access."""
        return await cast(TellsOthers, self._access).trades_of_others(since, is_ours)


def watched_access(access: MarketAccess, life: Life, heard: Listens) -> Watched:
    """The access with somebody who listens; what it can do, it still can."""
    return (_WatchedBroker if isinstance(access, Protects) else Watched)(access, life, heard)
