"""Which model may trade: on paper whatever is named on purpose, live only what was promoted and has proved itself."""

from collections.abc import Mapping
from pathlib import Path

from emp.core.clock import Clock
from emp.core.errors import GovernanceError
from emp.governance.evidence import Evidence
from emp.governance.gates import read_gates
from emp.governance.registry import Registry
from emp.governance.seal import content_address

PAPER_SPAN_DAYS = 14
"""Days from the first green day of paper trading to the last (roadmap J.5)."""

PAPER_DAYS = 10
"""Trading days among them."""


def standing_of(home: Path, model: str, clock: Clock) -> str:
    """ "approved", "candidate" or "retired" as the registry says; "candidate" for what it does not know."""
    return Registry(home, clock).standing().status.get(model, "candidate")


def refuse_live(home: Path, model: str, clock: Clock) -> None:
    """Raise GovernanceError unless a model is the promoted one, by the shipped gates and no others, and two green weeks
    on paper are on record.
    """
    registry = Registry(home, clock)
    if registry.standing().default != model:
        raise GovernanceError(f"live: model {model[:12]} is not what {home} has promoted: see `emp promote`")
    if registry.promoted_by(model) != content_address(read_gates()):
        raise GovernanceError(
            f"live: model {model[:12]} was promoted by other gates than this release's: see `emp promote`"
        )
    why = paper_lacks(registry.store.all(), model)
    if why:
        raise GovernanceError(f"live: model {model[:12]}: {why}")


def paper_lacks(evidence: Mapping[str, Evidence], model: str) -> str:
    """What is missing of two green weeks on paper; "" where nothing is.

    Evidence of kind `paper` is of one trading day each: `config` has its `day` (proleptic ordinal) and whether all of
    its gates were `green`. A red day ends what came before it.
    """
    days: dict[int, bool] = {}
    for one in evidence.values():
        if one.kind == "paper" and one.model == model:
            day, green = one.config.get("day"), one.config.get("green")
            if not isinstance(day, int):
                continue
            days[day] = days.get(day, True) and green is True
    red = max((day for day, green in days.items() if not green), default=0)
    kept = sorted(day for day in days if day > red)
    span = kept[-1] - kept[0] + 1 if kept else 0
    if span < PAPER_SPAN_DAYS or len(kept) < PAPER_DAYS:
        return (
            f"{len(kept)} green days of paper trading over {span} days are on record;"
            f" {PAPER_DAYS} over {PAPER_SPAN_DAYS} are needed"
        )
    return ""
