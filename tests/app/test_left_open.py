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
from emp.app.commands.run import Job
from emp.core.errors import EmpError, JournalError, PositionLeftError

LEFT = "left open at the venue: GC +5 (the trade link is down)"


def job(folder: Path, error: EmpError | None, left: str) -> Any:
    """What stands where the wiring makes a run."""
    written: list[object] = []
    kept = SimpleNamespace(path=folder, write_summary=written.append, manifest={"run": "R"})

    async def run() -> None:
        if error is not None:
            raise error

    nothing: dict[signal.Signals, Any] = {}
    made = Job(kept, run, lambda: None, asyncio.Event(), nothing, lambda: {"mode": "live"}, str, lambda: left)  # type: ignore[arg-type]
    return lambda *_: lambda board: made


def started(monkeypatch: pytest.MonkeyPatch, folder: Path, error: EmpError | None, left: str) -> None:
    config = folder / "run.yaml"
    config.write_text("mode: mock\ninstruments: {names: [GC]}\nhttp: {port: 0}\n")
    monkeypatch.setattr(command, "_trading", job(folder, error, left))
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
