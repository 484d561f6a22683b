"""The market data of a Kafka as a market: `MarketFeed`, and for paper orders a `MarketAccess` that takes none."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import structlog

from emp.access.kafka.follow import Follower, Part, warm_up
from emp.access.kafka.port import Lost, Reader, Taken
from emp.access.port import HearsOld, LinkState, ReadCounts, Sink
from emp.access.pump import Pump
from emp.core.approval import Cleared
from emp.core.clock import Clock
from emp.core.codes import Quarantine
from emp.core.contracts import OrderUpdate, VenuePosition
from emp.core.errors import DataError, VenueError
from emp.core.instrument import Instrument
from emp.core.market_topic import Cursor, partition_of

LOOK_S = 1.0
"""Between two questions whether Kafka answers."""

ASK_AGAIN_NS = 60_000_000_000
"""After which a run of which no mirror had said what it counts in is asked for again."""

log = structlog.get_logger("emp.access.kafka")


class KafkaFeed:
    """See the module's docstring. What is older than `limit_ms` when it comes is told as old: nothing is opened on it.

    `history_s` of the topic's past are read at a start. The connection that `link` tells of is up while Kafka answers.
    """

    def __init__(
        self,
        make_reader: Callable[[], Reader],
        clock: Clock,
        *,
        limit_ms: float,
        history_s: float = 0.0,
        look_s: float = LOOK_S,
        host: str | None = None,
    ) -> None:
        """`host` is that of the venue whose recorders are followed; None: any."""
        self._make_reader = make_reader
        self._clock = clock
        self._limit_ns = int(limit_ms * 1e6)
        self._history_s = history_s
        self._look_s = look_s
        self.host = host
        self._known: tuple[int, ...] = ()
        self._pump = Pump(self._read)
        self._watch: asyncio.Task[None] | None = None
        self._reader: Reader | None = None
        self._follower: Follower | None = None
        self._sink: HearsOld | None = None
        self._told: Counter[Quarantine] = Counter()
        self._behind = False
        self._asked_ns = 0
        self.bad_cursors = 0  # that could not be read
        self._unreadable: set[str] = set()  # runs of which the log has told that

    @property
    def counts(self) -> ReadCounts:
        """Where every record of our instruments went; `merged` are those of runs that are not followed."""
        return ReadCounts() if self._follower is None else self._follower.counts

    def begin_after(self, known: Sequence[int]) -> None:
        """As the port."""
        self._known = tuple(known)

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Find the instruments' partitions and begin to read; VenueError with one clear line when that fails."""
        if not isinstance(sink, HearsOld):
            raise TypeError("market data from Kafka may be old: its receiver must hear of that")
        self._follower = Follower(instruments, self.host)
        self._follower.begin_after(self._known)
        warm_up(len(instruments))
        self._reader = reader = self._make_reader()
        keys = [one.name.encode() for one in instruments]
        since = None
        if self._history_s:
            since = max(
                self._clock.now_ns() // 1_000_000 - int(self._history_s * 1e3),
                min(self._known, default=0) // 1_000_000,
            )
        try:
            self._partitions = await asyncio.to_thread(reader.open, keys, since)
        except BaseException:
            self._reader = None
            await asyncio.to_thread(reader.close)  # may wait, and FIX sessions beat on this loop
            raise
        self._places = [partition_of(key, self._partitions) for key in keys]
        self._sink = sink
        sink.link(LinkState(channel="market", up=True))
        self._pump.start(sink)
        self._watch = asyncio.create_task(self._look(reader, sink), name="kafka")

    async def _read(self, sink: Sink) -> None:
        """Push what is read, as far as there is room."""
        reader, follower = self._reader, self._follower
        assert reader is not None
        assert follower is not None
        while True:
            for one in _stretches(await asyncio.to_thread(reader.take)):
                if isinstance(one, Lost):
                    self._missed(follower, one)
                else:
                    await self._follow(reader, follower, one)
            self._say_quarantined(follower)
            await sink.ready()

    def _missed(self, follower: Follower, lost: Lost) -> None:
        follower.invalidate([i for i, place in enumerate(self._places) if place == lost.partition])
        log.warning("records are lost", partition=lost.partition, why=lost.why)

    async def _follow(self, reader: Reader, follower: Follower, messages: Sequence[Taken]) -> None:
        """Tell what records make, once it is known in which ticks and lots their runs count."""
        read = follower.read(messages)
        now = self._clock.monotonic_ns()
        if now - self._asked_ns > ASK_AGAIN_NS:
            self._asked_ns = now
            follower.forget_unsaid()
        for run in follower.fresh_runs(read):
            follower.learn(run, await self._cursor(reader, run))
        for part in follower.take(read, self._clock.now_ns(), self._limit_ns):
            self._tell(part)

    async def _cursor(self, reader: Reader, run: str) -> Cursor | None:
        """What a mirror has said of a run; one that cannot be read is none."""
        try:
            return await asyncio.to_thread(reader.cursor, run)
        except DataError as error:
            self.bad_cursors += 1
            if run not in self._unreadable:
                self._unreadable.add(run)
                log.warning("the cursor of a run cannot be read", run=run, why=str(error)[:200])
            return None

    def _tell(self, part: Part) -> None:
        assert self._sink is not None
        if part.age_ns:
            self._sink.old(part.rows, part.age_ns)
        else:
            self._sink.events(part.rows)
        if self._behind != bool(part.age_ns):
            self._behind = bool(part.age_ns)
            log.warning("behind" if self._behind else "caught up", age_s=round(part.age_ns / 1e9, 3))

    def _say_quarantined(self, follower: Follower) -> None:
        """One line at the first, tenth, hundredth ... record of a reason."""
        for reason, n in follower.quarantined.items():
            if n >= 10 * self._told[reason]:
                self._told[reason] = n
                log.warning(
                    "records quarantined", reason=reason.name.lower(), n=n, newest=follower.newest[reason]
                )

    async def _look(self, reader: Reader, sink: Sink) -> None:
        """Tell when Kafka does not answer any more, and when it does again."""
        attempt = 0
        while True:
            await asyncio.sleep(self._look_s)
            partitions, why = await asyncio.to_thread(reader.ask)
            if partitions and partitions != self._partitions:
                was = self._partitions
                sink.ended(
                    VenueError(f"kafka: the topic has {partitions} partitions now, not {was}: start again")
                )
                return
            if not partitions:
                attempt += 1
                down = LinkState(channel="market", up=False, reason=why, attempt=attempt, cause="unanswered")
                sink.link(down)
            elif attempt:
                attempt = 0
                sink.link(LinkState(channel="market", up=True))

    def filled(self, instrument: str, px: int) -> None:
        """An order of ours has filled at `px` ticks."""
        if self._follower is not None:
            self._follower.filled(instrument, px)

    def send(self, cleared: Cleared) -> None:
        """Refuse: Kafka carries market data alone."""
        raise VenueError("kafka: takes no orders")

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """Return nothing."""
        return []

    async def positions(self) -> Sequence[VenuePosition]:
        """Return nothing."""
        return []

    async def close(self) -> None:
        """Stop reading, and let go of the connections."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None
        await self._pump.stop()
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await asyncio.to_thread(reader.close)


def _stretches(found: Sequence[Taken | Lost]) -> Iterator[Lost | list[Taken]]:
    """What was read, cut where records are lost."""
    waiting: list[Taken] = []
    for one in found:
        if isinstance(one, Taken):
            waiting.append(one)
            continue
        yield waiting
        yield one
        waiting = []
    yield waiting
