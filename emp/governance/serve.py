"""Which model may trade: on paper whatever is named on purpose, live only what was promoted and has proved itself."""

from collections.abc import Sequence
from pathlib import Path

from emp.core.clock import Clock
from emp.core.errors import GovernanceError
from emp.engine.watched_days import DAY_NS
from emp.governance.gates import read_gates
from emp.governance.paper import Asked, paper_lacks
from emp.governance.registry import Registry
from emp.governance.seal import content_address
from emp.journal.run import code_version


def standing_of(home: Path, model: str, clock: Clock) -> str:
    """ "approved", "candidate" or "retired" as the registry says; "candidate" for what it does not know."""
    return Registry(home, clock).standing().status.get(model, "candidate")


def refuse_live(home: Path, model: str, clock: Clock, protocol: str, instruments: Sequence[str]) -> None:
    """Raise GovernanceError unless a model is the promoted one, by the shipped gates and no others, and two green weeks
    on paper are on record: of this very model, by this code, behind the same kind of market access, on every
    instrument, and not long ago.
    """
    registry = Registry(home, clock)
    registry.remember()
    if registry.standing().default != model:
        raise GovernanceError(f"live: model {model[:12]} is not what {home} has promoted: see `emp promote`")
    gates = read_gates()
    if registry.promoted_by(model) != content_address(gates):
        raise GovernanceError(
            f"live: model {model[:12]} was promoted by other gates than this release's: see `emp promote`"
        )
    today = clock.now_ns() // DAY_NS
    asked = Asked(model, code_version(), protocol, tuple(instruments), today)
    why = paper_lacks(registry.store.all(), asked, gates)
    if why:
        raise GovernanceError(f"live: model {model[:12]}: {why}")
