"""A terminal that ends takes its run with it in order; a run outlives what it says, and says who it is."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder
from tests.kit.http import fetch_good

ROOT = Path(__file__).resolve().parents[2]
SECONDS = ("--seconds", "2")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    kept = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith("EMP_") or k in ("EMP_DATA", "EMP_CACHE", "EMP_STATE")
    }
    fast = {"EMP_HTTP__PORT": "0", "EMP_WARM_UP_EVENTS": "50", "EMP_ACCESS__SPEED": "100"}
    return kept | fast | {"EMP_RUN_DIR": str(folder / "runs")} | settings


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "emp", "run", "--config", str(ROOT / "examples/mock.yaml"), *arguments]


def hang_up_heard() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def hang_up_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def health(port: int) -> dict[str, Any]:
    """What a run says of itself once it trades."""
    for _ in range(1_200):  # the first run on a machine compiles
        time.sleep(0.1)
        try:
            found: dict[str, Any] = json.loads(fetch_good(port, "health"))
            return found
        except OSError:
            continue
    raise AssertionError("it never answered")


def wait(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")


def only_run(folder: Path) -> RunFolder:
    (path,) = (folder / "runs").iterdir()
    return RunFolder(path)


def ended_in_order(folder: Path) -> RunFolder:
    """The only run there; its ledger is sealed, nothing is open, the result is written."""
    run = only_run(folder)
    reader = LedgerReader(run.ledger)
    assert reader.sealed
    assert reader.open_orders() == []
    reader.close()
    assert run.summary()["events"] > 0
    return run


def complaints(run: RunFolder) -> list[str]:
    lines = (run.path / "log.jsonl").read_text().splitlines()
    return [line for line in lines if "can no longer be written to" in line]


def test_the_hang_up_of_a_terminal_ends_the_run_in_order(tmp_path: Path) -> None:
    port = free_port()
    pid, terminal = pty.fork()
    if pid == 0:
        hang_up_heard()
        os.chdir(tmp_path)
        os.execve(sys.executable, command(), environment(tmp_path, EMP_HTTP__PORT=str(port)))
    try:
        read_until_it_trades(terminal, port)
    finally:
        os.close(terminal)  # the window is closed: the kernel hangs up
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    ended_in_order(tmp_path)


def read_until_it_trades(terminal: int, port: int) -> None:
    os.set_blocking(terminal, False)
    for _ in range(1_200):
        time.sleep(0.1)
        with suppress(BlockingIOError):
            os.read(terminal, 1 << 16)
        try:
            fetch_good(port, "health")
            return
        except OSError:
            continue
    raise AssertionError("it never traded")


def test_a_run_of_nohup_goes_on_and_a_second_one_names_it(tmp_path: Path) -> None:
    port = free_port()
    told = environment(tmp_path, EMP_HTTP__PORT=str(port))
    with subprocess.Popen(command(), env=told, preexec_fn=hang_up_ignored, cwd=tmp_path) as process:
        first = health(port)
        process.send_signal(signal.SIGHUP)
        other = subprocess.run(command(), env=told, capture_output=True, text=True, cwd=tmp_path)
        assert other.returncode == 2
        assert other.stderr == (
            f"emp: http.port: {port} on 127.0.0.1 is in use by run {first['run']} (pid {process.pid});"
            f" `emp stop {first['run']}` ends it in order (or `kill {process.pid}`),"
            " or set http.port (0: any free one)\n"
        )
        assert health(port)["run"] == first["run"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    ended_in_order(tmp_path)


def test_a_port_of_another_program_is_not_taken_for_a_run(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = environment(tmp_path, EMP_HTTP__PORT=str(port))
        found = subprocess.run(command(), env=told, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 2
    assert "is in use by another program" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_a_detached_run_is_told_and_ends_when_told(tmp_path: Path) -> None:
    port = free_port()
    told = environment(tmp_path, EMP_HTTP__PORT=str(port))
    started = subprocess.run(
        command("--detach", "--json"), env=told, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    facts = json.loads(started.stdout.splitlines()[-1])
    assert health(port)["pid"] == facts["pid"]
    assert os.getsid(facts["pid"]) == facts["pid"], "it is still of the terminal's session"
    os.kill(facts["pid"], signal.SIGHUP)
    time.sleep(0.5)
    assert health(port)["run"] == facts["run"]
    os.kill(facts["pid"], signal.SIGTERM)
    wait(lambda: (Path(facts["run_folder"]) / "summary.json").exists())
    assert ended_in_order(tmp_path).path == Path(facts["run_folder"])


def test_a_detached_run_that_cannot_start_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    told = environment(tmp_path, EMP_INSTRUMENTS__NAMES="NOPE")
    found = subprocess.run(command("--detach"), env=told, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 3
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("emp: unknown instrument")


@pytest.mark.parametrize(
    ("redirection", "code", "lines"),
    [("2>&1 | head -1", 0, 1), ("2>/dev/full", 0, 1), (">&- 2>&-", 0, 0), ("--json >/dev/full", 74, 0)],
)
def test_words_that_nobody_can_read_end_no_run(
    tmp_path: Path, redirection: str, code: int, lines: int
) -> None:
    words = " ".join(f"'{word}'" for word in command(*SECONDS))
    found = subprocess.run(
        ["bash", "-c", f"{words} {redirection}; exit ${{PIPESTATUS[0]}}"],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert found.returncode == code, found.stderr
    assert len(complaints(ended_in_order(tmp_path))) == lines
    assert "Traceback" not in found.stderr


def test_a_run_in_the_folder_it_is_called_in_finds_the_shipped_example(tmp_path: Path) -> None:
    told = environment(tmp_path)
    del told["EMP_RUN_DIR"]  # so that its run folder has a relative name
    words = [sys.executable, "-m", "emp", "run", *SECONDS]
    found = subprocess.run(
        words, cwd=tmp_path, env=told | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    ended_in_order(tmp_path)
