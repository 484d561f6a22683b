"""`emp runs`: what came of every run, whatever state it was left in; and what two runs differ in."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.app.cli import main
from emp.app.report.data import read_run
from emp.app.report.page import key_figures
from emp.core.instrument import find
from emp.engine.control_socket import NAME
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions
from emp.journal.ledger import Ledger
from emp.journal.records import Note
from emp.journal.run import RunFolder, build_manifest
from tests.kit.backtests import backtest, kill
from tests.kit.events import random_events
from tests.kit.models import engine

pytestmark = pytest.mark.usefixtures("compiled_engine")
EVENTS = random_events(2_500, 5)


def made(folder: Path, name: str) -> Backtest:
    return backtest(folder, engine(folder / "model"), EVENTS, name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended, one that was killed, and one whose action log is damaged."""
    folder = tmp_path_factory.mktemp("runs")
    running = made(folder, "replay-GOOG-AAAAAAAA")
    summary = running.run()
    assert running.journal is not None
    running.journal.folder.write_summary(summary)
    kill(made(folder, "replay-GOOG-BBBBBBBB"), after=3)
    shutil.copytree(folder / "replay-GOOG-AAAAAAAA", folder / "replay-GOOG-CCCCCCCC")
    (folder / "replay-GOOG-CCCCCCCC" / "actions" / "part-00000.parquet").write_bytes(b"no parquet")
    shutil.rmtree(folder / "model")
    return folder


def emp(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, Any]:
    with pytest.raises(SystemExit) as ended:
        main([*words])
    out, err = capsys.readouterr()
    lines = out.splitlines()
    said = json.loads(lines[-1]) if "--json" in words and ended.value.code in (0, None) else err
    return int(ended.value.code or 0), out, said


def listed(capsys: pytest.CaptureFixture[str], runs: Path) -> dict[str, dict[str, Any]]:
    code, _, said = emp(capsys, "runs", "--runs", str(runs), "--json")
    assert code == 0
    return {Path(one["folder"]).name: one for one in said["runs"]}


def test_a_run_that_ended_says_what_its_summary_says(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    one = listed(capsys, runs)["replay-GOOG-AAAAAAAA"]
    summary = json.loads((runs / "replay-GOOG-AAAAAAAA" / "summary.json").read_text())
    assert summary["fills"] > 0
    assert one["state"] == "ended"
    assert {n: one[n] for n in ("pnl_ticks", "fees", "fills", "halted")} == {
        n: summary[n] for n in ("pnl_ticks", "fees", "fills", "halted")
    }
    assert (one["mode"], one["instruments"], one["run"]) == ("replay", ["GOOG"], "TESTRUN0")
    assert one["began"] < one["ended"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which process holds a file")
def test_a_run_that_is_starting_is_running_and_says_what_ends_it(
    capsys: pytest.CaptureFixture[str], runs: Path, tmp_path: Path
) -> None:
    """Its first start compiles for minutes before it is served."""
    folder = tmp_path / "replay-GOOG-BBBBBBBB"
    shutil.copytree(runs / folder.name, folder)
    ledger = Ledger(folder / "ledger.sqlite")
    try:
        assert listed(capsys, tmp_path)[folder.name]["state"] == "running"
        code, _, said = emp(capsys, "stop", str(folder))
        assert code != 0
        assert f"`kill {os.getpid()}` ends it" in said
    finally:
        ledger.close()
    assert listed(capsys, tmp_path)[folder.name]["state"] == "unfinished"
    assert "no engine runs there" in emp(capsys, "stop", str(folder))[2]


def test_a_run_that_was_killed_says_what_its_newest_decision_says(
    capsys: pytest.CaptureFixture[str], runs: Path
) -> None:
    one = listed(capsys, runs)["replay-GOOG-BBBBBBBB"]
    rows = read_actions(runs / "replay-GOOG-BBBBBBBB" / "actions")
    assert one["state"] == "unfinished"
    assert one["pnl_ticks"] == rows["pnl_ticks"][-1] != rows["pnl_ticks"][0]
    assert one["fills"] is None


def test_a_run_that_an_engine_listens_in_is_running(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    path = runs / "replay-GOOG-BBBBBBBB" / NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as served:
        served.bind(str(path))
        assert listed(capsys, runs)["replay-GOOG-BBBBBBBB"]["state"] == "unfinished"  # bound, nobody listens
        served.listen()
        assert listed(capsys, runs)["replay-GOOG-BBBBBBBB"]["state"] == "running"
    path.unlink()


def test_a_damaged_run_is_listed_with_what_is_wrong(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    one = listed(capsys, runs)["replay-GOOG-CCCCCCCC"]
    assert one["state"] == "unreadable"
    assert "part-00000.parquet" in one["reason"]


def test_the_report_holds_what_no_fill_has_brought(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "replay-GOOG-BBBBBBBB"
    shutil.copytree(runs / folder.name, folder)
    (before,) = read_run(folder)
    assert before.position == int((before.fills["side"] * before.fills["qty"]).sum())
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.record_note(Note(kind="carried_over", ts=1, instrument="GOOG", data={"position": 7}))
    ledger.record_note(Note(kind="adjustment", ts=2, instrument="GOOG", data={"qty": -3, "px": 1000.0}))
    ledger.record_note(Note(kind="adjustment", ts=3, instrument="MSFT", data={"qty": 50, "px": 1000.0}))
    ledger.close()
    (run,) = read_run(folder)
    assert run.position == before.position + 4
    assert key_figures(run)["final position"] == f"{run.position:+,}"


def test_two_runs_are_compared_by_what_differs(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    code, _, said = emp(capsys, "runs", "replay-GOOG-A", "replay-GOOG-B", "--runs", str(runs), "--json")
    summary = json.loads((runs / "replay-GOOG-AAAAAAAA" / "summary.json").read_text())
    assert code == 0
    assert said["differences"]["pnl_ticks"] == [summary["pnl_ticks"], None]
    code, out, _ = emp(capsys, "runs", "replay-GOOG-A", "replay-GOOG-A", "--runs", str(runs))
    assert (code, out.strip()) == (0, "no difference")


def test_what_cannot_be_done_is_one_line(capsys: pytest.CaptureFixture[str], runs: Path) -> None:
    code, _, said = emp(capsys, "runs", "replay-GOOG-A", "--runs", str(runs))
    assert code == 2
    assert said.count("\n") == 1
    code, _, said = emp(capsys, "runs", "replay-GOOG-A", "ZZZ", "--runs", str(runs))
    assert code == 2
    assert "no run ZZZ" in said


def test_an_empty_folder_has_no_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no run in" in emp(capsys, "runs", "--runs", str(tmp_path / "nothing"))[1]


def test_money_adds_up_and_ticks_of_unlike_instruments_do_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # a row is one line, however long the folder's name

    def run(name: str, **pnl: float) -> None:
        facts = [msgspec.to_builtins(find(one)) for one in pnl]
        manifest = build_manifest(
            run=name, mode="mock", config={}, instruments=list(pnl), model_hashes=["m"], facts=facts
        )
        folder = RunFolder.create(tmp_path / f"mock-{name}", manifest)
        parts = {one: {"pnl_ticks": ticks, "fees": 1.0} for one, ticks in pnl.items()}
        folder.write_summary({"fills": 3, "halted": False, "instruments": parts})

    run("ALIKE000", GOOG=50.0, TSLA=-20.0)
    run("UNLIKE00", GOOG=50.0, GC=-2.0)
    found = listed(capsys, tmp_path)
    assert found["mock-ALIKE000"]["pnl_ticks"] == 30.0
    assert found["mock-ALIKE000"]["pnl_money"] == {"USD": pytest.approx(0.3)}
    assert found["mock-UNLIKE00"]["pnl_ticks"] is found["mock-UNLIKE00"]["fees"] is None
    assert found["mock-UNLIKE00"]["pnl_money"] == {"USD": pytest.approx(0.5 - 2 * 10.0)}
    assert found["mock-ALIKE000"]["fees_money"] == {"USD": pytest.approx(0.02)}
    assert found["mock-UNLIKE00"]["fees_money"] == {"USD": pytest.approx(0.01 + 10.0)}
    shown = emp(capsys, "runs", "--runs", str(tmp_path))[1]
    assert "10.01 USD" in next(line for line in shown.splitlines() if "UNLIKE00" in line)
