"""An access with a receiver of its own, for tests that read a market as it comes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from emp.access.port import LinkState, MarketAccess
from emp.core.contracts import OrderUpdate
from emp.core.instrument import Instrument
from emp.core.records import Array


class Listener:
    """Connects an access to itself: events are read with `async for`, reports go to a callback, links are kept.

    Everything else of the access is reached through it.
    """

    def __init__(self, access: MarketAccess) -> None:
        self.access = access
        self.link_states: list[LinkState] = []
        self.reports: list[OrderUpdate] = []
        self.error: Exception | None = None
        self.over = False
        self._heard: Callable[[OrderUpdate], None] = self.reports.append
        self._rows: deque[Array] = deque()
        self._arrived = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.access, name)

    async def connect(self, instruments: Sequence[Instrument]) -> None:
        await self.access.connect(instruments, self.sink)

    def on_report(self, callback: Callable[[OrderUpdate], None]) -> None:
        self._heard = callback

    async def events(self) -> AsyncIterator[Array]:
        """Yield what arrives until the market ends; raise what it failed with."""
        while True:
            while self._rows:
                yield self._rows.popleft()
            if self.error is not None:
                raise self.error
            if self.over:
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def close(self) -> None:
        await self.access.close()
        self.over = True
        self._arrived.set()

    @property
    def sink(self) -> "_Sink":
        return _Sink(self)


class _Sink:
    """What the access calls; apart from the listener, whose `events` is the reader's."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def events(self, rows: Array) -> None:
        self._listener._rows.append(rows.copy())
        self._listener._arrived.set()

    def report(self, update: OrderUpdate) -> None:
        self._listener._heard(update)

    def link(self, state: LinkState) -> None:
        self._listener.link_states.append(state)

    def ended(self, error: Exception | None) -> None:
        self._listener.error, self._listener.over = error, True
        self._listener._arrived.set()

    async def ready(self) -> None:
        while self._listener._rows:
            await asyncio.sleep(0)


class Reports:
    """A sink that keeps reports in a list and nothing else."""

    def __init__(self, kept: list[OrderUpdate]) -> None:
        self._kept = kept

    def events(self, rows: Array) -> None:
        pass

    def report(self, update: OrderUpdate) -> None:
        self._kept.append(update)

    def link(self, state: LinkState) -> None:
        pass

    def ended(self, error: Exception | None) -> None:
        pass

    async def ready(self) -> None:
        pass
