"""The drill of reverts in small: no false one on some days, a spoiled model found, days that are kept not repeated."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.app.bench import reverted_days
from emp.app.bench.revert import _revert, allowed
from emp.app.bench.reverted import Drill
from emp.app.bench.reverted_days import CALM, Days, Told
from emp.app.bench.scaled import Day, told
from emp.core.errors import UsageError
from emp.engine.choose import load_model
from emp.engine.inputs import PREFIX
from emp.model.artifact import save
from emp.observe.drift import BLOCK, LEAST_ROWS, make_reference
from emp.perception.normalise import CORE

EVENTS = 40_000


def lay_down(drill: Drill, into: Path) -> float:
    """The shipped linear model twice, with no reference of its inputs, where the drill would train two."""
    shipped = load_model("linear").artifact
    tensors = {name: t for name, t in shipped.tensors.items() if not name.startswith(PREFIX)}
    for k, name in enumerate(("serving", "standby")):
        provenance = {**shipped.manifest.provenance, "seed": k}
        save(into / name, msgspec.structs.replace(shipped.manifest, provenance=provenance), tensors)
    return 2.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and their days so far: none."""
    folder = tmp_path_factory.mktemp("revert") / "kept"
    Days(folder, EVENTS, 3, lay_down)
    return folder


def test_undisturbed_days_alarm_nobody_and_a_model_that_is_too_sure_fails(folder: Path) -> None:
    drill = Drill(EVENTS, 3)
    drill.load(folder, Days(folder, EVENTS, 3, lay_down).terms.sharper)
    for day in range(3):
        assert drill.day(day) == ({}, ""), day
    delay = drill.delay(3, "worse")
    assert delay is not None
    assert 0 < delay <= EVENTS // 2
    assert drill.delay(3, CALM) is None


def test_days_are_looked_at_once_and_go_on_where_they_were_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = _revert(folder, 2, 0, EVENTS, 3, 2)
    assert (result["days"], result["false_reverts"], result["false_drift_alarms"]) == (2, 0, 0)
    kept = folder / "days.jsonl"
    kept.write_bytes(kept.read_bytes() + b'{"day": 7, "fau')  # its process died
    monkeypatch.setattr(reverted_days, "_look", lambda *_: pytest.fail("it was looked at before"))
    assert _revert(folder, 2, 0, EVENTS, 3, 2) == result
    with pytest.raises(UsageError, match="holds days of other sources"):
        _revert(folder, 2, 0, EVENTS, 4, 2)
    with pytest.raises(UsageError, match="holds days of other sources"):
        _revert(folder, 2, 0, EVENTS + 1, 3, 2)


def test_what_was_found_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        Told(0, CALM, {"failed": 9}, "calibration", None),
        Told(1, CALM, {"drift": 5, "behind": 6}, "", None),
        Told(2, CALM, {}, "", None),
    ]
    monkeypatch.setattr(Days, "__init__", lambda self, *_: None)
    monkeypatch.setattr(Days, "told", lambda self: found)
    result = _revert(tmp_path, 3, 0, EVENTS, 0, 1)
    assert (result["false_reverts"], result["reverted_by"]) == (1, ["calibration"])
    assert (result["false_drift_alarms"], result["false_baseline_alarms"]) == (1, 1)


def test_how_many_are_allowed_is_the_binomial_point() -> None:
    assert allowed(1_000) == 18
    assert allowed(490) == 11


def test_an_input_scaled_on_a_recorded_day_is_named_or_missed_or_nobodys() -> None:
    rng = np.random.default_rng(1)
    seen = rng.normal(0.0, 0.3, (LEAST_ROWS, CORE)).astype(np.float32)
    seen[::2, 4:6], seen[1::2, 4:6] = 0.02, 0.06
    seen[:, 1] = 0.0
    reference = make_reference([seen])
    assert reference is not None
    rows = seen[: 8 * BLOCK].copy()
    rows[:, 2] = np.nan
    rows[5 * BLOCK, 5] = 2.1  # beyond the bound, once it is three times as large
    one = told(Day("one", True, rows, reference, 7))
    assert one["undisturbed"] == []
    assert one["inputs"] == CORE - 2, "but for what nobody tells, and what is nought"
    assert "stale" not in one["missed"]
    assert (one["found"], one["worst"]) == (CORE - 2 - len(one["missed"]), 2 * BLOCK)
    one = told(Day("one", True, np.where(np.isnan(rows), rows, 7.0), reference, 7))
    assert "spread" in one["undisturbed"]
    assert (one["inputs"], one["found"], one["median"]) == (0, 0, None)
