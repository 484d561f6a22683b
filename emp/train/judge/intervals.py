"""How often moves come to lie within the intervals of 90 % that are served with forecasts, by day and by half hour."""

from typing import Any

import numpy as np

from emp.core.records import HORIZON_EVENTS, HORIZON_NAMES, HORIZON_NS, Array
from emp.model.conformal import ties_ticks
from emp.perception.targets import unit_ticks
from emp.train.data.data import Dataset

BLOCK_NS = 1_800_000_000_000

ENOUGH_ROWS = 10_000
ENOUGH_SPANS = 200
"""Rows, and horizons one after another, from which the coverage of a day says something; of a half hour a fifth."""

BLOCK_SHARE = 0.2


def inside(forecasts: Array, data: Dataset, rows: Array, h: int, k_sigma: float) -> Array:
    """Whether each move lies within its forecast's interval, ties broken as they were when the ends were learned.

    Args:
        forecasts: FORECAST[m], of `rows`.
        rows: int64[m], rows of the series.
        h: horizon.
        k_sigma: of the unit of delta_hat.

    Returns:
        bool[m], False where there is no label.
    """
    seen = data.seen.rows[rows]
    ties = ties_ticks(np.ascontiguousarray(data.ts[rows]), seen["bid"].astype(np.int64) + seen["ask"])
    unit = unit_ticks((seen["ask"] - seen["bid"]).astype(float), seen["sigma_ticks"], k_sigma)
    move = data.targets.delta_hat[rows, h] + ties / unit
    low, high = forecasts["interval"][:, h].astype(np.float64).T
    return np.asarray((low <= move) & (move <= high))


def coverage(forecasts: Array, data: Dataset, model: str, k_sigma: float) -> list[dict[str, Any]]:
    """Coverage on the test part, horizon by horizon.

    `days` are those with enough rows, each {"day", "n", "coverage"}; `half_hours` the lowest and highest of those with
    enough, None where there is none; `width` is the mean width in units of delta_hat.
    """
    test, found = data.part("test"), []
    for h, horizon in enumerate(HORIZON_NAMES):
        known = ~np.isnan(data.targets.delta_hat[test, h])
        rows = test[known]
        said = forecasts[known]
        hit = inside(said, data, rows, h, k_sigma)
        days = _groups(data.seen.rows["day"][rows], data.ts[rows], hit, h, 1.0)
        blocks = [
            share for _, _, share in _groups(data.ts[rows] // BLOCK_NS, data.ts[rows], hit, h, BLOCK_SHARE)
        ]
        found.append(
            {
                "series": data.series,
                "model": model,
                "horizon": horizon,
                "n": len(rows),
                "coverage": float(hit.mean()) if len(rows) else None,
                "width": float(np.diff(said["interval"][:, h], axis=1).mean()) if len(rows) else None,
                "days": [{"day": day, "n": n, "coverage": share} for day, n, share in days],
                "half_hours": [min(blocks), max(blocks)] if blocks else None,
            }
        )
    return found


def _groups(group: Array, ts: Array, hit: Array, h: int, share: float) -> list[tuple[int, int, float]]:
    """(group, rows, coverage) of the groups with `share` of what is enough."""
    found = []
    for one in np.unique(group):
        mine = group == one
        n, span_ns = int(mine.sum()), int(np.ptp(ts[mine]))
        spans = (
            n / HORIZON_EVENTS[h]
            if h < len(HORIZON_EVENTS)
            else span_ns / HORIZON_NS[h - len(HORIZON_EVENTS)]
        )
        if n >= share * ENOUGH_ROWS and spans >= share * ENOUGH_SPANS:
            found.append((int(one), n, float(hit[mine].mean())))
    return found
