"""A market watched for days: its events journalled as a recording, and nothing else.

    feed -> sink.events -> bus (order guard, bounded queue) -> taps (market journal, view)

There is no engine, no ledger and no order here, and the feed has no way to take one. Connections come and go as in live
trading; what was missed in between shows as `GAP` in the events.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from emp.access.port import LinkState, MarketFeed
from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.contracts import DegradedMode, OrderUpdate, OwnerAction
from emp.core.errors import UsageError, VenueError
from emp.core.instrument import Instrument
from emp.core.records import DECISION, MARKET_STATE, Array
from emp.engine.control_socket import ControlSocket
from emp.engine.ending import Ending, cancelled
from emp.engine.tap import Taps
from emp.observe.board import Board
from emp.observe.brief import brief

BATCH = 256
TICK_S = 0.02

_log = structlog.get_logger(__name__)


class Observer(Ending):
    """One market feed and its `Sink`; `run` returns when it has ended in order."""

    def __init__(
        self,
        *,
        feed: MarketFeed,
        instruments: Sequence[Instrument],
        bus: EventBus,
        taps: Taps,
        board: Board,
        clock: Clock,
        folder: Path | None = None,
    ) -> None:
        """`folder` is the run's, where its owner finds the control socket; without one there is none."""
        super().__init__(board)
        self._feed = feed
        self._instruments = tuple(instruments)
        self._bus = bus
        self._taps = taps
        self._clock = clock
        self.connected = asyncio.Event()
        self._states = np.zeros(BATCH, MARKET_STATE)
        self._rows = np.zeros(0, DECISION)
        self._laps = np.zeros((0, 3), np.int32)
        names = tuple(one.name for one in instruments)
        self._socket = (
            None if folder is None else ControlSocket(folder, names, self.ask, lambda: brief(board))
        )

    # --- the sink -------------------------------------------------------------------------------------------

    def events(self, rows: Array) -> None:
        """Queue EVENT rows."""
        with self._surviving():
            self._bus.publish(rows)

    def old(self, rows: Array, age_ns: int) -> None:
        """The same of rows that were long on their way: a recording has room for them."""
        self.events(rows)

    def report(self, update: OrderUpdate) -> None:
        """Whatever is said of orders is of somebody else's."""

    def link(self, state: LinkState) -> None:
        """A connection came up or went down."""
        with self._surviving():
            self._taps.link(state)
            self._say_link(state)

    def ended(self, error: Exception | None) -> None:
        """The market is over, or lost."""
        if error is not None:
            self._fail(error)
        else:
            _log.info("the market has ended")
        self._stop.set()

    async def ready(self) -> None:
        """Return when there is room."""
        while not self._stop.is_set() and not (self._bus.room and self._taps.room):
            await asyncio.sleep(TICK_S / 4)

    # --- the owner ------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End in order; to be called on the loop."""
        self._stop.set()

    def ask(self, action: OwnerAction, reason: str, instrument: str) -> str:
        """What the owner asks through the control socket; UsageError for whatever is about trading."""
        if action != "stop":
            raise UsageError(
                f"{action}: this run observes; nothing is traded here, and it can only be stopped"
            )
        _log.warning("control input", action=action, reason=reason)
        self.stop()
        return "stop: the recording is closed"

    def ignored(self, what: str) -> None:
        """Something was asked for that makes no sense here."""
        _log.warning("ignored: this run observes, nothing is traded here", what=what)

    # --- the run --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect and journal until stopped; raise what forced the end."""
        tasks: list[asyncio.Task[None]] = []
        try:
            if self._socket is not None:
                await self._socket.start()
            tasks = [asyncio.create_task(self._serve()), asyncio.create_task(self._tick())]
            await self._unless_over(self._feed.connect(self._instruments, self))
            if not self._stop.is_set():
                self.connected.set()
                _log.info("connected", instruments=[one.name for one in self._instruments])
            await self._stop.wait()
        finally:
            await self._close(tasks)
            if self._failure is not None:
                raise self._failure

    async def _close(self, tasks: "Sequence[asyncio.Task[None]]") -> None:
        if self._socket is not None:
            await self._socket.close()
        with self._surviving(), contextlib.suppress(VenueError):
            await self._feed.close()
        with self._surviving():
            while self._serve_market():  # what has arrived is kept
                await asyncio.sleep(0)
        await cancelled(*tasks)
        with self._surviving():
            await asyncio.to_thread(self._taps.close)

    async def _serve(self) -> None:
        with self._surviving():
            while True:
                await self._bus.wait()
                while self._serve_control() or self._serve_market():
                    await asyncio.sleep(0)

    async def _tick(self) -> None:
        with self._surviving():
            while True:
                self._bus.check()
                if not self._bus.empty:
                    self._bus.wake()  # what was left while the journal had no room
                self._taps.tick(self._clock.now_ns())
                if self._taps.failure is not None:
                    raise self._taps.failure
                await asyncio.sleep(TICK_S)

    def _serve_control(self) -> bool:
        message = self._bus.next_control()
        if message is None:
            return False
        if isinstance(message, DegradedMode):
            _log.warning("degraded" if message.active else "recovered", reason=message.reason)
            self._taps.message(message)
        return True

    def _serve_market(self) -> bool:
        """Hand one batch to the taps; whether there was one and they had room for it."""
        waiting = self._bus.peek(BATCH) if self._taps.room else None
        if waiting is None:
            return False
        instrument, events = waiting
        lag_ms = self._bus.lag_ms(instrument)
        self._taps.batch(events, self._states[: len(events)], self._rows, self._laps, lag_ms)
        self._bus.release(instrument, len(events))
        return True
