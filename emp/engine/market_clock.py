"""Market time between events: the newest event's, and what has passed here since; unmoved by wall-clock steps."""

from emp.core.clock import Clock


class MarketClock:
    """What time it is in each market."""

    def __init__(self, instruments: int, clock: Clock) -> None:
        self._clock = clock
        self._seen: list[tuple[int, int] | None] = [
            None
        ] * instruments  # ts of the newest event, when it came

    def note(self, instrument: int, ts: int) -> None:
        """An event of market time `ts` has reached the engine."""
        self._seen[instrument] = (ts, self._clock.monotonic_ns())

    def seen(self, instrument: int) -> bool:
        """Whether any event has reached the engine: before, the market's time is not known."""
        return self._seen[instrument] is not None

    def now(self, instrument: int) -> int:
        """Market time now, ns UTC; before the first event the wall clock's."""
        seen = self._seen[instrument]
        if seen is None:
            return self._clock.now_ns()
        ts, at_ns = seen
        return ts + self._clock.monotonic_ns() - at_ns

    def newest(self) -> int:
        """Market time now, ns UTC: the newest of all markets."""
        return max(self.now(i) for i in range(len(self._seen)))
