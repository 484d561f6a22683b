"""The built-in market: a simulated order flow behind the market-access port, with our orders in its queue.

One object, two faces. As `MarketAccess` it keeps the pace of a clock (real time, or faster); as `Source` it
yields events as fast as they are asked for. Either way commands take their latency, rest in the same queue
as everybody's, consume what is there, and are reported as they would be by a venue.
"""

import asyncio
import math
from collections.abc import Iterator, Sequence

import numpy as np

from emp.access.port import LinkState, ReadCounts, Sink
from emp.access.pump import Pump
from emp.core.approval import Cleared, command_of
from emp.core.clock import Clock, LiveClock
from emp.core.codes import EventFlag
from emp.core.contracts import Command, OrderUpdate, VenuePosition
from emp.core.errors import UsageError, VenueError
from emp.core.instrument import Instrument
from emp.core.records import Array, empty_events
from emp.sim.flow.shipped import shipped_flow
from emp.sim.world.exchange import Exchange
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market
from emp.sim.world.screen import Screen

CHUNK = 1024
_PAUSE_S = 0.005
_VISIBLE = int(EventFlag.VISIBLE)


class MockMarket:
    """A simulated market for one instrument: `access.port.MarketAccess` and `access.port.Source`.

    Without a `market` it runs the flow that is shipped with the package, around `start_px`, at all hours.
    `speed` is simulated seconds per second of the clock (`math.inf`: no waiting). `n_events` ends the market
    after that many events; without it the market never closes by itself. Under `batches`, commands sent while
    a batch is being worked on reach the book after that batch, so `batch=1` is exact and slower.
    """

    def __init__(
        self,
        instrument: Instrument,
        seed: int = 1,
        *,
        market: Market | None = None,
        start_px: int = 100_000,
        start_ns: int | None = None,
        speed: float = 1.0,
        n_events: int | None = None,
        batch: int = 1,
        latency: LatencyConfig | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not speed > 0:
            raise UsageError(f"mock market: speed must be above 0, was {speed}")
        if batch < 1:
            raise UsageError(f"mock market: batch must be at least 1 event, was {batch}")
        self.instrument = instrument
        self.counts = ReadCounts()
        self._clock: Clock = clock or LiveClock()
        begin = self._clock.now_ns() if start_ns is None else start_ns
        self.market = market or Market(shipped_flow(), seed, start_px, begin)
        self.exchange = Exchange(self.market, instrument, latency or LatencyConfig(), seed)
        self._speed = speed
        self._left = n_events
        self.past = 0
        """Visible events that are told at once to who connects: what the market has seen before anybody came."""
        self._batch = batch
        self._screen = Screen()
        self._sink: Sink | None = None
        self._pump = Pump(self._run)
        self._closed = False
        self._origin = (0, self.market.now_ns)
        self._seen = self.market.now_ns

    # --- both faces

    def send(self, cleared: Cleared) -> None:
        """Put a command on the wire now, in market time."""
        self.take(command_of(cleared))

    def take(self, command: Command) -> None:
        """The same of an order that a client gave, where this market stands behind a venue."""
        if self._closed:
            raise VenueError("mock market: closed, cannot take a command")
        self.exchange.send(command, max(self._seen, self._target()))

    def _report(self, update: OrderUpdate) -> None:
        if self._sink is not None:
            self._sink.report(update)

    # --- Source

    def report_to(self, sink: Sink) -> None:
        """Who hears of our orders while `batches` is read."""
        self._sink = sink

    def batches(self) -> Iterator[Array]:
        """Yield EVENT rows, `batch` at a time, as fast as they are asked for, until `n_events` or `close`."""
        while not self._closed and self._left != 0:
            want = self._batch if self._left is None else min(self._batch, self._left)
            yield self._advance(2**62, want)

    # --- MarketAccess

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Start the clock of the market; it serves exactly its own instrument."""
        names = [i.name for i in instruments]
        if names != [self.instrument.name]:
            raise VenueError(f"mock market: serves {self.instrument.name} only, was asked for {names}")
        self._sink = sink
        for channel in ("market", "trade"):
            sink.link(LinkState(channel=channel, up=True))
        self.keep_time()
        self._pump.start(sink)

    def keep_time(self, mono_ns: int | None = None) -> None:
        """Let market time follow the clock from where it stands now; the clock stands at `mono_ns`, or is asked."""
        self._origin = (self._clock.monotonic_ns() if mono_ns is None else mono_ns, self._seen)

    @property
    def over(self) -> bool:
        """Whether no event will follow."""
        return self._closed or self._left == 0

    @property
    def seen_ns(self) -> int:
        """Market time up to which everything has been told."""
        return self._seen

    def reached(self) -> int:
        """Market time that the clock has reached, ns."""
        return self._target()

    def due_ns(self) -> int:
        """Market time of what comes next, ns: an event of the flow, or a command on its way."""
        return min(int(self.market.state["next"][0]), self.exchange.next_arrival_ns())

    def until(self, until_ns: int) -> Array:
        """EVENT rows [n] of all that happens up to a market time (ns): nothing later has happened yet."""
        parts = [empty_events(0)]
        while not self.over:
            want = CHUNK if self._left is None else min(CHUNK, self._left)
            before = self.counts.rows
            parts.append(self._advance(until_ns, want))
            if self.counts.rows - before < want:
                break
        return np.concatenate(parts)

    async def _run(self, sink: Sink) -> None:
        """Push EVENT rows as market time follows the clock, until closed or `n_events` have happened."""
        await self._tell_past(sink)
        at_leisure = self._speed == math.inf
        while not self._closed and self._left != 0:
            if at_leisure:
                await sink.ready()
            want = CHUNK if self._left is None else min(CHUNK, self._left)
            rows = self._advance(self._target(), want)
            if len(rows):
                sink.events(rows)
            if at_leisure:
                await asyncio.sleep(0)
            elif len(rows) < want:
                await asyncio.sleep(_PAUSE_S)

    async def _tell_past(self, sink: Sink) -> None:
        """Tell the market's past, some at a time; the clock begins behind it."""
        past = self.past
        while past > 0 and self._left != 0 and not self._closed:
            await sink.ready()
            rows = self._advance(2**62, 64 if self._left is None else min(64, self._left))
            sink.events(rows)
            past -= int(((rows["flags"] & _VISIBLE) != 0).sum())
            self.keep_time()

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """Our orders that rest in the book."""
        return self.exchange.open_orders()

    async def positions(self) -> Sequence[VenuePosition]:
        """What we hold."""
        return [self.exchange.venue_position()]

    async def close(self) -> None:
        """End the market: no event follows."""
        self._closed = True
        await self._pump.stop()

    def _target(self) -> int:
        """Market time that the clock has reached."""
        if self._speed == math.inf:
            return 2**62
        mono, market = self._origin
        if mono == 0:
            return self._seen
        return market + int((self._clock.monotonic_ns() - mono) * self._speed)

    def _advance(self, until_ns: int, want: int) -> Array:
        rows = empty_events(want)
        n = self.exchange.run(until_ns, want, rows, self._report)
        rows = rows[:n]
        self.counts.rows += n
        if self._left is not None:
            self._left -= n
        if n:
            self._seen = int(rows["ts"][-1])
        if until_ns < 2**62:
            self._seen = max(self._seen, until_ns)
        shown, reasons = self._screen.show(rows)
        self.counts.events += len(shown)
        self.counts.quarantined.update(reasons)
        return shown
