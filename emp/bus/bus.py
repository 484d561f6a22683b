"""The event bus: what has happened reaches the engine in order, and never without bound.

Market data is EVENT rows in one bounded ring per instrument (`emp.bus.queue`), behind the ordering guard
(`emp.bus.order`). Order updates, risk breaches and degraded mode have a queue of their own, which is
lossless, first in first out, and served before any market data.

A queue that passes its bound, or whose oldest event passes its age limit, publishes `degraded_mode`; the
engine trades size 0 until the queue has recovered: at most half full, its oldest event younger than half the
limit, and the limit's time passed since. Everything runs on one event loop and one consumer reads.
"""

import asyncio
import logging
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from emp.bus.order import GUARD
from emp.bus.queue import QUEUE, offer
from emp.core.clock import Clock
from emp.core.codes import Quarantine
from emp.core.contracts import DegradedMode, MarketDataUpdate, Message, OrderUpdate, RiskBreach
from emp.core.records import EVENT, Array

ControlMessage = OrderUpdate | RiskBreach | DegradedMode

SAMPLES = 20
"""Refused events kept per instrument and reason."""

_log = logging.getLogger(__name__)


class QueueCounts(msgspec.Struct, frozen=True):
    """Where an instrument's events went: received == delivered + conflated + sum of quarantined + waiting."""

    received: int
    delivered: int
    conflated: int
    waiting: int
    quarantined: dict[Quarantine, int]
    gaps: int
    netted_lots: int
    high_water: int


class EventBus:
    """See the module's docstring. Instruments are named by their index in `instruments`, as in EVENT rows."""

    def __init__(
        self,
        instruments: Sequence[str],
        *,
        queue_bound: int,
        max_age_ms: float,
        clock: Clock,
        contiguous: bool = False,
    ) -> None:
        n = len(instruments)
        self.instruments = tuple(instruments)
        self._clock = clock
        self._max_age_ns = int(max_age_ms * 1e6)
        self._bound = queue_bound
        self._queues = np.zeros(n, QUEUE)
        self._queues["bound"] = queue_bound
        self._guards = np.zeros(n, GUARD)
        self._guards["contiguous"] = contiguous
        self._rings = np.zeros((n, queue_bound), EVENT)
        self._stamps = np.zeros((n, queue_bound), np.int64)
        self._head, self._count = self._queues["head"], self._queues["count"]
        self._conflated, self._delivered = self._queues["conflated"], self._queues["delivered"]
        self._reasons = np.zeros(queue_bound, np.int8)
        self._quarantined = np.zeros((n, len(Quarantine)), np.int64)
        self._samples: dict[tuple[int, Quarantine], list[Array]] = {}
        self._degraded_since: list[int | None] = [None] * n
        self._control: deque[ControlMessage] = deque()
        self._handlers: dict[str, list[Callable[[Any], None]]] = {}
        self._last_served = n - 1
        self._wake = asyncio.Event()
        self._compile()

    def _compile(self) -> None:
        """Compile the queue's kernel now, not on the first event."""
        offer(self._queues, self._guards, self._rings, self._stamps, 0, np.zeros(0, EVENT), 0, self._reasons)

    # --- publishing -------------------------------------------------------------------------------------

    async def publish_async(self, message: Array | ControlMessage) -> None:
        """Publish EVENT rows [n] (topic market_data_update) or one control message; never blocks."""
        self.publish(message)

    async def emit(self, message: Array | ControlMessage) -> None:
        """Deprecated name of `publish_async`."""
        warnings.warn("EventBus.emit is deprecated: call publish_async", DeprecationWarning, stacklevel=2)
        await self.publish_async(message)

    def publish(self, message: Array | Message, lain_ns: int = 0) -> None:
        """What `publish_async` does, for callbacks that cannot await. `lain_ns` is how long market data may have waited
        already, where nobody could read them: their age counts from then.
        """
        if isinstance(message, np.ndarray):
            self._publish_events(message, lain_ns)
        elif not isinstance(message, MarketDataUpdate):
            self._control.append(message)
        self._wake.set()

    def wake(self) -> None:
        """Let `wait` return, though nothing new was published."""
        self._wake.set()

    def _publish_events(self, events: Array, lain_ns: int) -> None:
        if not len(events):
            return
        named = events["instrument"]
        first = int(named[0])
        if len(events) == 1 or (named == first).all():
            self._offer(first, events, lain_ns)
            return
        for instrument in np.unique(named):
            self._offer(int(instrument), events[named == instrument], lain_ns)

    def _offer(self, instrument: int, events: Array, lain_ns: int) -> None:
        if not 0 <= instrument < len(self.instruments):
            raise ValueError(f"instrument index must be below {len(self.instruments)}, was {instrument}")
        if len(events) > len(self._reasons):
            self._reasons = np.zeros(len(events), np.int8)
        merged = self._conflated.item(instrument)
        now = self._clock.monotonic_ns()
        came = now - lain_ns
        admitted = offer(
            self._queues, self._guards, self._rings, self._stamps, instrument, events, came, self._reasons
        )
        if admitted < len(events):
            self._keep_refused(instrument, events)
        if self._conflated.item(instrument) > merged:
            self._degrade(instrument, "queue_bound", self._bound, self.lag_ms(instrument), now)

    def _keep_refused(self, instrument: int, events: Array) -> None:
        reasons = self._reasons[: len(events)]
        for row in np.flatnonzero(reasons):
            reason = Quarantine(int(reasons[row]))
            self._quarantined[instrument, reason] += 1
            kept = self._samples.setdefault((instrument, reason), [])
            if len(kept) < SAMPLES:
                kept.append(events[row : row + 1].copy())

    # --- subscribing ------------------------------------------------------------------------------------

    def watched(self, topic: str) -> bool:
        """Whether anyone subscribes to a topic."""
        return bool(self._handlers.get(topic))

    def subscribe(self, topic: str, handler: Callable[[Any], None]) -> Callable[[], None]:
        """Call `handler` with each message of a topic when it is delivered; return what ends that.

        Topics are those of `emp.core.contracts`. A handler only observes: when it raises, the
        error is logged and everything goes on.
        """
        handlers = self._handlers.setdefault(topic, [])
        handlers.append(handler)
        return lambda: handlers.remove(handler)

    def _tell(self, topic: str, message: object) -> None:
        for handler in tuple(self._handlers.get(topic, ())):
            try:
                handler(message)
            except Exception:
                _log.exception("a subscriber of %s failed", topic)

    # --- consuming --------------------------------------------------------------------------------------

    async def wait(self) -> None:
        """Return when something has been published since the last return."""
        await self._wake.wait()
        self._wake.clear()

    def next_control(self) -> ControlMessage | None:
        """Take the oldest control message; the consumer empties this queue before each look at market data."""
        if not self._control:
            return None
        message = self._control.popleft()
        self._tell(message.topic, message)
        return message

    def next_reports(self) -> list[OrderUpdate]:
        """Take the reports that wait in front of any other control message, oldest first."""
        found: list[OrderUpdate] = []
        while self._control and isinstance(self._control[0], OrderUpdate):
            message = self._control.popleft()
            assert isinstance(message, OrderUpdate)
            self._tell(message.topic, message)
            found.append(message)
        return found

    def peek(self, limit: int) -> tuple[int, Array] | None:
        """Return the next instrument in turn that has events, and a view of up to `limit` of its oldest.

        The view is valid until the next publish; `release` says how many of them have been dealt with.
        """
        n = len(self.instruments)
        for step in range(1, n + 1):
            instrument = (self._last_served + step) % n
            count = self._count.item(instrument)
            if count:
                self._last_served = instrument
                head = self._head.item(instrument)
                return instrument, self._rings[instrument, head : min(head + min(count, limit), self._bound)]
        return None

    def release(self, instrument: int, n: int, states: Array | None = None) -> None:
        """Drop the `n` oldest events of an instrument: they have reached the engine.

        Subscribers of market_data_update see each of them, with its MARKET_STATE row where `states` [n], the states
        after the events, holds one that the event made.
        """
        count, head = self._count.item(instrument), self._head.item(instrument)
        if not 0 <= n <= count:
            raise ValueError(f"cannot release {n} events of {count}")
        if self.watched("market_data_update"):
            for i in range(n):
                event = self._rings[instrument, (head + i) % self._bound]
                made = states is not None and i < len(states) and states["seq"][i] == event["seq"]
                state = states[i : i + 1] if states is not None and made else None
                self._tell("market_data_update", as_update(event, self.instruments[instrument], state))
        self._head[instrument] = (head + n) % self._bound
        self._count[instrument] = count - n
        self._delivered[instrument] += n

    # --- back-pressure ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Look at the age of every queue: publish degraded_mode where one is too old or has recovered."""
        now = self._clock.monotonic_ns()
        for instrument, since in enumerate(self._degraded_since):
            lag_ns = self._lag_ns(instrument, now)
            depth = self.depth(instrument)
            if since is None:
                if lag_ns > self._max_age_ns:
                    self._degrade(instrument, "max_age", depth, lag_ns / 1e6, now)
            elif (
                depth <= self._bound // 2
                and lag_ns < self._max_age_ns // 2
                and now - since >= self._max_age_ns
            ):
                self._degraded_since[instrument] = None
                self._publish_degraded(instrument, "recovered", depth, lag_ns / 1e6, active=False)

    def overdue(self, instrument: int) -> bool:
        """Degrade an instrument whose oldest event has waited for too long, and say whether that was news: whoever is
        to decide on it must know first. The look at all queues comes seldomer than events do.
        """
        now = self._clock.monotonic_ns()
        lag_ns = self._lag_ns(instrument, now)
        if lag_ns <= self._max_age_ns or self.degraded(instrument):
            return False
        self._degrade(instrument, "max_age", self.depth(instrument), lag_ns / 1e6, now)
        return True

    def degrade(self, reason: str, lag_ms: float) -> None:
        """Degrade every instrument for a reason the queues cannot see, such as a blocked loop."""
        now = self._clock.monotonic_ns()
        for instrument in range(len(self.instruments)):
            self._degrade(instrument, reason, self.depth(instrument), lag_ms, now)

    def _degrade(self, instrument: int, reason: str, depth: int, lag_ms: float, now: int) -> None:
        newly = self._degraded_since[instrument] is None
        self._degraded_since[instrument] = now
        if newly:
            self._publish_degraded(instrument, reason, depth, lag_ms, active=True)

    def _publish_degraded(
        self, instrument: int, reason: str, depth: int, lag_ms: float, *, active: bool
    ) -> None:
        self.publish(
            DegradedMode(
                reason=reason,
                queue_depth=depth,
                lag_ms=lag_ms,
                instrument=self.instruments[instrument],
                active=active,
                ts=self._clock.now_ns(),
            )
        )

    # --- what is known ----------------------------------------------------------------------------------

    def degraded(self, instrument: int) -> bool:
        """Whether the instrument's queue has passed a limit and not recovered."""
        return self._degraded_since[instrument] is not None

    @property
    def empty(self) -> bool:
        """Whether no event waits."""
        return not self._count.any()

    @property
    def room(self) -> bool:
        """Whether every queue is less than half full."""
        return bool((self._count < self._bound // 2).all())

    def depth(self, instrument: int) -> int:
        """Events that wait."""
        return int(self._count[instrument])

    def lag_ms(self, instrument: int) -> float:
        """Age of the oldest event that waits; 0 where none does."""
        return self._lag_ns(instrument, self._clock.monotonic_ns()) / 1e6

    def _lag_ns(self, instrument: int, now: int) -> int:
        if not self._count.item(instrument):
            return 0
        return max(0, now - self._stamps.item(instrument, self._head.item(instrument)))

    def counts(self, instrument: int) -> QueueCounts:
        """Where the instrument's events went so far."""
        queue, guard = self._queues[instrument], self._guards[instrument]
        refused = self._quarantined[instrument]
        return QueueCounts(
            received=int(queue["received"]),
            delivered=int(queue["delivered"]),
            conflated=int(queue["conflated"]),
            waiting=int(queue["count"]),
            quarantined={Quarantine(int(r)): int(refused[r]) for r in np.flatnonzero(refused)},
            gaps=int(guard["gaps"]),
            netted_lots=int(queue["netted"]),
            high_water=int(queue["high_water"]),
        )

    def samples(self, instrument: int, reason: Quarantine) -> Sequence[Array]:
        """Return the first refused events of a reason, each one EVENT row [1]."""
        return tuple(self._samples.get((instrument, reason), ()))


def as_update(event: Any, instrument: str, state: Array | None = None) -> MarketDataUpdate:
    """The topic's payload of one EVENT record; an empty side has price and size 0."""
    levels = max(int(event["n_bid"]), int(event["n_ask"]))
    sides = ("bid_px", "bid_sz", "ask_px", "ask_sz")
    depth = tuple(tuple(int(event[side][level]) for side in sides) for level in range(levels))
    return MarketDataUpdate(
        instrument=instrument,
        bid=int(event["bid_px"][0]),
        ask=int(event["ask_px"][0]),
        bid_sz=int(event["bid_sz"][0]),
        ask_sz=int(event["ask_sz"][0]),
        depth=depth,  # type: ignore[arg-type]
        ts=int(event["ts"]),
        seq=int(event["seq"]),
        state=state,
    )
