"""Files on a pipe: a line of JSON that names one and says how long it is, then its bytes; an empty name ends them."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from emp.core.errors import UsageError

CHUNK = 1 << 20
MAX_LINE = 1 << 22
"""Bytes of the longest line: a request that names every part of some years."""

MAX_FILE = 1 << 28
"""Bytes of the longest file: a day's part or a model has some millions."""

MAX_TOTAL = 1 << 32
"""Bytes that are taken at a time."""


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


def say(pipe: IO[bytes], message: msgspec.Struct) -> None:
    """Send one line."""
    pipe.write(msgspec.json.encode(message) + b"\n")
    pipe.flush()


def hear(pipe: IO[bytes], kind: type[Heard]) -> Heard | None:
    """The next line; None where the other side has ended. UsageError where it says something else."""
    line = pipe.readline(MAX_LINE)
    if not line.endswith(b"\n") and len(line) < MAX_LINE:
        return None
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise UsageError(f"the other side says something that is no answer: {line[:80]!r}") from error


def send_files(pipe: IO[bytes], files: Iterable[tuple[str, Path]]) -> None:
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


def receive_files(pipe: IO[bytes], into: Path, allowed: Callable[[str], bool]) -> Iterator[Shelved]:
    """Take files until the last, and yield each once it is whole; it has the time that it has there.

    Raises:
        UsageError: a name that is not allowed, a file that is too long, or the other side has ended before the last.
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
        total += one.size
        if not allowed(one.path):
            raise UsageError(f"the other side sends {one.path[:80]!r}, which is not asked for")
        if not 0 <= one.size <= MAX_FILE or total > MAX_TOTAL:
            raise UsageError(f"the other side sends more than is taken: {one.path}, {one.size} bytes")
        path = into / one.path
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.part")
        with beside.open("wb") as file:
            _copy(pipe, file, one.size, "the other side has ended in the middle of a file")
        os.utime(beside, ns=(one.mtime_ns, one.mtime_ns))
        beside.replace(path)
        yield one


def _copy(source: IO[bytes], to: IO[bytes], size: int, short: str) -> None:
    """Carry `size` bytes on; UsageError where there are fewer."""
    left = size
    while left:
        chunk = source.read(min(left, CHUNK))
        if not chunk:
            raise UsageError(short)
        to.write(chunk)
        left -= len(chunk)
