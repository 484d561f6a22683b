"""A disk that can fail: real files, and a memory of what a loss of power would take back.

Written data are durable once the file was synced, names once their folder was. Until then a loss of power keeps a
beginning of what was written to each file, in the order of writing, the last write torn at a sector; and a beginning of
what was done to the names of each folder. That is less than some file systems lose, which reorder writes between two
syncs, and more than most do. Sectors of 512 bytes are written whole or not at all.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from emp.core.disk import MachineDisk, Room
from emp.sim.chaos.loop import Died, Process, VirtualLoop

SECTOR = 512
SIZE = 4 << 30

Kind = Literal["write", "sync", "name", "open"]


class _Write(NamedTuple):
    at: int
    data: bytes | None  # None: the file was cut there
    before: bytes  # what stood there
    size: int  # of the file before


class _File:
    """An inode: what a loss of power would take back of it, and a descriptor of our own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.own = os.open(path, os.O_RDWR)
        self.pending: list[_Write] = []


class _Name(NamedTuple):
    """Something that was done to a folder's names, and how it is undone."""

    undo: Callable[[], None]
    what: str


class SimDisk:
    """`emp.core.disk.Disk` on real files below `root`; `graves` is a folder beside it on the same file system."""

    def __init__(self, root: Path, graves: Path, loop: VirtualLoop, draw: np.random.Generator) -> None:
        self.root, self._graves, self._loop, self._draw = root, graves, loop, draw
        self._real = MachineDisk()
        self._files: dict[tuple[int, int], _File] = {}
        self._open: dict[int, tuple[Process, _File | None]] = {}
        self._names: dict[Path, list[_Name]] = {}
        self._buried = 0
        self.operations = 0
        self.free = SIZE
        self.sync_ns = 0  # how long each sync takes
        self.failing_syncs = 0  # how many of the next ones fail
        self.failing_reads = 0  # of SQLite's
        self.crash_in: int | None = None  # operations until the machine dies in the middle of one
        self.on_crash: Callable[[Process], None] = lambda _process: None

    # --- what befalls every operation -----------------------------------------------------------------------

    def begin(self, kind: Kind, size: int = 0) -> None:
        """An operation begins: Died where its process is dead, or dies of it; OSError where it fails."""
        process = self._loop.process
        if process.dead:
            raise Died
        self.operations += 1
        if self.crash_in is not None and process is not self._loop.world:
            self.crash_in -= 1
            if self.crash_in < 0:
                self.crash_in = None
                self.on_crash(process)
                raise Died
        if kind == "sync":
            if self.sync_ns:
                self._loop.take_time(self.sync_ns)
            if self.failing_syncs:
                self.failing_syncs -= 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif kind == "write":
            if size > self.free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.free -= size

    # --- the port ---------------------------------------------------------------------------------------------

    def open(self, path: Path, flags: int) -> int:
        """Open, and remember what a loss of power would undo."""
        self.begin("open")
        path = Path(path)
        new = not path.exists()
        cut = flags & os.O_TRUNC and not new
        if cut:
            self.truncated(self.file(path), 0)
        handle = self._real.open(path, flags)
        if new:
            self.made(path)
        self._open[handle] = (self._loop.process, self.file(path))
        return handle

    def write(self, file: int, data: bytes) -> int:
        """Append, or write at the descriptor's place, which is the end for all that the journal writes."""
        known = self._open[file][1]
        assert known is not None
        self.begin("write", len(data))
        self.will_write(known, os.fstat(file).st_size, data)
        os.lseek(file, 0, os.SEEK_END)
        return self._real.write(file, data)

    def pwrite(self, file: int, data: bytes, at: int) -> int:
        """Write at a place."""
        known = self._open[file][1]
        assert known is not None
        self.begin("write")
        self.will_write(known, at, data)
        return self._real.pwrite(file, data, at)

    def reserve(self, file: int, size: int) -> None:
        """Take room, without writing."""
        self.begin("write", size)

    def sync(self, file: int) -> None:
        """What was written is durable."""
        self.begin("sync")
        known = self._open[file][1]
        if known is not None:
            known.pending.clear()

    def close(self, file: int) -> None:
        """Let go."""
        del self._open[file]
        self._real.close(file)

    def make_folder(self, path: Path, mode: int) -> None:
        """Make a folder; it is taken for durable."""
        self.begin("name")
        self._real.make_folder(path, mode)

    def replace(self, path: Path, to: Path) -> None:
        """Rename; what stood there is kept until the folder was synced."""
        self.begin("name")
        grave = self._bury(to) if to.is_file() else None
        self._real.replace(path, to)
        known = self._files.get(_key(to))
        if known is not None:
            known.path = to

        def undo() -> None:
            if to.exists():
                os.replace(to, path)
            if grave is not None:
                os.link(grave, to)

        self._note(to.parent, _Name(undo, f"rename to {to.name}"))

    def unlink(self, path: Path) -> None:
        """Remove; it is kept until the folder was synced."""
        self.begin("name")
        if path.name == "reserve.bin" and path.exists():
            self.free += 8 << 20
        grave = self._bury(path) if path.exists() else None
        self._real.unlink(path)

        def undo() -> None:
            if grave is not None and not path.exists():
                os.link(grave, path)

        self._note(path.parent, _Name(undo, f"unlink {path.name}"))

    def sync_folder(self, folder: Path) -> None:
        """Names are durable."""
        self.begin("sync")
        self.names_are_durable(folder)

    def room(self, folder: Path) -> Room:
        """What is left."""
        return Room(self.free, False)

    # --- for SQLite's own I/O too -------------------------------------------------------------------------------

    def file(self, path: Path) -> _File:
        """What is known of a file that is there."""
        key = _key(path)
        if key not in self._files:
            self._files[key] = _File(path)
        return self._files[key]

    def will_write(self, file: _File, at: int, data: bytes) -> None:
        """Remember what stands where something is going to be written."""
        size = os.fstat(file.own).st_size
        file.pending.append(_Write(at, data, os.pread(file.own, len(data), at), size))

    def truncated(self, file: _File, to: int) -> None:
        """Remember what is cut off."""
        size = os.fstat(file.own).st_size
        file.pending.append(_Write(to, None, os.pread(file.own, max(0, size - to), to), size))

    def made(self, path: Path) -> None:
        """A file has got its name."""
        self._note(path.parent, _Name(lambda: path.unlink(missing_ok=True), f"create {path.name}"))

    def removed(self, path: Path, *, durably: bool) -> Callable[[], None]:
        """A file is going to lose its name; what returns notes that it has."""
        grave = self._bury(path)

        def undo() -> None:
            if not path.exists():
                os.link(grave, path)

        def note() -> None:
            if durably:
                self.names_are_durable(path.parent)
            else:
                self._note(path.parent, _Name(undo, f"unlink {path.name}"))

        return note

    def names_are_durable(self, folder: Path) -> None:
        """A folder was synced."""
        self._names.pop(folder.absolute(), None)

    def _note(self, folder: Path, name: _Name) -> None:
        self._names.setdefault(folder.absolute(), []).append(name)

    def _bury(self, path: Path) -> Path:
        self._buried += 1
        grave = self._graves / str(self._buried)
        os.link(path, grave)
        return grave

    # --- the end of a process ---------------------------------------------------------------------------------------

    def process_died(self, process: Process) -> None:
        """Close what a dead process had open: its locks are free."""
        for handle in [h for h, (owner, _) in self._open.items() if owner is process]:
            self.close(handle)

    def power_lost(self) -> list[str]:
        """Take back what was not durable; what was taken back, in words."""
        told: list[str] = []
        for folder, names in self._names.items():
            kept = int(self._draw.integers(len(names) + 1))
            for name in reversed(names[kept:]):
                name.undo()
                told.append(f"{name.what} in {folder.name}")
        self._names.clear()
        for file in self._files.values():
            told += self._take_back(file)
        return told

    def _take_back(self, file: _File) -> list[str]:
        """Undo all writes that were not synced, then do a beginning of them again, the last one torn."""
        writes, file.pending = file.pending, []
        if not writes:
            return []
        for one in reversed(writes):
            os.pwrite(file.own, one.before, one.at)
            os.ftruncate(file.own, one.size)
        kept = int(self._draw.integers(len(writes) + 1))
        for one in writes[:kept]:
            _redo(file.own, one)
        if kept < len(writes) and (data := writes[kept].data):
            whole = writes[kept]
            first = SECTOR - whole.at % SECTOR
            ends = [0, *range(first, len(data), SECTOR)]
            _redo(file.own, whole._replace(data=data[: ends[int(self._draw.integers(len(ends)))]]))
        if kept == len(writes):
            return []
        return [f"{len(writes) - kept} of {len(writes)} writes to {file.path.name}"]

    def flip_bit(self, path: Path) -> None:
        """Let one bit of a file be another."""
        size = path.stat().st_size
        if size:
            with path.open("r+b") as file:
                file.seek(int(self._draw.integers(size)))
                byte = file.read(1)[0]
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte ^ 1 << int(self._draw.integers(8))]))

    def close_all(self) -> None:
        """Let go of every descriptor."""
        for handle in tuple(self._open):
            self.close(handle)
        for file in self._files.values():
            os.close(file.own)
        self._files.clear()


def _redo(own: int, one: _Write) -> None:
    if one.data is not None:
        os.pwrite(own, one.data, one.at)
    else:
        os.ftruncate(own, one.at)


def _key(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
