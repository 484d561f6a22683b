"""Files that must outlive the process are written through this port: the machine's disk, or a drill's model of one.

What is read is read as files are read anywhere: a model of a disk (`emp.sim.chaos`) keeps real files too, and changes
them when its power fails. Every function raises OSError as those of `os` do.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from emp.core.platform import open_folder, sync_data

UNCOUNTED = 1 << 62
"""Files that may be made where a file system does not count them."""


class Room(NamedTuple):
    """What a file system says of itself."""

    free: int  # bytes that this user may still write
    read_only: bool
    files: int = UNCOUNTED  # that this user may still make


class Disk(Protocol):
    """What is done to files that must last."""

    def open(self, path: Path, flags: int) -> int:
        """A descriptor; a file that is made is its owner's alone."""

    def write(self, file: int, data: bytes) -> int:
        """Write at the end or the place of the descriptor; how many bytes were taken."""

    def pwrite(self, file: int, data: bytes, at: int) -> int:
        """Write at a place; how many bytes were taken."""

    def reserve(self, file: int, size: int) -> None:
        """Let the file have so many bytes of the disk."""

    def sync(self, file: int) -> None:
        """Return once the file's content is durable."""

    def close(self, file: int) -> None:
        """Let go of a descriptor."""

    def make_folder(self, path: Path, mode: int) -> None:
        """Make a folder."""

    def replace(self, path: Path, to: Path) -> None:
        """Rename over whatever is there."""

    def unlink(self, path: Path) -> None:
        """Remove a file."""

    def sync_folder(self, folder: Path) -> None:
        """Make the names in a folder durable."""

    def room(self, folder: Path) -> Room:
        """What is left where a folder lies."""


class MachineDisk:
    """The disk of this machine."""

    def open(self, path: Path, flags: int) -> int:
        """As `os.open`; the descriptor is not inherited."""
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def write(self, file: int, data: bytes) -> int:
        """As `os.write`."""
        return os.write(file, data)

    def pwrite(self, file: int, data: bytes, at: int) -> int:
        """As `os.pwrite`."""
        return os.pwrite(file, data, at)

    def reserve(self, file: int, size: int) -> None:
        """Allocate, where the system can; else write zeros."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, size)
        else:
            os.pwrite(file, bytes(size), 0)

    def sync(self, file: int) -> None:
        """As `emp.core.platform.sync_data`."""
        sync_data(file)

    def close(self, file: int) -> None:
        """As `os.close`."""
        os.close(file)

    def make_folder(self, path: Path, mode: int) -> None:
        """As `os.mkdir`."""
        os.mkdir(path, mode)

    def replace(self, path: Path, to: Path) -> None:
        """As `os.replace`."""
        os.replace(path, to)

    def unlink(self, path: Path) -> None:
        """As `os.unlink`."""
        os.unlink(path)

    def sync_folder(self, folder: Path) -> None:
        """Sync the folder's own entries."""
        handle = open_folder(folder)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def room(self, folder: Path) -> Room:
        """As `os.statvfs`."""
        told = os.statvfs(folder)
        read_only = bool(told.f_flag & getattr(os, "ST_RDONLY", 1))
        return Room(told.f_bavail * told.f_frsize, read_only, told.f_favail if told.f_files else UNCOUNTED)


_current: Disk = MachineDisk()


def disk() -> Disk:
    """The disk that is written to here."""
    return _current


@contextmanager
def writes_to(other: Disk) -> Iterator[None]:
    """Let everything in this block be written to another disk."""
    global _current
    before, _current = _current, other
    try:
        yield
    finally:
        _current = before


def write_all(file: int, data: bytes) -> None:
    """Write every byte at the place of the descriptor."""
    left = memoryview(data)
    while left:
        left = left[disk().write(file, bytes(left)) :]


def make_folders(path: Path, mode: int = 0o777) -> None:
    """Make a folder, and those it lies in, where they are missing; the mode is the innermost's."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folders(path.parent)
    with suppress(FileExistsError):
        disk().make_folder(path, mode)


def write_new(path: Path, data: bytes) -> None:
    """Write a file, durably; its name is not. Raises OSError."""
    file = disk().open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(file, data)
        disk().sync(file)
    finally:
        disk().close(file)
