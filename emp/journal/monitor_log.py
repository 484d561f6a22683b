"""What watched the model of a run found, line by line: `monitor.jsonl`. With the market journal and the action log it
can be found again, byte for byte. Each line that begins a stretch carries the checksum of those that began the ones
before it: where the beginning of the file is missing, or a stretch within it, that is found.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from emp.core.disk import disk, write_all
from emp.core.errors import JournalError
from emp.journal.files import write_atomically

MONITOR = "monitor.jsonl"

LINEUP = "lineup"
"""Kind of the line that begins a stretch: who is compared from here on."""


def line_of(at: int, kind: str, **data: object) -> bytes:
    """A line as it stands in the file: `at` is how many events of the run came before what it tells."""
    return json.dumps({"at": at, "kind": kind, **data}, sort_keys=True, allow_nan=False).encode() + b"\n"


def chained(line: bytes, before: int) -> int:
    """Checksum of a line that begins a stretch, behind that of those before it (0: none)."""
    return zlib.crc32(line, before)


class MonitorLog:
    """Writes the file; one that an earlier process of the run left is continued."""

    def __init__(self, folder: Path, events: int) -> None:
        """`events` are what the run has journalled: lines that tell of later ones were found for nothing."""
        self._path = folder / MONITOR
        self.events = events
        self._pending: list[bytes] = []
        lines = [(line, told) for line, told in _lines(self._path) if told["at"] <= events]
        kept = b"".join(line for line, _ in lines)
        self._begun = 0  # checksum of the lines that began stretches so far
        for line, told in lines:
            if told["kind"] == LINEUP:
                self._begun = chained(line, self._begun)
        try:
            if self._path.exists() and self._path.stat().st_size != len(kept):
                write_atomically(self._path, kept)
            self._file = disk().open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise self._failed(error) from error

    def write(self, line: bytes) -> None:
        """Take a line of `line_of`."""
        self._pending.append(line)

    def begin(self, at: int, **data: object) -> None:
        """Begin a stretch before event `at`."""
        line = line_of(at, LINEUP, before=self._begun, **data)
        self._begun = chained(line, self._begun)
        self.write(line)

    def flush(self) -> None:
        """Hand over what was taken to the operating system."""
        data, self._pending = b"".join(self._pending), []
        if not data:
            return
        try:
            write_all(self._file, data)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """End the file."""
        try:
            self.flush()
        finally:
            disk().close(self._file)

    def _failed(self, error: OSError) -> JournalError:
        return JournalError(f"cannot write {self._path}: {error.strerror}")


def read_monitor(folder: Path) -> list[tuple[bytes, Mapping[str, Any]]]:
    """Every whole line of a run's file, as bytes and as what it tells; none where there is no file."""
    return list(_lines(folder / MONITOR))


def _lines(path: Path) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    for line in data.splitlines(keepends=True):
        try:
            told = json.loads(line)
        except ValueError:
            return  # torn by a crash
        if not line.endswith(b"\n"):
            return
        yield line, told
