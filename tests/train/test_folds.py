"""Walking forward: folds follow each other in time, know nothing later, and their test days add up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES
from emp.train.data.data import Dataset
from emp.train.fit import encoder, linear
from emp.train.judge.folds import folds, walk_forward
from tests.kit.datasets import dataset

DAYS = 5


def days_of(n: int, seed: int = 1) -> Dataset:
    """A series whose rows are numbered as if they were of several days."""
    data = dataset(n, seed)
    rows = data.seen.rows.copy()
    rows["day"] = 100 + np.arange(len(rows)) * DAYS // len(rows)
    return replace(data, seen=data.seen._replace(rows=rows))


def test_folds_go_forward_by_a_day_and_end_with_their_test_day() -> None:
    data = days_of(4_000)
    found = folds(data)
    assert len(found) == DAYS - 2
    day = data.seen.rows["day"]
    for k, fold in enumerate(found):
        assert set(day[fold.part("train")]) == set(range(100, 101 + k))
        assert set(day[fold.part("calibrate")]) == {101 + k}
        assert set(day[fold.part("test")]) == {102 + k}
        assert fold.ts[-1] == data.ts[day <= 102 + k][-1]
        assert len(fold.seen.cells) == len(fold.ts)
        assert np.isnan(fold.delta_hat("test", fold.part("test"))[-1]).all()  # known a day later only
    with pytest.raises(UsageError, match="needs 4 trading days, it has 1"):
        folds(dataset(1_000))


def test_test_days_add_up_and_what_comes_later_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    monkeypatch.setattr(linear, "PENALTIES", (1e-2,))
    monkeypatch.setattr(linear, "ITERATIONS", 8)
    monkeypatch.setattr(encoder, "EPOCHS", 1)
    data = days_of(4_000)
    found = walk_forward(data, 0.5, 0, False, lambda *_: None)
    assert {row["horizon"] for row in found.table} == set(HORIZON_NAMES)
    first = next(row for row in found.table if row["horizon"] == "1ev" and row["model"] == "linear")
    assert first["n"] == sum(len(fold.part("test")) - 1 for fold in folds(data))
    assert first["ci"]["brier_skill"][0] > 0.02
    assert found.parts == {"days": DAYS, "test_days": DAYS - 2, "block": "5min"}
    assert [fold["test_span"][1] for fold in found.folds] == sorted(f["test_span"][1] for f in found.folds)
    shorter = data.seen.rows["day"] < 100 + DAYS - 1
    n = int(shorter.sum())
    early = walk_forward(folds(data)[-2], 0.5, 0, False, lambda *_: None)
    assert len(folds(data)[-2].ts) == n
    assert early.folds == found.folds[:-1]
