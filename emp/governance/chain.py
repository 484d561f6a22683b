"""A log whose every line names the hash of the line before it, and is signed: nothing inside can be changed, left
out or moved. What was cut off at the end is found by what this machine remembers of it (`emp.governance.high_water`).

The whole file is replaced by each addition, so that a crash leaves the log as it was or with the new line.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from emp.core.disk import make_folders
from emp.core.errors import GovernanceError
from emp.core.platform import lock
from emp.governance.high_water import Mark, read_mark, write_mark
from emp.governance.seal import Envelope, Keys, Role, canonical, content_address, open_envelope
from emp.journal.files import write_atomically

START = "0" * 64

PATIENCE_S = 30.0
"""How long a second writer waits for the first."""


class Entry(NamedTuple):
    """One line."""

    number: int  # from 0
    hash: str  # of its content, the number and the line before included
    body: dict[str, Any]
    key: str  # id of the key that signed it


class Chain:
    """A hash-chained, signed log of one kind of lines."""

    def __init__(self, path: Path, keys: Keys, kind: str) -> None:
        self.path = path
        self._keys = keys
        self._kind = kind

    def entries(self) -> list[Entry]:
        """Every line, verified; none where there is no file.

        Raises:
            GovernanceError: a line was changed, left out, moved, or signed by a key that may not; or lines are missing
                at the end that this machine has seen.
        """
        found = self._read()
        mark = read_mark(self.path, self._keys.trusted())
        if mark is not None and (len(found) < mark.lines or found[mark.lines - 1].hash != mark.hash):
            raise GovernanceError(
                f"{self.path}: its end was cut off: this machine has seen {mark.lines} lines, which are not there"
            )
        return found

    def remember(self) -> None:
        """Let this machine remember how far the log has come."""
        found = self.entries()
        mark = read_mark(self.path, self._keys.trusted())
        if found and (mark is None or mark.lines < len(found)):
            newest = found[-1]
            write_mark(self.path, Mark(len(found), newest.hash, newest.key))

    def _read(self) -> list[Entry]:
        found: list[Entry] = []
        previous = START
        for envelope in self._lines():
            body = envelope.body
            where = f"{self.path}: line {len(found) + 1}"
            if envelope.kind != self._kind or body.get("n") != len(found) or body.get("previous") != previous:
                raise GovernanceError(f"{where} does not follow the one before it: the log was changed")
            try:
                self._keys.verify(envelope)
            except GovernanceError as error:
                raise GovernanceError(f"{where}: {error}") from error
            previous = content_address(body)
            entry = body.get("entry")
            if not isinstance(entry, dict):
                raise GovernanceError(f"{where} holds no entry")
            found.append(Entry(len(found), previous, entry, envelope.key))
        return found

    def append(self, role: Role, entry: dict[str, Any]) -> Entry:
        """Add a line; the caller holds the lock (`exclusive`) where it decides by what the log says."""
        before = self.entries()
        previous = before[-1].hash if before else START
        body = {"n": len(before), "previous": previous, "entry": entry}
        envelope = self._keys.seal_as(role, self._kind, body)
        text = b"".join(canonical(one) + b"\n" for one in [*self._lines(), envelope])
        make_folders(self.path.parent)
        write_atomically(self.path, text)
        made = Entry(len(before), content_address(envelope.body), entry, envelope.key)
        write_mark(self.path, Mark(len(before) + 1, made.hash, made.key))
        return made

    def _lines(self) -> list[Envelope]:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise GovernanceError(f"{self.path}: cannot read: {error.strerror}") from error
        if text and not text.endswith(b"\n"):
            raise GovernanceError(f"{self.path}: its end is missing")
        lines = text.split(b"\n")[:-1]
        return [open_envelope(line + b"\n", f"{self.path}: line {k}") for k, line in enumerate(lines, 1)]


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
