"""Are two worlds the same to those who trade in them? Tests of equivalence over several policies.

A difference that is not significant is no evidence of sameness, so each question is two one-sided tests (Schuirmann,
Journal of Pharmacokinetics and Biopharmaceutics 15, 1987): the worlds are equivalent in it where the 90 % interval of
their difference lies inside the margin, different where it lies outside, and undecided where it does neither. All
questions must be answered with "equivalent" (an intersection of tests needs no correction for their number); undecided
refuses as well, and asks for more episodes.

Episodes that begin in one state of the market, or in neighbouring ones, are no independent ones: intervals are over
*clusters* of them, each with the episodes of both worlds that begin there. However many episodes are played, what is
known of a market is known of as many of its stretches as there are clusters.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from emp.core.ids import generator
from emp.core.records import Array
from emp.decision.student import student_quantile

ALPHA, TURNOVER = 0.05, 0.10
"""Margins: shares of what the simulator gives."""
DISTRIBUTION = 0.10
"""Margin of a distance between distributions (Wasserstein-1), in standard deviations of the simulator's."""
RANKS = 0.9
"""Least rank correlation of the policies' alphas."""
WEAK = 0.05
"""Ratio of mean to deviation, per episode, below which alpha is held to WEAK_MARGIN: a share of what cannot be told
from zero is no margin."""
WEAK_MARGIN = 0.05
"""Margin of such an alpha, in half spreads."""
HORIZON = 2
"""Decisions after that of a fill at whose mid it is valued."""
RESAMPLES = 200
NEIGHBOURS = 10
"""States that lie as near to each other as an episode is long, twice over: what begins in them is one cluster."""
TAIL = 0.05
"""Of either of two one-sided tests: they make a 90 % interval."""

EQUIVALENT, DIFFERENT, UNDECIDED = "equivalent", "different", "undecided"


class Question(msgspec.Struct, frozen=True):
    """One quantity of one policy in both worlds, and what the interval of the difference says."""

    truth: float
    surrogate: float
    difference: float
    low: float
    high: float
    margin: float
    verdict: str


class PolicyAnswer(msgspec.Struct, frozen=True):
    """All questions about one policy. Alpha in ticks a lot, turnover and fills in lots an episode."""

    policy: str
    alpha: Question
    turnover: Question
    fills: Question  # distribution of lots filled as maker, by episode
    inventory: Question  # distribution of the position, over all decisions


class Equivalence(msgspec.Struct, frozen=True):
    """What a surrogate came to."""

    episodes: int
    policies: list[PolicyAnswer]
    ranks: Question  # rank correlation; the margin is its least value

    @property
    def verdict(self) -> dict[str, str]:
        """The worst answer to each question over all policies."""
        names = ("alpha", "turnover", "fills", "inventory")
        found = {name: _worst([getattr(p, name).verdict for p in self.policies]) for name in names}
        return found | {"ranks": self.ranks.verdict}

    @property
    def passed(self) -> bool:
        """Whether the surrogate may stand in for the simulator."""
        return all(answer == EQUIVALENT for answer in self.verdict.values())


def _worst(answers: Sequence[str]) -> str:
    for answer in (DIFFERENT, UNDECIDED):
        if answer in answers:
            return answer
    return EQUIVALENT


def judged(low: float, high: float, margin: float) -> str:
    """What the interval of a difference says about a margin."""
    if -margin < low and high < margin:
        return EQUIVALENT
    return DIFFERENT if high <= -margin or low >= margin else UNDECIDED


def markouts(path: Array, horizon: int = HORIZON) -> tuple[Array, Array]:
    """(money, lots) by episode: what fills are worth at the mid `horizon` decisions after the one that followed them.

    `path` has the fields of `league.rollouts.PATH`, shape (episodes, decisions + 1). Fills of the last `horizon`
    decisions are left out. After fees, ticks times lots.
    """
    bought, got = np.diff(path["position"], axis=1), np.diff(path["cash"], axis=1)
    n = bought.shape[1] - horizon
    later = path["mid"][:, 1 + horizon :]
    money = (bought[:, :n] * later + got[:, :n]).sum(axis=1)
    return money, np.diff(path["lots"], axis=1)[:, :n].sum(axis=1)


def _ratio(money: Array, lots: Array) -> tuple[float, Array]:
    """A ratio of means, and what each episode adds to it (its linearisation)."""
    mean = max(1e-12, float(lots.mean()))
    value = float(money.mean()) / mean
    return value, np.asarray((money - value * lots) / mean)


def clusters_of(episodes: int, states: int | None = None) -> Array:
    """Int64[episodes]: the cluster of each, where episode k begins in state k mod `states`; None: each is its own."""
    k = np.arange(episodes)
    return k if states is None else (k % states) // NEIGHBOURS


def _compare(
    truth: tuple[float, Array], other: tuple[float, Array], margin: float, cluster: Array
) -> Question:
    """A difference whose error is that of a mean over clusters (linearised, in pairs)."""
    difference = other[0] - truth[0]
    n = int(cluster.max()) + 1
    off = np.bincount(cluster, other[1] - truth[1], minlength=n)
    spread = np.sqrt(float(((off - off.mean()) ** 2).sum()) * n / (n - 1)) / len(cluster)
    error = student_quantile(TAIL, n - 1) * float(spread)
    low, high = difference - error, difference + error
    return Question(truth[0], other[0], difference, low, high, margin, judged(low, high, margin))


def compare_alpha(truth: Array, other: Array, cluster: Array) -> Question:
    """Alpha: ticks a lot after fees, each fill valued at a later mid."""
    ours, theirs = _ratio(*markouts(truth)), _ratio(*markouts(other))
    deviation = float(ours[1].std())
    strong = abs(ours[0]) >= WEAK * deviation
    margin = ALPHA * abs(ours[0]) if strong else WEAK_MARGIN * 0.5 * float(truth["spread"].mean())
    return _compare(ours, theirs, margin, cluster)


def compare_turnover(truth: Array, other: Array, cluster: Array) -> Question:
    """Lots traded an episode."""
    sides = [np.asarray(path["lots"][:, -1]) for path in (truth, other)]
    ours, theirs = ((float(x.mean()), x - x.mean()) for x in sides)
    return _compare(ours, theirs, TURNOVER * max(1e-12, ours[0]), cluster)


def wasserstein(x: Array, y: Array) -> float:
    """Wasserstein-1 distance of two samples of whole numbers."""
    low = int(min(x.min(), y.min()))
    size = int(max(x.max(), y.max())) - low + 1
    below = [np.cumsum(np.bincount(part - low, minlength=size)) / len(part) for part in (x, y)]
    return float(np.abs(below[0] - below[1]).sum())


def _draws(cluster: Array, rng: np.random.Generator) -> Iterator[Array]:
    """RESAMPLES bootstrap samples of whole clusters, as rows."""
    order = np.argsort(cluster, kind="stable")
    n = int(cluster.max()) + 1
    members = np.split(order, np.cumsum(np.bincount(cluster, minlength=n))[:-1])
    for _ in range(RESAMPLES):
        yield np.concatenate([members[k] for k in rng.integers(0, n, n)])


def compare_distributions(
    truth: Array, other: Array, least: float, cluster: Array, rng: np.random.Generator
) -> Question:
    """Distance of two distributions, rows being episodes, in deviations of the first, which counts as `least` at least.

    Noise makes a distance larger, never smaller, and a resample has twice the noise. So its upper bound is the
    bootstrap's own, which refuses too often, and its lower one is that bound reflected about the distance (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, 13.4): few episodes leave it undecided.
    """
    scale = max(least, float(truth.std()))
    truth, other = truth.astype(np.int64), other.astype(np.int64)
    value = wasserstein(truth.ravel(), other.ravel()) / scale
    drawn = [wasserstein(truth[rows].ravel(), other[rows].ravel()) / scale for rows in _draws(cluster, rng)]
    high = float(np.quantile(drawn, 1.0 - TAIL))
    low = max(0.0, 2.0 * value - high)
    verdict = judged(low, high, DISTRIBUTION)
    return Question(float(truth.mean()), float(other.mean()), value, low, high, DISTRIBUTION, verdict)


def _ranks(x: Array) -> Array:
    return np.asarray(np.argsort(np.argsort(x, axis=-1), axis=-1), np.float64)


def rank_correlation(x: Array, y: Array) -> float:
    """Spearman's, of two rows without ties."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def compare_ranks(
    truths: Sequence[Array], others: Sequence[Array], cluster: Array, rng: np.random.Generator
) -> Question:
    """Do both worlds put the policies in the same order? The interval resamples clusters of both."""
    sums = [[markouts(path) for path in paths] for paths in (truths, others)]

    def correlation(rows: Any) -> float:
        alphas = [np.array([_ratio(m[rows], n[rows])[0] for m, n in side]) for side in sums]
        return rank_correlation(alphas[0], alphas[1])

    value = correlation(slice(None))
    drawn = [correlation(rows) for rows in _draws(cluster, rng)]
    low, high = (float(q) for q in np.quantile(drawn, [TAIL, 1.0 - TAIL]))
    verdict = EQUIVALENT if low >= RANKS else (DIFFERENT if high < RANKS else UNDECIDED)
    return Question(1.0, value, value - 1.0, low, high, RANKS, verdict)


def equivalence(
    truths: Mapping[str, Array],
    others: Mapping[str, Array],
    sizes: Mapping[str, float],
    seed: int = 0,
    states: int | None = None,
) -> Equivalence:
    """Hold a surrogate's rollouts to the simulator's.

    Args:
        truths, others: by policy, PATH of shape (episodes, decisions + 1).
        sizes: by policy, lots of one order: a distribution narrower than that is not told apart.
        seed: of the bootstrap.
        states: of the market; episode k of either world begins in state k mod `states`. None: all are independent.

    Raises:
        ValueError: fewer than five policies, not the same ones, or all episodes begin in one stretch of the market.
    """
    if len(truths) < 5 or set(truths) != set(others):
        raise ValueError("equivalence is judged over the same five policies or more")
    episodes = len(next(iter(truths.values())))
    cluster = clusters_of(episodes, states)
    if cluster.max() < 1:
        raise ValueError(f"{episodes} episodes begin in one stretch of the market: they have no interval")
    answers = [_answer(name, truths[name], others[name], sizes[name], cluster, seed) for name in truths]
    names = list(truths)
    ranks = compare_ranks(
        [truths[n] for n in names],
        [others[n] for n in names],
        cluster,
        generator(seed, "equivalence", "ranks"),
    )
    return Equivalence(episodes, answers, ranks)


def _answer(name: str, truth: Array, other: Array, size: float, cluster: Array, seed: int) -> PolicyAnswer:
    rng = generator(seed, "equivalence", name)

    def filled(path: Any) -> Array:
        return np.asarray(path["maker_lots"][:, -1:])

    return PolicyAnswer(
        name,
        compare_alpha(truth, other, cluster),
        compare_turnover(truth, other, cluster),
        compare_distributions(filled(truth), filled(other), size, cluster, rng),
        compare_distributions(truth["position"][:, 1:], other["position"][:, 1:], size, cluster, rng),
    )
