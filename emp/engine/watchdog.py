"""A thread that notices when the event loop is blocked, while it is blocked."""

import threading
from collections.abc import Callable

from emp.core.clock import Clock

LIMIT_MS = 300.0
"""Silence of the loop that counts as a stall; with the poll it is flagged within 350 ms."""

POLL_S = 0.02


class Watchdog:
    """Flags a loop that has not called `beat` for `limit_ms`.

    `on_stall(ms)` is called once per stall, from the watchdog's thread, while the loop is still blocked;
    `on_recovery()` when it beats again. The loop itself learns of it by `take_stall`.
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
        self._beat = clock.monotonic_ns()
        self._stalled_at: int | None = None
        self._undelivered_ms: float | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join()

    def beat(self) -> None:
        """Say that the loop turns; to be called from it every few tens of milliseconds."""
        self._beat = self._clock.monotonic_ns()

    def take_stall(self) -> float | None:
        """How long the loop was silent when the newest stall was flagged, once per stall; else None."""
        silent_ms, self._undelivered_ms = self._undelivered_ms, None
        return silent_ms

    def _watch(self) -> None:
        while not self._end.wait(POLL_S):
            silent_ns = self._clock.monotonic_ns() - self._beat
            if silent_ns > self._limit_ns and self._stalled_at is None:
                self._stalled_at = self._beat
                self._undelivered_ms = silent_ns / 1e6
                self._on_stall(silent_ns / 1e6)
            elif silent_ns <= self._limit_ns and self._stalled_at is not None:
                self._stalled_at = None
                self._on_recovery()
