"""Evidence: what was measured of a model, block by block, with everything that it came from.

A record's blocks are the jackknife pseudo-values of its measure (`emp.train.judge.blocks`): their mean is the
measure, and their scatter its uncertainty, so that a gate needs nothing but this file. Every record that was made is
in the ledger of evidence; one that is missing from the store is noticed.
"""

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from emp.core.errors import GovernanceError
from emp.governance.chain import Chain, exclusive
from emp.governance.seal import KINDS, Keys, Role, content_address, read_sealed, write_sealed
from emp.journal.run import code_version

Kind = Literal["evaluation", "latency", "facts", "chaos", "drift", "paper", "contest"]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Market data that were looked at, by the content of their rows."""

    series: str
    instrument: str
    asset_class: str
    rows: int
    rows_sha256: str  # of (ts, bid, ask) of every visible event of the part
    span: tuple[int, int]  # ns


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


def machine() -> str:
    """Kind of machine and processor."""
    return f"{platform.system()} {platform.machine()} {platform.processor()}".strip()


def role_of(kind: str) -> Role:
    """Which key signs a kind of evidence."""
    return "box" if kind in KINDS["box"] else "training"


class Store:
    """The evidence of a registry, and the ledger of all that was ever written there."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "evidence"
        self.keys = Keys(home / "keys")
        self.ledger = Chain(home / "evidence.jsonl", self.keys, "looks")

    def add(self, evidence: Evidence) -> str:
        """Count how often its data were looked at, sign it, store it, enter it into the ledger; return its name."""
        with exclusive(self.home):
            told = [str(entry.body.get("evidence")) for entry in self.ledger.entries()]
            for name in self._untold(told):
                self._enter(name, self._read(name, ""))
            mine = {one.rows_sha256 for one in evidence.data}
            looks = sum(not mine.isdisjoint(one.body.get("data", ())) for one in self.ledger.entries())
            evidence = msgspec.structs.replace(evidence, looks=looks)
            name = content_address(evidence)
            write_sealed(self.folder, self.keys.seal_as(role_of(evidence.kind), evidence.kind, evidence))
            if name not in told:
                self._enter(name, evidence)
        return name

    def all(self) -> dict[str, Evidence]:
        """Every evidence that the ledger tells of, and what lies there besides, by name, verified.

        Raises:
            GovernanceError: one that the ledger tells of is missing, or one was changed.
        """
        told = {str(e.body.get("evidence")): str(e.body.get("kind")) for e in self.ledger.entries()}
        return {name: self._read(name, kind) for name, kind in (told | self._untold(told)).items()}

    def _untold(self, told: Iterable[str]) -> dict[str, str]:
        """Evidence that the ledger does not tell of: its writer died before, or the ledger was cut."""
        known = set(told)
        return {path.stem: "" for path in sorted(self.folder.glob("*.json")) if path.stem not in known}

    def _read(self, name: str, kind: str) -> Evidence:
        body = read_sealed(self.folder, name, self.keys, kind)
        try:
            one = msgspec.convert(body, Evidence)
        except msgspec.ValidationError as error:
            raise GovernanceError(f"{self.folder / name}.json: not evidence: {error}") from error
        read_sealed(self.folder, name, self.keys, one.kind)  # what it says it is, it is signed as
        return one

    def _enter(self, name: str, one: Evidence) -> None:
        entry = {
            "evidence": name,
            "kind": one.kind,
            "model": one.model,
            "data": sorted({data.rows_sha256 for data in one.data}),
        }
        self.ledger.append(role_of(one.kind), entry)


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
    )
