"""Expected against realised value of the lots that were traded on several series, with intervals for all at once.

Round trips, from flat to flat, are the blocks of every interval. Four of each of m series hold together with 95 %: each
misses 5 % / 4 m of the time at most (Bonferroni).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from emp.core.records import Array
from emp.decision.outcomes import per_lot
from emp.decision.student import student_quantile

ERROR = 0.05
"""How often any interval of a table may miss."""

ENOUGH = 200
"""Lots filled from which a series has to agree with what was expected of it."""

SUMS = (
    "trips",
    "trip_lots",
    "trip_brought",
    "trip_missed",
    "lots2",
    "brought2",
    "brought_lots",
    "missed2",
    "missed_lots",
    "trip_believed",
    "believed2",
    "brought_believed",
)
"""Sums over round trips (`decision.outcomes.LOTS`) from which intervals of any level can be made."""

Interval = tuple[float, float] | None
"""Bounds; None where there are too few round trips to say anything."""


def trip_sums(lots: Array) -> dict[str, float]:
    """SUMS of one LOTS record."""
    return {name: float(lots[name]) for name in SUMS}


def outcome_rows(traded: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each series of `alpha.trade_test_part`, with `error` shared among those that traded.

    A row has `lots`, `trips`, `expected`, `realised` and `missed` (realised less expected), ticks a lot, with their
    intervals; `line`: slope and intercept of what a trip brought on what was believed of it, with intervals (least
    squares, one variance for all); and `agrees`, `loses`: None where the question cannot be answered yet.
    """
    known = sum(one["sums"]["trips"] >= 5 for one in traded)
    error = ERROR / (4 * max(1, known))
    return [_row(one, error) for one in traded]


def _row(one: Mapping[str, Any], error: float) -> dict[str, Any]:
    sums = one["sums"]
    closed = one["realised_value_per_lot"]["closed"]
    expected = one["expected_value_per_lot"]
    realised = _bounds(sums, "trip_brought", "brought2", "brought_lots", error)
    missed = _bounds(sums, "trip_missed", "missed2", "missed_lots", error)
    filled = one["passive_lots"] + one["crossing_lots"]
    return {
        "series": one["series"],
        "model": one["model"],
        "filled": filled,
        "lots": one["closed_lots"],
        "trips": one["round_trips"],
        "expected": expected,
        "realised": closed,
        "realised_interval": realised,
        "missed": None if closed is None else closed - expected,
        "missed_interval": missed,
        "line": line_of(sums, error),
        "agrees": None if filled < ENOUGH or missed is None else missed[0] <= 0.0 <= missed[1],
        "loses": None if realised is None else realised[1] < 0.0,
    }


def _bounds(sums: Mapping[str, float], total: str, squares: str, products: str, error: float) -> Interval:
    """Of a mean per lot of round trips."""
    mean, half = per_lot(
        sums[total],
        sums[squares],
        sums[products],
        sums["trip_lots"],
        sums["lots2"],
        int(sums["trips"]),
        error,
    )
    return None if math.isnan(half) else (mean - half, mean + half)


def line_of(sums: Mapping[str, float], error: float) -> dict[str, Any] | None:
    """Slope and intercept of what round trips brought on what was believed of them, with intervals; None below five
    trips, or where the same was believed of all.
    """
    n = int(sums["trips"])
    if n < 5:
        return None
    mean_x, mean_y = sums["trip_believed"] / n, sums["trip_brought"] / n
    sxx = sums["believed2"] - n * mean_x * mean_x
    sxy = sums["brought_believed"] - n * mean_x * mean_y
    syy = sums["brought2"] - n * mean_y * mean_y
    if sxx <= 0.0:
        return None
    slope = sxy / sxx
    variance = max(0.0, syy - slope * sxy) / (n - 2)
    t = student_quantile(0.5 * error, n - 2)
    slope_half = t * math.sqrt(variance / sxx)
    intercept, intercept_half = (
        mean_y - slope * mean_x,
        t * math.sqrt(variance * (1.0 / n + mean_x**2 / sxx)),
    )
    return {
        "slope": slope,
        "slope_interval": (slope - slope_half, slope + slope_half),
        "intercept": intercept,
        "intercept_interval": (intercept - intercept_half, intercept + intercept_half),
    }
