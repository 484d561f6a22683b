"""Files as users keep them: alone, or several in a zip, 7z or tar, told apart by their bytes.

An `Item` is one file that may be read: in a folder, or inside an archive. Items of one folder or archive see
each other, so that the second file of a pair can be found beside the first.
"""

import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from emp.access.recordings.packing import PACKED_SUFFIXES, Progress, Stream, unpacked
from emp.core.errors import DataError
from emp.core.extras import install_command
from emp.core.platform import exists

HEAD = 1 << 16

_ZIP = b"PK\x03\x04"
_SEVEN_ZIP = b"7z\xbc\xaf\x27\x1c"
_TAR_AT, _TAR = 257, b"ustar"

MAX_UNPACKED = 1 << 36
"""A member of a 7z that claims to be larger is not written to disk."""


MAX_MEMBERS = 2_000
"""Files in one archive: each is looked into, to tell what it is."""


class Item:
    """One readable file. `name` is its own name without folder and packing, `label` the one for messages."""

    def __init__(self, path: Path, member: str | None = None) -> None:
        self.path = path
        self.member = member
        name = Path(member).name if member is not None else path.name
        self.label = f"{path.name}:{member}" if member is not None else str(path)
        self.name = name
        for suffix in PACKED_SUFFIXES:
            self.name = self.name.removesuffix(suffix)

    @property
    def size(self) -> int:
        """Stored bytes, for progress."""
        if self.member is not None and _kind(self.path) == "zip":
            with _zip(self.path) as archive:
                return archive.getinfo(self.member).compress_size
        return self.path.stat().st_size

    def head(self, most: int = HEAD) -> bytes:
        """The first bytes, decompressed, at most `most`."""
        parts: list[bytes] = []
        n = 0
        with self.open() as stream:
            while n < most and (more := stream.read()):
                parts.append(more)
                n += len(more)
        return b"".join(parts)[:most]

    def stored_head(self, most: int) -> bytes:
        """The first bytes as they are kept: what a packing hides."""
        if self.member is None:
            with _open_file(self.path) as file:
                return file.read(most)
        if _kind(self.path) == "zip":
            with _zip(self.path) as archive, _zip_member(archive, self.member, self.label) as file:
                return file.read(most)
        return self.head(most)

    @contextmanager
    def open(self, progress: Progress = lambda _: None) -> Iterator[Stream]:
        """Open the decompressed bytes."""
        if self.member is None:
            with _open_file(self.path) as file:
                yield unpacked(file, self.label, progress)
            return
        kind = _kind(self.path)
        if kind == "zip":
            with _zip(self.path) as archive, _zip_member(archive, self.member, self.label) as member:
                yield unpacked(member, self.label, progress)
        elif kind == "tar":
            with _tar(self.path, progress) as tar:
                yield unpacked(_tar_member(tar, self.member, self.label), self.label, lambda _: None)
        else:
            with tempfile.TemporaryDirectory(prefix="emp-") as folder:
                with _seven_zip(self.path) as archive:
                    archive.extract(path=folder, targets=[self.member])
                with _open_file(Path(folder) / self.member) as file:
                    yield unpacked(file, self.label, progress)

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
    if not exists(path):
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the recording files in it")
    kind = _kind(path)
    if kind == "zip":
        with _zip(path) as archive:
            members = [info.filename for info in archive.infolist() if not info.is_dir()]
        if members and all(name.endswith(".npy") for name in members):
            return [Item(path)]  # NumPy's own archive is one recording
    elif kind == "7z":
        with _seven_zip(path) as archive:
            listed = [info for info in archive.list() if not info.is_directory]
            members = [info.filename for info in listed]
            if any((info.uncompressed or 0) > MAX_UNPACKED for info in listed):
                raise DataError(f"{path}: a file in it would unpack to more than {MAX_UNPACKED >> 30} GiB")
    elif kind == "tar":
        with _tar(path, lambda _: None) as archive:
            members = _tar_names(archive, path)
    else:
        return [Item(path)]
    # what a Mac adds to an archive is no file of its owner's
    members = [name for name in members if not Path(name).name.startswith("._")]
    if not members:
        raise DataError(f"{path}: the archive is empty")
    if len(members) > MAX_MEMBERS:
        raise DataError(
            f"{path}: has {len(members):,} files in it, and {MAX_MEMBERS:,} are looked at at most: unpack it, and name"
            " the files that are meant"
        )
    return [Item(path, member) for member in sorted(members)]


def _kind(path: Path) -> str:
    """zip, 7z, tar, or nothing: by the first bytes, of a tar the unpacked ones."""
    with _open_file(path) as file:
        first = file.read(512)
        if not first:
            raise DataError(f"{path}: the file is empty")
        if first.startswith(_ZIP):
            return "zip"
        if first.startswith(_SEVEN_ZIP):
            return "7z"
        file.seek(0)
        if first[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
            return "tar"
        if not _looks_packed(path):
            return ""
        try:
            data = unpacked(file, str(path), lambda _: None).read()
        except DataError:
            return ""  # whoever reads it on will say what is wrong
        return "tar" if data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR else ""


def _looks_packed(path: Path) -> bool:
    with _open_file(path) as file:
        first = file.read(6)
    return (
        first[:2] == b"\x1f\x8b"
        or first[:3] == b"BZh"
        or first == b"\xfd7zXZ\x00"
        or first[1:4] == b"\xb5\x2f\xfd"
    )


def _open_file(path: Path) -> IO[bytes]:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def _zip(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, struct.error, NotImplementedError) as error:
        raise DataError(f"{path}: the zip is damaged or cut off ({error})") from error


def _zip_member(archive: zipfile.ZipFile, member: str, label: str) -> IO[bytes]:
    try:
        return archive.open(member)
    except NotImplementedError:
        method = archive.getinfo(member).compress_type
        name = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz", 98: "PPMd"}.get(
            method, "unknown"
        )
        raise DataError(
            f"{label}: the zip uses method {method} ({name}), which cannot be read here; "
            "pack it again as plain zip or gz"
        ) from None
    except RuntimeError:
        raise DataError(f"{label}: the zip is encrypted; unpack it first") from None


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


class _AsFile:
    """A Stream as the file object that tarfile reads from."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""

    def read(self, n: int = -1) -> bytes:
        parts = [self._rest]
        have = len(self._rest)
        while (n < 0 or have < n) and (more := self._stream.read()):
            parts.append(more)
            have += len(more)
        data = b"".join(parts)
        n = len(data) if n < 0 else n
        self._rest = data[n:]
        return data[:n]


@contextmanager
def _tar(path: Path, progress: Progress) -> Iterator[tarfile.TarFile]:
    """A tar of any packing, read in one go from front to back."""
    with _open_file(path) as file:
        try:
            with tarfile.open(fileobj=_AsFile(unpacked(file, str(path), progress)), mode="r|") as archive:  # type: ignore[call-overload]
                yield archive
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: the tar is damaged or cut off ({error})") from error


def _tar_names(archive: tarfile.TarFile, path: Path) -> list[str]:
    try:
        return [info.name for info in archive if info.isfile()]
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: the tar is damaged or cut off ({error})") from error


def _tar_member(archive: tarfile.TarFile, member: str, label: str) -> IO[bytes]:
    for info in archive:
        if info.name == member:
            file = archive.extractfile(info)
            if file is not None:
                return file
    raise DataError(f"{label}: no such file in the tar")
