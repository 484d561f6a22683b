"""The registry: artifacts by content, the trail of what was decided about them, and which one is the default.

    registry/
      models/HASH/          artifacts
      evidence/HASH.json    what was measured (`emp.governance.evidence`)
      ledgers/KEY.jsonl     which evidence each machine has made, by the id of its key
      verdicts/HASH.json    what the gates said
      audit.jsonl           what was decided: the one place where a model's status stands
      sealed/KEY/           stretches of a ledger that need not be verified line by line (`emp.governance.stretches`)
      keys/                 who may sign what

Statuses are what the trail says, folded from its beginning, so that there is nothing to fall out of step: a promotion
is one new line of one file, replaced at once. A machine that trades and cannot sign decisions can withdraw a default
(evidence of kind `withdrawal`, which names the last decision that it knew of); it can promote nothing.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from emp.core.clock import Clock
from emp.core.code_version import code_version
from emp.core.disk import disk, make_folders
from emp.core.errors import GovernanceError
from emp.governance.chain import Chain, Entry, exclusive
from emp.governance.evidence import Store, new_evidence
from emp.governance.gates import Gates
from emp.governance.judge import Case, Judgement, judge
from emp.governance.reference import FAIR, likeness
from emp.governance.seal import content_address, read_sealed, read_stored, write_sealed
from emp.governance.standing import (
    APPROVED_DEFAULT,
    Standing,
    Withdrawal,
    fold,
    refuse_cut_ledgers,
    withdrawal,
)
from emp.model.artifact import OWN, Artifact, Manifest, save, title

ARTIFACTS = ("linear", "mamba2", "mamba3")
"""Kinds that may be promoted: of these all that they do is in the artifact."""

GROUNDS = ("gates_sha256", "code", "reference", "likeness")
"""What a promotion rests on, beside the evidence."""


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
        return fold(self.audit.entries(), self._withdrawals())

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
        """Keep an artifact as a candidate; False where it was there already.

        Raises:
            GovernanceError: it is a model of the user's own: what its code does nobody can say of the artifact.
        """
        if artifact.manifest.kind == OWN:
            raise GovernanceError(f"{title(artifact.manifest)}: no gate takes a model of your own")
        with exclusive(self.home):
            if artifact.hash in self.standing().status:
                return False
            self.keep(artifact)
            manifest = artifact.manifest
            lineage = {
                "kind": manifest.kind,
                "seed": manifest.provenance.get("seed"),
                "parent": str(manifest.provenance.get("linear", "")),
                "trained_on": [one["series"] for one in manifest.provenance.get("series", [])],
            }
            self._say("register", artifact.hash, lineage=lineage)
        return True

    def check(self, artifact: Artifact, gates: Gates, reference: Manifest) -> Judgement:
        """What the gates say of a model beside a reference, from all evidence of this registry, verified one by one.

        Raises:
            GovernanceError: evidence is missing, was changed, or was cut off since it was last looked at; or it is no
                artifact that can be judged, as a model of the user's own.
        """
        kind = str(artifact.manifest.kind)
        if kind not in ARTIFACTS:
            raise GovernanceError(
                f"{artifact.hash[:12]}: no gate judges a model of kind {kind!r}: it serves on paper"
            )
        whole = Store(self.home, one_by_one=True)
        refuse_cut_ledgers(self.audit.entries(), whole.ledgers())
        before = [one for one in self.standing().defaults if one != artifact.hash]
        champion = before[-1] if before else ""
        how = likeness(artifact.manifest, reference, promoted=self._passed(reference.hash, gates))
        evidence = whole.all()
        now = self._clock.now_ns()
        case = Case(artifact.manifest, evidence, reference.hash, code_version(), champion, how, now)
        return judge(gates, case)

    def promote(self, artifact: Artifact, gates: Gates, reference: Manifest) -> tuple[Judgement, str]:
        """Make a model the default where every gate passes; else say in the trail that it was refused. The default is
        promoted anew where what it has passed was other gates, or by other code, or beside another reference.

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
            elif standing.default != artifact.hash or self._rests_on_others(judgement):
                self._say("promote", artifact.hash, verdict=name, previous=standing.default)
        return judgement, name

    def rollback(self, reason: str) -> tuple[str, str]:
        """Retire the default and go back to the one before; the two hashes. A machine that trades withdraws the default
        on its own authority, until the machine that decides promotes it anew.

        Raises:
            GovernanceError: there is no earlier one.
        """
        with exclusive(self.home):
            trail = self.audit.entries()
            standing = fold(trail, self._withdrawals())
            if len(standing.defaults) < 2:
                raise GovernanceError(f"{self.home}: no earlier {APPROVED_DEFAULT} to go back to")
            now, before = standing.defaults[-1], standing.defaults[-2]
            if self.store.keys.may("training"):
                self._say("rollback", now, previous=before, reason=reason)
                return now, before
        config = {"reason": reason, "ts": self._clock.now_ns(), "after": [len(trail), trail[-1].hash]}
        self.store.add(new_evidence("withdrawal", now, [], config))
        return now, before

    def promotion(self, model: str) -> dict[str, Any]:
        """The verdict that a model was last promoted by; nothing where no promotion of it is on record.

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
                return said
        return {}

    def _passed(self, model: str, gates: Gates) -> bool:
        """Whether a model is approved, by these gates, by this code, beside a reference that nobody could choose."""
        said = self.promotion(model)
        return (
            self.standing().status.get(model) == "approved"
            and said.get("gates_sha256") == content_address(gates)
            and said.get("code") == code_version()
            and said.get("likeness") in FAIR
        )

    def _rests_on_others(self, now: Judgement) -> bool:
        """Whether the promotion on record of a model is by other gates, other code, or beside another reference."""
        said = self.promotion(now.model_hash)
        return any(said.get(name) != getattr(now, name) for name in GROUNDS)

    def verdict(self, name: str) -> dict[str, Any]:
        """A signed verdict, verified."""
        return read_sealed(self.verdicts, name, self.store.keys, "verdict")

    def verify(self) -> int:
        """Verify the trail, every verdict in it and all evidence, one by one; how many pieces of evidence there are."""
        for entry in self.audit.entries():
            if "verdict" in entry.body:
                self.verdict(str(entry.body["verdict"]))
        whole = Store(self.home, one_by_one=True)
        ledgers = whole.ledgers()
        refuse_cut_ledgers(self.audit.entries(), ledgers)
        evidence = whole.all()
        stored = {name: read_stored(whole.folder, name) for name in evidence}
        for key, entries in ledgers.items():
            whole.stretches(key).refuse_others(entries, whole.ledger(key).text(), stored)
        self.remember()
        return len(evidence)

    def remember(self) -> None:
        """Let this machine remember how far both logs have come, so that it misses what is cut off later; and seal what
        is verified by now.
        """
        self.audit.remember()
        for key in self.store.keys_told():
            self.store.ledger(key).remember()
        if not self.home.is_dir():
            return
        with suppress(GovernanceError), exclusive(self.home):  # where it cannot be locked nothing is sealed
            self.store.seal()

    def folder(self, model: str) -> Path:
        """Where a registered model lies."""
        return self.models / model

    def _say(self, action: str, model: str, **more: Any) -> Entry:
        heads = self.store.heads()
        entry = {
            "action": action,
            "model": model,
            "ts": self._clock.now_ns(),
            "evidence_heads": heads,
            **more,
        }
        return self.audit.append("training", entry)

    def _withdrawals(self) -> list[Withdrawal]:
        """What machines that trade have withdrawn, each after a line of the trail that is still there."""
        names = [
            (key, str(entry.body.get("evidence")))
            for key, entries in self.store.ledgers().items()
            for entry in entries
            if entry.body.get("kind") == "withdrawal"
        ]
        return [withdrawal(self.store.read(name, "withdrawal", key), name) for key, name in names]

    def keep(self, artifact: Artifact) -> None:
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
