"""`emp run --planner`: it decides, is marked, is replayed; too slow it goes off by itself, and the replay knows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from emp.app.cli import main
from emp.app.wiring.rerun import replay_run
from emp.app.wiring.rules import own_rule
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.contracts import Control
from emp.core.errors import ConfigError, JournalError
from emp.engine.choose import load_model
from emp.journal.actionlog import read_actions
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder
from tests.kit.planners import random_planner

from .test_run import start

pytestmark = pytest.mark.earns  # a run in a process of its own


def ran(folder: Path, **settings: str) -> tuple[RunFolder, dict[str, object]]:
    random_planner(folder / "planner", load_model("linear").artifact.hash)
    with start(
        folder,
        "--seconds",
        "8",
        "--planner",
        str(folder / "planner"),
        "--json",
        EMP_ACCESS__SPEED="200",
        EMP_MODEL__SSM_IMPL="linear",
        EMP_MODEL__FALLBACK_IMPL="none",
        **settings,
    ) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    summary: dict[str, object] = json.loads(out.splitlines()[-1])
    return RunFolder(str(summary["run_folder"])), summary


def switches(folder: RunFolder) -> list[float]:
    reader = LedgerReader(folder.ledger)
    found = [
        e.body.value for e in reader.events() if isinstance(e.body, Control) and e.body.action == "planner"
    ]
    reader.close()
    return found


def test_it_decides_is_marked_and_is_replayed(tmp_path: Path) -> None:
    folder, summary = ran(tmp_path, EMP_DECISION__PLANNER_BUDGET_MS="10000")
    assert folder.manifest["rule"]["name"] == "planner (candidate)"
    assert switches(folder) == []
    rows = read_actions(folder.actions)
    assert (rows["reason_code"] == Reason.PLANNED).sum() > 100
    assert int(str(summary["fills"])) > 0
    assert replay_run(folder, lambda *_: None)["action_log_sha256"] == summary["action_log_sha256"]

    random_planner(tmp_path / "planner", load_model("linear").artifact.hash, seed=9)
    assert replay_run(folder, lambda *_: None)["action_log_sha256"] == summary["action_log_sha256"], (
        "the run has a copy of its own"
    )
    shutil.rmtree(folder.planner)  # a run of an older release has none
    with pytest.raises(
        JournalError, match=r"a planner decided, planner \(candidate\), and it has changed since"
    ):
        replay_run(folder, lambda *_: None)


def test_too_slow_it_is_off_and_the_rule_decides(tmp_path: Path) -> None:
    folder, summary = ran(tmp_path, EMP_DECISION__PLANNER_BUDGET_MS="0.000001")
    assert switches(folder) == [0.0], (
        "no search can take so little: it goes off, and no probe lets it on again"
    )
    rows = read_actions(folder.actions)
    planned = rows["reason_code"] == Reason.PLANNED
    assert planned.sum() < 200, "what was decided until it went off"
    after = rows[np.flatnonzero(planned).max(initial=-1) + 1 :]
    assert len(after) > 200
    assert (after["reason_code"] == Reason.NO_EDGE).any(), "from then on the rule decides"
    assert replay_run(folder, lambda *_: None)["action_log_sha256"] == summary["action_log_sha256"]
    said = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    (off,) = [one for one in said if one["event"] == "the planner is off, the rule decides"]
    assert "took longer than 1e-06 ms" in off["why"]


def test_money_is_not_put_at_a_planner_and_two_cannot_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    access = {"connection_protocol": "fix", "host": "h", "port": 1}
    settings = {"instruments": {"names": ["GC"]}, "access": access, "decision": {"planner": "planner"}}
    with pytest.raises(ConfigError, match="trades in mock and paper only"):
        own_rule(SystemConfig(mode="live", **settings))  # type: ignore[arg-type]
    both = {"planner": "p", "rule": "mine:rule"}
    with pytest.raises(ConfigError, match="one of the two decides"):
        own_rule(SystemConfig(mode="mock", instruments={"names": ["GOOG"]}, decision=both))  # type: ignore[arg-type]
    (tmp_path / "emp.yaml").write_text("mode: mock\ninstruments: {names: [GOOG]}\n")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "run",
                "--config",
                str(tmp_path / "emp.yaml"),
                "--planner",
                str(tmp_path / "no"),
                "--seconds",
                "1",
            ]
        )
    assert ended.value.code
    assert "not a planner" in " ".join(capsys.readouterr().err.split())
    random_planner(tmp_path / "planner", "0" * 64)
    monkeypatch.setenv("EMP_RUN_DIR", str(tmp_path / "runs"))
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "run",
                "--config",
                str(tmp_path / "emp.yaml"),
                "--planner",
                str(tmp_path / "planner"),
                "--seconds",
                "1",
            ]
        )
    assert ended.value.code
    assert "trained on the forecasts of model 000000000000" in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "runs").glob("mock-*")), "nothing of a run that could not begin is left"
