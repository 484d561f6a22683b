"""A recorded run again: the same action log, byte for byte, whatever the run was and however it ended."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from emp.access.recordings import open_recording
from emp.app.wiring.assembly import engine_limits
from emp.app.wiring.rerun import assemble_rerun, replay_run
from emp.core.config.config import SystemConfig
from emp.core.contracts import Control
from emp.core.errors import JournalError
from emp.core.records import fieldwise_bytes
from emp.engine.journal_tap import journalled_events
from emp.engine.load import LoadedModel, load_folder
from emp.engine.rerun import Rerun, Terms, processes
from emp.journal.actionlog import actions_sha256, read_actions
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder
from emp.journal.swaps import Swap
from emp.journal.tail import read_tail
from emp.model.calibration import pack_calibration
from emp.model.heads import OUTPUTS
from emp.model.linear import linear_params
from emp.perception.normalise import INPUTS
from tests.live.world import BTC

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("compiled_engine")


def trading(folder: Path, events: int, kill_at: int = -1, lots: int = 5, calendar: str = "") -> int:
    """Run `tests.kit.killed` to its end; return its exit code."""
    command = [sys.executable, "-m", "tests.kit.killed", str(folder), str(events), str(kill_at), str(lots)]
    command += [calendar] if calendar else []
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-2000:]
    return done.returncode


def the_run(folder: Path) -> RunFolder:
    (path,) = folder.glob("live-*")
    return RunFolder(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("whole")
    assert trading(folder, 250) == 0
    return the_run(folder)


def quiet(_events: int, _rows: int) -> None:
    pass


def test_a_run_that_ended_in_order_comes_out_the_same(whole: RunFolder) -> None:
    summary = replay_run(whole, quiet)
    assert summary["equal"]
    assert summary["action_log_sha256"] == actions_sha256(whole.actions)
    assert summary["commands"] > 3, "nothing was traded: the test shows nothing"
    assert summary["fills"] > 5
    assert not (whole.path / "tail.bin").exists()


def test_a_run_that_was_killed_and_went_on_comes_out_the_same(tmp_path: Path) -> None:
    assert trading(tmp_path, 200, kill_at=150) == -signal.SIGKILL
    folder = the_run(tmp_path)
    assert read_tail(folder.path / "tail.bin"), "the process left no tail: nothing was cut off"
    dead = replay_run(folder, quiet)
    assert dead["equal"]
    assert dead["processes"] == 1
    assert trading(tmp_path, 120, kill_at=60) == -signal.SIGKILL
    assert trading(tmp_path, 100) == 0
    summary = replay_run(the_run(tmp_path), quiet)
    assert summary["processes"] == 3
    assert summary["equal"]
    assert summary["rows"] > dead["rows"] > 0


def test_a_run_that_went_on_under_other_limits_comes_out_the_same(tmp_path: Path) -> None:
    assert trading(tmp_path, 120, kill_at=100) == -signal.SIGKILL
    assert trading(tmp_path, 120, kill_at=100, lots=1) == -signal.SIGKILL
    assert trading(tmp_path, 60) == 0
    summary = replay_run(the_run(tmp_path), quiet)
    assert summary["processes"] == 3
    assert summary["equal"]


def test_a_run_whose_size_the_slow_context_changed_comes_out_the_same_and_goes_on_inside_a_window(
    tmp_path: Path,
) -> None:
    """Size 0 for a tenth of a second in three until it dies; 0.3 at any time after it has gone on."""
    short, long, now = tmp_path / "short.yaml", tmp_path / "long.yaml", time.time_ns()
    tenths = [f"{_iso(now + k * 300_000_000)}, minutes: 0.00083333" for k in range(1_000)]
    hours = [f"{_iso(now)}, multiplier: 0.3, minutes: 600"]
    for path, times in ((short, tenths), (long, hours)):
        entries = [f"  - {{name: {path.stem}, currencies: [BTC], time: {when}}}\n" for when in times]
        path.write_text("events:\n" + "".join(entries))
    assert trading(tmp_path, 400, kill_at=350, calendar=str(short)) == -signal.SIGKILL
    before = replay_run(the_run(tmp_path), quiet)
    assert trading(tmp_path, 100, calendar=str(long)) == 0
    folder = the_run(tmp_path)
    summary = replay_run(folder, quiet)
    assert summary["equal"]
    assert summary["processes"] == 2
    assert before["commands"] > 2, "nothing was traded: the test shows nothing"
    rows = read_actions(folder.actions)
    first, second = (part["context_mult"] for part in np.split(rows, [before["rows"]]))
    assert set(first.tolist()) == {0.0, 1.0}
    assert set(second.tolist()) == {float(np.float32(0.3))}
    ledger = LedgerReader(folder.ledger)
    told = [e.body for e in ledger.events() if isinstance(e.body, Control) and e.body.action == "context"]
    ledger.close()
    assert {(one.value, one.reason) for one in told} == {
        (0.0, "macro: short"),
        (1.0, ""),
        (0.3, "macro: long"),
    }


def _iso(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).isoformat()


def test_what_the_engine_saw_is_a_recording_like_any_other(whole: RunFolder) -> None:
    seen = np.concatenate(list(journalled_events(whole)))
    for named in (whole.path, whole.market, sorted(whole.market.iterdir())):
        source = open_recording(named, BTC)
        read = np.concatenate(list(source.batches()))
        assert source.counts.rows == source.counts.events == len(seen)
        assert fieldwise_bytes(read) == fieldwise_bytes(seen)


def test_control_inputs_are_part_of_the_run(whole: RunFolder) -> None:
    ledger = LedgerReader(whole.ledger)
    actions = [e.body.action for e in ledger.events() if isinstance(e.body, Control)]
    assert actions[:2] == ["begin", "start"]
    assert actions[-1] == "stop"
    assert len(processes(ledger)) == 1
    ledger.close()


def test_a_replay_that_parts_from_the_run_says_where(whole: RunFolder, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(whole.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["config"]["risk"]["max_order_lots"] = 1
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(JournalError, match=r"after event|row \d+ differs"):
        replay_run(RunFolder(other), quiet)


def test_an_order_that_the_replay_does_not_ask_for_is_said(whole: RunFolder) -> None:
    config = SystemConfig(**whole.manifest["config"])

    def idle(name: str) -> LoadedModel:
        model = load_folder(whole.models / name)
        weights = np.zeros((1, INPUTS, OUTPUTS), np.float32)
        outputs = np.zeros((1, OUTPUTS), np.float32)
        return model._replace(params=linear_params(weights, outputs, pack_calibration({}, 1, "test")))

    rerun = Rerun(whole, lambda _: Terms([BTC], engine_limits(config)), idle)
    with pytest.raises(JournalError, match="it asks for nothing, then for NewOrder"):
        list(rerun.rows(lambda _: None))


def test_a_model_that_takes_over_from_itself_begins_at_zero_as_it_did_in_the_run(whole: RunFolder) -> None:
    rerun = assemble_rerun(whole)
    engine = rerun.new_engine(rerun.processes[0])
    serving = engine.model.artifact.hash
    swap = Swap(instrument=BTC.name, seq=1, ts=1, before=serving, after=serving, reason="latency")
    before = engine.table
    rerun.swap(engine, swap.note)
    assert engine.table is not before, "the states of the run began at zero, these go on"


def test_a_ledger_without_market_data_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = RunFolder.create(
        tmp_path / "old", {"model_hashes": ["x"], "instruments": ["BTCUSDT"], "config": {}}
    )
    ledger = Ledger(folder.ledger, run="OLD", mode="live")
    ledger.close()
    from emp.engine.limits import EngineLimits

    with pytest.raises(JournalError, match="older release"):
        Rerun(folder, lambda _: Terms([BTC], EngineLimits()), lambda _: None)  # type: ignore[arg-type,return-value]
    assert len(read_actions(folder.actions)) == 0
