"""Paired comparison of forecasts over blocks of time, and the correction for how many comparisons there are.

The difference of log loss is a ratio of sums over blocks; its block jackknife (Tukey 1958) gives as many values as
there are blocks, whose mean is tested by Student's t. Holm's step-down procedure (1979) keeps the probability of a
single wrong verdict in a whole table below DOUBT, whatever the dependence between its cells.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emp.decision.student import passed, student_quantile
from emp.train.judge.blocks import LEAST_BLOCKS, pseudo_values
from emp.train.judge.compare import BETTER, LEVEL, WORSE
from emp.train.judge.metrics import Sums

SHORT = "short"
"""The verdict where there are too few blocks to say anything."""

DOUBT = 0.05

LOG_LOSS_AT = 4
"""Column of `Sums.loss`."""


class Difference(NamedTuple):
    """Log loss of one forecast less that of another on the same rows; None where there are too few blocks."""

    value: float
    low: float | None  # 95 % interval of this one comparison
    high: float | None
    p: float | None  # two-sided, of this one comparison


def difference(mine: Sums, other: Sums) -> Difference:
    """Compare two forecasts of the same rows, block by block."""
    loss = mine.loss[:, LOG_LOSS_AT] - other.loss[:, LOG_LOSS_AT]
    value = float(loss.sum() / mine.n.sum())
    blocks = len(loss)
    if blocks < LEAST_BLOCKS:
        return Difference(value, None, None, None)
    values = pseudo_values((loss, mine.n), lambda a, b: a / b)
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(blocks)
    if error == 0.0:
        return Difference(value, mean, mean, 1.0 if mean == 0.0 else 0.0)
    half = student_quantile(0.025, blocks - 1) * error
    p = 2.0 * passed(abs(mean) / error, blocks - 1)
    return Difference(value, mean - half, mean + half, min(1.0, max(0.0, p)))


def holm(p: Sequence[float], doubt: float = DOUBT) -> list[bool]:
    """Which of several hypotheses are rejected, the probability of any wrong rejection being at most `doubt`."""
    rejected = [False] * len(p)
    for k, i in enumerate(np.argsort(p, kind="stable")):
        if p[i] > doubt / (len(p) - k):
            break
        rejected[i] = True
    return rejected


def verdicts(differences: Sequence[Difference], doubt: float = DOUBT) -> list[str]:
    """BETTER, LEVEL, WORSE or SHORT of every comparison of a table, corrected for their number."""
    known = [i for i, one in enumerate(differences) if one.p is not None]
    rejected = holm([differences[i].p or 0.0 for i in known], doubt)
    said = [SHORT] * len(differences)
    for i, beyond in zip(known, rejected, strict=True):
        said[i] = LEVEL if not beyond else BETTER if differences[i].value < 0.0 else WORSE
    return said
