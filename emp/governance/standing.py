"""Where every model stands: folded from the trail of decisions and from what machines that trade have withdrawn."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from emp.core.errors import GovernanceError
from emp.governance.chain import Entry
from emp.governance.evidence import Evidence

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


class Withdrawal(NamedTuple):
    """A default that a machine that trades has withdrawn."""

    model: str
    lines: int  # of the trail that it knew
    hash: str  # of the newest of them
    evidence: str


def withdrawal(one: Evidence, name: str) -> Withdrawal:
    """What an evidence of kind `withdrawal` says; `name` is its own.

    Raises:
        GovernanceError: it does not say after which decision.
    """
    match one.config.get("after"):
        case [int(lines), str(newest)] if lines > 0:
            return Withdrawal(one.model, lines, newest, name)
    raise GovernanceError(f"evidence {name}: a withdrawal that does not say after which decision")


def refuse_cut_ledgers(trail: Iterable[Entry], ledgers: Mapping[str, list[Entry]]) -> None:
    """The trail remembers how far every ledger of evidence had come, and by which line; raise GovernanceError where one
    is shorter than that, or another.
    """
    for entry in trail:
        for key, (count, head) in entry.body["evidence_heads"].items():
            found = ledgers.get(key, [])
            if len(found) < count or found[count - 1].hash != head:
                raise GovernanceError(f"ledger of key {key}: evidence that a decision rested on is gone")


def fold(entries: list[Entry], withdrawn: Iterable[Withdrawal] = ()) -> Standing:
    """Statuses and defaults after all decisions of a trail, in order, and withdrawals, each after the decision that it
    names.

    Raises:
        GovernanceError: a withdrawal names a decision that is not in the trail.
    """
    status: dict[str, Status] = {}
    facts: dict[str, dict[str, Any]] = {}
    defaults: list[str] = []
    after: dict[int, list[str]] = {}
    for one in withdrawn:
        if len(entries) < one.lines or entries[one.lines - 1].hash != one.hash:
            raise GovernanceError(
                f"evidence {one.evidence}: withdraws a decision that is not in the trail here"
            )
        after.setdefault(one.lines, []).append(one.model)
    for number, entry in enumerate(entries, 1):
        body: Mapping[str, Any] = entry.body
        model = str(body["model"])
        retired = after.get(number, [])
        if body["action"] == "register":
            status[model], facts[model] = "candidate", dict(body["lineage"])
        elif body["action"] == "promote":
            status[model] = "approved"
            defaults = [*(one for one in defaults if one != model), model]  # promoted anew, it is there once
        elif body["action"] == "rollback":
            retired = [model, *retired]
        for gone in retired:
            status[gone] = "retired"
            defaults = [one for one in defaults if one != gone]
    return Standing(status, facts, tuple(defaults))
