"""A run that ends with a position says so in its last line and its exit code."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emp.app.commands import run as command
from emp.app.wiring.job import Job
from emp.core.errors import EmpError, JournalError, PositionLeftError, UsageError

LEFT = "left open at the venue: GC +5 (the trade link is down)"


def job(folder: Path, error: EmpError | None, left: str) -> Any:
    """What stands where the wiring makes a run."""
    written: list[object] = []
    kept = SimpleNamespace(path=folder, write_summary=written.append, manifest={"run": "R"})

    async def run() -> None:
        if error is not None:
            raise error

    nothing: dict[signal.Signals, Any] = {}
    made = Job(
        kept,
        run,
        lambda: None,
        asyncio.Event(),
        nothing,
        lambda: {"mode": "live", "run_folder": "runs/live-R"},
        str,
        lambda: left,
    )  # type: ignore[arg-type]
    return lambda *_: lambda board: made


def started(monkeypatch: pytest.MonkeyPatch, folder: Path, error: EmpError | None, left: str) -> None:
    config = folder / "run.yaml"
    config.write_text("mode: mock\ninstruments: {names: [GC]}\nhttp: {port: 0}\n")
    monkeypatch.setattr("emp.app.wiring.job.trading", job(folder, error, left))
    command.run(config, None, False, False)


def test_an_orderly_end_with_a_position_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PositionLeftError, match=r"left open at the venue: GC \+5"):
        started(monkeypatch, tmp_path, None, LEFT)


def test_a_failure_names_the_position_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JournalError) as raised:
        started(monkeypatch, tmp_path, JournalError("the disk is full"), LEFT)
    assert str(raised.value) == f"the disk is full; {LEFT}"


def test_without_one_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started(monkeypatch, tmp_path, None, "")
    with pytest.raises(JournalError) as raised:
        started(monkeypatch, tmp_path, JournalError("the disk is full"), "")
    assert str(raised.value) == "the disk is full"


def test_the_shell_sees_it(tmp_path: Path) -> None:
    code = (
        "import emp.app.cli as cli, emp.app.commands.run as r\n"
        "from emp.core.errors import PositionLeftError\n"
        "def left(*a, **k): raise PositionLeftError('left open at the venue: GC +5')\n"
        "r.default_config = left\n"
        "cli.main(['run'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == PositionLeftError.exit_code == 7
    assert done.stderr.splitlines()[-1] == "emp: left open at the venue: GC +5"


def test_with_flat_the_kill_switch_is_pulled_first_and_it_ends_once_nothing_is_left() -> None:
    said: list[str] = []
    held = ["GC +5", "GC +2", ""]
    ended, connected = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        said.append("run")
        connected.set()
        await ended.wait()

    def left() -> str:
        return held.pop(0) if len(held) > 1 else held[0]

    def stop() -> None:
        said.append("stop")
        ended.set()

    nothing: dict[signal.Signals, Any] = {}
    made = Job(None, run, stop, connected, nothing, dict, str, left, said.append)  # type: ignore[arg-type]
    asyncio.run(command._until_stopped(made, None, flat=True))
    assert said == ["flat", "run", "stop"]
    assert held == [""]


def test_flat_is_of_a_live_account_alone(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("mode: mock\ninstruments: {names: [GC]}\nhttp: {port: 0}\n")
    with pytest.raises(UsageError, match="only a live account"):
        command.run(config, None, False, True)
