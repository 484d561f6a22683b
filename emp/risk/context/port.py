"""The port of context providers: each says in which spans of time it multiplies size, by how much, and why.

    windows = provider.windows(instrument, from_ns, to_ns)
    now = in_force(windows, ts, to_ns)       # multiplier, reason, and until when

What holds at an instant depends on that instant alone, never on when it was asked for: so a replay, a live run and a
run that goes on after a kill find the same. Of several that hold at once the smallest multiplier counts.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from emp.core.instrument import Instrument

MULTIPLIERS = (0.0, 0.3, 1.0)
"""What size may be multiplied by (D.4.1)."""

SAFE = 0.3
"""What holds while a provider is stale or fails."""

FOREVER_NS = 2**62
"""An end that is never reached, ns UTC."""


class Window(NamedTuple):
    """A span [start_ns, end_ns) of market time, ns UTC, in which size is multiplied."""

    start_ns: int
    end_ns: int
    multiplier: float
    reason: str


class InForce(NamedTuple):
    """What holds at an instant, and until when nothing else can hold."""

    multiplier: float
    reason: str  # "" where the multiplier is 1
    until_ns: int


class ContextProvider(Protocol):
    """Whoever knows something of the slow context."""

    @property
    def failure(self) -> str:
        """Why it is on the safe side now, in one line; "" where it is not."""
        ...

    def windows(self, instrument: Instrument, from_ns: int, to_ns: int) -> Sequence[Window]:
        """Every window of an instrument that overlaps [from_ns, to_ns), with its true ends, in any order.

        A window may rest only on what was known at its start.
        """
        ...

    def refresh(self) -> bool:
        """Look again at what it rests on, where that may change; whether its windows may be others now."""
        ...


def in_force(windows: Iterable[Window], ts_ns: int, until_ns: int) -> InForce:
    """What holds at `ts_ns`: the smallest multiplier, with the reasons of all windows that have it.

    `until_ns` of the answer is the next edge of any window, `until_ns` at most: the multiplier may be the same there.
    """
    lowest, reasons = 1.0, set[str]()
    for window in windows:
        if window.start_ns <= ts_ns < window.end_ns:
            until_ns = min(until_ns, window.end_ns)
            if window.multiplier < lowest:
                lowest, reasons = window.multiplier, set()
            if window.multiplier == lowest < 1.0:
                reasons.add(window.reason)
        elif ts_ns < window.start_ns < window.end_ns:
            until_ns = min(until_ns, window.start_ns)
    return InForce(lowest, "; ".join(sorted(reasons)), until_ns)
