"""The registry: artifacts by content, the trail of what was decided about them, and which one is the default.

    registry/
      models/HASH/          artifacts
      evidence/HASH.json    what was measured (`emp.governance.evidence`), evidence.jsonl: its ledger
      verdicts/HASH.json    what the gates said
      audit.jsonl           what was decided: the one place where a model's status stands
      keys/                 who may sign what

Statuses are what the trail says, folded from its beginning, so that there is nothing to fall out of step: a promotion
is one new line of one file, replaced at once.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from emp.core.clock import Clock
from emp.core.disk import disk, make_folders
from emp.core.errors import GovernanceError
from emp.governance.chain import Chain, Entry, exclusive
from emp.governance.evidence import Store
from emp.governance.gates import Gates
from emp.governance.judge import Case, Judgement, judge
from emp.governance.seal import read_sealed, write_sealed
from emp.journal.run import code_version
from emp.model.artifact import Artifact, save

Status = Literal["candidate", "approved", "retired"]

APPROVED_DEFAULT = "APPROVED_DEFAULT"


class Standing(NamedTuple):
    """What the trail says of all models."""

    status: dict[str, Status]
    facts: dict[str, dict[str, Any]]  # what was said when a model was registered
    defaults: tuple[str, ...]  # models that were the default, the newest last: what a rollback goes back to

    @property
    def default(self) -> str:
        """The model tagged APPROVED_DEFAULT; "" where there is none."""
        return self.defaults[-1] if self.defaults else ""


class Registry:
    """A folder of models, evidence and decisions."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.home = home
        self.store = Store(home)
        self.models = home / "models"
        self.verdicts = home / "verdicts"
        self.audit = Chain(home / "audit.jsonl", self.store.keys, "audit")
        self._clock = clock

    def standing(self) -> Standing:
        """Statuses and the default, from the verified trail."""
        return fold(self.audit.entries())

    def find(self, name: str) -> str:
        """The hash of a registered model by its first digits, or of the default by its tag.

        Raises:
            GovernanceError: there is none, or more than one.
        """
        standing = self.standing()
        if name == APPROVED_DEFAULT and standing.default:
            return standing.default
        found = [one for one in standing.status if name and one.startswith(name)]
        if len(found) != 1:
            raise GovernanceError(f"{name}: {len(found) or 'no'} such model in {self.home}")
        return found[0]

    def register(self, artifact: Artifact) -> bool:
        """Keep an artifact as a candidate; False where it was there already."""
        with exclusive(self.home):
            if artifact.hash in self.standing().status:
                return False
            self._keep(artifact)
            manifest = artifact.manifest
            lineage = {
                "kind": manifest.kind,
                "seed": manifest.provenance.get("seed"),
                "parent": str(manifest.provenance.get("linear", "")),
                "trained_on": [one["series"] for one in manifest.provenance.get("series", [])],
            }
            self._say("register", artifact.hash, lineage=lineage)
        return True

    def check(self, artifact: Artifact, gates: Gates, reference: str) -> Judgement:
        """What the gates say of a model, from all evidence of this registry.

        Raises:
            GovernanceError: evidence is missing, was changed, or was cut off since it was last looked at.
        """
        self._refuse_cut_ledger()
        return judge(gates, Case(artifact.manifest, self.store.all(), reference, code_version()))

    def promote(self, artifact: Artifact, gates: Gates, reference: str) -> tuple[Judgement, str]:
        """Make a model the default where every gate passes; else say in the trail that it was refused.

        Returns:
            The judgement, and the name of the signed verdict.
        """
        with exclusive(self.home):
            standing = self.standing()
            if artifact.hash not in standing.status:
                raise GovernanceError(f"{artifact.hash[:12]}: not registered here: `emp models add` it first")
            judgement = self.check(artifact, gates, reference)
            name = write_sealed(self.verdicts, self.store.keys.seal("verdict", judgement))
            if judgement.verdict != "pass":
                self._say("refuse", artifact.hash, verdict=name)
            elif standing.default != artifact.hash:
                self._say("promote", artifact.hash, verdict=name, previous=standing.default)
        return judgement, name

    def rollback(self, reason: str) -> tuple[str, str]:
        """Retire the default and go back to the one before; the two hashes.

        Raises:
            GovernanceError: there is no earlier one.
        """
        with exclusive(self.home):
            standing = self.standing()
            if len(standing.defaults) < 2:
                raise GovernanceError(f"{self.home}: no earlier {APPROVED_DEFAULT} to go back to")
            now, before = standing.defaults[-1], standing.defaults[-2]
            self._say("rollback", now, previous=before, reason=reason)
        return now, before

    def promoted_by(self, model: str) -> str:
        """The SHA-256 of the gates that a model last passed as a whole; "" where no promotion of it is on record.

        Raises:
            GovernanceError: the verdict that the trail names is not that of a pass of this model.
        """
        for entry in reversed(self.audit.entries()):
            if entry.body["action"] == "promote" and entry.body["model"] == model:
                said = self.verdict(str(entry.body["verdict"]))
                if said["model_hash"] != model or said["verdict"] != "pass":
                    raise GovernanceError(
                        f"{self.audit.path}: a promotion of {model[:12]} rests on no verdict of it"
                    )
                return str(said["gates_sha256"])
        return ""

    def verdict(self, name: str) -> dict[str, Any]:
        """A signed verdict, verified."""
        return read_sealed(self.verdicts, name, self.store.keys, "verdict")

    def verify(self) -> int:
        """Verify the trail, every verdict in it and all evidence; how many pieces of evidence there are."""
        for entry in self.audit.entries():
            if "verdict" in entry.body:
                self.verdict(str(entry.body["verdict"]))
        self._refuse_cut_ledger()
        self.remember()
        return len(self.store.all())

    def remember(self) -> None:
        """Let this machine remember how far both logs have come, so that it misses what is cut off later."""
        self.audit.remember()
        self.store.ledger.remember()

    def folder(self, model: str) -> Path:
        """Where a registered model lies."""
        return self.models / model

    def _say(self, action: str, model: str, **more: Any) -> Entry:
        ledger = self.store.ledger.entries()
        head = [len(ledger), ledger[-1].hash if ledger else ""]
        entry = {"action": action, "model": model, "ts": self._clock.now_ns(), "evidence_head": head, **more}
        return self.audit.append("training", entry)

    def _refuse_cut_ledger(self) -> None:
        """The trail remembers how far the ledger of evidence had come, and by which line."""
        ledger = self.store.ledger.entries()
        for entry in self.audit.entries():
            count, head = entry.body["evidence_head"]
            if count and (len(ledger) < count or ledger[count - 1].hash != head):
                raise GovernanceError(f"{self.store.ledger.path}: evidence that a decision rested on is gone")

    def _keep(self, artifact: Artifact) -> None:
        """Put an artifact into its place, whole or not at all."""
        place, beside = self.folder(artifact.hash), self.models / f".{artifact.hash}.{os.getpid()}.tmp"
        if place.exists():
            return
        try:
            make_folders(self.models)
            save(beside, artifact.manifest, artifact.tensors)
            disk().replace(beside, place)
            disk().sync_folder(self.models)
        except OSError as error:
            raise GovernanceError(f"{place}: cannot write: {error.strerror}") from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def fold(entries: list[Entry]) -> Standing:
    """Statuses and defaults after all decisions of a trail, in order."""
    status: dict[str, Status] = {}
    facts: dict[str, dict[str, Any]] = {}
    defaults: list[str] = []
    for entry in entries:
        body: Mapping[str, Any] = entry.body
        model = str(body["model"])
        if body["action"] == "register":
            status[model], facts[model] = "candidate", dict(body["lineage"])
        elif body["action"] == "promote":
            status[model] = "approved"
            defaults.append(model)
        elif body["action"] == "rollback":
            status[model] = "retired"
            defaults = [one for one in defaults if one != model]
    return Standing(status, facts, tuple(defaults))
