"""`emp replay --model` and `emp evaluate --artifact` with models of one's own, by their names."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import emp
from emp.app.commands.evaluate import _train_spans
from emp.core.clock import SimClock
from emp.core.errors import ArtifactError, GovernanceError
from emp.core.records import FORECAST
from emp.engine.choose import model_of
from emp.engine.load import load_folder
from emp.engine.named import is_own, load_own
from emp.governance.registry import Registry
from emp.model.artifact import ENCODER, save
from emp.model.own import forecast_own
from tests.kit.commands import said

MINE = """
import numba

import emp
from beside import AT


@numba.njit
def lean(seen, own, mine):
    mine[0] = 0.9 * mine[0] + 0.1 * seen.qimbalance
    own[0] = mine[0]


@numba.njit
def leaning(x, forecast):
    for h in range(6):
        forecast.mean[h] = 0.1 * x[AT] + 0.2 * x[-1]


model = emp.Model(leaning, features=emp.Features(lean, ["lean"], memory=1))


def failing(x, forecast):
    forecast.mean[0] = x[1000]


nothing = 3
"""


@pytest.fixture
def day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    emp.simulate("goog", "GOOG", events=30_000, seed=2).save(tmp_path / "day.parquet")
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "beside.py").write_text('import emp\n\nAT = emp.INPUT_NAMES.index("qimbalance")\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    return tmp_path / "day.parquet"


def test_names_of_models_of_ones_own_are_told_from_folders() -> None:
    for name in (
        "mine.py:model",
        "a/b/mine.py:model",
        "mine:model",
        "pack.age:model",
        "net.onnx",
        "a/net.onnx",
    ):
        assert is_own(name), name
    for name in ("mamba3", "models/mine", "C:\\models\\mine", "models/a:b/c", "/tmp/x", "mine.py"):
        assert not is_own(name), name


def test_where_nobody_asks_whether_it_has_failed_it_is_refused(
    day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["sim", "trade", "--policy", "mine.py:model", "--model", "goog", "--instrument", "GOOG"],
        ["finetune", "--artifact", "mine.py:model", "--data", f"GOOG={day}", "--out", "out"],
    ):
        code, line = said(capsys, *words)
        assert code != 0
        assert "mine.py:model: a model of your own: here only what emp train writes is taken" in line


def test_a_recording_is_traded_on_its_forecasts(day: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["replay", str(day), "--instrument", "GOOG", "--json"]
    code, summary = said(capsys, *words, "--model", "mine.py:model")
    assert code == 0, summary
    loaded = model_of("mine.py:model")
    assert summary["model_hash"] == loaded.artifact.hash
    assert loaded.artifact.manifest.config["inputs"] == [*emp.INPUT_NAMES, "lean"]
    code, again = said(capsys, *words, "--model", "mine.py:model")
    assert again["action_log_sha256"] == summary["action_log_sha256"]
    code, line = said(capsys, *words, "--model", "mine.py:failing")
    assert code != 0
    assert "model failing, at event" in line
    assert "IndexError" in line
    assert "(mine.py, line" in line
    assert "Traceback" not in line
    for name, why in {
        "mine.py:nothing": "nothing is a int, no function and no emp.Model",
        "mine.py:absent": "there is no absent in mine.py",
        "gone.py:model": "no such file: gone.py",
        "gone.onnx": "model gone.onnx: No such file",
    }.items():
        code, line = said(capsys, *words, "--model", name)
        assert code != 0
        assert why in line
    assert len(list((day.parent / "runs").glob("replay-*"))) == 1


def test_it_is_judged_beside_the_linear_model_on_the_same_rows(
    day: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    words = ["evaluate", "--artifact", "mine.py:model", "--data", f"GOOG={day}", "--no-trade", "--json"]
    code, result = said(capsys, *words)
    assert code == 0, result
    rows = {(row["model"], row["horizon"]): row for row in result["table"]}
    assert {"own leaning", "linear", "majority"} <= {model for model, _ in rows}
    mine, linear = rows["own leaning", "5ev"], rows["linear", "5ev"]
    assert mine["n"] == linear["n"] > 1_000
    assert mine["versus_linear"] is not None
    assert mine["log_loss"] != linear["log_loss"]
    (Path("mine.py")).write_text(MINE.replace("x[AT]", "x[AT] / 0.0"))
    code, line = said(capsys, *words)
    assert code != 0
    assert "model leaning: " in line
    code, line = said(
        capsys, "evaluate", "--integrity", "--artifact", "mine.py:failing", "--data", f"GOOG={day}"
    )
    assert code != 0
    assert "of a model of your own nothing says what its step should be" in line


def test_what_a_run_keeps_is_refused_by_a_registry_and_serves_as_long_as_its_file_is_the_same(
    day: Path,
) -> None:
    loaded = model_of("mine.py:model")
    folder = day.parent / loaded.artifact.hash
    save(folder, loaded.artifact.manifest, loaded.artifact.tensors)
    again = load_folder(folder)
    assert again.artifact.hash == loaded.artifact.hash
    registry = Registry(day.parent / "registry", SimClock(0))
    with pytest.raises(GovernanceError, match="own leaning: no gate takes a model of your own"):
        registry.register(again.artifact)
    Path("mine.py").write_text(MINE.replace("0.2 *", "0.3 *"))
    with pytest.raises(ArtifactError, match="a model of your own, leaning: it has changed since it served"):
        load_folder(folder)


def test_an_edited_file_beside_it_is_what_runs_and_what_its_hash_says(day: Path) -> None:
    """Loaded again in one process, as `emp reload` does; a fresh process names what ran alike."""
    helper, mine = Path("half.py"), Path("halved.py")
    helper.write_text("HALF = 0.25\ndef half(x): return HALF * x\n")
    mine.write_text("from half import half\ndef model(x, forecast): forecast.mean[:] = half(1.0)\n")

    def serving() -> tuple[str, float]:
        loaded = model_of("halved.py:model")
        out = np.zeros(1, FORECAST)
        forecast_own(loaded.params, np.zeros(0, np.float32), 0, np.zeros(loaded.width, np.float32), out[0])
        return loaded.artifact.hash, float(out["mean"][0, 0])

    code = "from emp.engine.choose import model_of; print(model_of('halved.py:model').artifact.hash)"
    names = set()
    for text, told in (("0.25", 0.25), ("0.75", 0.75), ("0.5 ", 0.5)):  # of one size, within one second
        helper.write_text(helper.read_text().replace(helper.read_text()[7:11], text))
        name, mean = serving()
        assert mean == told
        fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert fresh.stdout.strip() == name, fresh.stderr
        names.add(name)
    assert len(names) == 3


def test_what_was_loaded_before_is_named_as_it_was_loaded(day: Path, monkeypatch: Any) -> None:
    """A module that the user's own program has imported stays loaded, whatever becomes of its file."""
    monkeypatch.syspath_prepend(Path.cwd())
    for k, later in enumerate(("W = 3.0\ndef f(x, forecast): forecast.mean[:] = W\n", "")):
        file = Path(f"kept_{k}.py")
        file.write_text("W = 2.0\ndef f(x, forecast): forecast.mean[:] = W\n")
        importlib.invalidate_caches()
        before = emp.Model(importlib.import_module(f"kept_{k}").f).load().artifact.hash
        file.write_text(later)
        assert emp.Model(sys.modules[f"kept_{k}"].f).load().artifact.hash == before
    file = Path("gone_on.py")
    file.write_text("def f(x, forecast): forecast.mean[:] = 1.0\n")
    importlib.invalidate_caches()
    importlib.import_module("gone_on")
    file.write_text("def f(x, forecast): forecast.mean[:] = 2.0\n")
    with pytest.raises(emp.UsageError, match=r"gone_on.py was edited since it was loaded: f is another"):
        emp.Model(sys.modules["gone_on"].f).load()


def test_how_it_was_named_and_from_where_is_no_part_of_its_hash(day: Path, monkeypatch: Any) -> None:
    loaded = model_of("mine.py:model")
    others = [model_of(f"{place}mine.py:model") for place in ("./", f"{day.parent}/")]
    assert {one.artifact.hash for one in others} == {loaded.artifact.hash}
    kept = day.parent / loaded.artifact.hash
    save(kept, loaded.artifact.manifest, loaded.artifact.tensors)
    elsewhere = day.parent / "elsewhere"
    elsewhere.mkdir()
    model = load_own("mine.py:model")
    monkeypatch.chdir(elsewhere)
    assert model.load().artifact.hash == loaded.artifact.hash
    assert load_folder(kept).artifact.hash == loaded.artifact.hash


def test_what_an_earlier_build_has_named_serves_under_that_name(day: Path) -> None:
    loaded = model_of("mine.py:model")
    manifest = loaded.artifact.manifest
    config = {name: one for name, one in manifest.config.items() if name != "folder"}
    earlier = save(
        day.parent / "earlier", msgspec.structs.replace(manifest, config=config), loaded.artifact.tensors
    )
    assert earlier.hash != loaded.artifact.hash
    assert load_folder(day.parent / "earlier").artifact.hash == earlier.hash
    (day.parent / "mine.py").write_text(MINE.replace("0.1 *", "0.3 *"))
    with pytest.raises(ArtifactError, match="it has changed since it served"):
        load_folder(day.parent / "earlier")


def mean_of(name: str) -> float:
    loaded = model_of(name)
    out = np.zeros(1, FORECAST)
    forecast_own(loaded.params, np.zeros(0, np.float32), 0, np.zeros(loaded.width, np.float32), out[0])
    return float(out["mean"][0, 0])


CONSTANT = "def f(x, forecast): forecast.mean[:] = {}\n"


@pytest.mark.parametrize("name", ["served.py:f", "serving:f"])
def test_what_served_is_found_where_it_lay_before_another_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for folder, mean in (("one", 0.5), ("two", 0.25)):
        (tmp_path / folder).mkdir()
        for file in ("served.py", "serving.py"):
            (tmp_path / folder / file).write_text(CONSTANT.format(mean))
    monkeypatch.chdir(tmp_path / "one")
    loaded = model_of(name)
    save(tmp_path / "kept", loaded.artifact.manifest, loaded.artifact.tensors)
    monkeypatch.chdir(tmp_path / "two")
    assert mean_of(name) == 0.25
    again = load_folder(tmp_path / "kept")
    assert again.artifact.hash == loaded.artifact.hash
    assert again.artifact.manifest.config == loaded.artifact.manifest.config


def test_a_helper_is_the_one_beside_it_and_a_file_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, mean in (("one", 0.5), ("two", 0.25)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "help_both.py").write_text(f"H = {mean}\n")
        (tmp_path / folder / "helped.py").write_text("from help_both import H\n" + CONSTANT.format("H"))
    for name, mean in (("one/helped.py:f", 0.5), ("two/helped.py:f", 0.25), ("one/helped.py:f", 0.5)):
        monkeypatch.chdir(tmp_path)
        assert mean_of(name) == mean
        monkeypatch.chdir(tmp_path / name[:3])
        assert mean_of("helped:f") == mean
    for mean in (0.5, 0.25):
        Path("run_once.py").write_text(f"print('runs')\n{CONSTANT.format(mean)}")
        assert mean_of("run_once:f") == mean
    assert capsys.readouterr().out.split() == ["runs", "runs"]


def test_a_compiled_copy_of_another_file_is_gone_when_the_next_process_starts(tmp_path: Path) -> None:
    """Put in place with the size and time of the one before, as an archive does."""
    helper = tmp_path / "halving.py"
    (tmp_path / "by_half.py").write_text("from halving import half\n" + CONSTANT.format("half(1.0)"))
    code = "from emp.engine.choose import model_of; model_of('by_half.py:f')"
    env = {name: one for name, one in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def loads() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        return done.stderr

    helper.write_text("def half(x): return 0.25 * x\n")
    at = helper.stat().st_mtime_ns
    assert loads() == ""
    helper.write_text("def half(x): return 0.75 * x\n")
    os.utime(helper, ns=(at, at))
    assert "halving.py was edited since it was loaded: half is another there; start a new process" in loads()
    assert loads() == ""


@pytest.mark.parametrize(
    "said", ["", ", trained_on=('GOOG', 1_700_000_000_000_000_000, 1_700_000_001_000_000_000)"]
)
def test_what_an_earlier_build_has_said_of_its_training_serves_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """It wrote no name of a series, and an empty list where nobody had said."""
    monkeypatch.chdir(tmp_path)
    Path("told.py").write_text(f"import emp\n{CONSTANT.format(0.5)}model = emp.Model(f{said})\n")
    loaded = model_of("told.py:model")
    manifest = loaded.artifact.manifest
    series = [
        {k: v for k, v in one.items() if k != "series"} for one in manifest.provenance.get("series", [])
    ]
    config = {name: one for name, one in manifest.config.items() if name != "folder"}
    earlier = msgspec.structs.replace(manifest, config=config, provenance={"series": series})
    kept = save(tmp_path / "earlier", earlier, loaded.artifact.tensors)
    assert kept.hash != loaded.artifact.hash
    assert load_folder(tmp_path / "earlier").artifact.hash == kept.hash
    # a later one said all but what the depth encoder was trained on
    of_encoder = {name: one for name, one in manifest.provenance.items() if name != ENCODER}
    assert (of_encoder != manifest.provenance) == bool(said)
    later = save(
        tmp_path / "later", msgspec.structs.replace(manifest, provenance=of_encoder), loaded.artifact.tensors
    )
    assert load_folder(tmp_path / "later").artifact.hash == later.hash


def test_all_spans_of_an_instrument_are_told() -> None:
    spans = [("GOOG", 10**18, 10**18 + 5), ("GC", 10**18, 10**18 + 5), ("GOOG", 10**18 + 7, 10**18 + 9)]
    told = emp.Model(lambda x, forecast: None, trained_on=spans).load().artifact.manifest
    assert _train_spans(told) == {
        "GOOG": [[10**18, 10**18 + 5], [10**18 + 7, 10**18 + 9]],
        "GC": [10**18, 10**18 + 5],
    }
