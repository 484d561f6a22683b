"""Estimators of the metaorder-impact protocol of LOB-Impact: shortfall, participation, the square-root law, relaxation.

The protocol is that of the public repository `george-nigm/LOBS5` (`lob_impact`, 2026), with the arrival mid taken
before the first child's own execution. Natural logarithms throughout.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emp.core.ids import generator
from emp.core.records import Array

RESAMPLES = 1000
INTERVAL = (0.025, 0.975)
LEAST = 1e-10
"""Impact, and level of a master curve, at or below which an observation has none."""

PARKINSON = 2.0 * np.sqrt(np.log(2.0))
"""ln(high / low) over this is a day's volatility (Parkinson, Journal of Business 1980)."""

GRID = 200
"""Points of a path in normalised time."""

EXPONENTS = np.arange(5, 151) / 100.0


class Estimate(NamedTuple):
    """A number and its 95 % interval over resampled days."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """y = alpha + beta x by ordinary least squares with a free intercept."""

    alpha: float
    beta: float
    r2: float
    n: int


def vwap(lots: Array, px: Array) -> float:
    """Volume-weighted price of children."""
    return float((lots * px).sum() / lots.sum())


def participation(child: float, every: float, executed: float, median: float) -> float:
    """Share of the children in what trades, if a share `executed` of messages trades the median size."""
    return child / (child + every * executed * median)


def interval_for(share: float, child: float, executed: float, median: float) -> int:
    """Messages between two children that make them this share of what trades; at least 1."""
    return max(1, int(child * (1.0 / share - 1.0) / (executed * median)))


def parkinson(high: float, low: float) -> float:
    """Volatility of a day by its highest and lowest execution price."""
    return float(np.log(high / low) / PARKINSON)


def line(x: Array, y: Array) -> Line:
    """Fit a straight line; not a number with fewer than three points or one x."""
    if len(x) < 3 or np.ptp(x) == 0:
        return Line(float("nan"), float("nan"), float("nan"), len(x))
    dx, dy = x - x.mean(), y - y.mean()
    beta = (dx * dy).sum() / (dx**2).sum()
    rest = dy - beta * dx
    return Line(
        float(y.mean() - beta * x.mean()), float(beta), float(1 - (rest**2).sum() / (dy**2).sum()), len(x)
    )


def resampled_days(days: int, seed: int) -> Array:
    """How often each day is drawn in each resample: float64[RESAMPLES, days]."""
    rng = generator(seed, "impact")
    drawn = rng.integers(0, days, (RESAMPLES, days))
    return np.asarray([np.bincount(row, minlength=days) for row in drawn], float)


def _estimate(value: float, again: Array) -> Estimate:
    known = again[np.isfinite(again)]
    low, high = np.quantile(known, INTERVAL) if len(known) else (float("nan"), float("nan"))
    return Estimate(value, float(low), float(high))


def _by_day(day: Array, days: int, *columns: Array) -> Array:
    """Sums of columns over the rows of each day: float64[days, len(columns)]."""
    return np.column_stack([np.bincount(day, x, minlength=days) for x in columns])


def slope(x: Array, y: Array, day: Array, days: int, seed: int) -> Estimate:
    """The exponent: slope of y on x, with an interval over resampled days (0 to `days` - 1)."""
    sums = resampled_days(days, seed) @ _by_day(day, days, np.ones(len(x)), x, y, x * x, x * y)
    n, sx, sy, sxx, sxy = sums.T
    with np.errstate(invalid="ignore", divide="ignore"):
        again = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    return _estimate(line(x, y).beta, again)


def direct(x: Array, y: Array, day: Array, days: int, seed: int) -> Estimate:
    """The exponent d of y = a exp(d x) by least squares over EXPONENTS; y keeps its sign, and may be negative.

    Signed impact averages out the moves that the market makes anyway, which its logarithm cannot.
    """
    curves = np.exp(EXPONENTS[:, None] * (x - x.mean()))
    times = np.array([np.bincount(day, y * c, minlength=days) for c in curves])
    squares = np.array([np.bincount(day, c * c, minlength=days) for c in curves])
    gain = times.sum(1) ** 2 / squares.sum(1)
    weights = resampled_days(days, seed)
    again = (weights @ times.T) ** 2 / np.maximum(weights @ squares.T, 1e-300)
    return _estimate(float(EXPONENTS[np.argmax(gain)]), EXPONENTS[np.argmax(again, axis=1)])


def in_normal_time(path: Array, length: int, longest: float) -> Array:
    """A path by step on GRID points of step / length from 0 to `longest`: float64[GRID]; its last value stays."""
    at = np.linspace(0.0, longest, GRID)
    return np.interp(at, np.arange(len(path)) / length, path)


def combined(bought: Array, sold: Array) -> Array:
    """Half the difference of the returns of two twins since their first mid, which cancels what both share."""
    return 0.5 * ((bought - bought[0]) / bought[0] - (sold - sold[0]) / sold[0])


def nearest(longest: float, u: float) -> int:
    """The grid point nearest to a normalised time."""
    return int(np.argmin(np.abs(np.linspace(0.0, longest, GRID) - u)))


def relaxation(peak: Array, end: Array, seed: int) -> Estimate:
    """Share of the impact at the last child that is left at three times the length, with its interval over days.

    `peak` and `end` are float64[kinds, days]: sums over pairs of the combined path at u = 1 and u = 3. One share per
    kind of metaorder, then their mean; a single row gives the share of the master curve of all pairs together.
    """
    weights = resampled_days(peak.shape[1], seed)
    return _estimate(
        float(_shares(peak.sum(1, keepdims=True).T, end.sum(1, keepdims=True).T)[0]),
        _shares(weights @ peak.T, weights @ end.T),
    )


def _shares(peak: Array, end: Array) -> Array:
    """Mean over columns of end / peak, row by row; NaN where a peak is nothing."""
    some = np.abs(peak) >= LEAST
    return np.where(some, end / np.where(some, peak, 1.0), np.nan).mean(axis=1)


def outlier(paths: Sequence[Array]) -> bool:
    """Whether a mid leaves two thirds to three halves of the path's first one."""
    return any(bool((p > 1.5 * p[0]).any() or (1.5 * p < p[0]).any()) for p in paths)
