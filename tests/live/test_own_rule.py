"""`emp run` with a rule of the user's own: it trades, is marked, is replayed, is refused live, and fails flat."""

import json
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.app.wiring.rerun import replay_run
from emp.app.wiring.rules import own_rule
from emp.core.codes import Reason
from emp.core.config.config import SystemConfig
from emp.core.errors import ConfigError, JournalError
from emp.journal.actionlog import read_actions
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder

from .test_run import start

pytestmark = pytest.mark.earns  # a run in a process of its own

RULE = """
import numba
import numpy as np

import emp


@numba.njit
def alternating(seen, request, mine):
    mine[0] += 1
    if seen.order_state == 0 and seen.position <= 0:
        emp.post(request, 1, seen.bid, 1)
    elif seen.order_state == 0:
        emp.post(request, -1, seen.ask, seen.position)
    elif seen.order_state == 2 and mine[0] % 50 == 0:
        emp.cancel(request)


rule = emp.Rule(alternating, memory=np.zeros(1, np.int64))


def breaking(seen, request):
    if seen.position > 0:
        raise RuntimeError("out of ideas")
    if seen.order_state == 0:
        emp.cross(request, 1, 1)


def leaving(seen, request):
    if seen.position > 0:
        raise SystemExit("out of here")
    if seen.order_state == 0:
        emp.cross(request, 1, 1)
"""


def ran(folder: Path, rule: str) -> dict[str, object]:
    (folder / "mine.py").write_text(RULE)
    with start(
        folder,
        "--seconds",
        "16",
        "--json",
        EMP_ACCESS__SPEED="200",
        EMP_DECISION__RULE=f"{folder}/mine.py:{rule}",
        EMP_MODEL__SSM_IMPL="linear",
        EMP_MODEL__FALLBACK_IMPL="none",
    ) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    summary: dict[str, object] = json.loads(out.splitlines()[-1])
    return summary


def test_it_trades_is_marked_and_is_replayed(tmp_path: Path) -> None:
    summary = ran(tmp_path, "rule")
    assert int(str(summary["fills"])) > 0
    folder = RunFolder(str(summary["run_folder"]))
    assert folder.manifest["rule"]["name"] == "alternating"
    rows = read_actions(folder.actions)
    assert (rows["reason_code"] == Reason.OWN_RULE).sum() > 100
    again = replay_run(folder, lambda *_: None)
    assert again["action_log_sha256"] == summary["action_log_sha256"]

    (tmp_path / "mine.py").write_text(RULE.replace("% 50", "% 51"))
    with pytest.raises(JournalError, match="alternating, and it has changed since"):
        replay_run(folder, lambda *_: None)
    (tmp_path / "mine.py").unlink()
    with pytest.raises(JournalError, match=r"alternating: .*no such file"):
        replay_run(folder, lambda *_: None)


@pytest.mark.parametrize(
    ("rule", "why"),
    [("breaking", "RuntimeError: out of ideas (mine.py, line"), ("leaving", "SystemExit: out of here")],
)
def test_a_rule_that_fails_is_flat_halted_and_says_why(tmp_path: Path, rule: str, why: str) -> None:
    summary = ran(tmp_path, rule)
    folder = RunFolder(str(summary["run_folder"]))
    reader = LedgerReader(folder.ledger)
    fills = reader.fills()
    reader.close()
    assert fills
    assert sum(f.side * f.qty for f in fills) == 0
    said = [json.loads(line) for line in (folder.path / "log.jsonl").read_text().splitlines()]
    (failed,) = [one for one in said if one["event"] == "the rule failed: everything is closed"]
    assert why in failed["error"]
    rows = read_actions(folder.actions)
    assert rows["halted"][-1]


def test_money_is_not_put_at_a_rule_that_no_gate_has_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    access = {"connection_protocol": "fix", "host": "h", "port": 1}
    settings = {"instruments": {"names": ["GC"]}, "access": access, "decision": {"rule": "mine:rule"}}
    with pytest.raises(ConfigError, match="trades in mock and paper only"):
        own_rule(SystemConfig(mode="live", **settings))  # type: ignore[arg-type]
    (tmp_path / "emp.yaml").write_text(
        "mode: mock\ninstruments: {names: [GOOG]}\ndecision: {rule: nowhere.py:rule}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", "--config", str(tmp_path / "emp.yaml"), "--seconds", "1"])
    assert ended.value.code
    assert "no such file: nowhere.py" in " ".join(capsys.readouterr().err.split())
