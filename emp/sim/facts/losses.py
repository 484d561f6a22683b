"""Distances between two samples as LOB-Bench takes them: L1 over bins and Wasserstein-1, with a bootstrap.

Both treat all values alike, whatever sequence they are of. The bootstrap draws single values, so its intervals say how
well a distance is known between these very values, and are far too narrow for what they say of a model.
"""

from typing import NamedTuple

import numpy as np

from emp.core.errors import DataError
from emp.core.records import Array

RESAMPLES = 100
SEED = 12345
MOST_BINS = 50_000_000


class Loss(NamedTuple):
    """A distance between two samples."""

    value: float
    resampled: Array  # float64[1 + RESAMPLES]: the value, then those of the resamples

    @property
    def interval(self) -> tuple[float, float]:
        """Nominal 99 %: it may lie above the value, for resamples of one law differ."""
        low, high = np.percentile(self.resampled, (0.5, 99.5))
        return float(low), float(high)


def fd_edges(x: Array) -> Array:
    """Freedman and Diaconis' equal bins of the finite values, float64[bins + 1], without NumPy's least width of 1.

    Raises `DataError` where a few values far off would ask for more than MOST_BINS bins.
    """
    x = x[np.isfinite(x)]
    if len(x) == 0:
        return np.zeros(0)
    low, high = float(x.min()), float(x.max())
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    quarter, three = np.percentile(x, (25, 75))
    width = 2.0 * (three - quarter) * len(x) ** (-1.0 / 3.0)
    bins = int(np.ceil((high - low) / width)) if width > 0 else 1
    if bins > MOST_BINS:
        raise DataError(f"{bins} bins from {low:g} to {high:g}: a few values lie far from all others")
    return np.linspace(low, high, bins + 1)


def _drawn(rng: np.random.Generator, n: int) -> Array:
    """Indices of the resamples, int64[RESAMPLES, n]."""
    return rng.integers(0, n, (RESAMPLES, n))


def _shares(codes: Array, groups: int) -> Array:
    """Share of each group among the values that are numbers (codes >= 0); NaN where there are none."""
    counts = np.bincount(codes + 1, minlength=groups + 1)[1:]
    with np.errstate(invalid="ignore"):
        out: Array = counts / counts.sum()
    return out


def l1(real: Array, made: Array, discrete: bool, rng: np.random.Generator) -> Loss:
    """`l1_between` bins of equal width, or distinct values where the samples are discrete."""
    pooled = np.concatenate((real, made))
    edges = np.unique(pooled[~np.isnan(pooled)]) if discrete else fd_edges(pooled)
    return l1_between(real, made, edges, rng)


def l1_between(real: Array, made: Array, edges: Array, rng: np.random.Generator) -> Loss:
    """Total variation between shares of groups, 0 to 1; float64 samples of any length, NaN left out of the shares.

    A value's group is how many edges are not above it, so groups are closed on the left, and the largest value has one
    of its own where the edges end with it. A sample without any value is at 1.
    """
    pooled = np.concatenate((real, made))
    known = ~np.isnan(pooled)
    codes = np.full(len(pooled), -1)
    found, codes[known] = np.unique(np.searchsorted(edges, pooled[known], "right"), return_inverse=True)
    a, b = codes[: len(real)], codes[len(real) :]
    if len(real) == 0 or len(made) == 0:
        return Loss(1.0, np.ones(1 + RESAMPLES))
    draws = _drawn(rng, len(real)), _drawn(rng, len(made))

    def distance(x: Array, y: Array) -> float:
        return 0.5 * float(np.abs(_shares(x, len(found)) - _shares(y, len(found))).sum())

    value = distance(a, b)
    return Loss(value, np.array([value, *(distance(a[i], b[j]) for i, j in zip(*draws, strict=True))]))


def w1(real: Array, made: Array, rng: np.random.Generator) -> Loss:
    """Wasserstein-1 in standard deviations (n - 1) of both samples together.

    NaN where either sample is empty or holds a NaN, or where all values are equal.
    """
    pooled = np.concatenate((real, made))
    unknown = Loss(np.nan, np.full(1 + RESAMPLES, np.nan))
    if len(real) == 0 or len(made) == 0:
        return unknown
    draws = _drawn(rng, len(real)), _drawn(rng, len(made))
    if np.isnan(pooled).any():
        return unknown
    spread = float(pooled.std(ddof=1))
    if spread == 0:
        return unknown
    points, codes = np.unique((pooled - pooled.mean()) / spread, return_inverse=True)
    steps = np.diff(points)
    a, b = codes[: len(real)], codes[len(real) :]

    def distance(x: Array, y: Array) -> float:
        below = np.cumsum(_shares(x, len(points)) - _shares(y, len(points)))
        return float(np.abs(below[:-1]) @ steps)

    value = distance(a, b)
    return Loss(value, np.array([value, *(distance(a[i], b[j]) for i, j in zip(*draws, strict=True))]))
