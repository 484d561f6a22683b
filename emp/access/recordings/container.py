"""Files as users keep them: plain, gz, zst, or several in a zip or 7z, told apart by their bytes.

An `Item` is one file that may be read: in a folder, or inside an archive. Items of one folder or archive see
each other, so that the second file of a pair can be found beside the first.
"""

import gzip
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import zstandard

from emp.core.errors import DataError
from emp.core.extras import install_command

CHUNK = 1 << 18
HEAD = 1 << 16

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # second to fourth byte of a skippable frame
_ZIP = b"PK\x03\x04"
_SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"

_PACKED_SUFFIXES = (".zst", ".gz")

Progress = Callable[[int], None]
"""Called with the number of stored (compressed) bytes read since the last call."""


class Stream(Protocol):
    """Decompressed bytes, in order."""

    def read(self) -> bytes:
        """Return the next bytes, empty at the end; raise DataError where the file is damaged or cut off."""


class Item:
    """One readable file. `name` is its own name without folder and packing, `label` the one for messages."""

    def __init__(self, path: Path, member: str | None = None) -> None:
        self.path = path
        self.member = member
        name = Path(member).name if member is not None else path.name
        self.label = f"{path.name}:{member}" if member is not None else str(path)
        self.name = name
        for suffix in _PACKED_SUFFIXES:
            self.name = self.name.removesuffix(suffix)

    @property
    def size(self) -> int:
        """Stored bytes, for progress."""
        if self.member is not None and _magic(self.path).startswith(_ZIP):
            with _archive(self.path) as archive:
                return archive.getinfo(self.member).compress_size
        return self.path.stat().st_size

    def head(self) -> bytes:
        """The first bytes, decompressed, at most `HEAD`."""
        with self.open() as stream:
            head = b""
            while len(head) < HEAD:
                more = stream.read()
                if not more:
                    break
                head += more
        return head[:HEAD]

    @contextmanager
    def open(self, progress: Progress = lambda _: None) -> Iterator[Stream]:
        """Open the decompressed bytes."""
        if self.member is None:
            with _open_file(self.path) as file:
                yield _unpacked(file, self.label, progress)
        elif _magic(self.path).startswith(_ZIP):
            with _archive(self.path) as archive, archive.open(self.member) as file:
                yield _unpacked(file, self.label, progress)
        else:
            with tempfile.TemporaryDirectory(prefix="emp-") as folder:
                with _seven_zip(self.path) as archive:
                    archive.extract(path=folder, targets=[self.member])
                with _open_file(Path(folder) / self.member) as file:
                    yield _unpacked(file, self.label, progress)

    def siblings(self) -> list["Item"]:
        """Every other item of the same folder or archive, by name."""
        if self.member is not None:
            return [item for item in items(self.path) if item.member != self.member]
        near = sorted(p for p in self.path.parent.iterdir() if p.is_file() and p != self.path)
        return [Item(p) for p in near]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and (self.path, self.member) == (other.path, other.member)

    def __hash__(self) -> int:
        return hash((self.path, self.member))


def items(path: Path) -> list[Item]:
    """The items that a path stands for: itself, or the members of an archive."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the recording files in it")
    magic = _magic(path)
    if not magic:
        raise DataError(f"{path}: the file is empty")
    if magic.startswith(_ZIP):
        with _archive(path) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
    elif magic.startswith(_SEVEN_ZIP):
        with _seven_zip(path) as archive:
            members = [info.filename for info in archive.list() if not info.is_directory]
    else:
        return [Item(path)]
    if not members:
        raise DataError(f"{path}: the archive is empty")
    return [Item(path, member) for member in sorted(members)]


def _magic(path: Path) -> bytes:
    with _open_file(path) as file:
        return file.read(8)


def _open_file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: the zip is damaged or cut off ({error})") from error


@contextmanager
def _seven_zip(path: Path) -> Iterator[Any]:
    try:
        import py7zr
    except ImportError as error:
        raise DataError(f"{path}: 7z needs an extra: {install_command('archive')}") from error
    try:
        with py7zr.SevenZipFile(path) as archive:
            yield archive
    except (py7zr.exceptions.ArchiveError, EOFError, OSError) as error:
        raise DataError(f"{path}: the 7z is damaged or cut off ({error})") from error


def _unpacked(file: IO[bytes], label: str, progress: Progress) -> Stream:
    """Choose the decompressor by the first bytes."""
    first = file.read(CHUNK)
    progress(len(first))
    if first.startswith(_GZIP):
        return _Inflated(file, first, label, progress, _gzip_engine, "gzip")
    if first.startswith(_ZSTD) or first[1:4] == _ZSTD_SKIPPABLE:
        return _Inflated(file, first, label, progress, _zstd_engine, "zstd")
    return _Plain(file, first, label, progress)


def _zstd_engine() -> Any:
    return zstandard.ZstdDecompressor().decompressobj()


def _gzip_engine() -> Any:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


class _Plain:
    def __init__(self, file: IO[bytes], first: bytes, label: str, progress: Progress) -> None:
        self._file = file
        self._next = first
        self._label = label
        self._progress = progress

    def read(self) -> bytes:
        data, self._next = self._next, b""
        if not data:
            data = _stored(self._file, self._label)
            self._progress(len(data))
        return data


class _Inflated:
    """A gzip or zstd stream of one or more frames; knows when the last one is not whole."""

    def __init__(
        self,
        file: IO[bytes],
        first: bytes,
        label: str,
        progress: Progress,
        engine: Callable[[], Any],
        kind: str,
    ) -> None:
        self._file = file
        self._next = first
        self._label = label
        self._progress = progress
        self._new = engine
        self._engine = engine()
        self._fed = False  # whether the current frame has begun
        self._kind = kind

    def read(self) -> bytes:
        while True:
            data, self._next = self._next, b""
            if not data:
                data = _stored(self._file, self._label)
                self._progress(len(data))
            if not data:
                if self._fed:
                    raise DataError(f"{self._label}: the {self._kind} file is cut off; fetch it again")
                return b""
            out = self._inflate(data)
            if out:
                return out

    def _inflate(self, data: bytes) -> bytes:
        self._fed = True
        try:
            out: bytes = self._engine.decompress(data)
        except (zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise DataError(f"{self._label}: the {self._kind} file is damaged ({error})") from error
        if self._engine.eof:
            self._next = self._engine.unused_data
            if self._kind == "gzip":
                self._next = self._next.lstrip(b"\0")  # tape blocks may pad the end
            self._engine = self._new()
            self._fed = False
        return out


def _stored(file: IO[bytes], label: str) -> bytes:
    try:
        return file.read(CHUNK)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{label}: the file is damaged or cut off ({error})") from error
