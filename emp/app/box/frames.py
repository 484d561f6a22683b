"""Files on a pipe: a line of JSON that names one and says how long it is, then its bytes; an empty name ends them."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from emp.core.errors import UsageError

CHUNK = 1 << 20
MAX_LINE = 1 << 22
"""Bytes of the longest line: a request that names every part of some years."""

LEAST = 1 << 12
"""Bytes that a file counts at least: an empty one takes room as well."""


class Reads(Protocol):
    """Where bytes come from."""

    def read(self, n: int, /) -> bytes:
        """At most so many; none at the end."""
        ...

    def readline(self, limit: int, /) -> bytes:
        """To the end of a line, or so many."""
        ...


class Writes(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> int:
        """All of them."""
        ...

    def flush(self) -> None:
        """Now."""
        ...


class Limits(NamedTuple):
    """What is taken at a time."""

    file: int  # bytes of one
    total: int  # bytes of all


FETCH = Limits(1 << 28, 1 << 40)
"""Of what home has asked for: a part of market data has some millions of bytes."""

OFFER = Limits(1 << 26, 1 << 28)
"""Of what is brought to the box: a model or a log has some millions of bytes."""

Heard = TypeVar("Heard", bound=msgspec.Struct)


class Shelved(msgspec.Struct, frozen=True):
    """A file as the other side names it."""

    path: str  # relative, with forward slashes
    size: int = 0  # bytes
    mtime_ns: int = 0


class Request(msgspec.Struct, frozen=True):
    """What one side asks of the other."""

    ask: str  # have | runs | send | registry | take
    paths: list[str] = []  # send: which; registry: what the asker has


class Answer(msgspec.Struct, frozen=True):
    """What comes before any files."""

    error: str = ""
    files: list[Shelved] = []  # runs
    names: list[str] = []  # have
    evidence: int = 0  # take, and so on
    decisions: int = 0
    models: list[str] = []
    reloaded: list[str] = []  # runs that have read their model anew


def say(pipe: Writes, message: msgspec.Struct) -> None:
    """Send one line."""
    pipe.write(msgspec.json.encode(message) + b"\n")
    pipe.flush()


def hear(pipe: Reads, kind: type[Heard]) -> Heard | None:
    """The next line; None where the other side has ended. UsageError where it says something else."""
    line = pipe.readline(MAX_LINE)
    if not line.endswith(b"\n") and len(line) < MAX_LINE:
        return None
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"the other side says something that is no answer: {line[:80]!r}") from error


def send_files(pipe: Writes, files: Iterable[tuple[str, Path]]) -> None:
    """Send files under names; one that has vanished is left out, one that is being written as it was when opened."""
    for name, path in files:
        try:
            opened = path.open("rb")
        except FileNotFoundError:
            continue
        with opened as file:
            facts = os.fstat(file.fileno())
            say(pipe, Shelved(name, facts.st_size, facts.st_mtime_ns))
            _copy(file, pipe, facts.st_size, f"{path} has become shorter")
    say(pipe, Shelved(""))


def receive_files(
    pipe: Reads, into: Path, allowed: Callable[[str], bool], limits: Limits
) -> Iterator[Shelved]:
    """Take files until the last, and yield each once it is whole; it has the time that it has there.

    Raises:
        UsageError: a name that is not allowed, a file that is too long, or the other side has ended before the last; or
            there is no room for it here.
    """
    total = 0
    while True:
        one = hear(pipe, Shelved)
        if one is None:
            raise UsageError(
                "the other side has ended in the middle: the same again goes on where this has ended"
            )
        if not one.path:
            return
        total += max(one.size, LEAST)
        if not allowed(one.path):
            raise UsageError(f"the other side sends {one.path[:80]!r}, which is not asked for")
        if not 0 <= one.size <= limits.file or total > limits.total or not 0 <= one.mtime_ns < 1 << 63:
            raise UsageError(f"the other side sends more than is taken: {one.path}, {one.size} bytes")
        try:
            _keep(pipe, into / one.path, one)
        except OSError as error:
            raise UsageError(f"cannot keep {one.path}: {error.strerror}") from error
        yield one


def _keep(pipe: Reads, path: Path, one: Shelved) -> None:
    """Write a file beside its place, under a name of its own, and put it there once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    beside = Path(name)
    try:
        with open(descriptor, "wb") as file:
            _copy(pipe, file, one.size, "the other side has ended in the middle of a file")
        os.utime(beside, ns=(one.mtime_ns, one.mtime_ns))
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _copy(source: Reads, to: Writes, size: int, short: str) -> None:
    """Carry `size` bytes on; UsageError where there are fewer."""
    left = size
    while left:
        chunk = source.read(min(left, CHUNK))
        if not chunk:
            raise UsageError(short)
        to.write(chunk)
        left -= len(chunk)
