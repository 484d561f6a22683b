"""`emp run` told by SIGUSR2 to bring another artifact; a run that died goes on with the model that served last."""

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml

from emp.app.wiring.assembly import journalled
from emp.app.wiring.live import _reader, assemble_live
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.contracts import Control
from emp.core.errors import GovernanceError
from emp.core.instrument import catalogue
from emp.core.records import DECISION
from emp.engine.choose import load_model
from emp.engine.load import LoadedModel
from emp.engine.succession import Models
from emp.journal.actionlog import read_actions
from emp.journal.run import RunFolder
from emp.journal.swaps import Swap, read_swaps
from emp.model.artifact import save
from emp.observe.board import Board
from tests.kit.http import fetch_good
from tests.kit.journal import journal

from .test_run import ROOT, start
from .world import Venue


def variant(folder: Path, name: str) -> LoadedModel:
    """The shipped linear model under another hash."""
    artifact = load_model("linear").artifact
    save(folder, msgspec.structs.replace(artifact.manifest, metrics={"name": name}), artifact.tensors)
    return load_model(folder)


def wait_for(process: Any, port: int, path: str, found: Any) -> None:
    for _ in range(3_000):  # the first run on a machine compiles
        time.sleep(0.1)
        try:
            if found(fetch_good(port, path)):
                return
        except OSError:
            assert process.poll() is None, process.communicate()
    raise AssertionError(f"{path} never said it")


def test_sigusr2_brings_another_artifact_and_a_damaged_one_changes_nothing(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = variant(tmp_path / "model", "first"), variant(tmp_path / "other", "second")
    config = tmp_path / "run.yaml"

    def name(folder: str) -> None:
        settings = yaml.safe_load((ROOT / "examples/mock.yaml").read_text())
        config.write_text(yaml.safe_dump(settings | {"model": {"artifact": str(tmp_path / folder)}}))

    name("model")

    def serves(model: LoadedModel) -> Any:
        return lambda text: json.loads(text).get("model", {}).get("hash") == model.artifact.hash

    settings = {"EMP_HTTP__PORT": str(port), "EMP_ACCESS__SPEED": "100"}
    with start(tmp_path, "--json", config=config, **settings) as process:
        wait_for(process, port, "health", serves(first))
        wait_for(process, port, "snapshot", lambda text: json.loads(text)["instruments"][0]["events"] > 100)
        name("other")
        process.send_signal(signal.SIGUSR2)
        wait_for(process, port, "health", serves(second))
        weights = tmp_path / "other" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-5])
        process.send_signal(signal.SIGUSR2)
        wait_for(process, port, "metrics", lambda text: "model_reloads_refused_total 1.0" in text)
        wait_for(process, port, "health", serves(second))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["model_swaps"] == {"reload": 1}
    folder = RunFolder(summary["run_folder"])
    rows = read_actions(folder.actions)
    (change,) = np.flatnonzero(np.diff(rows["model_id"]))
    (planned,) = journalled(folder, "GOOG")
    assert (planned.swap.before, planned.swap.after) == (first.artifact.hash, second.artifact.hash)
    assert planned.model.artifact.hash == second.artifact.hash
    assert rows["seq"][change] <= planned.swap.seq < rows["seq"][change + 1]
    np.testing.assert_array_equal(rows["state_events"][change + 1 :], np.arange(1, len(rows) - change))
    refused = [
        line for line in (folder.path / "log.jsonl").read_text().splitlines() if "reload refused" in line
    ]
    assert len(refused) == 1
    assert "truncated" in json.loads(refused[0])["why"]


def test_a_live_run_asks_of_a_model_what_live_asks_whatever_the_file_says_by_now(tmp_path: Path) -> None:
    running = SystemConfig(
        mode="live", instruments={"names": ["GC"]}, access={"connection_protocol": "fix", "host": "h"}
    )
    file = tmp_path / "run.yaml"
    other = variant(tmp_path / "other", "never promoted")
    model = {"artifact": str(tmp_path / "other"), "fallback_impl": "none"}
    file.write_text(yaml.safe_dump({"mode": "mock", "instruments": {"names": ["GC"]}, "model": model}))
    folder = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(GovernanceError, match="names no registry"):
        _reader(running, file, folder)()
    paper = running.model_copy(update={"mode": "paper"})
    assert _reader(paper, file, folder)().standing == {other.artifact.hash: "candidate"}


def test_a_run_that_died_goes_on_with_the_model_that_served_last(tmp_path: Path) -> None:
    first, second = variant(tmp_path / "a", "first"), variant(tmp_path / "b", "second")
    access = {"connection_protocol": "fix"}
    config = SystemConfig(mode="live", run_dir=tmp_path, instruments={"names": ["GC"]}, access=access)
    clock = LiveClock()

    def assembled() -> Any:
        return assemble_live(config, [catalogue()["GC"]], Models(first, second), Venue(), Board(clock), clock)

    died = assembled()
    journal(died, np.zeros(3, DECISION))
    swap = Swap(
        instrument="GC",
        seq=7,
        ts=1,
        before=first.artifact.hash,
        after=second.artifact.hash,
        reason="latency",
    )
    ledger = died.live._ledger
    ledger.record_note(swap.note)
    died.live._taps.control(Control(action="swap", ts=1, reason=second.artifact.hash))
    later = np.zeros(2, DECISION)
    later["model_id"] = 1
    journal(died, later)
    died.live._taps.close()
    ledger.close()
    died.live._account.close()
    again = assembled()
    assert again.folder.path == died.folder.path
    assert again.engine.model.artifact.hash == second.artifact.hash
    assert again.engine.desk.facts["model_id"][0] == 1
    assert again.viewer.view().serving.role == "fallback"
    assert again.journal.actions.rows == 5
    assert list(read_swaps(again.live._ledger)) == [swap]
    again.live._taps.close()
    again.live._ledger.close()
