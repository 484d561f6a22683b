"""`emp validate` is red when something is broken; `emp doctor` names what is missing, and never a value."""

import json
import os
import socket
from pathlib import Path

import pytest

from emp.app import checks, status
from emp.app.cli import main
from emp.bus import order
from emp.core.config.secrets import Secret
from emp.observe import metrics
from emp.observe.validation import run_check

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in [
        n for n in os.environ if n.startswith("EMP_") and n not in ("EMP_DATA", "EMP_CACHE", "EMP_STATE")
    ]:
        monkeypatch.delenv(name)


def emp(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict, str]:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--json"])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(out.splitlines()[-1]), out + err


def test_every_check_is_green_here(capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = emp(capsys, "validate")
    assert report["failed"] == []
    assert (code, report["ok"], report["green"]) == (0, True, len(checks.CHECKS))


def broken_guard(guard, events, out_reason) -> int:
    out_reason[:] = 0
    return len(events)


@pytest.mark.parametrize(
    ("check", "target", "name", "broken"),
    [
        (checks.ordering_guard, order, "admit", broken_guard),
        (checks.contracts_unchanged, checks, "ACTION_LOG", checks.ACTION_LOG + " another"),
        (checks.contracts_unchanged, checks, "MARKET_STATE", "ts seq"),
        (checks.secrets_stay_hidden, Secret, "__repr__", Secret.reveal),
        (checks.metrics_are_the_roadmaps, metrics, "_families", lambda view: []),
        (checks.config_precedence, checks, "_environment", lambda **_: checks.tempfile.TemporaryDirectory()),
    ],
)
def test_a_check_is_red_when_what_it_checks_is_broken(monkeypatch, check, target, name, broken) -> None:
    monkeypatch.setattr(target, name, broken)
    found = next(c for c in checks.CHECKS if c.run is check)
    assert run_check(found).status == "red"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (
            "| yes | yes | the same code | `emp validate --only ledger`",
            "| no | no | no | `emp report`: no such command",
            "exists: the row says no",
        ),
        ("`emp validate --only ledger`", "`emp validate --only nothing`", "ended with 2"),
        ("`emp validate --only ledger`", "a promise", "names no command"),
    ],
)
def test_a_row_of_the_readme_that_does_not_hold_is_red(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str, after: str, says: str
) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| |") or before in line]
    assert len(rows) == 2
    (tmp_path / "README.md").write_text(
        "\n".join([status.HEADING, rows[0], "|---|", rows[1].replace(before, after)])
    )
    monkeypatch.setattr(status, "PACKAGE", tmp_path / "emp")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = run_check(next(c for c in checks.CHECKS if c.name == "README status"))
    assert found.status == "red"
    assert says in found.detail


def test_look_ahead_and_chance_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    decided, calls = checks._decided, []

    def peeking(rows):
        found = decided(rows)
        found["edge_ticks"] += rows["bid_px"][-1, 0] + len(calls)
        calls.append(1)
        return found

    monkeypatch.setattr(checks, "_decided", peeking)
    for name in ("no look-ahead", "artifact and determinism"):
        assert run_check(next(c for c in checks.CHECKS if c.name == name)).status == "red"


def test_a_red_check_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(checks, "METRICS", {"nothing"})
    code, report, _ = emp(capsys, "validate", "--only", "metrics")
    assert (code, report["ok"], report["failed"]) == (1, False, ["metrics"])


def test_a_healthy_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_HTTP__PORT", "0")
    code, report, _ = emp(capsys, "doctor")
    assert (code, report["bad"]) == (0, [])


def test_the_doctor_names_what_is_missing_and_never_a_value(capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMP_FIX_PASSWORD", "hunter2")
    monkeypatch.setenv("EMP_INSTRUMENTS__NAMES", "NOPE")
    monkeypatch.setenv("EMP_MODEL__ARTIFACT", str(tmp_path / "absent"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("EMP_HTTP__PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("EMP_ACCESS__HOST", "127.0.0.1")
        code, report, text = emp(capsys, "doctor", "--config", "examples/paper.yaml")
    assert code == 1
    assert {"credentials", "instrument", "model", "http port", "venue"} <= set(report["bad"])
    assert "EMP_FIX_USERNAME is missing" in text
    assert "EMP_FIX_PASSWORD is present" in text
    assert "hunter2" not in text


def test_a_bad_configuration_is_one_finding(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_SEED", "x")
    code, report, _ = emp(capsys, "doctor")
    assert (code, report["bad"]) == (1, ["configuration"])
