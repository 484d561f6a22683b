"""Coverage of the intervals, counted: by day and half hour, only where there is enough."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from emp.core.records import FORECAST, HORIZON_NAMES, Array
from emp.model.conformal import ties_ticks
from emp.train.judge.intervals import BLOCK_NS, ENOUGH_ROWS, coverage

N = 3 * ENOUGH_ROWS
UNIT = 4.0


def data(move: Array) -> Any:
    """A series of two days, 50 ms an event: 20,000 rows and 10,000 of the next; the test part is all of it."""
    rows = np.zeros(N, [("bid", "i8"), ("ask", "i8"), ("sigma_ticks", "f8"), ("day", "i8")])
    rows["bid"], rows["ask"] = 1_000, 1_004
    rows["day"] = np.arange(N) // (2 * ENOUGH_ROWS)
    ts = 100 * BLOCK_NS + np.arange(N, dtype=np.int64) * 50_000_000
    return SimpleNamespace(
        series="X",
        ts=ts,
        seen=SimpleNamespace(rows=rows),
        targets=SimpleNamespace(delta_hat=np.tile(move[:, None], (1, len(HORIZON_NAMES)))),
        part=lambda name: np.arange(N),
    )


def test_a_tie_counts_by_its_row_and_a_day_by_its_rows() -> None:
    move = np.zeros(N)
    move[:100] = np.nan
    move[2 * ENOUGH_ROWS : 2 * ENOUGH_ROWS + ENOUGH_ROWS // 2] = 5.0
    series, said = data(move), np.zeros(N, FORECAST)
    said["interval"] = -0.5, 0.1 / UNIT  # of ties in [-0.25, 0.25) ticks
    first = coverage(said, series, "m", 0.5)[0]
    ties = ties_ticks(series.ts, np.full(N, 2_004, np.int64))
    assert first["n"] == N - 100
    assert [day["day"] for day in first["days"]] == [0, 1]
    assert first["days"][0]["coverage"] == (ties[100 : 2 * ENOUGH_ROWS] <= 0.1).mean()
    assert abs(first["days"][0]["coverage"] - 0.7) < 0.02
    assert abs(first["days"][1]["coverage"] - 0.35) < 0.02
    assert first["half_hours"] == [first["coverage"]] * 2  # all of it lies in one


def test_a_day_of_few_rows_or_few_horizons_says_nothing() -> None:
    move = np.zeros(N)
    move[2 * ENOUGH_ROWS + 500 :] = np.nan
    found = {one["horizon"]: one for one in coverage(np.zeros(N, FORECAST), data(move), "m", 0.5)}
    assert [day["day"] for day in found["1ev"]["days"]] == [0]
    fast = data(np.zeros(N))
    fast.ts = 100 * BLOCK_NS + np.arange(N, dtype=np.int64) * 1_000_000  # 20 s and 10 s: five horizons of 2 s
    found = {one["horizon"]: one for one in coverage(np.zeros(N, FORECAST), fast, "m", 0.5)}
    assert len(found["20ev"]["days"]) == 2
    assert [len(found[h]["days"]) for h in ("100ms", "2s")] == [0, 0]
    assert found["2s"]["half_hours"] is None
