"""How long events took, by the hour: `latency.jsonl` of a run, since a replay cannot find it again."""

import os
from pathlib import Path
from typing import Annotated

import msgspec

from emp.core.disk import disk, write_all
from emp.core.errors import JournalError
from emp.journal.files import write_atomically

LATENCY = "latency.jsonl"

PARTS = ("adapter", "model", "total")
"""Of the path of an event, as `engine.step` times them."""

HOUR_NS = 3_600_000_000_000

_WIDTH = 255
"""Bytes of a line: how long it is must not depend on how fast the machine was, or a drill with a full disk would not
play the same again.
"""

Count = Annotated[int, msgspec.Meta(ge=0)]


class Hour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions of one hour made by one model."""

    hour: int  # since 1970, of the time at which events were received
    model: str  # hash
    n: Count  # decisions timed
    p99_ns: tuple[Count, Count, Count]  # of PARTS, an upper bound


class LatencyLog:
    """Adds lines to the file; what an earlier process of the run wrote stays."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LATENCY
        try:
            whole = b"".join(_whole_lines(self._path))
            if self._path.exists() and self._path.stat().st_size != len(whole):
                write_atomically(self._path, whole)  # what a power cut leaves of it may have been signed
            self._file = disk().open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise JournalError(f"cannot write {self._path}: {error.strerror}") from error

    def write(self, hour: Hour) -> None:
        """Hand a line to the operating system."""
        try:
            write_all(self._file, msgspec.json.encode(hour).ljust(_WIDTH) + b"\n")
        except OSError as error:
            raise JournalError(f"cannot write {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """End the file."""
        disk().close(self._file)


def read_latency(folder: Path) -> list[Hour]:
    """Every line of a run's file; none where there is no file. A last line torn by a crash is left out.

    Raises:
        JournalError: the file cannot be read, or a line is none.
    """
    path = folder / LATENCY
    try:
        return [msgspec.json.decode(line, type=Hour) for line in _whole_lines(path)]
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise JournalError(f"{path}: a line is damaged: {error}") from error


def _whole_lines(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [line for line in lines if line.endswith(b"\n")]
