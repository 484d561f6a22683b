"""LOB-Bench's three conditional scores: a sample compared group by group of another value of the same rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from emp.core.records import Array
from emp.sim.facts.losses import RESAMPLES, Loss, l1_between, w1
from emp.sim.facts.scores import Stretch

DAY_S = 86_400
TIMES = np.linspace(0, DAY_S, 24)
"""Bounds of 23 spans of a day, s: not hours."""

CELL_NS = 100_000_000
"""Volatility is of the last mids of neighbouring cells this long."""

DECILES = np.linspace(0.1, 0.9, 9)
NUDGE = 0.01
"""What the second of two equal deciles is raised by, so that a value repeated often has a group of its own."""


class Condition(NamedTuple):
    """A score whose losses are means over groups."""

    name: str
    given: str  # spread, time or volatility
    of: str  # ask_volume or spread


CONDITIONS = (
    Condition("ask_volume | spread", "spread", "ask_volume"),
    Condition("spread | time", "time", "spread"),
    Condition("spread | volatility", "volatility", "spread"),
)


def midnight_before(ts_ns: int, zone: str = "America/New_York") -> int:
    """UTC ns of the local midnight before a time."""
    local = datetime.fromtimestamp(ts_ns // 10**9, ZoneInfo(zone))
    return int(local.replace(hour=0, minute=0, second=0).timestamp()) * 10**9


def deciles(x: Array) -> Array:
    """Nine thresholds of values float64[n]; of a run of equal ones two are kept, and the second is raised by NUDGE.

    Out of order where values lie closer than NUDGE, as the package has it.
    """
    edges = np.quantile(x, DECILES)
    run = np.ones(len(edges), int)
    for k in range(1, len(edges)):
        run[k] = run[k - 1] + 1 if edges[k] == edges[k - 1] else 1
    kept = run <= 2
    out: Array = (edges + NUDGE * (run == 2))[kept]
    return out


def volatility(s: Stretch) -> float:
    """Standard deviation (n - 1) of changes of the log mid between neighbouring cells; 0 of fewer than two."""
    cell = s.ts // CELL_NS
    last = np.flatnonzero(np.append(cell[1:] != cell[:-1], True))
    with np.errstate(invalid="ignore"):
        log = np.log(s.mid[last])
    change = np.diff(log)[np.diff(cell[last]) == 1]
    change = change[np.isfinite(change)]
    return float(change.std(ddof=1)) if len(change) > 1 else 0.0


def _values(what: str, s: Stretch, midnight_ns: int) -> Array:
    if what == "spread":
        return (s.book[:, 0] - s.book[:, 2]).astype(float)
    if what == "ask_volume":
        return s.book[:, 1].astype(float)
    if what == "time":
        return (s.ts - midnight_ns) / 1e9
    return np.full(len(s.ts), volatility(s))


def _thresholds(given: str, pooled: Array) -> Array:
    if given == "time":
        return TIMES
    return deciles(pooled) if given == "volatility" else np.unique(pooled)


def conditional(
    condition: Condition,
    real: Sequence[Stretch],
    made: Sequence[Stretch],
    midnight_ns: int,
    first: np.random.Generator,
    second: np.random.Generator,
) -> tuple[Loss, Loss]:
    """L1 and W1 as means over groups, weighed by rows; a group without a number counts as 0.

    `midnight_ns` is where the time of day begins in both; `first` and `second` draw resamples of L1 and W1.
    """
    given, of = (
        [np.concatenate([_values(what, s, midnight_ns) for s in side]) for side in (real, made)]
        for what in (condition.given, condition.of)
    )
    pooled = np.concatenate(given)
    edges = _thresholds(condition.given, pooled)
    a, b = (np.searchsorted(edges, x, "right") for x in given)
    total = np.zeros((2, 1 + RESAMPLES))
    for group in np.unique(np.concatenate((a, b))):
        x, y = of[0][a == group], of[1][b == group]
        both = np.concatenate((x, y))
        inner = np.unique(both) if condition.given == "volatility" else deciles(both)
        weight = len(both) / len(pooled)
        for k, loss in enumerate((l1_between(x, y, inner, first), w1(x, y, second))):
            total[k] += weight * np.nan_to_num(loss.resampled)
    return Loss(float(total[0, 0]), total[0]), Loss(float(total[1, 0]), total[1])
