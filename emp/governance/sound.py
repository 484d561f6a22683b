"""Whether evidence says what can be: a signature tells who signed figures, not that they are of anything.

Of a look at recorded markets each record must be of a series that the evidence names, of whose rows there are some, at
a time that has been; each figure must lie where its measure can, and be of so many rows at least as it has blocks.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import fsum, inf, isfinite

from emp.core.instrument import catalogue
from emp.governance.evidence import Data, Evidence, Kind, Record

LOOKED_AT: tuple[Kind, ...] = ("evaluation", "masking", "parity")
"""Kinds of evidence of recorded markets."""

PRICE_BPS = 1e4
"""What a lot can bring or miss at most, bps: its price."""

MEANS: Mapping[str, tuple[float, float]] = {
    "f1_gain_pct": (-100.0, inf),
    "brier": (0.0, 2.0),
    "ece": (0.0, 1.0),
    "session_range_pct": (0.0, inf),
    "turnover_difference_pct": (-100.0, inf),
    "planner_corr": (-1.0, 1.0),
    "alpha_after_fees_bps": (-PRICE_BPS, PRICE_BPS),
    "value_missed_bps": (-PRICE_BPS, PRICE_BPS),
}
"""Where a measure can lie of which blocks are pseudo-values (`pseudo_range`)."""

LEAST_MEANS: Mapping[str, float] = {"session_range_pct": -100.0}
"""Least mean that is taken for honest, set and not derived: of a measure without an upper end the formula of its
pseudo-values gives no bound, and of this one less is better.
"""

VALUES: Mapping[str, tuple[float, float]] = {
    "violations": (0.0, inf),
    "future_changed": (0.0, inf),
    "step_difference": (0.0, inf),
    "path_differing": (0.0, inf),
    "skill_outside_training_pct": (-inf, 100.0),
    "evidence": (0.0, inf),
    "adapter_p99_ms": (0.0, inf),
    "model_p99_ms": (0.0, inf),
    "total_p99_ms": (0.0, inf),
}
"""Where each value can lie that is none of these."""

COUNTS = ("violations", "future_changed", "path_differing")

NO_FILLS = ("gain_bps_lots",)
"""What is told of every block, though nothing was filled."""

FEW_FILLS = ("turnover_difference_pct", "planner_corr", "evidence")
"""What is of more blocks than there may have been fills, or looks."""

OF_TIME = ("day", "5min")
KINDS_OF_BLOCK: Mapping[str, tuple[str, ...]] = {
    "masking": ("cut",),
    "parity": ("piece",),
    "latency": ("run", "day"),
    "chaos": ("run",),
    "league": ("seed",),
    "contest": ("run",),
}
"""What is independent of each other, by kind of evidence; else stretches of time."""

DAY_MEANS: Mapping[str, tuple[float, float]] = {
    "looks": (0.0, inf),
    "hours": (0.0, 24.0),
    "ece": (0.0, 1.0),
    "brier": (0.0, 2.0),
    "adapter_p99_ms": (0.0, inf),
    "model_p99_ms": (0.0, inf),
    "total_p99_ms": (0.0, inf),
}
"""Where figures of a day on paper can lie."""


def unsound(one: Evidence, now_ns: int | None = None) -> str:
    """What cannot be of the data of an evidence, in words; "" of nothing. Nobody asks what has come where `now_ns` is
    None.
    """
    for data in one.data:
        known = asset_classes().get(data.instrument, data.asset_class)
        if data.rows <= 0 or not 0 <= data.span[0] < data.span[1]:
            return f"{data.series}: {data.rows} rows from {data.span[0]} to {data.span[1]}"
        if now_ns is not None and data.span[1] > now_ns:
            return f"{data.series}: of a time that has not come"
        if known != data.asset_class:
            return f"{data.series}: {data.instrument} is no {data.asset_class}"
    days = one.config.get("days") if one.config.get("of") == "paper" else None
    if days is not None and any(len(record.blocks) > len(days) for record in one.records):
        return f"more blocks than its {len(days)} days"
    return ""


@cache
def asset_classes() -> Mapping[str, str]:
    """Of the shipped instruments, by name."""
    return {name: one.asset_class.name.lower() for name, one in catalogue().items()}


def impossible(record: Record, one: Evidence) -> str:
    """What cannot be of a record of an evidence, in words; "" of nothing."""
    where = f"{record.measure} of {record.series or one.kind} {record.horizon}".rstrip()
    if not all(isfinite(x) for x in record.blocks):
        return f"not a number: {where}"
    least = 0 if record.measure in NO_FILLS else 1 if record.measure in FEW_FILLS else len(record.blocks)
    if record.n < least:
        return f"{record.n} rows of {len(record.blocks)} blocks: {where}"
    outside = record.measure == "skill_outside_training_pct"
    kinds = ("group",) if outside else KINDS_OF_BLOCK.get(one.kind, OF_TIME)
    if record.kind_of_block not in (kinds if one.config.get("of") != "paper" else ("day",)):
        return f"blocks that are each a {record.kind_of_block}: {where}"
    if outside and len(record.blocks) > len(one.data):
        return f"{len(record.blocks)} groups of {len(one.data)} markets: {where}"
    if one.kind in LOOKED_AT and not outside and not any(_is_of(record, data) for data in one.data):
        return f"of rows that it does not name: {where}"
    return _out_of_range(record, where)


def _is_of(record: Record, data: Data) -> bool:
    told = (data.series, data.instrument, data.asset_class)
    return (record.series, record.instrument, record.asset_class) == told


def _out_of_range(record: Record, where: str) -> str:
    low, high = VALUES.get(record.measure, (-inf, inf))
    if not all(low <= x <= high for x in record.blocks):
        return f"a value that cannot be: {where}"
    if record.measure in COUNTS and not all(x == int(x) for x in record.blocks):
        return f"no count: {where}"
    if record.blocks and record.measure in MEANS:
        low, high = pseudo_range(*MEANS[record.measure], len(record.blocks))
        low = max(low, LEAST_MEANS.get(record.measure, low))
        if not low <= fsum(record.blocks) / len(record.blocks) <= high:
            return f"a mean that cannot be: {where}"
    return ""


def pseudo_range(low: float, high: float, blocks: int) -> tuple[float, float]:
    """Where pseudo-values of a measure from low to high can lie, and their mean: B theta - (B - 1) theta_without_i.

    A mean of them is theta without its bias, and may lie where no theta can: a small error below nought, a correlation
    beyond 1.
    """
    if blocks == 1:
        return low, high
    return blocks * low - (blocks - 1) * high, blocks * high - (blocks - 1) * low


def impossible_day(records: Sequence[Record]) -> str:
    """What cannot be of the records of a day on paper, in words; "" of nothing."""
    for record in records:
        low, high = DAY_MEANS.get(record.measure, (-inf, inf))
        if record.n < 0 or not all(isfinite(x) and low <= x <= high for x in record.blocks):
            return f"{record.measure} {record.horizon}".rstrip() + " cannot be"
        if record.measure in ("looks", "hours") and not all(x == int(x) for x in record.blocks):
            return f"{record.measure}: no count"
    return ""
