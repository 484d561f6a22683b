"""The gates file: limits, and of each gate which evidence it reads and which bound must keep its limit."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import yaml

from emp.core.errors import GovernanceError
from emp.core.records import HORIZON_NAMES, Array
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml
from emp.governance import overfitting
from emp.governance.bounds import LEAST_BLOCKS
from emp.governance.evidence import Kind

Number = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Side = Literal["max", "min", "within"]

MASKED_ROWS, STEP_ROWS, PATH_ROWS = 10_000, 5_000, 1_000
"""Rows of a series that future masking (over all cuts together), step parity and path parity must have compared."""

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
    future_masking_max: Number
    step_parity_max: Number
    path_parity_max: Number
    deflated_sharpe_min: Number
    backtest_overfitting_max: Number
    value_missed_bps_max: Number
    skill_outside_training_pct_min: ByHorizon
    contest_evidence_min: Number


class Gates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """gates.yaml."""

    version: Literal[1]
    confidence: Annotated[float, msgspec.Meta(ge=0.8, lt=1.0)]
    gates: Limits
    beyond: Beyond
    actions_on_fail: tuple[Literal["reject"], Literal["fallback_previous_model"]]  # what the engine does
    left_out: tuple[str, ...] = ()  # names of gates that are not asked for: nothing promoted so trades live


SECTIONS: dict[str, type[Limits | Beyond]] = {"gates": Limits, "beyond": Beyond}
"""Of a gates file, with what stands in each."""

SHIPPED = Path(str(resources.files("emp.governance").joinpath("gates.yaml")))


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
    among: Callable[[Array, list[Array], int], float] | None = (
        None  # the figure of gains among those of all trials
    )
    also: tuple[Kind, ...] = ()  # kinds of evidence that it reads besides
    outside: bool = False  # whether it is of instruments that the model was not trained on
    rows: int = 0  # behind each record at least
    exact: bool = False  # whether every block must keep the limit: what holds of a rule, not of a mean
    always: bool = (
        False  # whether it can be measured of every series that was looked at: what is missing was no number
    )


def read_gates(path: Path | None = None) -> Gates:
    """Read and check a gates file; without one, the roadmap's own.

    Raises:
        GovernanceError: it cannot be read, or a name or a value in it is not one of the schema.
    """
    path = path or SHIPPED
    told = load_gates(path)
    names = lacking(told)
    if names:
        raise GovernanceError(
            f"{path}: not a gates file of this release: it lacks {', '.join(names)}: `emp gates complete {path}` adds"
            " what it lacks at the shipped limits"
        )
    return gates_of(told, path)


def load_gates(path: Path) -> Any:
    """What a gates file says, whatever that is; GovernanceError where it says nothing that can be read."""
    try:
        return load_yaml(read_small(path))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise GovernanceError(f"{path}: not a gates file: {str(error).splitlines()[0]}") from error


def gates_of(told: Any, path: Path) -> Gates:
    """The gates that a file says, whose path is for messages; GovernanceError where they are not of the schema."""
    try:
        gates = msgspec.convert(told, Gates)
    except msgspec.ValidationError as error:
        raise GovernanceError(f"{path}: not a gates file: {str(error).splitlines()[0]}") from error
    unknown = sorted(set(gates.left_out) - {rule.name for rule in rules(gates)})
    if unknown:
        raise GovernanceError(f"{path}: not a gates file: left_out names no gate: {', '.join(unknown)}")
    return gates


def lacking(told: Any) -> tuple[str, ...]:
    """Names of gates that a file lacks, which has some; each as `rules` names it, or whole."""
    sections = {name: told.get(name, {}) for name in SECTIONS} if isinstance(told, dict) else {}
    if not any(sections.values()) or not all(isinstance(one, dict) for one in sections.values()):
        return ()
    names = []
    for section, one in sections.items():
        for field in msgspec.structs.fields(SECTIONS[section]):
            within = one.get(field.name, {})
            if field.name not in one:
                names.append(field.name)
            elif isinstance(within, dict) and field.type is not float:
                parts = getattr(field.type, "__struct_fields__", ())
                names += [f"{field.name}.{part}" for part in parts if part not in within]
    return tuple(names)


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
    return [*_of_the_roadmap(gates.gates), *_beyond(gates.beyond)]


def _of_the_roadmap(g: Limits) -> list[Rule]:
    gains = {"against": True, "always": True}
    judged: dict[str, Any] = {"horizons": HORIZON_NAMES, "always": True}
    return [
        *_by_horizon(
            "retention_f1_drop_pct", g.retention_f1_drop_pct, "max", "f1_gain_pct", equity, sign=-1.0, **gains
        ),
        *_by_horizon("fx_gain_f1_min_pct", g.fx_gain_f1_min_pct, "min", "f1_gain_pct", fx, **gains),
        _evaluated("ece_max", g.ece_max, "max", "ece", **judged),
        _evaluated("brier_max", g.brier_max, "max", "brier", **judged),
        *_by_horizon(
            "alpha_after_fees_bps_min", g.alpha_after_fees_bps_min, "min", "alpha_after_fees_bps", every
        ),
        _evaluated(
            "session_var_spread_pct_max",
            g.session_var_spread_pct_max,
            "max",
            "session_range_pct",
            horizons=HORIZON_NAMES,
        ),
        *(
            _of_no_instrument(
                f"latency_p99_ms.{part}", getattr(g.latency_p99_ms, part), "latency", f"{part}_p99_ms"
            )
            for part in ("adapter", "model", "total")
        ),
        _of_no_instrument("psi_max", g.psi_max, "drift", "psi"),
        _evaluated(
            "turnover_match_pct",
            g.turnover_match_pct,
            "within",
            "turnover_difference_pct",
            against=True,
            horizons=WHOLE,
        ),
        _evaluated(
            "planner_edge_realization_corr_min",
            g.planner_edge_realization_corr_min,
            "min",
            "planner_corr",
            horizons=WHOLE,
        ),
        _of_no_instrument(
            "exploitability_gap_wow_delta_max",
            g.exploitability_gap_wow_delta_max,
            "league",
            "exploitability_delta",
            against=True,
        ),
    ]


def _beyond(b: Beyond) -> list[Rule]:
    exact: dict[str, Any] = {"horizons": WHOLE, "always": True, "exact": True}
    trials: dict[str, Any] = {
        "horizons": HORIZON_NAMES[:3],
        "least": overfitting.LEAST_BLOCKS,
        "always": True,
    }
    held: tuple[tuple[str, float, Kind, str, int], ...] = (
        ("future_masking_max", b.future_masking_max, "masking", "future_changed", MASKED_ROWS),
        ("step_parity_max", b.step_parity_max, "parity", "step_difference", STEP_ROWS),
        ("path_parity_max", b.path_parity_max, "parity", "path_differing", PATH_ROWS),
    )
    return [
        _of_no_instrument("chaos_violations_max", b.chaos_violations_max, "chaos", "violations", least=100),
        *(
            Rule(name, limit, "max", kind, measure, None, every, rows=rows, **exact)
            for name, limit, kind, measure, rows in held
        ),
        _evaluated(
            "deflated_sharpe_min",
            b.deflated_sharpe_min,
            "min",
            "gain_bps_lots",
            among=overfitting.deflated,
            **trials,
        ),
        _evaluated(
            "backtest_overfitting_max",
            b.backtest_overfitting_max,
            "max",
            "gain_bps_lots",
            among=overfitting.share_overfitted,
            **trials,
        ),
        _evaluated(
            "value_missed_bps_max",
            b.value_missed_bps_max,
            "max",
            "value_missed_bps",
            horizons=WHOLE,
            also=("value",),
        ),
        *_by_horizon(
            "skill_outside_training_pct_min",
            b.skill_outside_training_pct_min,
            "min",
            "skill_outside_training_pct",
            None,
            outside=True,
        ),
        Rule(
            "contest_evidence_min", b.contest_evidence_min, "min", "contest", "evidence", None, None, least=1
        ),
    ]


def _by_horizon(
    name: str,
    limits: ByHorizon,
    side: Side,
    measure: str,
    of: Callable[[str], bool] | None,
    **more: Any,
) -> list[Rule]:
    """A gate of an evaluation for each event horizon."""
    return [
        Rule(f"{name}.{field}", getattr(limits, field), side, "evaluation", measure, horizon, of, **more)
        for field, horizon in (("ev1", "1ev"), ("ev5", "5ev"), ("ev20", "20ev"))
    ]


def _evaluated(name: str, limit: float, side: Side, measure: str, **more: Any) -> Rule:
    """A gate of an evaluation, of every instrument."""
    return Rule(name, limit, side, "evaluation", measure, None, every, **more)


def _of_no_instrument(name: str, limit: float, kind: Kind, measure: str, **more: Any) -> Rule:
    """An upper limit of what is of no instrument."""
    return Rule(name, limit, "max", kind, measure, None, None, **more)
