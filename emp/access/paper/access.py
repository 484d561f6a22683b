"""Paper trading behind the market-access port: a market's data, our orders filled by the paper venue.

`PaperAccess` takes its market data from another access, to which it never sends anything; `Playback` is such an
access for recordings, paced by a clock.
"""

import asyncio
from collections.abc import Sequence

from emp.access.paper.venue import PaperVenue
from emp.access.port import HearsOld, LinkState, MarketAccess, Resumes, Sink, Source
from emp.access.pump import Pump
from emp.access.together import Together
from emp.core.approval import Cleared, command_of
from emp.core.clock import Clock
from emp.core.contracts import OrderUpdate, VenuePosition
from emp.core.errors import VenueError
from emp.core.instrument import Instrument
from emp.core.records import Array, empty_events

_GRACE_NS = 1_000_000


class PaperAccess:
    """`MarketAccess` with real prices and paper fills; every event passes the venue before the engine.

    It is the `Sink` of the market that it takes its data from.
    """

    def __init__(self, market: MarketAccess, clock: Clock, *, speed: float = 1.0) -> None:
        self._market = market
        self._clock = clock
        self._speed = speed
        self._sink: Sink | None = None
        self._venues: dict[str, PaperVenue] = {}
        self._order: list[PaperVenue] = []
        self._books: list[Array] = []
        self._newest = (0, 0)  # market time of the newest event, and monotonic time when it came
        self._timers: set[asyncio.TimerHandle] = set()
        self._closed = False

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Connect the market and open an empty paper account."""
        self._order = [PaperVenue(one) for one in instruments]
        self._venues = {venue.instrument.name: venue for venue in self._order}
        self._books = [empty_events(1) for _ in instruments]
        for one in instruments:  # compile the venue now, not on the first event
            PaperVenue(one).step(empty_events(1)[0], empty_events(1)[0])
        self._sink = sink
        sink.link(LinkState(channel="trade", up=True))
        await self._market.connect(instruments, self)

    def begin_after(self, known: Sequence[int]) -> None:
        """As the port, of a market that may begin before now."""
        if isinstance(self._market, Resumes):
            self._market.begin_after(known)

    # --- the sink of the market

    def events(self, rows: Array) -> None:
        """Pass EVENT rows on one by one, each after the reports that are due by then."""
        for k in range(len(rows)):
            if not self._step(rows[k : k + 1]):
                return
            self._out.events(rows[k : k + 1])

    def old(self, rows: Array, age_ns: int) -> None:
        """The same of rows that were long on their way."""
        for k in range(len(rows)):
            if not self._step(rows[k : k + 1]):
                return
            out = self._out
            assert isinstance(out, HearsOld)
            out.old(rows[k : k + 1], age_ns)

    def _step(self, event: Array) -> bool:
        """Carry the venue over one EVENT row [1]; False where it has failed."""
        i = int(event["instrument"][0])
        try:
            due = self._order[i].step(self._books[i][0], event[0])
        except VenueError as error:  # never into the market's transport
            self._out.ended(error)
            return False
        self._tell(due)
        self._books[i][0] = event[0]
        self._newest = (int(event["ts"][0]), self._clock.monotonic_ns())
        return True

    def report(self, update: OrderUpdate) -> None:
        """The market knows no order of ours: what it says of one is somebody else's."""

    def link(self, state: LinkState) -> None:
        """Pass on how the market data is connected; our orders stay here."""
        if state.channel == "market":
            self._out.link(state)

    def ended(self, error: Exception | None) -> None:
        """Pass on that the market is over."""
        self._out.ended(error)

    async def ready(self) -> None:
        """Wait as the receiver wants it."""
        await self._out.ready()

    @property
    def _out(self) -> Sink:
        assert self._sink is not None
        return self._sink

    # --- our orders

    def send(self, cleared: Cleared) -> None:
        """Hand a command to the paper venue; it is answered in time even where no event follows."""
        command = command_of(cleared)
        venue = self._venues.get(command.instrument)
        if venue is None or self._closed:
            raise VenueError(
                f"paper venue: {'closed' if self._closed else 'no'} instrument {command.instrument}"
            )
        try:
            venue.send(command)
        except VenueError as error:
            self._out.ended(error)
            return
        delay_ns = int(venue.venue["entry_ns"][0] + venue.venue["report_ns"][0]) + _GRACE_NS
        timer: asyncio.TimerHandle

        def pass_time() -> None:
            self._timers.discard(timer)
            self._let_time_pass(venue)

        timer = asyncio.get_running_loop().call_later(delay_ns / 1e9 / self._speed, pass_time)
        self._timers.add(timer)

    def _let_time_pass(self, venue: PaperVenue) -> None:
        ts, at = self._newest
        now = ts + int((self._clock.monotonic_ns() - at) * self._speed)
        try:
            due = venue.advance(self._books[self._order.index(venue)][0], now)
        except VenueError as error:
            self._out.ended(error)
            return
        self._tell(due)

    def _tell(self, updates: Sequence[OrderUpdate]) -> None:
        for update in updates:
            self._out.report(update)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """Our orders that rest on paper."""
        return [update for venue in self._order for update in venue.open_orders()]

    async def positions(self) -> Sequence[VenuePosition]:
        """What we hold on paper."""
        return [venue.position() for venue in self._order]

    async def close(self) -> None:
        """Close the market."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        await self._market.close()
        self._closed = True


class Playback:
    """The market data of recordings, one per instrument, as a `MarketAccess`, at `speed` recorded seconds per second.

    It takes no orders: `PaperAccess` stands before it.
    """

    def __init__(self, sources: Sequence[Source], clock: Clock, *, speed: float = 1.0) -> None:
        self._recorded = Together(sources)
        self._clock = clock
        self._speed = speed
        self._pump = Pump(self._run)

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Check that the recordings are of the instruments asked for, in their order, and begin to play."""
        names = [one.name for one in instruments]
        held = [one.name for one in self._recorded.instruments]
        if names != held:
            raise VenueError(f"recording: holds {', '.join(held)} only, was asked for {', '.join(names)}")
        sink.link(LinkState(channel="market", up=True))
        self._pump.start(sink)

    async def _run(self, sink: Sink) -> None:
        """Push EVENT rows when their time has come, until the recordings end."""
        origin: tuple[int, int] | None = None
        batches = self._recorded.batches()
        # in a thread: unpacking and decoding a batch would keep the loop from beating
        while (rows := await asyncio.to_thread(next, batches, None)) is not None:
            for k in range(len(rows)):
                ts = int(rows["ts"][k])
                now = self._clock.monotonic_ns()
                if ts > 0:  # what has no stamp comes at once
                    origin = origin or (ts, now)
                    wait_ns = (ts - origin[0]) / self._speed - (now - origin[1])
                    await asyncio.sleep(max(0.0, wait_ns / 1e9))
                sink.events(rows[k : k + 1])

    def send(self, cleared: Cleared) -> None:
        """Refuse: what is recorded cannot be traded with."""
        raise VenueError("recording: takes no orders")

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """Return nothing."""
        return []

    async def positions(self) -> Sequence[VenuePosition]:
        """Return nothing."""
        return []

    async def close(self) -> None:
        """Stop playing."""
        await self._pump.stop()
