"""How much of a good backtest is the luck of the best of many: after Bailey and Lopez de Prado.

Deflated Sharpe ratio (The Deflated Sharpe Ratio, Journal of Portfolio Management 40(5), 2014): the probability that the
Sharpe ratio of the chosen trial is above what the best of N trials without any skill would show. Probability of
backtest overfitting (Bailey, Borwein, Lopez de Prado, Zhu: The Probability of Backtest Overfitting, Journal of
Computational Finance 20(4), 2017): how often the trial that is best on one half of the blocks is below the median on
the other half, over all ways to halve them (combinatorially symmetric cross-validation).

Ratios are per block: of its gains, mean over standard deviation.
"""

import math
from itertools import combinations
from statistics import NormalDist

import numpy as np

from emp.core.records import Array

EULER = 0.5772156649015329
GROUPS = 12
"""Groups of neighbouring blocks that are halved: 924 ways."""

LEAST_BLOCKS = 16
"""Blocks below which neither figure means much."""

_NORMAL = NormalDist()


def sharpe(gains: Array) -> float:
    """Mean over standard deviation of float[n] gains, n >= 2; 0 where all are alike."""
    spread = float(np.std(gains, ddof=1))
    return float(np.mean(gains)) / spread if spread > 0.0 else 0.0


def best_of_none(trials: int, variance: float) -> float:
    """Expected highest Sharpe ratio of so many trials without skill, whose ratios have this variance; 0 of one."""
    if trials < 2:
        return 0.0
    inverse = _NORMAL.inv_cdf
    highest = (1.0 - EULER) * inverse(1.0 - 1.0 / trials) + EULER * inverse(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * highest


def deflated_sharpe(ratio: float, n: int, skew: float, kurtosis: float, threshold: float) -> float:
    """Probability that the true ratio is above a threshold, where n gains of this skewness and kurtosis (3 of a normal
    distribution) showed `ratio`.
    """
    variance = 1.0 - skew * ratio + 0.25 * (kurtosis - 1.0) * ratio * ratio
    return _NORMAL.cdf((ratio - threshold) * math.sqrt(n - 1.0) / math.sqrt(max(variance, 1e-12)))


def deflated(gains: Array, others: list[Array], trials: int) -> float:
    """Deflated Sharpe ratio of float[n] gains beside those of other trials, where so many were made in all."""
    ratios = [sharpe(one) for one in (gains, *others)]
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 1.0 / len(gains)
    centred = gains - gains.mean()
    spread = float(np.sqrt(np.mean(centred**2)))
    if spread == 0.0:
        return 0.0
    skew, kurtosis = float(np.mean(centred**3)) / spread**3, float(np.mean(centred**4)) / spread**4
    threshold = best_of_none(max(trials, len(ratios)), variance)
    return deflated_sharpe(ratios[0], len(gains), skew, kurtosis, threshold)


def overfitting(gains: Array) -> float:
    """Probability of backtest overfitting of float[blocks, trials] gains, blocks in order of time, trials >= 2."""
    groups = min(GROUPS, len(gains) // 2 * 2)
    pieces = np.array_split(gains, groups)
    size = np.array([len(one) for one in pieces], float)
    total = np.array([one.sum(axis=0) for one in pieces])
    square = np.array([np.square(one).sum(axis=0) for one in pieces])
    chosen = np.zeros((math.comb(groups, groups // 2), groups))
    for k, half in enumerate(combinations(range(groups), groups // 2)):
        chosen[k, list(half)] = 1.0
    inside, outside = (_ratios(side, size, total, square) for side in (chosen, 1.0 - chosen))
    every = np.arange(len(chosen))
    best = inside.argmax(axis=1)
    shown = outside[every, best][:, None]
    rank = (outside < shown).sum(axis=1) + 0.5 * (
        (outside == shown).sum(axis=1) + 1.0
    )  # equal ones share a rank
    return float(np.mean(rank / (gains.shape[1] + 1.0) <= 0.5))


def share_overfitted(gains: Array, others: list[Array], trials: int) -> float:
    """Probability of backtest overfitting over float[n] gains and those of other trials."""
    return overfitting(np.column_stack([gains, *others]))


def _ratios(side: Array, size: Array, total: Array, square: Array) -> Array:
    """Sharpe ratio of every trial on one half of the groups: float64[ways, trials]."""
    n = (side @ size)[:, None]
    mean = side @ total / n
    spread = np.sqrt(np.maximum((side @ square / n - mean * mean) * n / (n - 1.0), 0.0))
    found: Array = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 1e-12)
    return found
