"""The gates: which evidence each one reads, which bound must keep its limit, and the verdict on a model.

A gate passes only where every record that it reads keeps the limit at the stated confidence, and every instrument
that the model was trained on has such a record. Whatever is missing, made by other code, of another model or of
another reference, of too few blocks, or overlaps the training, fails.
"""

from collections.abc import Callable, Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import yaml

from emp.core.errors import GovernanceError
from emp.core.instrument import catalogue
from emp.core.records import HORIZON_NAMES
from emp.core.small_file import read_small
from emp.governance.bounds import LEAST_BLOCKS, Bounds, bounds
from emp.governance.evidence import Evidence, Kind, Record
from emp.governance.seal import content_address
from emp.model.artifact import Manifest

Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Side = Literal["max", "min", "within"]

NO_EVIDENCE = "no evidence: not promotable"

WHOLE = ("",)
"""The horizon of what is measured of a whole series."""


class ByHorizon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit for each event horizon."""

    ev1: Number
    ev5: Number
    ev20: Number


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of the p99 of one event, ms."""

    adapter: Number
    model: Number
    total: Number


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The roadmap's gates."""

    retention_f1_drop_pct: ByHorizon
    fx_gain_f1_min_pct: ByHorizon
    ece_max: Number
    brier_max: Number
    alpha_after_fees_bps_min: ByHorizon
    session_var_spread_pct_max: Number
    latency_p99_ms: Latency
    psi_max: Number
    turnover_match_pct: Number
    planner_edge_realization_corr_min: Number
    exploitability_gap_wow_delta_max: Number


class Beyond(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gates beyond the roadmap's."""

    chaos_violations_max: Number


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """gates.yaml."""

    version: Literal[1]
    confidence: Annotated[float, msgspec.Meta(ge=0.8, lt=1.0)]
    gates: Limits
    beyond: Beyond
    actions_on_fail: list[Literal["reject", "fallback_previous_model"]]
    left_out: tuple[str, ...] = ()  # names of gates that are not asked for: nothing promoted so trades live


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one gate says."""

    name: str
    limit: float
    value: float | None
    ci: tuple[float, float] | None  # one-sided bounds at the confidence of the gates
    verdict: Literal["pass", "fail", "left out"]
    evidence: tuple[str, ...]
    why: str


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all gates say of a model."""

    model_hash: str
    verdict: Literal["pass", "fail"]
    gates_sha256: str
    reference: str
    code: str
    gates: tuple[Verdict, ...]


class Rule(NamedTuple):
    """How one gate is computed."""

    name: str
    limit: float
    side: Side
    kind: Kind
    measure: str
    horizon: str | None  # None: whatever horizons there are, and those of `horizons`
    of: (
        Callable[[str], bool] | None
    )  # asset classes that must have a record; None: the gate has no instrument
    sign: float = 1.0  # what records are multiplied by
    against: bool = False  # whether it is a difference to the reference
    least: int = LEAST_BLOCKS  # blocks
    horizons: tuple[str, ...] = ()  # each of which must have a record, where `horizon` names none


class Case(NamedTuple):
    """What is judged, and by what."""

    manifest: Manifest
    evidence: Mapping[str, Evidence]
    reference: str
    code: str


def read_gates(path: Path | None = None) -> Gates:
    """Read and check a gates file; without one, the roadmap's own.

    Raises:
        GovernanceError: it cannot be read, or a name or a value in it is not one of the schema.
    """
    shipped = Path(str(resources.files("emp.governance").joinpath("gates.yaml")))
    try:
        gates = msgspec.convert(yaml.safe_load(read_small(path or shipped)), Gates)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        line = str(error).splitlines()[0]
        raise GovernanceError(f"{path or shipped}: not a gates file: {line}") from error
    unknown = sorted(set(gates.left_out) - {rule.name for rule in rules(gates)})
    if unknown:
        raise GovernanceError(
            f"{path or shipped}: not a gates file: left_out names no gate: {', '.join(unknown)}"
        )
    return gates


def equity(asset_class: str) -> bool:
    """Whether retention is asked of it."""
    return asset_class == "equity"


def fx(asset_class: str) -> bool:
    """Whether gain is asked of it."""
    return asset_class.startswith("fx")


def every(_: str) -> bool:
    """Whatever it is."""
    return True


def rules(gates: Gates) -> list[Rule]:
    """Every gate of a file, in its order."""
    g = gates.gates
    found: list[Rule] = []

    def by_horizon(
        name: str, limits: ByHorizon, side: Side, measure: str, of: Callable[[str], bool], **more: Any
    ) -> None:
        for field, horizon in (("ev1", "1ev"), ("ev5", "5ev"), ("ev20", "20ev")):
            limit = getattr(limits, field)
            found.append(Rule(f"{name}.{field}", limit, side, "evaluation", measure, horizon, of, **more))

    by_horizon(
        "retention_f1_drop_pct",
        g.retention_f1_drop_pct,
        "max",
        "f1_gain_pct",
        equity,
        sign=-1.0,
        against=True,
    )
    by_horizon("fx_gain_f1_min_pct", g.fx_gain_f1_min_pct, "min", "f1_gain_pct", fx, against=True)
    for name, limit, measure in (("ece_max", g.ece_max, "ece"), ("brier_max", g.brier_max, "brier")):
        found.append(Rule(name, limit, "max", "evaluation", measure, None, every, horizons=HORIZON_NAMES))
    by_horizon("alpha_after_fees_bps_min", g.alpha_after_fees_bps_min, "min", "alpha_after_fees_bps", every)
    session = g.session_var_spread_pct_max
    found.append(
        Rule(
            "session_var_spread_pct_max",
            session,
            "max",
            "evaluation",
            "session_range_pct",
            None,
            every,
            horizons=HORIZON_NAMES,
        )
    )
    for part in ("adapter", "model", "total"):
        limit = getattr(g.latency_p99_ms, part)
        found.append(Rule(f"latency_p99_ms.{part}", limit, "max", "latency", f"{part}_p99_ms", None, None))
    found.append(Rule("psi_max", g.psi_max, "max", "drift", "psi", None, None))
    found.append(
        Rule(
            "turnover_match_pct",
            g.turnover_match_pct,
            "within",
            "evaluation",
            "turnover_difference_pct",
            None,
            every,
            against=True,
            horizons=WHOLE,
        )
    )
    planner, gap = g.planner_edge_realization_corr_min, g.exploitability_gap_wow_delta_max
    found.append(
        Rule(
            "planner_edge_realization_corr_min",
            planner,
            "min",
            "evaluation",
            "planner_corr",
            None,
            every,
            horizons=WHOLE,
        )
    )
    found.append(
        Rule("exploitability_gap_wow_delta_max", gap, "max", "evaluation", "exploitability_gap", None, None)
    )
    chaos = gates.beyond.chaos_violations_max
    found.append(Rule("chaos_violations_max", chaos, "max", "chaos", "violations", None, None, least=100))
    return found


def judge(gates: Gates, case: Case) -> Judgement:
    """The verdict of every gate on a model; where none is asked for, it fails."""
    said = tuple(
        Verdict(rule.name, rule.limit, None, None, "left out", (), "not asked for by this gates file")
        if rule.name in gates.left_out
        else judge_gate(rule, case, gates.confidence)
        for rule in rules(gates)
    )
    asked = [one for one in said if one.verdict != "left out"]
    passed = bool(asked) and all(one.verdict == "pass" for one in asked)
    return Judgement(
        model_hash=case.manifest.hash,
        verdict="pass" if passed else "fail",
        gates_sha256=content_address(gates),
        reference=case.reference,
        code=case.code,
        gates=said,
    )


def judge_gate(rule: Rule, case: Case, confidence: float) -> Verdict:
    """The verdict of one gate: that of the worst record it reads; a record that cannot be judged is the worst."""
    read, foreign = _records(rule, case)
    names = tuple(sorted({name for name, _ in read}))
    lacking = _lacking(rule, case, [record for _, record in read])
    if not read or lacking:
        detail = f" on {', '.join(lacking)}" if lacking and read else ""
        why = f"{NO_EVIDENCE}{detail}" + (f" ({foreign})" if foreign else "")
        return Verdict(rule.name, rule.limit, None, None, "fail", names, why)
    overlapping = [e for e in (case.evidence[name] for name in names) if _overlaps(case.manifest, e)]
    if overlapping:
        return Verdict(rule.name, rule.limit, None, None, "fail", names, "its data overlap the training")
    worst: tuple[float, Bounds, str] | None = None
    for _, record in read:
        where = " ".join(filter(None, (record.series, record.horizon)))
        found = bounds([rule.sign * x for x in record.blocks], confidence)
        if found is None or len(record.blocks) < rule.least:
            few = f"too few independent blocks: {len(record.blocks)} of at least {rule.least}, {where}"
            return Verdict(rule.name, rule.limit, None, None, "fail", names, few)
        over = excess(rule.side, rule.limit, found)
        if worst is None or over > worst[0]:
            worst = (over, found, where)
    assert worst is not None
    over, found, where = worst
    ends = (found.low, found.high)
    said: Literal["pass", "fail"] = "pass" if over <= 0.0 else "fail"
    return Verdict(rule.name, rule.limit, found.value, ends, said, names, where)


def excess(side: Side, limit: float, found: Bounds) -> float:
    """By how much the bound that counts misses the limit; not above 0 where it keeps it.

    "within" is the equivalence test of two one-sided tests (Schuirmann 1987): both bounds inside +-limit.
    """
    if side == "max":
        return found.high - limit
    if side == "min":
        return limit - found.low
    return max(found.high, -found.low) - limit


def _records(rule: Rule, case: Case) -> tuple[list[tuple[str, Record]], str]:
    """Records that a gate reads, and why others of its kind do not count, in words."""
    found: list[tuple[str, Record]] = []
    foreign: dict[str, int] = {}
    for name, one in sorted(case.evidence.items()):
        mine = [(name, r) for r in one.records if _speaks(rule, r)]
        if one.kind != rule.kind or not mine:
            continue
        reason = _foreign(rule, case, one)
        if reason:
            foreign[reason] = foreign.get(reason, 0) + 1
        else:
            found += mine
    return found, ", ".join(f"{n} of {reason}" for reason, n in foreign.items())


def _speaks(rule: Rule, record: Record) -> bool:
    horizon = record.horizon in (rule.horizons or (rule.horizon or record.horizon,))
    return record.measure == rule.measure and horizon and (rule.of is None or rule.of(record.asset_class))


def _foreign(rule: Rule, case: Case, one: Evidence) -> str:
    """Of what else an evidence is; "" where it is of this model and this code."""
    if one.kind != "chaos" and one.model != case.manifest.hash:
        return "another model"
    if one.code != case.code:
        return "other code"
    if rule.against and one.reference != case.reference:
        return "another reference"
    return ""


def _lacking(rule: Rule, case: Case, read: Iterable[Record]) -> list[str]:
    """Instruments of the model's training that the gate asks for and has no record of, at one of its horizons."""
    if rule.of is None:
        return []
    had = {(record.instrument, record.horizon) for record in read}
    known = {name: one.asset_class.name.lower() for name, one in catalogue().items()}
    wanted = {
        one["instrument"]: one.get("asset_class") or known.get(one["instrument"])
        for one in case.manifest.provenance.get("series", [])
    }
    # an instrument of which nobody knows what it is could be one that the gate is about
    asked = [name for name, told in wanted.items() if not told or rule.of(told)]
    instruments = {name for name, _ in had}
    missing = [name for name in asked if name not in instruments]
    missing += [
        f"{n} {h}".strip() for n in instruments & set(asked) for h in rule.horizons if (n, h) not in had
    ]
    return sorted(missing)


def _overlaps(manifest: Manifest, one: Evidence) -> bool:
    """Whether data of an evidence are of an instrument and a time that the model was trained on.

    Where the model says its rows, `emp evaluate` has compared them, and refused to make such evidence.
    """
    return any(
        data.instrument == used["instrument"]
        and data.span[0] < used["calibrate_ns"][1]
        and used["train_ns"][0] < data.span[1]
        for data in one.data
        for used in manifest.provenance.get("series", [])
        if "rows_sample" not in used
    )
