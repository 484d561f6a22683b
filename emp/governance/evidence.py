"""Evidence: what was measured of a model, block by block, with everything that it came from.

A record's blocks are the jackknife pseudo-values of its measure (`emp.train.judge.blocks`): their mean is the
measure, and their scatter its uncertainty, so that a gate needs nothing but this file.

Every machine tells of all evidence that it made in a ledger of its own, signed by its own key; evidence that a ledger
tells of and that is missing is noticed. Evidence of another machine counts once its ledger is here and tells of it.
Stretches of a ledger that were verified once are sealed (`emp.governance.stretches`).
"""

import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from emp.core.code_version import code_version
from emp.core.errors import EmpError, GovernanceError
from emp.governance.chain import Chain, Entry, exclusive
from emp.governance.seal import (
    KINDS,
    Envelope,
    Keys,
    Role,
    content_address,
    open_named,
    read_stored,
    write_sealed,
)
from emp.governance.stretches import LINES, Stretches

Kind = Literal[
    "evaluation",
    "masking",
    "parity",
    "latency",
    "facts",
    "chaos",
    "league",
    "drift",
    "value",
    "begun",
    "paper",
    "told",
    "reached",
    "contest",
    "withdrawal",
]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Market data that were looked at, by the content of their rows."""

    series: str
    instrument: str
    asset_class: str
    rows: int
    rows_sha256: str  # of (ts, bid, ask) of every visible event of the part
    span: tuple[int, int]  # ns

    def overlaps(self, other: "Data") -> bool:
        """Whether both saw the same market: the same rows, or one instrument at the same time, so that a copy that was
        cut, or is of another vendor, is not another market.
        """
        at_once = self.span[0] < other.span[1] and other.span[0] < self.span[1]
        return self.rows_sha256 == other.rows_sha256 or (self.instrument == other.instrument and at_once)


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measure of the model on one series at one horizon."""

    measure: str
    series: str
    instrument: str
    asset_class: str
    horizon: str  # "" where it has none
    blocks: tuple[float, ...]  # pseudo-values, one per independent block
    kind_of_block: str
    n: int  # rows, fills, events or worlds behind it


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One look at a model."""

    kind: Kind
    model: str  # content hash; "" where it is the program that is looked at (facts, chaos)
    reference: str = ""  # model that differences are taken to
    code: str
    config: dict[str, Any]
    seed: int
    machine: str
    data: tuple[Data, ...] = ()
    looks: int = 0  # earlier evaluations of whichever model on any of these data
    records: tuple[Record, ...]
    records_sha256: str = ""  # of all records in their order

    @property
    def whole(self) -> bool:
        """Whether its records are those that were measured: none left out, cut, or put in another order. A store
        refuses a changed file by its name; this holds wherever evidence is handed over.
        """
        return self.records_sha256 == _sha256_of(self.records)


class Signed(NamedTuple):
    """Evidence, and whose it is."""

    key: str  # id of the key that signed it
    evidence: Evidence


def _sha256_of(records: Sequence[Record]) -> str:
    """Of figures that need not be finite."""
    digest = hashlib.sha256()
    for one in records:
        told = (one.measure, one.series, one.instrument, one.asset_class, one.horizon, one.kind_of_block)
        digest.update(repr((told, [float(x) for x in one.blocks], one.n)).encode())
    return digest.hexdigest()


def machine() -> str:
    """Kind of machine and processor."""
    return f"{platform.system()} {platform.machine()} {platform.processor()}".strip()


def role_of(kind: str) -> Role:
    """Which key signs a kind of evidence."""
    return "box" if kind in KINDS["box"] else "training"


_STORED = msgspec.json.Decoder(Envelope)


class Store:
    """The evidence of a registry, and the ledgers of all that was ever written there, one of each machine's key."""

    def __init__(self, home: Path, *, one_by_one: bool = False) -> None:
        """With `one_by_one` every line and every piece is verified, sealed or not."""
        self.home = home
        self.folder = home / "evidence"
        self.ledgers_folder = home / "ledgers"
        self.keys = Keys(home / "keys")
        self._one_by_one = one_by_one
        self._ledgers: dict[str, Chain] = {}

    def ledger(self, key: str) -> Chain:
        """The ledger of the machine with this key."""
        if key not in self._ledgers:
            path = self.ledgers_folder / f"{key}.jsonl"
            more = {} if self._one_by_one else {"sealed": self.stretches(key).beginning}
            self._ledgers[key] = Chain(path, self.keys, "looks", key, **more)
        return self._ledgers[key]

    def stretches(self, key: str) -> Stretches:
        """What is sealed of the ledger of the machine with this key."""
        return Stretches(self.home / "sealed" / key, key, self.keys)

    def ledgers(self) -> dict[str, list[Entry]]:
        """Every ledger that is here or that this machine has seen of a key that it trusts, verified, by key.

        Raises:
            GovernanceError: one was changed or cut, or is of a key that is not trusted.
        """
        return {key: self.ledger(key).entries() for key in self.keys_told()}

    def keys_told(self) -> list[str]:
        """Whose ledgers there should be: of all trusted keys, and of whatever lies there besides."""
        return sorted({path.stem for path in self.ledgers_folder.glob("*.jsonl")} | set(self.keys.trusted()))

    def heads(self) -> dict[str, list[Any]]:
        """How far every ledger has come, by key: lines and the hash of the newest."""
        return {key: [len(found), found[-1].hash] for key, found in self.ledgers().items() if found}

    def add(self, evidence: Evidence) -> str:
        """Count how often its data were looked at, sign it, store it, enter it into the ledger; return its name."""
        with exclusive(self.home):
            return self._add(evidence)

    def add_unless(
        self, known: Callable[[Mapping[str, Evidence], Evidence], bool], evidence: Evidence
    ) -> str | None:
        """The same, unless this evidence is known from all that is here; None where it is. Nobody adds anything in
        between: of two that say the same at once one does.
        """
        with exclusive(self.home):
            return None if known(self.all(), evidence) else self._add(evidence)

    def _add(self, evidence: Evidence) -> str:
        role = role_of(evidence.kind)
        key, _ = self.keys.own(role)
        told = {str(one.body.get("evidence")) for found in self.ledgers().values() for one in found}
        for name, (signer, one) in self._untold(told).items():
            if signer == key:
                self._enter(key, name, one)
        lines = [one.body for found in self.ledgers().values() for one in found]
        looks = sum(_looked_at(evidence.data, line) for line in lines)
        evidence = msgspec.structs.replace(evidence, looks=looks)
        name = content_address(evidence)
        write_sealed(self.folder, self.keys.seal_as(role, evidence.kind, evidence))
        if name not in told:
            self._enter(key, name, evidence)
        self.seal()
        return name

    def seal(self) -> None:
        """Seal whole stretches of this machine's ledgers that are not sealed yet; the caller holds the lock
        (`exclusive`). Where one cannot be written nothing is lost: what it holds goes on being verified one by one.
        """
        trusted = self.keys.trusted()
        for key in self.keys.held() & set(trusted):
            try:
                while self._seal_next(key, trusted[key].role):
                    pass
            except (EmpError, OSError):
                continue

    def _seal_next(self, key: str, role: Role) -> bool:
        """Whether there was a whole stretch to seal."""
        ledger, stretches = self.ledger(key), self.stretches(key)
        text, first = ledger.text(), stretches.sealed()
        entries = ledger.verified(text, str(ledger.path))
        told = entries[first : first + LINES]
        if len(told) < LINES:
            return False
        lines = text.splitlines(keepends=True)[first : first + LINES]
        stored = []
        for entry in told:
            name = str(entry.body.get("evidence"))
            stored.append(read_stored(self.folder, name))
            self._opened(stored[-1], name, str(entry.body.get("kind")), key, self.folder)
        stretches.seal(role, told, b"".join(lines), stored)
        return stretches.sealed() > first

    def all(self) -> dict[str, Evidence]:
        """Every evidence that the ledgers tell of, and what this machine signed and died before it told of, by name,
        verified.

        Raises:
            GovernanceError: one that a ledger tells of is missing, or one was changed.
        """
        return {name: one.evidence for name, one in self.signed().items()}

    def signed(self) -> dict[str, Signed]:
        """The same with whose it is; that of one key is in the order of its ledger, that of several in no order."""
        found: dict[str, Signed] = {}
        lie_there, trusted = self._names(), self.keys.trusted()
        for key, entries in self.ledgers().items():
            sealed = {} if self._one_by_one else self.stretches(key).evidence(entries)
            for entry in entries:
                name, kind = str(entry.body.get("evidence")), str(entry.body.get("kind"))
                one = None
                if name in sealed and name in lie_there and kind in KINDS[trusted[key].role]:
                    one = _sealed(sealed[name], name, kind, key)
                found[name] = Signed(key, one or self.read(name, kind, key))
        held = self.keys.held()
        return found | {name: one for name, one in self._untold(found).items() if one.key in held}

    def _names(self) -> set[str]:
        """Of all evidence that lies there, told of or not."""
        return {path.stem for path in self.folder.glob("*.json")}

    def read(self, name: str, kind: str = "", key: str = "", folder: Path | None = None) -> Evidence:
        """One piece of evidence, verified, of this kind and signed by this key where they are named; from a folder that
        is a copy of another machine's, where one is named.
        """
        return self._read(name, kind, key, folder or self.folder).evidence

    def _untold(self, told: Iterable[str]) -> dict[str, Signed]:
        """Evidence that no ledger here tells of, with the key that signed it: its writer died before, or its ledger has
        not come yet.
        """
        names = sorted(self._names() - set(told))
        return {name: self._read(name, "", "", self.folder) for name in names}

    def _read(self, name: str, kind: str, key: str, folder: Path) -> Signed:
        return self._opened(read_stored(folder, name), name, kind, key, folder)

    def _opened(self, text: bytes, name: str, kind: str, key: str, folder: Path) -> Signed:
        envelope = open_named(text, folder, name, self.keys, kind)
        where = f"{folder / name}.json"
        try:
            one = msgspec.convert(envelope.body, Evidence)
        except msgspec.ValidationError as error:
            raise GovernanceError(f"{where}: not evidence: {error}") from error
        if envelope.kind != one.kind:  # what it says it is, it is signed as
            raise GovernanceError(f"{where}: {envelope.kind[:20]!r} is not {one.kind}")
        if key and envelope.key != key:
            raise GovernanceError(f"{where}: is signed by another key than the ledger that tells of it")
        return Signed(envelope.key, one)

    def _enter(self, key: str, name: str, one: Evidence) -> None:
        entry = {
            "evidence": name,
            "kind": one.kind,
            "model": one.model,
            "data": sorted({data.rows_sha256 for data in one.data}),
            "spans": sorted({(data.instrument, *data.span) for data in one.data}),
        }
        self.ledger(key).append(role_of(one.kind), entry)


def _sealed(text: bytes, name: str, kind: str, key: str) -> Evidence | None:
    """Evidence whose signature was verified when it was sealed; None where it is not what its name, or the ledger's
    line, says.
    """
    try:
        envelope = _STORED.decode(text)
        if content_address(envelope.body) != name:
            return None
        one = msgspec.convert(envelope.body, Evidence)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, GovernanceError):
        return None
    return one if (envelope.key, envelope.kind, one.kind) == (key, kind, kind) else None


def _looked_at(data: Iterable[Data], line: Mapping[str, Any]) -> bool:
    """Whether the evidence of a ledger's line has seen any of these data."""
    rows, spans = set(line.get("data", ())), line.get("spans", ())  # older lines have no spans
    return any(
        one.rows_sha256 in rows
        or any(
            one.instrument == name and one.span[0] < end and begin < one.span[1] for name, begin, end in spans
        )
        for one in data
    )


def new_evidence(
    kind: Kind,
    model: str,
    records: Sequence[Record],
    config: dict[str, Any],
    seed: int = 0,
    data: Sequence[Data] = (),
    reference: str = "",
) -> Evidence:
    """Evidence of this program on this machine."""
    return Evidence(
        kind=kind,
        model=model,
        reference=reference,
        code=code_version(),
        config=config,
        seed=seed,
        machine=machine(),
        data=tuple(data),
        records=tuple(records),
        records_sha256=_sha256_of(records),
    )
