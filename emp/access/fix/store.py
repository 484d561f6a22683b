"""Sequence numbers that outlive the process.

Outgoing numbers are reserved on disk in blocks, synced before the first of a block is used, so that none is ever
used twice; after a crash the rest of a block is skipped and the peer's ResendRequest is answered with a gap fill.
Incoming numbers are written without a sync: after a power cut they may be older than what was seen, never newer,
and the peer resends what is then processed twice and told apart by its ids.
"""

import os
import struct
from pathlib import Path
from typing import Final, Protocol
from zlib import crc32

from emp.core.disk import disk, make_folders
from emp.core.errors import JournalError

BLOCK: Final = 256
"""Outgoing numbers reserved with one sync."""

_RECORD = struct.Struct("<QqqqI")  # version, next in, next out reserved, created, crc of the rest
_SLOT = 64


class SequenceStore(Protocol):
    """Where a session keeps its two numbers and when they began."""

    next_in: int
    next_out: int
    created_ns: int

    def take_out(self) -> int:
        """The next outgoing number; it will never be given again."""

    def keep(self) -> None:
        """Write the incoming number down."""

    def reset(self, created_ns: int, next_out: int = 1, next_in: int = 1) -> None:
        """Begin anew."""

    def close(self) -> None:
        """Write both numbers down exactly."""


class MemoryStore:
    """Numbers that a process keeps for itself: venues that reset at every logon, and tests."""

    def __init__(self) -> None:
        self.next_in = 1
        self.next_out = 1
        self.created_ns = 0

    def take_out(self) -> int:
        """The next outgoing number."""
        self.next_out += 1
        return self.next_out - 1

    def keep(self) -> None:
        """Nothing to do."""

    def reset(self, created_ns: int, next_out: int = 1, next_in: int = 1) -> None:
        """Begin anew."""
        self.created_ns = created_ns
        self.next_out = next_out
        self.next_in = next_in

    def close(self) -> None:
        """Nothing to do."""


class FileStore:
    """Numbers in a file of two slots written in turn, so that a torn write leaves the other whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            make_folders(path.parent)
            self._file = disk().open(path, os.O_RDWR | os.O_CREAT)
            data = os.pread(self._file, 2 * _SLOT, 0)
        except OSError as error:
            raise JournalError(f"{path}: cannot open the FIX sequence numbers: {error.strerror}") from None
        slots = [_read(data[at : at + _SLOT]) for at in (0, _SLOT)]
        if data.strip(b"\x00") and not any(slots):
            disk().close(self._file)
            raise JournalError(
                f"{path}: both records of the FIX sequence numbers are damaged; agree on a reset with the venue"
                " and remove the file"
            )
        self._version, self.next_in, self.next_out, self.created_ns = max(
            (slot for slot in slots if slot), default=(0, 1, 1, 0)
        )
        self._reserved = self.next_out

    def take_out(self) -> int:
        """The next outgoing number; a new block is on disk before its first number is given."""
        if self.next_out >= self._reserved:
            self._write(self.next_out + BLOCK, sync=True)
        self.next_out += 1
        return self.next_out - 1

    def keep(self) -> None:
        """Hand the incoming number to the operating system, without a sync."""
        self._write(self._reserved, sync=False)

    def reset(self, created_ns: int, next_out: int = 1, next_in: int = 1) -> None:
        """Begin anew, on disk before it counts."""
        self.created_ns = created_ns
        self.next_out = next_out
        self.next_in = next_in
        self._write(next_out, sync=True)

    def close(self) -> None:
        """Write both numbers down exactly and give the file back."""
        if self._file >= 0:
            self._write(self.next_out, sync=True)
            disk().close(self._file)
            self._file = -1

    def _write(self, reserved: int, *, sync: bool) -> None:
        if self._file < 0:  # closed: both numbers are on disk as they were then
            return
        version = self._version + 1
        body = _RECORD.pack(version, self.next_in, reserved, self.created_ns, 0)[:-4]
        try:
            written = disk().pwrite(self._file, body + struct.pack("<I", crc32(body)), version % 2 * _SLOT)
            if sync:
                disk().sync(self._file)
        except OSError as error:
            raise JournalError(
                f"{self.path}: cannot write the FIX sequence numbers: {error.strerror}"
            ) from None
        if written != _RECORD.size:
            raise JournalError(f"{self.path}: cannot write the FIX sequence numbers: the disk is full")
        self._version, self._reserved = version, reserved  # else the next try tears the slot that is whole


def _read(slot: bytes) -> tuple[int, int, int, int] | None:
    """(version, next in, next out, created) of one slot, None where it is not whole."""
    if len(slot) < _RECORD.size:
        return None
    version, next_in, next_out, created, crc = _RECORD.unpack(slot[: _RECORD.size])
    if version == 0 or crc != crc32(slot[: _RECORD.size - 4]):
        return None
    return version, next_in, next_out, created
