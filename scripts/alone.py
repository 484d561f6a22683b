"""A drill alone on its machine: one at a time, nothing of a killed one in its way, its ends in order."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "EMP_DRILL"
LOCKS = Path("/var/tmp")
"""Of the whole machine, whoever drills and whatever TMPDIR says."""
GONE_WITHIN_S = 10.0


@contextmanager
def alone(drill: str) -> Iterator[None]:
    """Hold the machine for this drill; SystemExit where another of its kind runs.

    Every process that it starts inherits its name, so that what a killed drill has left running is known by it and
    killed before the next begins. A polite kill and a hang-up end the drill as Ctrl-C does, what it made is undone; a
    hang-up that was to be ignored (nohup) still is.
    """
    path = LOCKS / f"emp-{drill}.lock"
    try:
        lock = os.open(path, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SystemExit(f"{drill}: {path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{drill}: another one runs on this machine") from None
        # the file tells drills of this machine from those of a container that shares its processes
        mark = f"{drill}:{os.fstat(lock).st_ino}"
        clear(mark)
        os.environ[MARK] = mark
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: sys.exit(128 + number))
        yield
    finally:
        os.close(lock)


def clear(mark: str) -> None:
    """Kill what has the mark of a drill that is dead, until nothing has it."""
    until = time.monotonic() + GONE_WITHIN_S
    while pids := marked(mark):
        if time.monotonic() > until:
            raise SystemExit(f"{mark}: processes of an earlier drill do not end: {' '.join(map(str, pids))}")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def marked(mark: str) -> list[int]:
    """Living processes with a mark, but for this one and those that it descends from."""
    found, spared = [], ancestry()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            ours = f"{MARK}={mark}".encode() in (place / "environ").read_bytes().split(b"\0")
            if ours and int(place.name) not in spared:
                found.append(int(place.name))
    return found


def ancestry() -> set[int]:
    """This process, its parent, and so on."""
    pid, found = os.getpid(), set()
    while pid and pid not in found:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found


def unmount_below(folder: Path) -> None:
    """Let go of what is mounted below a folder, the deepest first."""
    below = f"{folder.resolve()}/"
    lines = Path("/proc/mounts").read_text().splitlines()
    mounted = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    for place in sorted((one for one in mounted if one.startswith(below)), reverse=True):
        subprocess.run(["umount", place], check=True)
