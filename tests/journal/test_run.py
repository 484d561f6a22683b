"""The run folder: there whole or not at all, and never mistaken for another run's."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.core.code_version import code_version
from emp.core.errors import JournalError, UsageError
from emp.core.records import ACCOUNT, DECISION, EVENT
from emp.journal.ledger import Ledger
from emp.journal.run import RunFolder, build_manifest


def manifest(data: tuple[Path, ...] = (), **config: Any) -> dict[str, Any]:
    return build_manifest(
        run="RUN", mode="replay", config=config, instruments=["GOOG"], model_hashes=["abc"], data_files=data
    )


def test_a_folder_is_made_with_its_manifest_and_opened_again(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1,2\n")
    made = RunFolder.create(tmp_path / "run", manifest((data,), k=0.5))
    digest = hashlib.sha256(b"1,2\n").hexdigest()
    assert made.manifest["data"] == [{"name": "data.csv", "bytes": 4, "sha256": digest}]
    assert made.manifest["code"] == code_version()
    assert sorted(p.name for p in made.path.iterdir()) == ["actions", "checkpoint", "manifest.json"]
    assert RunFolder.open_or_create(made.path, manifest((data,), k=0.5)).manifest == made.manifest
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_another_runs_folder_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", manifest(k=0.5))
    with pytest.raises(UsageError, match="another config"):
        RunFolder.open_or_create(tmp_path / "run", manifest(k=0.7))
    with pytest.raises(UsageError, match="exists"):
        RunFolder.create(tmp_path / "run", manifest(k=0.5))


def test_a_place_that_cannot_be_written_ends_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "run", Path("/proc/none/run")):
        with pytest.raises(JournalError, match="cannot create run folder"):
            RunFolder.create(place, manifest())
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_summary_marks_the_end(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", manifest())
    assert not run.finished
    run.write_summary({"pnl_ticks": -3.5})
    assert run.finished
    assert run.summary() == {"pnl_ticks": -3.5}


def test_a_checkpoint_comes_back_and_is_replaced_whole(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", manifest())
    rng = np.random.default_rng(0)
    arrays = {
        "events": np.frombuffer(rng.bytes(3 * EVENT.itemsize), EVENT),
        "decision": np.frombuffer(rng.bytes(2 * DECISION.itemsize), DECISION),
        "account": np.zeros(1, ACCOUNT),
        "weights": rng.normal(size=(4, 5)).astype(np.float32),
    }
    into = {name: np.ones_like(array) for name, array in arrays.items()}
    assert run.read_checkpoint(into) is None
    run.write_checkpoint({"account": np.ones(1, ACCOUNT)}, {"rows": 1})
    run.write_checkpoint(arrays, {"rows": 7})
    with pytest.raises(JournalError, match="holds other states"):
        run.read_checkpoint({"account": np.ones(1, ACCOUNT)})
    with pytest.raises(JournalError, match="holds other states"):
        run.read_checkpoint(into | {"account": np.ones(2, ACCOUNT)})
    assert run.read_checkpoint(into) == {"rows": 7}
    for name, array in arrays.items():
        for field in array.dtype.names or (...,):
            assert into[name][field].tobytes() == array[field].tobytes()
    assert [p.name for p in (run.path / "checkpoint").iterdir()] == ["state.npz"]


def test_a_damaged_checkpoint_or_manifest_ends_in_one_line(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", manifest())
    account = np.ones(100, ACCOUNT)
    run.write_checkpoint({"account": account}, {})
    state = run.path / "checkpoint" / "state.npz"
    whole = state.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:2000] + b"\xff" + whole[2001:], b""):
        state.write_bytes(damaged)
        with pytest.raises(JournalError, match="is damaged"):
            run.read_checkpoint({"account": account})
    (run.path / "manifest.json").write_text("{")
    with pytest.raises(JournalError, match="is not JSON"):
        RunFolder(run.path)
    with pytest.raises(JournalError, match="cannot read"):
        RunFolder(tmp_path / "none")


def test_a_run_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = RunFolder.create(tmp_path / "runs" / "run", {"run": "R"})
        Ledger(folder.ledger, run="R").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    for path in (folder.path / "manifest.json", *folder.path.glob("ledger.sqlite*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
