"""A thread that notices when the event loop is blocked, while it is blocked."""

from collections.abc import Callable

from emp.core.background import background
from emp.core.clock import Clock

LIMIT_MS = 300.0
"""Silence of the loop that counts as a stall; with the poll it is flagged within 350 ms."""

HELD_MS = 60.0
"""A gap between two beats that is longer is time in which nothing was read from any socket."""

POLL_S = 0.02


class Watchdog:
    """Flags a loop that has not called `beat` for `limit_ms`.

    `on_stall(ms)` is called once per stall: from the watchdog's thread while the loop is still blocked, else by the
    beat that ends it; `on_recovery()` when it beats again. The loop itself learns of it by `take_stall`, and before it
    sends by `blocked`.
    """

    def __init__(
        self,
        clock: Clock,
        on_stall: Callable[[float], None],
        on_recovery: Callable[[], None],
        limit_ms: float = LIMIT_MS,
    ) -> None:
        self._clock = clock
        self._on_stall = on_stall
        self._on_recovery = on_recovery
        self._limit_ns = int(limit_ms * 1e6)
        self._beat = self._before = clock.monotonic_ns()
        self._watching = False
        self._noted: int | None = None  # the beat after which the loop was silent for too long
        self._undelivered_ms: float | None = None
        self._told = False  # a stall of which no recovery was told
        self._thread = background().every(POLL_S, self._watch, "watchdog")

    def start(self) -> None:
        """Begin to watch."""
        self._beat = self._before = self._clock.monotonic_ns()
        self._watching = True
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._watching = False
        self._thread.stop()

    def beat(self) -> None:
        """Say that the loop turns; to be called from it every few tens of milliseconds.

        What was silent until now is measured here too: after a SIGCONT, or a stall that ends between two looks of the
        thread, the loop may well come first.
        """
        self._measure()
        self._before, self._beat = self._beat, self._clock.monotonic_ns()

    def lain_ns(self) -> int:
        """How long what is read now may have lain in a socket: 0 while the loop turns as it should.

        What came during a gap is read behind its end, maybe behind the beat that ended it: both gaps count.
        """
        if not self._watching:
            return 0
        now, beat, before = self._clock.monotonic_ns(), self._beat, self._before
        held_ns = int(HELD_MS * 1e6)
        if beat - before > held_ns:
            return now - before
        return now - beat if now - beat > held_ns else 0

    def take_stall(self) -> float | None:
        """How long the loop was silent when the newest stall was noticed, once per stall; else None."""
        self._measure()
        silent_ms, self._undelivered_ms = self._undelivered_ms, None
        return silent_ms

    def blocked(self) -> bool:
        """Whether the loop is silent for too long by now: what it has decided rests on data that may be old."""
        return self._clock.monotonic_ns() - self._beat > self._limit_ns

    def _measure(self) -> None:
        """Note a stall that has not been noted yet."""
        beat = self._beat
        silent_ns = self._clock.monotonic_ns() - beat
        if silent_ns > self._limit_ns and self._noted != beat:
            self._noted = beat
            self._undelivered_ms = silent_ns / 1e6
            self._told = True
            self._on_stall(silent_ns / 1e6)

    def _watch(self, last: bool) -> bool:
        if not last:
            self._measure()
            if self._told and not self.blocked():
                self._told = False
                self._on_recovery()
        return True
