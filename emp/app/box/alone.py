"""One connection at a time, and none that says nothing for long: what a stolen key could hold, it cannot."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emp.app.box.frames import Reads, Writes
from emp.core.errors import UsageError
from emp.core.platform import lock

IDLE_S = 120
"""Longest time in which nothing comes or goes: then the process ends."""


class ImpatientReads:
    """Reads that end this process (SIGALRM) where one is not over in time."""

    def __init__(self, pipe: Reads) -> None:
        self._pipe = pipe

    def read(self, n: int, /) -> bytes:
        """As the pipe does."""
        signal.alarm(IDLE_S)
        return self._pipe.read(n)

    def readline(self, limit: int, /) -> bytes:
        """As the pipe does."""
        signal.alarm(IDLE_S)
        return self._pipe.readline(limit)


class ImpatientWrites:
    """The same of writes."""

    def __init__(self, pipe: Writes) -> None:
        self._pipe = pipe

    def write(self, data: bytes, /) -> int:
        """As the pipe does."""
        signal.alarm(IDLE_S)
        return self._pipe.write(data)

    def flush(self) -> None:
        """As the pipe does."""
        signal.alarm(IDLE_S)
        self._pipe.flush()


@contextmanager
def alone(runs: Path) -> Iterator[None]:
    """While no other connection is served from a folder of runs; UsageError where one is."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(runs / ".box.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UsageError(f"{runs}: cannot be served: {error.strerror}") from error
    try:
        _lock(descriptor, runs)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, runs: Path) -> None:
    try:
        lock(descriptor)
    except BlockingIOError as error:
        raise UsageError(
            f"{runs}: another connection is served: give it again when that has ended"
        ) from error
