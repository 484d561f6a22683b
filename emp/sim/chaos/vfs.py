"""SQLite's own I/O on the disk of a drill: a VFS registered with the very library that Python's `sqlite3` uses.

It is a copy of the library's default VFS. Files are opened by that, and their table of methods is replaced by a copy in
which writing, cutting and syncing go through us first, and reading while reads fail; locking and shared memory are not
touched. Randomness
(the salts of a write-ahead file) comes from the seed.
"""

import ctypes
import os
from collections.abc import Callable
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from emp.core.errors import UsageError
from emp.sim.chaos.disk import SimDisk
from emp.sim.chaos.loop import Died, Process, VirtualLoop

OK, IOERR, FULL, IOERR_FSYNC, IOERR_READ = 0, 10, 13, 10 | 4 << 8, 10 | 1 << 8
_CREATE = 0x4

_XOPEN = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_XDELETE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_XRANDOMNESS = ctypes.CFUNCTYPE(c_int, c_void_p, c_int, c_void_p)
_XCLOSE = ctypes.CFUNCTYPE(c_int, c_void_p)
_XWRITE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_XTRUNCATE = ctypes.CFUNCTYPE(c_int, c_void_p, c_int64)
_XREAD = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_XSYNC = ctypes.CFUNCTYPE(c_int, c_void_p, c_int)


class _Methods(Structure):
    _fields_ = [
        ("version", c_int),
        ("close", _XCLOSE),
        ("read", c_void_p),
        ("write", _XWRITE),
        ("truncate", _XTRUNCATE),
        ("sync", _XSYNC),
        *((f"other{k}", c_void_p) for k in range(13)),
    ]


class _Opened(Structure):
    _fields_ = [("methods", POINTER(_Methods))]


class _Vfs(Structure):
    _fields_ = [
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _XOPEN),
        ("delete", _XDELETE),
        ("access", c_void_p),
        ("full_path", c_void_p),
        *((f"dl{k}", c_void_p) for k in range(4)),
        ("randomness", _XRANDOMNESS),
        *((f"other{k}", c_void_p) for k in range(7)),
    ]


def _library() -> ctypes.CDLL:
    """The SQLite that `sqlite3` is linked with; UsageError where it cannot be found."""
    import _sqlite3
    import sqlite3

    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    try:
        version = library.sqlite3_libversion
    except AttributeError:
        raise UsageError(
            "this Python's SQLite cannot be given a disk of a drill: use CPython on Linux"
        ) from None
    version.restype = c_char_p
    if version().decode() != sqlite3.sqlite_version:
        raise UsageError("this Python's SQLite is not the library that was found")
    library.sqlite3_vfs_find.restype = POINTER(_Vfs)
    library.sqlite3_vfs_find.argtypes = [c_char_p]
    library.sqlite3_vfs_register.argtypes = [POINTER(_Vfs), c_int]
    library.sqlite3_vfs_unregister.argtypes = [POINTER(_Vfs)]
    return library


class SqliteFiles:
    """The default VFS of this process while it is `register`ed; one at a time."""

    def __init__(self, disk: SimDisk, loop: VirtualLoop, draw: np.random.Generator) -> None:
        self._disk, self._loop, self._draw = disk, loop, draw
        self._library = _library()
        self._original = self._library.sqlite3_vfs_find(None)
        self._vfs = _Vfs()
        ctypes.pointer(self._vfs)[0] = self._original.contents
        self._vfs.name = b"emp-drill"
        self._vfs.open = _XOPEN(self._open)
        self._vfs.delete = _XDELETE(self._delete)
        self._vfs.randomness = _XRANDOMNESS(self._randomness)
        self._methods: dict[int, tuple[_Methods, _Methods]] = {}
        self._of: dict[int, _Methods] = {}  # by address of the open file: what SQLite itself would call
        self._paths: dict[int, tuple[Path, Process]] = {}
        self._keep: list[Any] = []
        self._read_fails = _XREAD(self._read)

    def register(self) -> None:
        """Let every ledger that is opened from now on lie on the drill's disk."""
        self._library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1)

    def unregister(self) -> None:
        """Let ledgers lie on the machine's disk again."""
        self._library.sqlite3_vfs_unregister(ctypes.byref(self._vfs))
        self._library.sqlite3_vfs_register(self._original, 1)

    def reads_fail(self) -> None:
        """Let reads ask the drill's disk until none fails any more; else they are SQLite's own, and take no time."""
        for ours, _ in self._methods.values():
            ours.read = ctypes.cast(self._read_fails, c_void_p)

    @property
    def left(self) -> list[Path]:
        """Files that are open."""
        return [path for path, _ in self._paths.values()]

    # --- the VFS

    def _open(self, _vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        # the name is handed on as it came: SQLite reads beyond its end, and keeps the pointer
        path = None if name is None else Path(os.fsdecode(ctypes.string_at(name)))
        new = path is not None and not path.exists()
        if path is not None and flags & _CREATE and self._fails("open"):
            return IOERR
        code = self._original.contents.open(self._original, name, file, flags, out)
        if code != OK or path is None:
            return int(code)
        if new:
            self._disk.made(path)
        opened = ctypes.cast(file, POINTER(_Opened))
        address = ctypes.addressof(opened.contents.methods.contents)
        if address not in self._methods:
            self._methods[address] = self._patched(opened.contents.methods.contents)
            if self._disk.failing_reads:
                self.reads_fail()
        ours, theirs = self._methods[address]
        opened.contents.methods = ctypes.pointer(ours)
        self._of[file], self._paths[file] = theirs, (path, self._loop.process)
        return OK

    def _patched(self, theirs: _Methods) -> tuple[_Methods, _Methods]:
        ours = _Methods()
        ctypes.pointer(ours)[0] = theirs
        kept = _Methods()
        ctypes.pointer(kept)[0] = theirs
        ours.close, ours.write = _XCLOSE(self._close), _XWRITE(self._write)
        ours.truncate, ours.sync = _XTRUNCATE(self._truncate), _XSYNC(self._sync)
        return ours, kept

    def _delete(self, _vfs: int, name: int, sync: int) -> int:
        path = Path(os.fsdecode(ctypes.string_at(name)))
        if self._fails("name"):
            return IOERR
        note: Callable[[], None] = (
            self._disk.removed(path, durably=bool(sync)) if path.exists() else lambda: None
        )
        code = int(self._original.contents.delete(self._original, name, sync))
        if code == OK:
            note()
        return code

    def _randomness(self, _vfs: int, size: int, out: int) -> int:
        ctypes.memmove(out, self._draw.bytes(size), size)
        return size

    # --- its files

    def _close(self, file: int) -> int:
        theirs = self._of.pop(file)
        self._paths.pop(file, None)
        return int(theirs.close(file))

    def _write(self, file: int, data: int, size: int, at: int) -> int:
        path, process = self._paths[file]
        if process.dead:
            return IOERR
        code = self._fails("write", size)
        if code:
            return FULL if code == FULL else IOERR
        self._disk.will_write(self._disk.file(path), at, ctypes.string_at(data, size))
        return int(self._of[file].write(file, data, size, at))

    def _read(self, file: int, data: int, size: int, at: int) -> int:
        if self._disk.failing_reads > 0:
            self._disk.failing_reads -= 1
            return IOERR_READ
        for ours, theirs in self._methods.values():
            ours.read = theirs.read
        return int(_XREAD(self._of[file].read)(file, data, size, at))

    def _truncate(self, file: int, size: int) -> int:
        path, process = self._paths[file]
        if process.dead or self._fails("write"):
            return IOERR
        self._disk.truncated(self._disk.file(path), size)
        return int(self._of[file].truncate(file, size))

    def _sync(self, file: int, flags: int) -> int:
        path, process = self._paths[file]
        if process.dead:
            return IOERR
        if self._fails("sync"):
            return IOERR_FSYNC
        self._disk.file(path).pending.clear()
        self._disk.names_are_durable(path.parent)  # SQLite syncs the folder of a new file with it
        return OK

    def _fails(self, kind: Any, size: int = 0) -> int:
        """0 where the operation may go on, else why not."""
        try:
            self._disk.begin(kind, size)
        except Died:
            return IOERR
        except OSError as error:
            return FULL if error.errno == 28 else IOERR
        return 0
