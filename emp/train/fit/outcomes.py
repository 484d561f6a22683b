"""Which outcomes of a choice are told apart: {the mid falls, stays, rises} x {filled or not}, merged to a few.

Merging is Ward's (1963): the two classes go together whose union adds least to the sum of squares of what the outcomes
bring (the reward of the step, and the trip), each brought to unit deviation; so what is told apart is what matters.
"""

import numpy as np

from emp.core.records import Array
from emp.train.data.choices import Choices

RAW = 6


def flat_band(choices: Choices) -> float:
    """Units within which the mid counts as staying: the lower third of the absolute moves."""
    return float(np.quantile(np.abs(choices.move), 1.0 / 3.0)) if len(choices.move) else 0.0


def raw_classes(choices: Choices, band: float) -> Array:
    """3 filled + (0 falls, 1 stays, 2 rises), towards the side: int64[n]."""
    way = np.where(choices.move > band, 2, np.where(choices.move < -band, 0, 1))
    return np.asarray(3 * choices.filled.astype(np.int64) + way)


def merge(raw: Array, brings: Array, outcomes: int) -> Array:
    """Number of the merged outcome of each raw class: int64[RAW], in 0 .. outcomes - 1.

    Args:
        raw: int64[n].
        brings: float64[n, k], what tells outcomes apart.
        outcomes: how many are left at most; classes that never came go with the first.
    """
    scaled = brings / np.maximum(brings.std(axis=0), 1e-9)
    groups = [[c] for c in range(RAW) if (raw == c).any()]
    counts = [float((raw == g[0]).sum()) for g in groups]
    means = [scaled[raw == g[0]].mean(axis=0) for g in groups]
    while len(groups) > outcomes:
        pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        cost = [
            counts[i] * counts[j] / (counts[i] + counts[j]) * float(np.square(means[i] - means[j]).sum())
            for i, j in pairs
        ]
        i, j = pairs[int(np.argmin(cost))]
        total = counts[i] + counts[j]
        means[j] = (counts[i] * means[i] + counts[j] * means[j]) / total
        counts[j], groups[j] = total, sorted(groups[j] + groups[i])
        del groups[i], counts[i], means[i]
    found = np.zeros(RAW, np.int64)
    for number, group in enumerate(sorted(groups)):
        found[group] = number
    return found
