"""Where the time of a training goes: seconds by stage, to be told with its result."""

from collections.abc import Iterator
from contextlib import contextmanager

from emp.core.clock import Clock, LiveClock


class Took:
    """Wall seconds by stage, in the order in which the stages began."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or LiveClock()
        self._ns: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done within to a stage; a stage met again goes on where it was."""
        began = self._clock.monotonic_ns()
        self._ns.setdefault(name, 0)
        try:
            yield
        finally:
            self._ns[name] += self._clock.monotonic_ns() - began

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, rounded to tenths."""
        return {name: round(ns / 1e9, 1) for name, ns in self._ns.items()}
