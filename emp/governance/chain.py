"""A log whose every line names the hash of the line before it, and is signed: nothing inside can be changed, left
out or moved. What was cut off at the end is found by what this machine remembers of it (`emp.governance.high_water`).

The whole file is replaced by each addition, so that a crash leaves the log as it was or with the new line.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from emp.core.disk import make_folders
from emp.core.errors import GovernanceError
from emp.core.platform import lock
from emp.governance.high_water import Mark, read_mark, write_mark
from emp.governance.seal import (
    Envelope,
    Keys,
    Role,
    Trusted,
    canonical,
    content_address,
    open_envelope,
)
from emp.journal.files import write_atomically

START = "0" * 64

MAX_LINE = 1 << 18
"""Bytes of the longest line: they hold names and hashes."""

PATIENCE_S = 30.0
"""How long a second writer waits for the first."""


class Entry(NamedTuple):
    """One line."""

    number: int  # from 0
    hash: str  # of its content, the number and the line before included
    body: dict[str, Any]
    key: str  # id of the key that signed it


class Beginning(NamedTuple):
    """Lines at the beginning of a log that need not be verified again."""

    size: int  # bytes
    head: str  # hash of the last of them
    entries: list[Entry]


NOTHING = Beginning(0, START, [])


class _Seen(NamedTuple):
    """A text that was verified, and by which keys."""

    text: bytes
    trusted: Mapping[str, Trusted]
    entries: list[Entry]


class Chain:
    """A hash-chained, signed log of one kind of lines."""

    def __init__(
        self,
        path: Path,
        keys: Keys,
        kind: str,
        signer: str = "",
        sealed: Callable[[bytes], Beginning] = lambda _: NOTHING,
    ) -> None:
        """Where `signer` is given, the id of a key, every line must be signed by that one. `sealed` tells which lines
        of a text are sealed as a whole.
        """
        self.path = path
        self._keys = keys
        self._kind = kind
        self._signer = signer
        self._sealed = sealed
        self._seen = _Seen(b"", {}, [])

    def entries(self) -> list[Entry]:
        """Every line, verified; none where there is no file.

        Raises:
            GovernanceError: a line was changed, left out, moved, or signed by a key that may not; or lines are missing
                at the end that this machine has seen.
        """
        return self.verified(self.text(), str(self.path))

    def remember(self) -> None:
        """Let this machine remember how far the log has come."""
        self._remember(self.entries())

    def _remember(self, found: list[Entry]) -> None:
        mark = read_mark(self.path, self._keys.trusted())
        if found and (mark is None or mark.lines < len(found)):
            newest = found[-1]
            write_mark(self.path, Mark(len(found), newest.hash, newest.key))

    def verified(self, text: bytes, where: str) -> list[Entry]:
        """The lines of a text that is this log, or a copy of it, as `entries` has them; errors name `where`."""
        trusted = self._keys.trusted()
        size, previous, known = self._begin(text, trusted)
        found = list(known)
        verify = self._keys.verifier(trusted)
        for envelope in envelopes(text, where, size, len(found)):
            body = envelope.body
            line = f"{where}: line {len(found) + 1}"
            if envelope.kind != self._kind or body.get("n") != len(found) or body.get("previous") != previous:
                raise GovernanceError(f"{line} does not follow the one before it: the log was changed")
            if self._signer and envelope.key != self._signer:
                raise GovernanceError(f"{line}: signed by key {envelope.key[:16]!r}, not by {self._signer}")
            try:
                verify(envelope)
            except GovernanceError as error:
                raise GovernanceError(f"{line}: {error}") from error
            previous = content_address(body)
            entry = body.get("entry")
            if not isinstance(entry, dict):
                raise GovernanceError(f"{line} holds no entry")
            found.append(Entry(len(found), previous, entry, envelope.key))
        mark = read_mark(self.path, trusted)
        if mark is not None and (len(found) < mark.lines or found[mark.lines - 1].hash != mark.hash):
            raise GovernanceError(
                f"{where}: its end was cut off: this machine has seen {mark.lines} lines, which are not there"
            )
        self._seen = _Seen(text, trusted, found)
        return list(found)

    def _begin(self, text: bytes, trusted: Mapping[str, Trusted]) -> Beginning:
        """What of a text was verified here before by the same keys, or is sealed."""
        seen = self._seen
        if seen.entries and seen.trusted == trusted and text.startswith(seen.text):
            return Beginning(len(seen.text), seen.entries[-1].hash, seen.entries)
        return self._sealed(text)

    def append(self, role: Role, entry: dict[str, Any]) -> Entry:
        """Add a line; the caller holds the lock (`exclusive`) where it decides by what the log says."""
        text = self.text()
        before = self.verified(text, str(self.path))
        previous = before[-1].hash if before else START
        body = {"n": len(before), "previous": previous, "entry": entry}
        envelope = self._keys.seal_as(role, self._kind, body)
        if self._signer and envelope.key != self._signer:
            raise GovernanceError(f"{self.path}: is not the log of key {envelope.key}")
        made = Entry(len(before), content_address(envelope.body), entry, envelope.key)
        self.replace(text + canonical(envelope) + b"\n", [*before, made])
        return made

    def replace(self, text: bytes, found: list[Entry]) -> None:
        """Put a text that goes on from the log in its place, and remember it; `found` are its lines."""
        make_folders(self.path.parent)
        write_atomically(self.path, text)
        self._remember(found)

    def text(self) -> bytes:
        """The file as it lies there; empty where there is none."""
        return log_text(self.path)


def log_text(path: Path) -> bytes:
    """The bytes of a log, or of a copy of one; empty where there is none.

    Raises:
        GovernanceError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise GovernanceError(f"{path}: cannot read: {error.strerror}") from error


def envelopes(text: bytes, where: str, begin: int = 0, k: int = 0) -> Iterator[Envelope]:
    """The signed lines of a log behind its first `k`, which are `begin` bytes, one after the other: whoever verifies
    each decodes nothing of a stranger's.
    """
    if text and not text.endswith(b"\n"):
        raise GovernanceError(f"{where}: its end is missing")
    while begin < len(text):
        end, k = text.index(b"\n", begin) + 1, k + 1
        if end - begin > MAX_LINE:
            raise GovernanceError(f"{where}: line {k} is longer than any of ours: it was changed")
        yield open_envelope(text[begin:end], f"{where}: line {k}")
        begin = end


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One writer at a time in a folder, among all processes of this machine; a dead one lets go by itself."""
    make_folders(folder)
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise GovernanceError(f"{path}: cannot lock: {error.strerror}") from error
    try:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                lock(descriptor)
                break
            except OSError:
                if time.monotonic() > until:
                    raise GovernanceError(
                        f"{folder}: another process has held it for {PATIENCE_S:.0f} s"
                    ) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
