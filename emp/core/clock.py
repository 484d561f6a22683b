"""Time is injected. Only this file reads the machine's clocks."""

import time
from typing import Final, Protocol

_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class Clock(Protocol):
    """Wall time for stamps, monotonic time for durations and timers."""

    def now_ns(self) -> int:
        """Wall time, ns since the Unix epoch, UTC; may step."""

    def monotonic_ns(self) -> int:
        """Time that never goes back; its origin means nothing."""


class LiveClock:
    """The machine's clocks."""

    def now_ns(self) -> int:
        """Wall time in ns."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in ns."""
        return time.monotonic_ns()


class LeaseClock(LiveClock):
    """The machine's clocks for what must not outlast a promise to others, or is due by the hour: its monotonic time
    goes on while the machine sleeps (CLOCK_BOOTTIME), where the system has such a clock.
    """

    def monotonic_ns(self) -> int:
        """CLOCK_BOOTTIME in ns; CLOCK_MONOTONIC where there is none."""
        return time.clock_gettime_ns(_BOOTTIME) if _BOOTTIME is not None else time.monotonic_ns()


class SimClock:
    """A clock that stands still until told: replay, simulation, tests."""

    def __init__(self, now_ns: int = 0) -> None:
        self._wall = now_ns
        self._mono = 0

    def now_ns(self) -> int:
        """Wall time in ns."""
        return self._wall

    def monotonic_ns(self) -> int:
        """Monotonic time in ns: advances with `advance` and `set`, never with `step`."""
        return self._mono

    def advance(self, by_ns: int) -> None:
        """Let time pass."""
        if by_ns < 0:
            raise ValueError(f"time cannot pass backwards, was {by_ns}")
        self._wall += by_ns
        self._mono += by_ns

    def set(self, now_ns: int) -> None:
        """Move to a later wall time; an earlier one leaves the clock where it is."""
        self.advance(max(0, now_ns - self._wall))

    def step(self, by_ns: int) -> None:
        """Step the wall clock alone, as an NTP correction would."""
        self._wall += by_ns
