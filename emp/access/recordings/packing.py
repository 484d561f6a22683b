"""Decompression as a stream: plain, gzip, zstd (long windows too), bzip2 and xz, told apart by their first bytes.

Memory stays bounded whatever a file claims: output is taken in pieces of `CHUNK` bytes, and a file that unpacks to
more than `MAX_RATIO` times what is stored, beyond `RATIO_FROM` bytes, is refused.
"""

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any, Protocol

import zstandard

from emp.core.errors import DataError

CHUNK = 1 << 18

MAX_RATIO = 2_000
"""No recording is packed tighter than this; what claims to be is a bomb."""

RATIO_FROM = 1 << 28

MAX_WINDOW = 1 << 31
"""zstd's longest window (`--long=31`)."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # second to fourth byte of a skippable frame
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\x00"

PACKED_SUFFIXES = (".zst", ".gz", ".bz2", ".xz")

Progress = Callable[[int], None]
"""Called with the number of stored (compressed) bytes read since the last call."""


class Stream(Protocol):
    """Decompressed bytes, in order."""

    def read(self) -> bytes:
        """Return the next bytes, empty at the end; raise DataError where the file is damaged or cut off."""


def unpacked(file: IO[bytes], label: str, progress: Progress) -> Stream:
    """Choose the decompressor by the first bytes."""
    first = _stored(file, label)
    progress(len(first))
    stored = _Stored(file, first, label, progress)
    if first.startswith(_GZIP):
        return _Inflated(stored, lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), "gzip")
    if first.startswith(_BZIP2) and first[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return _Inflated(stored, bz2.BZ2Decompressor, "bzip2")
    if first.startswith(_XZ):
        return _Inflated(stored, lzma.LZMADecompressor, "xz")
    if first.startswith(_ZSTD) or first[1:4] == _ZSTD_SKIPPABLE:
        return _Zstd(stored)
    return stored


class _Stored:
    """The bytes as they are kept."""

    def __init__(self, file: IO[bytes], first: bytes, label: str, progress: Progress) -> None:
        self._file = file
        self._next = first
        self.label = label
        self.total = len(first)
        self._progress = progress

    def read(self) -> bytes:
        data, self._next = self._next, b""
        if not data:
            data = _stored(self._file, self.label)
            self.total += len(data)
            self._progress(len(data))
        return data


class _Limit:
    """Counts what comes out and refuses a bomb."""

    def __init__(self, stored: _Stored) -> None:
        self._stored = stored
        self._out = 0

    def passed(self, out: bytes) -> bytes:
        self._out += len(out)
        if self._out > RATIO_FROM and self._out > MAX_RATIO * self._stored.total:
            raise DataError(
                f"{self._stored.label}: unpacks to more than {MAX_RATIO:,} times its size: "
                "no recording does; not read on"
            )
        return out


class _Inflated:
    """A gzip, bzip2 or xz stream of one or more members; knows when the last one is not whole."""

    def __init__(self, stored: _Stored, engine: Callable[[], Any], kind: str) -> None:
        self._stored = stored
        self._limit = _Limit(stored)
        self._new = engine
        self._engine: Any = None  # of the member that is open
        self._rest = b""  # stored bytes that no engine has taken
        self._kind = kind
        self._full = False  # the last output ended at CHUNK: there may be more of it

    def read(self) -> bytes:
        while True:
            out = self._step()
            if out is None:
                return b""
            if out:
                return self._limit.passed(out)

    def _step(self) -> bytes | None:
        """The next output, which may be empty; None at the end."""
        if self._engine is None:
            self._rest = (self._rest or self._stored.read()).lstrip(b"\0")  # tape blocks may pad the end
            if not self._rest:
                self._rest = self._stored.read()
                return b"" if self._rest else None
            self._engine = self._new()
        data, self._rest = self._rest, b""
        if not data and self._hungry():
            data = self._stored.read()
            if not data:
                raise DataError(f"{self._stored.label}: the {self._kind} file is cut off; fetch it again")
        try:
            out: bytes = self._engine.decompress(data, CHUNK)
        except (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError) as error:
            raise DataError(f"{self._stored.label}: the {self._kind} file is damaged ({error})") from error
        if self._engine.eof:
            self._rest = self._engine.unused_data
            self._engine = None
        elif self._kind == "gzip":
            self._rest = self._engine.unconsumed_tail
        self._full = len(out) == CHUNK
        return out

    def _hungry(self) -> bool:
        return not self._full if self._kind == "gzip" else bool(self._engine.needs_input)


class _Zstd:
    """A zstd stream of one or more frames; knows when the last one is not whole."""

    def __init__(self, stored: _Stored) -> None:
        self._stored = stored
        self._limit = _Limit(stored)
        self._engine: Any = None
        self._rest = b""
        self._out = b""

    def read(self) -> bytes:
        while not self._out:
            data = self._rest or self._stored.read()
            self._rest = b""
            if not data:
                if self._engine is not None:
                    raise DataError(f"{self._stored.label}: the zstd file is cut off; fetch it again")
                return b""
            if self._engine is None:
                self._engine = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
            # a block of zstd is at most 128 KiB out of three bytes: little goes in at a time, little comes out
            part, self._rest = data[:_ZSTD_PART], data[_ZSTD_PART:]
            try:
                self._out = self._engine.decompress(part)
            except zstandard.ZstdError as error:
                raise DataError(f"{self._stored.label}: the zstd file is damaged ({error})") from error
            if self._engine.eof:
                self._rest = self._engine.unused_data + self._rest
                self._engine = None
        out, self._out = self._out, b""
        return self._limit.passed(out)


_ZSTD_PART = 1 << 11


def _stored(file: IO[bytes], label: str) -> bytes:
    try:
        return file.read(CHUNK)
    except (
        OSError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        lzma.LZMAError,
        io.UnsupportedOperation,
    ) as error:
        raise DataError(f"{label}: the file is damaged or cut off ({error})") from error
