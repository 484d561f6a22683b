"""Quantiles over a sliding window: adding is a write into a ring, asking sorts a copy of it."""

from collections.abc import Sequence

import numpy as np

from emp.core.records import Array

WINDOW = 4_096


class SlidingQuantiles:
    """Exact quantiles of the last `window` values. One thread adds; any thread may ask."""

    def __init__(self, window: int = WINDOW) -> None:
        self._ring = np.zeros(window)
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, len(self._ring))

    def add(self, values: Array) -> None:
        """Take values, shape [n], oldest first."""
        window = len(self._ring)
        latest = values[-window:]
        start = (self._added + len(values) - len(latest)) % window
        first = min(len(latest), window - start)
        self._ring[start : start + first] = latest[:first]
        self._ring[: len(latest) - first] = latest[first:]
        self._added += len(values)

    def quantiles(self, levels: Sequence[float]) -> list[float]:
        """Return the quantile of each level in [0, 1]; 0 where nothing was added yet."""
        n = len(self)
        if n == 0:
            return [0.0] * len(levels)
        return [float(q) for q in np.quantile(self._ring[:n].copy(), levels)]
