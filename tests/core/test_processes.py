"""Work over processes: every part once, as it ends; a death in one line; nothing outlives the caller."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from emp.core.errors import DataError, UsageError
from emp.core.processes import in_processes

_given: list[int] = []


def _take(number: int) -> None:
    _given.append(number)


def _add(part: int) -> int:
    return part + _given[0]


def _fail(part: int) -> int:
    raise DataError(f"part {part}")


def _die(part: int) -> int:
    """By a signal, or with an exit code: below 0."""
    if part < 0:
        os._exit(-part)
    os.kill(os.getpid(), part)
    return part


def _note(part: str) -> None:
    Path(part).write_text(str(os.getpid()))
    if part.endswith("busy"):
        time.sleep(120.0)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, though its parent may not have asked for it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_each_part_is_made_once_by_a_prepared_process() -> None:
    found = dict(in_processes(_add, range(7), 2, prepare=_take, given=(10,)))
    assert found == {part: part + 10 for part in range(7)}
    assert not _given, "it was prepared here"


def test_parts_are_taken_as_processes_come_free() -> None:
    taken = count()
    results = in_processes(_add, iter(taken), 2, prepare=_take, given=(1,))
    part, made = next(results)
    assert made == part + 1
    results.close()  # type: ignore[attr-defined]
    assert next(taken) == 4, "two for each process"


def test_what_a_part_raises_is_raised_here() -> None:
    with pytest.raises(DataError, match="part 3"):
        list(in_processes(_fail, [3], 2))


def test_a_process_that_dies_is_told_in_one_line() -> None:
    for part, how in (
        (signal.SIGKILL, r"killed \(SIGKILL\), by somebody or for lack of memory: fewer than 2 at once .*"),
        (signal.SIGSEGV, "signal SIGSEGV"),
        (signal.SIGTERM, "signal SIGTERM"),
        (-3, "exit code 3"),
    ):
        with pytest.raises(UsageError, match=f"^a process ended before its work was done: {how}$") as told:
            list(in_processes(_die, [int(part)], 2))
        assert "\n" not in str(told.value)


class _OddError(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}{b}")


def _raise_odd(part: int) -> int:
    raise _OddError(part, part)


def test_what_cannot_be_read_is_no_process_that_ended() -> None:
    with pytest.raises(
        UsageError, match=r"^what a process has made cannot be read: TypeError: .*__init__"
    ) as told:
        list(in_processes(_raise_odd, [1], 2))
    assert "\n" not in str(told.value)


def test_what_preparing_raises_is_raised_here() -> None:
    with pytest.raises(DataError, match="part 5"):
        list(in_processes(_add, range(7), 2, prepare=_fail, given=(5,)))


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A program that waits for one of two processes, in a group of its own as a terminal makes one, and the two."""
    files = [tmp_path / "busy", tmp_path / "idle"]
    code = (
        "from tests.core.test_processes import _note\n"
        "from emp.core.processes import in_processes\n"
        "import sys\n"
        "if __name__ == '__main__':\n"
        "    list(in_processes(_note, sys.argv[1:], 2))\n"
    )
    script = tmp_path / "caller.py"
    script.write_text(code)
    root = Path(__file__).resolve().parents[2]
    program = subprocess.Popen(
        [sys.executable, str(script), *map(str, files)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    until = time.monotonic() + 60.0
    while not all(one.exists() and one.read_text() for one in files) and time.monotonic() < until:
        time.sleep(0.05)
    yield program, [int(one.read_text()) for one in files]
    with program:
        program.kill()


def _all_gone(pids: list[int]) -> bool:
    until = time.monotonic() + 20.0
    while not all(map(_is_gone, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return all(map(_is_gone, pids))


def test_ctrl_c_ends_them_and_is_told_once(caller: tuple["subprocess.Popen[str]", list[int]]) -> None:
    program, pids = caller
    for one in pids:  # a terminal tells all of a group, in no order
        os.kill(one, signal.SIGINT)
    time.sleep(0.5)
    assert not any(map(_is_gone, pids))
    os.kill(program.pid, signal.SIGINT)
    _, said = program.communicate(timeout=30.0)
    assert said.count("KeyboardInterrupt") == 1, said
    assert _all_gone(pids)


def test_they_end_with_a_caller_that_is_killed(caller: tuple["subprocess.Popen[str]", list[int]]) -> None:
    program, pids = caller
    program.kill()
    program.wait()
    assert _all_gone(pids)
