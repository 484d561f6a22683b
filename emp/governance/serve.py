"""Which model may trade: on paper whatever is named on purpose, live only what was promoted and has proved itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from emp.core.clock import Clock
from emp.core.code_version import code_version
from emp.core.errors import GovernanceError
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Evidence, Signed
from emp.governance.gates import Gates, read_gates
from emp.governance.judge import Case, Verdict, fails_now
from emp.governance.paper import Asked, paper_lacks
from emp.governance.reference import FAIR
from emp.governance.registry import Registry
from emp.governance.runs import Going
from emp.governance.seal import content_address
from emp.model.artifact import read_manifest

GATES_SHA256 = "3acad92b313e2cf153ab8cd07965f5366d6eb941ee3a3bb4d67129a9d56dbc68"
"""Of the shipped gates. It stands in the sources, which `code_version` covers: where the file beside them was changed,
nothing trades live by it.
"""


class Market(NamedTuple):
    """Where a model is to trade."""

    protocol: str  # of access
    instruments: tuple[str, ...]


def lacks_promotion(registry: Registry, model: str) -> str:
    """Why a model may not trade live, as far as promotions say; "" where it may: it is approved, by the shipped gates
    and no others, by this code, beside a reference that nobody could choose.
    """
    if registry.standing().status.get(model) != "approved":
        return f"model {model[:12]} is not approved in {registry.home}: see `emp promote`"
    said = registry.promotion(model)
    for name, good, other in (
        ("gates_sha256", (GATES_SHA256,), "by other gates than this release's"),
        ("code", (code_version(),), "by other code"),
        ("likeness", FAIR, "beside a reference that was chosen"),
    ):
        if said.get(name) not in good:
            return f"model {model[:12]} was promoted {other}: see `emp promote`"
    return ""


def refuse_live(
    home: Path,
    model: str,
    clock: Clock,
    protocol: str,
    instruments: Sequence[str],
    going: Going = lambda _: False,
    signed: Mapping[str, Signed] | None = None,
) -> None:
    """Raise GovernanceError unless a model is the promoted one, as `lacks_promotion` has it, no gate fails by all
    evidence on record (`signed`, read where it is not given), and two green weeks on paper are among it: of this very
    model, by this code, behind the same kind of market access, on every instrument, and not long ago.
    """
    registry = Registry(home, clock)
    registry.remember()
    if registry.standing().default != model:
        raise GovernanceError(f"live: model {model[:12]} is not what {home} has promoted: see `emp promote`")
    gates = read_gates()
    if content_address(gates) != GATES_SHA256:
        raise GovernanceError("live: the gates of this installation are not those of its release")
    market = Market(protocol, tuple(instruments))
    why = _lacks(
        registry, gates, model, clock, market, going, registry.store.signed() if signed is None else signed
    )
    if why:
        raise GovernanceError(f"live: {why}")


def lacks_standby(
    registry: Registry,
    model: str,
    clock: Clock,
    market: Market,
    going: Going,
    signed: Mapping[str, Signed],
) -> str:
    """Why a model may not stand by live; "" where it may. It trades once it takes over, so the same is asked of it as
    of what serves, but that its green weeks may be long ago: it does not serve on paper while another one does.
    """
    return _lacks(registry, read_gates(), model, clock, market, going, signed, fresh=False)


def _lacks(
    registry: Registry,
    gates: Gates,
    model: str,
    clock: Clock,
    market: Market,
    going: Going,
    signed: Mapping[str, Signed],
    *,
    fresh: bool = True,
) -> str:
    why = lacks_promotion(registry, model)
    if why:
        return why
    evidence = {name: one.evidence for name, one in signed.items()}
    now = clock.now_ns()
    why = _fails_by_all(registry, gates, model, evidence, now)
    if why:
        return f"model {model[:12]}: {why}"
    asked = Asked(model, code_version(), market.protocol, market.instruments, now // DAY_NS, fresh)
    why = paper_lacks(evidence, asked, gates, going, {name: one.key for name, one in signed.items()})
    return f"model {model[:12]}: {why}" if why else ""


def _fails_by_all(
    registry: Registry, gates: Gates, model: str, evidence: dict[str, Evidence], now_ns: int
) -> str:
    """By which gates a promoted model fails now, by all evidence on record, in words: else whoever promotes it early,
    by the good looks alone, need never know of the bad ones that follow.
    """
    said = registry.promotion(model)
    manifest = read_manifest(registry.folder(model))
    case = Case(
        manifest, evidence, str(said["reference"]), code_version(), likeness=said["likeness"], now_ns=now_ns
    )
    failed = fails_now(gates, case)
    if not failed:
        return ""
    names = ", ".join(f"{one.name} ({_in_words(one)})" for one in failed)
    return f"by all evidence on record it fails {names}: see `emp gates check`"


def _in_words(failed: Verdict) -> str:
    """By what a gate fails: its figure beside its limit, and of what, or why the evidence cannot be."""
    if failed.value is None:
        return failed.why
    return ", ".join(filter(None, (f"{failed.value:.4g}, limit {failed.limit:g}", failed.why)))
