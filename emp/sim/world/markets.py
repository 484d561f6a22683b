"""Several built-in markets behind one door: one clock, one stream of events in order of time, a book and queue each.

No market knows another: what we trade in one moves that one alone, and an order for one never waits for another.
"""

import asyncio
from collections.abc import Iterator, Sequence

import numpy as np

from emp.access.port import LinkState, Sink
from emp.access.pump import Pump
from emp.core.approval import Cleared, command_of
from emp.core.clock import Clock, LiveClock
from emp.core.codes import EventFlag
from emp.core.contracts import Command, OrderUpdate, VenuePosition
from emp.core.errors import UsageError, VenueError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.sim.world.mock import MockMarket

SLICE_NS = 100_000_000
"""Market time after which all markets have told what they did, and it goes out merged."""

_PAUSE_S = 0.005
_VISIBLE = int(EventFlag.VISIBLE)


class MockMarkets:
    """`access.port.MarketAccess` of several `MockMarket`, which have the same speed and begin at the same time.

    Of their own pace nothing is used: they are read here. `past` is as of a `MockMarket`, of each of them.
    """

    def __init__(
        self,
        markets: Sequence[MockMarket],
        *,
        past: int = 0,
        clock: Clock | None = None,
    ) -> None:
        names = [one.instrument.name for one in markets]
        if not names or len(set(names)) != len(names):
            raise UsageError(f"mock markets: each instrument has one, were {', '.join(names) or 'none'}")
        if len({one.seen_ns for one in markets}) > 1:
            raise UsageError("mock markets: all must begin at the same time")
        self.markets = tuple(markets)
        self.past = past
        self._clock: Clock = clock or LiveClock()
        self._by_name = dict(zip(names, markets, strict=True))
        self._pump = Pump(self._run)

    def send(self, cleared: Cleared) -> None:
        """Put a command on the wire to its instrument's market."""
        self.take(command_of(cleared))

    def take(self, command: Command) -> None:
        """The same of an order that a client gave, where these markets stand behind a venue."""
        market = self._by_name.get(command.instrument)
        if market is None:
            raise VenueError(f"mock markets: there is no instrument {command.instrument}")
        market.take(command)

    def report_to(self, sink: Sink) -> None:
        """Who hears of our orders while `batches` is read."""
        for one in self.markets:
            one.report_to(sink)

    def batches(self, until_ns: int) -> Iterator[Array]:
        """Yield EVENT rows in order of time, as fast as they are asked for, until a market time (ns)."""
        while self._open and self._now < until_ns:
            yield self._step(until_ns)

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Start the clock of all markets; they serve exactly their own instruments, in their own order."""
        names = [one.name for one in instruments]
        if names != list(self._by_name):
            raise VenueError(
                f"mock markets: serve {', '.join(self._by_name)}, were asked for {', '.join(names)}"
            )
        self.report_to(sink)
        for channel in ("market", "trade"):
            sink.link(LinkState(channel=channel, up=True))
        self._pump.start(sink)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """Our orders that rest in the books."""
        return [order for one in self.markets for order in await one.open_orders()]

    async def positions(self) -> Sequence[VenuePosition]:
        """What we hold, of each instrument."""
        return [held for one in self.markets for held in await one.positions()]

    async def close(self) -> None:
        """End all markets: no event follows."""
        for one in self.markets:
            await one.close()
        await self._pump.stop()

    # --- time -----------------------------------------------------------------------------------------------

    @property
    def _open(self) -> bool:
        return not all(one.over for one in self.markets)

    @property
    def _now(self) -> int:
        return max(one.seen_ns for one in self.markets)

    async def _run(self, sink: Sink) -> None:
        """Push EVENT rows as market time follows the clock, until every market is over."""
        await self._tell_past(sink)
        mono_ns = self._clock.monotonic_ns()
        for one in self.markets:
            one.keep_time(mono_ns)
        while self._open:
            target = self.markets[0].reached()
            rows = self._step(target)
            if len(rows):
                sink.events(rows)
            await asyncio.sleep(0 if self._now < target else _PAUSE_S)

    async def _tell_past(self, sink: Sink) -> None:
        """Tell what every market that is open has seen, as fast as it is taken; the clocks begin behind it."""
        left = np.array([self.past if one.market.public else 0 for one in self.markets])
        while (left > 0).any() and self._open:
            await sink.ready()
            rows = self._step(2**62)
            sink.events(rows)
            shown = rows["instrument"][rows["flags"] & _VISIBLE != 0]
            left -= np.bincount(shown, minlength=len(left))

    def _step(self, until_ns: int) -> Array:
        """EVENT rows [n] of what happens in the next slice of time, or up to `until_ns` where that comes first."""
        due = min((one.due_ns() for one in self.markets if not one.over), default=until_ns)
        until = min(until_ns, max(self._now + SLICE_NS, due))
        parts = []
        for i, one in enumerate(self.markets):
            rows = one.until(until)
            rows["instrument"] = i
            parts.append(rows)
        rows = np.concatenate(parts)
        return rows[np.argsort(rows["ts"], kind="stable")]
