"""Drills alone on their machine: what one that was killed has left does not stand in the next one's way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
DRILL = """
import subprocess, sys, time
from alone import alone
with alone("a_drill_of_the_tests"):
    try:
        child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(child.pid, flush=True)
        time.sleep(60)
    finally:
        print("undone", flush=True)
"""
SHORT = """
from alone import alone
with alone("a_drill_of_the_tests"):
    print("held", flush=True)
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="drills are for Linux: they read /proc")


def started(**more: str) -> "tuple[subprocess.Popen[str], int]":
    """A drill that holds the machine, and the process that it has started."""
    drill = subprocess.Popen(
        [sys.executable, "-c", DRILL],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS)} | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert drill.stdout is not None
    return drill, int(drill.stdout.readline() or 0)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_what_a_killed_drill_has_left_goes_before_the_next() -> None:
    first, left = started()
    first.kill()
    first.communicate()
    assert alive(left)
    second, child = started()
    assert not alive(left)
    assert alive(child)
    second.send_signal(signal.SIGTERM)  # a polite kill undoes what was made
    said, _ = second.communicate()
    assert second.returncode == 128 + signal.SIGTERM
    assert said == "undone\n"
    os.kill(child, signal.SIGKILL)


def test_another_place_for_temporary_files_is_no_other_machine(tmp_path: Path) -> None:
    first, child = started()
    second, nothing = started(TMPDIR=str(tmp_path))
    second.communicate()
    assert (nothing, second.returncode) == (0, 1)
    assert alive(child)
    first.terminate()
    first.communicate()
    os.kill(child, signal.SIGKILL)


def test_what_was_told_to_outlive_its_terminal_does() -> None:
    held = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does, and a child inherits it
    try:
        drill, child = started()
    finally:
        signal.signal(signal.SIGHUP, held)
    drill.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert drill.poll() is None
    drill.terminate()
    assert drill.communicate()[0] == "undone\n"
    os.kill(child, signal.SIGKILL)


def test_a_drill_within_a_drills_shell_does_not_kill_the_shell() -> None:
    mark = f"a_drill_of_the_tests:{os.stat('/var/tmp/emp-a_drill_of_the_tests.lock').st_ino}"
    shell = subprocess.run(
        ["sh", "-c", f"\"$0\" -c '{SHORT}'; echo on", sys.executable],
        env=os.environ | {"PYTHONPATH": str(SCRIPTS), "EMP_DRILL": mark},
        capture_output=True,
        text=True,
    )
    assert (shell.returncode, shell.stdout) == (0, "held\non\n")


def test_two_drills_of_a_kind_do_not_run_at_once() -> None:
    first, child = started()
    second, nothing = started()
    _, why = second.communicate()
    assert (nothing, second.returncode) == (0, 1)
    assert why == "a_drill_of_the_tests: another one runs on this machine\n"
    assert alive(child)
    first.kill()
    first.communicate()
    os.kill(child, signal.SIGKILL)
