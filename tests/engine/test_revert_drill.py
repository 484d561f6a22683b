"""The drill of reverts in small: no false one on some days, a spoiled model found, days that are kept not repeated."""

from pathlib import Path

import msgspec
import pytest

from emp.app.bench import reverted_days
from emp.app.bench.revert import _revert, allowed
from emp.app.bench.reverted import Drill
from emp.app.bench.reverted_days import CALM, Days, Told
from emp.core.errors import UsageError
from emp.engine.choose import load_model
from emp.engine.inputs import PREFIX
from emp.model.artifact import save

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
