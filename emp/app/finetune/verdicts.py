"""What an adapted model lost of the old markets and gained on the new ones, held against the gates' caps and limits."""

from collections.abc import Sequence
from typing import NamedTuple

from emp.core.records import Array
from emp.governance.bounds import Bounds, bounds
from emp.governance.gates import Gates
from emp.train.judge.adapted import EVENT_HORIZONS, Pair, f1_of
from emp.train.judge.blocks import BlockMeasure

FIELDS = dict(zip(EVENT_HORIZONS, ("ev1", "ev5", "ev20"), strict=True))

KEPT, LOST, UNTOLD = "kept", "lost", "too few blocks"
MET, SHORT = "met", "short"


class Retention(NamedTuple):
    """One old series at one horizon."""

    series: str
    horizon: str
    base_f1: float
    f1: float
    drop_pct: float | None  # of macro-F1, in per cent of the base's
    bound: float | None  # its one-sided upper bound at the confidence of the gates
    cap: float
    verdict: str

    def line(self) -> str:
        """In words."""
        told = "no interval" if self.bound is None else f"{self.drop_pct:+.2f} % (bound {self.bound:+.2f})"
        return (
            f"{self.series} {self.horizon}: macro-F1 {self.base_f1:.4f} to {self.f1:.4f}, drop {told}, "
            f"cap {self.cap:g} %: {self.verdict}"
        )


class Gain(NamedTuple):
    """One new series at one horizon."""

    series: str
    horizon: str
    base_f1: float
    f1: float
    gain_pct: float | None  # of macro-F1 at matched turnover, in per cent of the base's
    bound: float | None  # its one-sided lower bound
    turnover_difference_pct: float | None  # of the forecasts, adapted less base
    turnover_bounds: tuple[float, float] | None
    paper_turnover_difference_pct: (
        float | None
    )  # of what was traded on paper; None where the base traded nothing
    limit: float
    verdict: str

    def line(self) -> str:
        """In words."""
        if self.bound is None or self.turnover_bounds is None:
            return f"{self.series} {self.horizon}: gain: too few blocks: {self.verdict}"
        low, high = self.turnover_bounds
        return (
            f"{self.series} {self.horizon}: macro-F1 {self.base_f1:.4f} to {self.f1:.4f}, gain at matched turnover "
            f"{self.gain_pct:+.2f} % (bound {self.bound:+.2f}), turnover {self.turnover_difference_pct:+.1f} % "
            f"({low:+.1f} .. {high:+.1f}), at least {self.limit:g} %: {self.verdict}"
        )


def retentions(series: str, pairs: Sequence[Pair], gates: Gates) -> list[Retention]:
    """The verdict of every event horizon: the drop must lie under its cap at the confidence of the gates."""
    found = []
    for pair in pairs:
        if pair.horizon not in FIELDS:
            continue
        cap = float(getattr(gates.gates.retention_f1_drop_pct, FIELDS[pair.horizon]))
        ends = _ends(pair.measures, "f1_gain_pct", pair.horizon, gates.confidence, -1.0)
        verdict = UNTOLD if ends is None else KEPT if ends.high <= cap else LOST
        drop, high = (None, None) if ends is None else (ends.value, ends.high)
        found.append(
            Retention(series, pair.horizon, f1_of(pair.base), f1_of(pair.mine), drop, high, cap, verdict)
        )
    return found


def gains(series: str, pairs: Sequence[Pair], traded: Sequence[BlockMeasure], gates: Gates) -> list[Gain]:
    """The verdict of every event horizon: gain over its limit, turnover matched, both at the gates' confidence."""
    found = []
    paper = _ends(traded, "turnover_difference_pct", "", gates.confidence)
    within = gates.gates.turnover_match_pct
    for pair in pairs:
        if pair.horizon not in FIELDS:
            continue
        limit = float(getattr(gates.gates.fx_gain_f1_min_pct, FIELDS[pair.horizon]))
        gain = _ends(pair.measures, "f1_gain_matched_pct", pair.horizon, gates.confidence)
        turned = _ends(pair.measures, "forecast_turnover_difference_pct", pair.horizon, gates.confidence)
        met = (
            gain is not None
            and turned is not None
            and gain.low >= limit
            and max(turned.high, -turned.low) <= within
        )
        found.append(
            Gain(
                series,
                pair.horizon,
                f1_of(pair.base),
                f1_of(pair.mine),
                None if gain is None else gain.value,
                None if gain is None else gain.low,
                None if turned is None else turned.value,
                None if turned is None else (turned.low, turned.high),
                None if paper is None else paper.value,
                limit,
                MET if met else SHORT,
            )
        )
    return found


def _ends(
    measures: Sequence[BlockMeasure], name: str, horizon: str, confidence: float, sign: float = 1.0
) -> Bounds | None:
    for one in measures:
        if one.measure == name and one.horizon == horizon:
            blocks: Array = sign * one.blocks
            return bounds([float(x) for x in blocks], confidence)
    return None
