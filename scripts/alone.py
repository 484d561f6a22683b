"""A drill alone on its machine: one at a time, nothing of a killed one in its way, its ends in order."""

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "EMP_DRILL"


@contextmanager
def alone(drill: str) -> Iterator[None]:
    """Hold the machine for this drill; SystemExit where another of its kind runs.

    Every process that it starts inherits its name, so that what a killed drill has left running is known by it and
    killed before the next begins. A polite kill and a hang-up end the drill as Ctrl-C does: what it made is undone.
    """
    with Path(tempfile.gettempdir(), f"emp-{drill}-{os.getuid()}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{drill}: another one runs on this machine") from None
        for pid in marked(drill):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.environ[MARK] = drill
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))
        yield


def marked(drill: str) -> list[int]:
    """Processes that a drill of this name has started, and that still live."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if place.name != str(os.getpid()) and f"{MARK}={drill}".encode() in (
                place / "environ"
            ).read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


def unmount_below(folder: Path) -> None:
    """Let go of what is mounted below a folder, the deepest first."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((one for one in mounted if one.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", place], check=True)
