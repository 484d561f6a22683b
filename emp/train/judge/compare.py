"""Several seeds as one contender, and contenders against each other on the same rows.

A figure of several seeds is their mean; its interval resamples blocks of time, drawn alike for all seeds, and
its spread is the standard deviation between seeds. A difference between two contenders is taken draw by draw.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from emp.core.records import Array
from emp.train.judge.metrics import Sums, interval, resampled, scores, totals

MEASURES = {"log_loss": -1, "brier": -1, "f1_macro": 1}
"""What contenders are compared by, and the sign of a difference that is good."""

LEADING = "log_loss"
"""The measure that decides between better, level and worse: proper, and what every contender is fitted by."""

BETTER, LEVEL, WORSE = "better", "level", "worse"


def figures(seeds: Sequence[Sums], seed: int) -> dict[str, Any]:
    """Mean over seeds of every score, `spread` between them (None for one), and `ci`."""
    each = [{name: float(v[0]) for name, v in scores(totals(sums)).items()} for sums in seeds]
    drawn = _mean_drawn(seeds, seed)
    pairs = {name: interval(values) for name, values in drawn.items() if name != "n"}
    several = len(each) > 1
    return {
        **{name: _number(float(np.mean([one[name] for one in each]))) for name in each[0]},
        "n": int(seeds[0].n.sum()),
        "seeds": len(each),
        "spread": {
            name: _number(float(np.std([one[name] for one in each], ddof=1))) if several else None
            for name in each[0]
            if name != "n"
        },
        "ci": {name: [_number(low), _number(high)] for name, (low, high) in _known(pairs).items()},
    }


def versus(mine: Sequence[Sums], reference: Sequence[Sums], seed: int) -> dict[str, dict[str, Any]]:
    """Difference to the reference by measure: mean over seeds, paired interval, verdict.

    Better or worse is said only where the interval leaves out zero and every seed lies on that side.
    """
    drawn, base_drawn = _mean_drawn(mine, seed), _mean_drawn(reference, seed)
    base = {name: np.mean([scores(totals(sums))[name][0] for sums in reference]) for name in MEASURES}
    found = {}
    for name, good in MEASURES.items():
        each = np.array([float(scores(totals(sums))[name][0]) for sums in mine]) - base[name]
        pair = interval(drawn[name] - base_drawn[name])
        low, high = pair if pair is not None else (-math.inf, math.inf)
        found[name] = {
            "difference": _number(float(each.mean())),
            "ci": [_number(low), _number(high)],
            "seeds": [_number(float(value)) for value in each],
            "verdict": _verdict(good * each, *sorted((good * low, good * high))),
        }
    return found


def _verdict(gains: Array, low: float, high: float) -> str:
    if low > 0.0 and bool((gains > 0.0).all()):
        return BETTER
    if high < 0.0 and bool((gains < 0.0).all()):
        return WORSE
    return LEVEL


def _mean_drawn(seeds: Sequence[Sums], seed: int) -> dict[str, Array]:
    """Scores of every draw, averaged over seeds."""
    drawn = [resampled(sums, seed) for sums in seeds]
    return {name: np.mean([one[name] for one in drawn], axis=0) for name in drawn[0]}


def _known(pairs: dict[str, tuple[float, float] | None]) -> dict[str, tuple[float, float]]:
    return {name: pair for name, pair in pairs.items() if pair is not None}


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
