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
from typing import NamedTuple

import numpy as np

from emp.core.records import Array

EULER = 0.5772156649015329
GROUPS = 12
"""Groups of neighbouring blocks that are halved: 924 ways."""

LEAST_BLOCKS = 16
"""Blocks below which neither figure means much."""

ALIKE = 1e-12
"""Standard deviation at or below which gains are all alike."""

ROUNDED = 1e-9
"""Share of the scatter of gains within which two rises are the same one."""

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

    Two changes make it rise with the ratio whatever the gains look like: a positive skewness earns nothing, and a ratio
    below 0 has the variance of one of 0. Where it is above one half, neither makes it larger than the paper's.
    """
    above = max(ratio, 0.0)
    variance = 1.0 - min(skew, 0.0) * above + 0.25 * (kurtosis - 1.0) * above * above
    return _NORMAL.cdf((ratio - threshold) * math.sqrt(n - 1.0) / math.sqrt(variance))


def deflated(gains: Array, _: list[Array], trials: int) -> float:
    """Deflated Sharpe ratio of float[n] gains, where so many trials were made in all.

    Ratios of trials without skill scatter with variance 1 / (n - 1) (Lo, Financial Analysts Journal 58(4), 2002). The
    paper takes the variance that the ratios of all trials show; that one falls where a trial is left out, and grows
    with the model's own ratio, so that a better model could fail.
    """
    centred = gains - gains.mean()
    spread = float(np.sqrt(np.mean(centred**2)))
    if spread <= ALIKE * float(np.abs(gains).max()):
        return 0.0
    skew, kurtosis = float(np.mean(centred**3)) / spread**3, float(np.mean(centred**4)) / spread**4
    threshold = best_of_none(trials, 1.0 / (len(gains) - 1.0))
    return deflated_sharpe(sharpe(gains), len(gains), skew, kurtosis, threshold)


def overfitting(gains: Array) -> float:
    """Probability of backtest overfitting of float[blocks, trials] gains, blocks in order of time, trials >= 2."""
    inside, outside = (one.ratio for one in _halves(gains))
    shown = outside[np.arange(len(inside)), inside.argmax(axis=1)]
    return float(np.mean(_rank(outside, shown) / (gains.shape[1] + 1.0) <= 0.5))


def share_overfitted(gains: Array, others: list[Array], _: int) -> float:
    """Probability of backtest overfitting over float[n] gains and those of other trials: the highest that it is for the
    model as it is or better by the same in every block.

    A better model is chosen more often, so that the plain probability may grow with it; the highest one never does.
    """
    theirs, mine = _halves(np.column_stack(others)), _halves(gains[:, None])
    return max(overfitting(np.column_stack([gains, *others])), _highest(mine, theirs))


def _rank(of: Array, shown: Array) -> Array:
    """Rank from below of float64[ways] ratios among float64[ways, trials]; equal ones share theirs."""
    found: Array = (of < shown[:, None]).sum(axis=1) + 0.5 * ((of == shown[:, None]).sum(axis=1) + 1.0)
    return found


class _Half(NamedTuple):
    """Every trial on one half of the groups, by how they were halved: float64[ways, trials]."""

    mean: Array
    spread: Array  # standard deviation

    @property
    def ratio(self) -> Array:
        """Mean over standard deviation; 0 where all are alike."""
        found: Array = np.divide(
            self.mean, self.spread, out=np.zeros_like(self.mean), where=self.spread > ALIKE
        )
        return found

    def rise(self, ratio: Array) -> Array:
        """By how much the one trial's gains must rise to show float64[ways] ratios; without end where they cannot."""
        mean, spread = self.mean[:, 0], self.spread[:, 0]
        fixed = np.where(ratio <= 0.0, -np.inf, np.inf)
        found: Array = np.where(spread > ALIKE, ratio * spread - mean, fixed)
        return found


def _halves(gains: Array) -> tuple[_Half, _Half]:
    """float64[blocks, trials] gains on the half that a trial is chosen on, and on the other half."""
    groups = min(GROUPS, len(gains) // 2 * 2)
    pieces = np.array_split(gains, groups)
    size = np.array([len(one) for one in pieces], float)
    total = np.array([one.sum(axis=0) for one in pieces])
    square = np.array([np.square(one).sum(axis=0) for one in pieces])
    chosen = np.zeros((math.comb(groups, groups // 2), groups))
    for k, half in enumerate(combinations(range(groups), groups // 2)):
        chosen[k, list(half)] = 1.0

    def summed(side: Array) -> _Half:
        n = (side @ size)[:, None]
        mean = side @ total / n
        return _Half(mean, np.sqrt(np.maximum((side @ square / n - mean * mean) * n / (n - 1.0), 0.0)))

    return summed(chosen), summed(1.0 - chosen)


def _highest(mine: tuple[_Half, _Half], theirs: tuple[_Half, _Half]) -> float:
    """The highest share of halvings that are overfitted while the gains of one trial rise from where they are.

    Of each halving it is known between which rises it is overfitted: while another trial is chosen, and that one lies
    below the median, to which our own, rising past it, adds; and once ours is chosen, until it has risen above the
    median itself.
    """
    inside, outside = (one.ratio for one in theirs)
    trials = inside.shape[1]
    middle = 0.5 * (trials + 2.0)
    shown = outside[np.arange(len(inside)), inside.argmax(axis=1)]
    rank = _rank(outside, shown)
    chosen, passing = mine[0].rise(inside.max(axis=1)), mine[1].rise(shown)
    median = mine[1].rise(np.sort(outside, axis=1)[:, trials // 2])
    begin = np.where(rank + 1.0 <= middle, -np.inf, np.where(rank <= middle, passing, np.inf))
    begins = np.maximum(np.concatenate([begin, chosen]), 0.0)
    ends = np.concatenate([chosen, median])
    same = ROUNDED * float(mine[0].spread.max())  # a twin is passed and chosen over at one rise
    real = ends > begins + same
    steps = np.concatenate([ends[real], begins[real]])
    turns = np.repeat([-1, 1], int(real.sum()))
    order = np.argsort(steps, kind="stable")  # where one ends as another begins, it has ended
    return float(np.cumsum(turns[order]).max(initial=0)) / len(inside)
