"""The latency guard: is the p99 of the steps just made above its limit?

The p99 of the last WINDOW steps is above a limit when more than one in a hundred of them, TRIP, took longer. So a
single stall of the machine, which makes one step long however long it lasts, never counts for more than one; and a
model that is always too slow is found out after TRIP + 1 events. What was too slow counts as fast again when no more
than CLEAR steps of the window are above any limit: between the two nothing changes.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array

WINDOW = 2_000
TRIP = WINDOW // 100
CLEAR = TRIP // 4

GUARD = np.dtype(
    [
        ("at", "i8"),  # where the next step is written
        ("filled", "i8"),
        ("over", "i8", (2,)),  # steps in the window above the limit: of the model, in all
        ("slow", "?"),
    ],
    align=True,
)


@kernel
def watch(g: Any, ring: Any, limits: Any, laps: Any) -> bool:
    """Take the laps of steps just made; return True where they made the guard trip.

    Args:
        g: GUARD record.
        ring: int32[WINDOW, 2], ns in the model and in all.
        limits: int64[2], ns.
        laps: int32[n, 3], ns in the adapter, the model and in all, as `engine.step` writes them.
    """
    tripped = False
    for row in range(laps.shape[0]):
        for k in range(2):
            if g.filled == WINDOW and ring[g.at, k] > limits[k]:
                g.over[k] -= 1
            ring[g.at, k] = laps[row, k + 1]
            if laps[row, k + 1] > limits[k]:
                g.over[k] += 1
        g.at = (g.at + 1) % WINDOW
        g.filled = min(g.filled + 1, WINDOW)
        worst = max(g.over[0], g.over[1])
        if worst > TRIP:
            tripped = tripped or not g.slow
            g.slow = True
        elif worst <= CLEAR:
            g.slow = False
    return tripped


class LatencyGuard:
    """Watches one model; `reset` when another takes over."""

    def __init__(self, model_ms: float, total_ms: float) -> None:
        self.limits_ms = (model_ms, total_ms)
        self._limits = np.array([model_ms * 1e6, total_ms * 1e6]).astype(np.int64)
        self._ring = np.zeros((WINDOW, 2), np.int32)
        self._guard = np.zeros(1, GUARD)
        self.watch(np.zeros((0, 3), np.int32))  # compile now, not on the first event

    def watch(self, laps: Array) -> bool:
        """Take int32[n, 3] laps; whether they made it trip."""
        return bool(watch(self._guard[0], self._ring, self._limits, laps))

    @property
    def slow(self) -> bool:
        """Whether the p99 is above a limit."""
        return bool(self._guard["slow"][0])

    @property
    def breaches(self) -> int:
        """Steps of the window above the limit that most of them break."""
        return int(self._guard["over"][0].max())

    @property
    def steps(self) -> int:
        """Steps in the window."""
        return int(self._guard["filled"][0])

    def p99_ms(self) -> tuple[float, float]:
        """The p99 of the window: of the model, and in all; ms."""
        if not self.steps:
            return 0.0, 0.0
        model, total = np.percentile(self._ring[: self.steps], 99, axis=0) / 1e6
        return float(model), float(total)

    def reset(self) -> None:
        """Forget everything."""
        self._guard[...] = np.zeros(1, GUARD)
