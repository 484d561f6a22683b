"""What watches an observed market: the journal that becomes a recording by day, and the view behind the console."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from emp.access.port import LinkState
from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.codes import Quarantine
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.core.sessions import DAY_NS
from emp.engine.hours import Hours
from emp.engine.tap import Batch, Tap
from emp.engine.view import VIEW_NS
from emp.engine.view_parts import levels, link_view, money_of
from emp.journal.market import MarketJournal
from emp.observe.board import Board, InstrumentView, LinkView, View


class DayJournal(Tap):
    """Writes EVENT rows into a market journal per UTC day: FOLDER/2026-11-27/part-00000.parquet, and so on.

    A day that is over is closed and complete. Of the day that runs, all but the last `flush_s` is on disk.
    """

    name = "market journal"
    lossless = True

    def __init__(self, folder: Path, instruments: Sequence[Instrument], clock: Clock, flush_s: float) -> None:
        self._folder = folder
        self._instruments = list(instruments)
        self._clock = clock
        self._flush_ns = int(flush_s * 1e9)
        self._flushed_at = clock.monotonic_ns()
        self._day = -1
        self._journal: MarketJournal | None = None
        self.events = 0
        self.days: list[str] = []

    def on_batch(self, batch: Batch) -> None:
        """Take events in; those of a new day begin its folder."""
        events = batch.events
        while len(events):
            days = events["ts"] // DAY_NS
            later = np.flatnonzero(days > self._day)
            first = int(later[0]) if len(later) else len(events)
            self._append(events[:first])
            events = events[first:]
            if len(events):
                self._begin(int(events["ts"][0]) // DAY_NS)

    def _append(self, events: Array) -> None:
        if self._journal is not None and len(events):
            self._journal.append(events)
            self.events += len(events)

    def _begin(self, day: int) -> None:
        if self._journal is not None:
            self._journal.close()
        self._day = day
        name = datetime.fromtimestamp(day * (DAY_NS // 1_000_000_000), UTC).strftime("%Y-%m-%d")
        self.days.append(name)
        self._journal = MarketJournal(self._folder / name, self._instruments)

    def on_tick(self, now_ns: int) -> None:
        """Make what has come durable where it is time."""
        now = self._clock.monotonic_ns()
        if self._journal is not None and now - self._flushed_at >= self._flush_ns:
            self._flushed_at = now
            self._journal.checkpoint()

    def close(self) -> None:
        """Write what is left."""
        if self._journal is not None:
            self._journal.close()


class ObserverView(Tap):
    """Publishes a `View` of an observed market on the board every VIEW_NS of the clock."""

    name = "view"

    def __init__(
        self,
        run: str,
        instruments: Sequence[Instrument],
        bus: EventBus,
        clock: Clock,
        board: Board,
        stale_after_ms: float,
    ) -> None:
        self._run = run
        self._instruments = tuple(instruments)
        self._bus = bus
        self._clock = clock
        self._board = board
        self._stale_after_ms = stale_after_ms
        self._started_ns = clock.now_ns()
        n = len(self._instruments)
        self._at_ns = [clock.monotonic_ns()] * n  # when the newest event came
        self._events = [0] * n
        self._last = [(0, 0, 0)] * n  # market time, bid, ask
        self._books: list[Array | None] = [None] * n
        self._waited_ms = 0.0
        self._hours = Hours(self._instruments)
        self._links: dict[str, LinkView] = {}
        self._missed = 0
        self._published_at = 0

    def on_batch(self, batch: Batch) -> None:
        """Note the newest of each instrument."""
        self._waited_ms = max(self._waited_ms, batch.wait_ms)
        for i in range(len(self._instruments)):
            mine = batch.events[batch.events["instrument"] == i]
            if len(mine):
                last = mine[-1]
                self._events[i] += len(mine)
                self._at_ns[i] = self._clock.monotonic_ns()
                self._books[i] = last.copy()
                self._last[i] = int(last["ts"]), int(last["bid_px"][0]), int(last["ask_px"][0])

    def on_link(self, state: LinkState) -> None:
        """Note how a connection is."""
        self._links[state.channel] = link_view(self._links.get(state.channel), state, self._clock.now_ns())

    def on_missed(self, messages: int) -> None:
        """Say that the view is incomplete."""
        self._missed += messages

    def on_tick(self, now_ns: int) -> None:
        """Publish a view where one is due."""
        now = self._clock.monotonic_ns()
        if now - self._published_at >= VIEW_NS:
            self._published_at = now
            self._board.publish(self.view())

    def close(self) -> None:
        """Publish the last view."""
        self._board.publish(self.view())

    def view(self) -> View:
        """The market as it is now."""
        found = View(
            mode="observe",
            run=self._run,
            model="",
            now_ns=self._clock.now_ns(),
            started_ns=self._started_ns,
            instruments=tuple(self._instrument(i, one) for i, one in enumerate(self._instruments)),
            links=dict(self._links),
            missed=self._missed,
        )
        self._waited_ms = 0.0
        return found

    def _instrument(self, i: int, instrument: Instrument) -> InstrumentView:
        ts, bid, ask = self._last[i]
        counts = self._bus.counts(i)
        drops = {reason.name.lower(): n for reason, n in counts.quarantined.items()}
        if counts.conflated:
            drops[Quarantine.OVERFLOW.name.lower()] = counts.conflated
        now = self._clock.now_ns()
        stale_ms = self._hours.silent_ms(i, now, now - (self._clock.monotonic_ns() - self._at_ns[i]))
        book = self._books[i]
        bids, asks = ((), ()) if book is None else levels(book)
        money, currency = money_of(instrument)
        return InstrumentView(
            name=instrument.name,
            tick=instrument.tick,
            bid=bid,
            ask=ask,
            last_ts=ts,
            events=self._events[i],
            queue_depth=self._bus.depth(i),
            event_lag_ms=max(self._waited_ms, self._bus.lag_ms(i)),
            drops=drops,
            degraded=self._bus.degraded(i),
            stale_ms=stale_ms,
            stale=stale_ms > self._stale_after_ms,
            bids=bids,
            asks=asks,
            money_per_tick=money,
            currency=currency,
        )
