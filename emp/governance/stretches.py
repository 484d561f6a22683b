"""Stretches of a ledger that were verified once and are sealed as a whole, so that a start need not verify every line
of years again.

    sealed/KEY/END.jsonl    a signed line, and behind it the evidence that its lines tell of, as it is stored

A stretch is sealed by the key that has signed each of its lines and each piece of its evidence, and spares the reader
their signatures alone: that each line follows the one before it, that evidence is what its name says, and that the key
may sign its kind, is looked at all the same. So it vouches for nothing that this key could not say anyway. It names the
hash of the line before it and of its last, so stretches are a chain as the lines are, and the SHA-256 of the bytes of
its lines and of its evidence. Where anything is not so, lines and evidence are verified one by one, as they are without
it: it saves time and decides nothing. One that is damaged counts as none: its lines are verified one by one until
it is removed with all that follow, which are then made anew.
`emp audit` verifies everything one by one, and refuses a stretch that says something else.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from emp.core.disk import make_folders
from emp.core.errors import GovernanceError
from emp.governance.chain import START, Beginning, Entry
from emp.governance.seal import Envelope, Keys, Role, canonical, content_address, open_envelope
from emp.journal.files import write_atomically

KIND = "stretch"

LINES = 240
"""Of a stretch: ten days of a run that signs every hour."""


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Lines [first, end) of a ledger."""

    ledger: str  # id of the key that signs it
    first: int
    end: int
    previous: str  # hash of the line before
    head: str  # hash of the last line
    size: int  # bytes of the lines
    lines_sha256: str
    evidence_sha256: str  # of all that lies behind the seal


class _Found(NamedTuple):
    """A stretch that is sealed, and where it lies."""

    stretch: Stretch
    path: Path


class Stretches:
    """The sealed stretches of one ledger, from its beginning."""

    def __init__(self, folder: Path, key: str, keys: Keys) -> None:
        self._folder, self._key, self._keys = folder, key, keys

    def beginning(self, text: bytes) -> Beginning:
        """The lines of a ledger's text that are sealed.

        Raises:
            GovernanceError: more is sealed than the text holds: its end was cut off.
        """
        size, previous, entries = 0, START, list[Entry]()
        for one, path in self._chained():
            lines = text[size : size + one.size]
            if len(lines) < one.size:
                raise GovernanceError(
                    f"{path}: {one.end} lines of this ledger are sealed, and not so many are there: its end was cut off"
                )
            if hashlib.sha256(lines).hexdigest() != one.lines_sha256:
                break
            told = _entries(lines, one)
            if told is None:
                break
            entries += told
            size, previous = size + one.size, one.head
        return Beginning(size, previous, entries)

    def evidence(self, entries: Sequence[Entry]) -> Mapping[str, bytes]:
        """Of each piece of evidence that sealed lines tell of its stored text, by name; `entries` are the ledger's,
        verified.
        """
        found: dict[str, bytes] = {}
        for one, path in self._chained():
            if one.end > len(entries) or entries[one.end - 1].hash != one.head:
                break
            pack = _pack(path)
            if hashlib.sha256(pack).hexdigest() == one.evidence_sha256:
                names = [str(entry.body.get("evidence")) for entry in entries[one.first : one.end]]
                stored = pack.splitlines(keepends=True)
                if len(stored) != len(names):
                    break
                found.update(zip(names, stored, strict=True))
        return found

    def sealed(self) -> int:
        """Lines that are sealed."""
        return max((one.end for one, _ in self._chained()), default=0)

    def seal(self, role: Role, entries: Sequence[Entry], lines: bytes, evidence: Sequence[bytes]) -> None:
        """Seal the lines of these entries, that follow what is sealed, and the stored texts of what they tell of.

        Raises:
            EmpError: it cannot be written, or the key is not at hand.
        """
        path, pack = self._path(entries[-1].number + 1), b"".join(evidence)
        made = _stretch(self._key, entries, self._head(), lines, pack)
        envelope = self._keys.seal_as(role, KIND, made)
        make_folders(path.parent)
        write_atomically(path, canonical(envelope) + b"\n" + pack)

    def refuse_others(self, entries: Sequence[Entry], text: bytes, stored: Mapping[str, bytes]) -> None:
        """Raise GovernanceError where a stretch says something else than a ledger and evidence, verified one by one."""
        previous = START
        lines = text.splitlines(keepends=True)
        for path in self._paths():
            one = self._opened(path)
            told = entries[one.first : one.end]
            mine = b"".join(lines[one.first : one.end])
            pack = b"".join(stored.get(str(entry.body.get("evidence")), b"") for entry in told)
            if not told or one != _stretch(self._key, told, previous, mine, pack) or _pack(path) != pack:
                raise GovernanceError(f"{path}: is not what the ledger says: it was changed; remove it")
            previous = one.head

    def _chained(self) -> list[_Found]:
        """As many as follow each other from the ledger's beginning and are rightly signed."""
        found: list[_Found] = []
        end, head = 0, START
        for path in self._paths():
            try:
                one = self._opened(path)
            except GovernanceError:
                break
            if (one.first, one.previous) != (end, head):
                break
            end, head = one.end, one.head
            found.append(_Found(one, path))
        return found

    def _opened(self, path: Path) -> Stretch:
        try:
            with path.open("rb") as file:
                text = file.readline(1 << 16)
            envelope = open_envelope(text, str(path))
            self._keys.verify(envelope)
            one = msgspec.convert(envelope.body, Stretch)
        except (OSError, msgspec.ValidationError, GovernanceError) as error:
            raise GovernanceError(f"{path}: not a sealed stretch: {error}; remove it") from error
        if (envelope.kind, envelope.key, one.ledger) != (KIND, self._key, self._key):
            raise GovernanceError(f"{path}: is not of the ledger of key {self._key}; remove it")
        if not 0 <= one.first < one.end or path != self._path(one.end):
            raise GovernanceError(f"{path}: is not the stretch that its name says; remove it")
        return one

    def _head(self) -> str:
        found = self._chained()
        return found[-1].stretch.head if found else START

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))

    def _path(self, end: int) -> Path:
        return self._folder / f"{end:09d}.jsonl"


def _stretch(key: str, entries: Sequence[Entry], previous: str, lines: bytes, pack: bytes) -> Stretch:
    return Stretch(
        ledger=key,
        first=entries[0].number,
        end=entries[-1].number + 1,
        previous=previous,
        head=entries[-1].hash,
        size=len(lines),
        lines_sha256=hashlib.sha256(lines).hexdigest(),
        evidence_sha256=hashlib.sha256(pack).hexdigest(),
    )


_LINES = msgspec.json.Decoder(Envelope)


def _entries(lines: bytes, one: Stretch) -> list[Entry] | None:
    """Lines whose signatures were verified when they were sealed; None where one does not follow the one before it."""
    previous, found = one.previous, list[Entry]()
    try:
        for n, line in enumerate(lines.splitlines(), one.first):
            envelope = _LINES.decode(line)
            body, entry = envelope.body, envelope.body.get("entry")
            if (envelope.kind, envelope.key, body.get("n"), body.get("previous")) != (
                "looks",
                one.ledger,
                n,
                previous,
            ) or not isinstance(entry, dict):
                return None
            previous = content_address(body)
            found.append(Entry(n, previous, entry, envelope.key))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, GovernanceError):
        return None
    return found if (len(found), previous) == (one.end - one.first, one.head) else None


def _pack(path: Path) -> bytes:
    """What lies behind the seal."""
    try:
        text = path.read_bytes()
    except OSError:
        return b""
    return text[text.find(b"\n") + 1 :]
