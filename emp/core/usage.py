"""What a process takes of the machine, as the kernel counts it (Linux's /proc; `man 5 proc`)."""

import os
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICKS_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Usage(NamedTuple):
    """One look at a process. Counters run since it began."""

    cpu_s: float  # of all its threads, user and system
    threads_s: dict[int, float]  # the same by thread
    rss: int  # bytes in memory
    written: int  # bytes that it has caused to be written to disks
    descriptors: int


def usage_of(pid: int) -> Usage | None:
    """What process `pid` takes; None where it has ended, belongs to another user, or the system does not tell."""
    here = _PROC / str(pid)
    try:
        threads = {int(path.name): _cpu_s(path / "stat") for path in (here / "task").iterdir()}
        rss = int((here / "statm").read_text().split()[1]) * _PAGE
        written = dict(line.split(": ") for line in (here / "io").read_text().splitlines())
        descriptors = len(os.listdir(here / "fd"))
        return Usage(_cpu_s(here / "stat"), threads, rss, int(written["write_bytes"]), descriptors)
    except (OSError, ValueError, IndexError, KeyError):  # a thread, or all of it, ended between two reads
        return None


def _cpu_s(path: Path) -> float:
    fields = path.read_text().rpartition(")")[2].split()  # the name before it may hold anything
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def is_measurable() -> bool:
    """Whether this system tells at all."""
    return usage_of(os.getpid()) is not None or usage_of(os.getpid()) is not None


def descriptor_limit(pid: int) -> int:
    """Descriptors that a process may have open; 0 where it is not known."""
    try:
        for line in (_PROC / str(pid) / "limits").read_text().splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
    except (OSError, ValueError, IndexError):
        pass
    return 0
