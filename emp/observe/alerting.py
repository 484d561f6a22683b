"""Sends alerts: one thread looks at the board once a second, one per receiver delivers. Trading waits for none of them.

What a receiver does not take is tried again, later and later; of one condition only the newest message waits, and a
condition that is over before anybody could be told of it is not told at all. So what waits is bounded by how many
conditions there are.
"""

import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from emp.core.background import Repeated, background
from emp.core.clock import Clock
from emp.observe.alert_log import AlertLog, Told
from emp.observe.alerts import Alert
from emp.observe.receivers import Origin, Receiver, UndeliveredError

LOOK_S = 1.0
RETRY_S = 1.0
"""Pause after a message was not taken; doubled each time."""

LONGEST_PAUSE_S = 60.0
TELL_AFTER_S = 60.0
"""How long a receiver must have taken nothing before the board says so."""

_log = structlog.get_logger(__name__)


class Watched(Protocol):
    """What alerts are about."""

    def holding(self, said: Collection[str]) -> list[Alert]:
        """Every condition that holds now; `said` are the keys of those that were told and not taken back."""

    def origin(self) -> Origin:
        """Where they come from."""

    def unreached(self, receiver: str, why: str) -> None:
        """Take note that a receiver takes nothing; "": that it does again."""


class Outbox:
    """What one receiver has not been told yet."""

    def __init__(self, receiver: Receiver, watched: Watched, clock: Clock) -> None:
        self.sent = 0
        self.lost = 0  # refused for good
        self._receiver, self._watched, self._clock = receiver, watched, clock
        self._lock = threading.Lock()
        self._waiting: dict[str, Told] = {}
        self._handing_over: Told | None = None
        self._due_s = 0.0
        self._pause_s = RETRY_S
        self._failing_since_s: float | None = None

    @property
    def name(self) -> str:
        """Whose it is."""
        return self._receiver.name

    def put(self, told: Told) -> None:
        """Let it be delivered; callable from any thread."""
        with self._lock:
            before = self._waiting.pop(told.alert.key, None)
            unknown = before is not None and before.status == "firing" and before is not self._handing_over
            if told.status == "resolved" and unknown:
                return  # nobody knows that it held
            self._waiting[told.alert.key] = told

    def step(self, last: bool) -> bool:
        """Deliver what is due; the last time everything is tried once more."""
        while (last or self._now_s() >= self._due_s) and (told := self._next()):
            now_s = self._now_s()
            try:
                self._receiver.deliver(told, self._watched.origin())
            except UndeliveredError as error:
                self._failed(told, error, now_s)
                if not error.for_good:
                    break
            else:
                self._delivered(told)
            finally:
                self._handing_over = None
        return True

    def _next(self) -> Told | None:
        with self._lock:
            self._handing_over = next(iter(self._waiting.values()), None)
            return self._handing_over

    def _done(self, told: Told) -> None:
        with self._lock:
            if self._waiting.get(told.alert.key) is told:
                del self._waiting[told.alert.key]

    def _delivered(self, told: Told) -> None:
        self._done(told)
        self.sent += 1
        self._due_s, self._pause_s, self._failing_since_s = 0.0, RETRY_S, None
        self._watched.unreached(self.name, "")

    def _failed(self, told: Told, error: UndeliveredError, now_s: float) -> None:
        _log.warning("an alert was not taken", receiver=self.name, alert=told.alert.key, why=str(error))
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if error.for_good:
            self.lost += 1
            self._done(told)
        else:
            self._due_s = self._now_s() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if error.for_good or now_s - self._failing_since_s >= TELL_AFTER_S:
            self._watched.unreached(self.name, str(error))

    def _now_s(self) -> float:
        return self._clock.monotonic_ns() / 1e9


class Alerting:
    """Watches something for as long as it lasts, and tells."""

    def __init__(
        self, watched: Watched, receivers: Sequence[Receiver], clock: Clock, path: Path | None = None
    ) -> None:
        """`path` is the file of what was said."""
        self._watched, self._clock = watched, clock
        self._log = AlertLog(path)
        self.outboxes = [Outbox(one, watched, clock) for one in receivers]
        self._threads: list[Repeated] = []

    def start(self) -> None:
        """Begin to look."""
        every = background().every
        self._threads = [every(LOOK_S, self.step, "alerts")]
        self._threads += [every(0.25, box.step, f"alerts {box.name}") for box in self.outboxes]
        for thread in self._threads:
            thread.start()

    def stop(self, last: Sequence[Alert] = (), *, over: bool = True) -> None:
        """Look no more. `over`: what was watched has ended in order, and nothing that was told holds any longer.

        `last` is told after that, and never taken back. Whatever waits is tried once more.
        """
        if self._threads:
            self._threads[0].stop()
        if over:
            self.take_back()
        self._put(self._look(last) if last else [])
        for thread in self._threads[1:]:
            thread.stop()

    def take_back(self) -> None:
        """Nothing that was told holds any longer; what holds all the same is told anew at the next look."""
        self._put(self._log.end(self._clock.now_ns()))

    def step(self, last: bool) -> bool:
        """Look once."""
        if not last:
            self._put(self._look(self._watched.holding(self._log.said)))
        return True

    def _look(self, holding: Sequence[Alert]) -> list[Told]:
        return self._log.look(holding, self._clock.monotonic_ns() / 1e9, self._clock.now_ns())

    def _put(self, told: Sequence[Told]) -> None:
        for one in told:
            for box in self.outboxes:
                box.put(one)
