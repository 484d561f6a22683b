"""How far a ledger was acknowledged, in a file beside it: what the ledger itself cannot say when its end is lost.

SQLite keeps the newest rows in a write-ahead file. Where that is lost, cut or damaged, or the ledger is copied without
it, SQLite opens an older state of the same ledger, whole and consistent, and says nothing: acknowledged rows are gone,
and client order ids would be given out again. So after each commit the number and the chained CRC of the newest row
are written here. The file is never synced after it was made: after a loss of power it may say too little, and never
too much, since the ledger was synced first.
"""

import os
import zlib
from pathlib import Path
from typing import NamedTuple

from emp.core.disk import disk
from emp.core.errors import JournalError
from emp.journal.files import refuse_dangling, write_atomically

_BYTES = 48


class Mark(NamedTuple):
    """The newest acknowledged row."""

    seq: int
    crc: int


def mark_path(ledger: Path) -> Path:
    """The companion of a ledger."""
    return ledger.with_name(ledger.name + ".mark")


def read_mark(ledger: Path) -> Mark | None:
    """What was acknowledged; None where there is no companion; JournalError where it cannot be read."""
    path = mark_path(ledger)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        refuse_dangling(path)
        return None
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    try:
        seq, crc, check = data.decode("ascii").split()
        if int(check) != zlib.crc32(f"{seq} {crc}".encode()):
            raise ValueError("its checksum differs")
        return Mark(int(seq), int(crc))
    except ValueError as error:
        raise JournalError(
            f"{path} is damaged: what ledger {ledger} had acknowledged is not known"
        ) from error


class HighWater:
    """Writes the companion of one ledger."""

    def __init__(self, ledger: Path, mark: Mark) -> None:
        """Make the file, durably, with a first mark; raises JournalError."""
        self._path = mark_path(ledger)
        if read_mark(ledger) is None:
            write_atomically(self._path, mark_text(mark))
        try:
            self._file = disk().open(self._path, os.O_WRONLY)
        except OSError as error:
            raise JournalError(f"cannot write {self._path}: {error.strerror}") from error

    def write(self, mark: Mark) -> None:
        """Move the mark; raises OSError."""
        disk().pwrite(self._file, mark_text(mark), 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            disk().close(self._file)
            self._file = -1


def mark_text(mark: Mark) -> bytes:
    """The bytes of the companion."""
    words = f"{mark.seq} {mark.crc}"
    return f"{words} {zlib.crc32(words.encode())}".ljust(_BYTES - 1).encode() + b"\n"
