"""Training without gradients: evolution strategies with common random numbers, under Lagrangian constraints.

Antithetic Gaussian perturbations of the weights are ranked, and the weights follow the ranks (Salimans, Ho, Chen,
Sidor and Sutskever 2017, arXiv 1703.03864). All candidates of a round play the same episodes with the same random
numbers, and the next round plays others.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from emp.core.errors import UsageError
from emp.core.ids import generator
from emp.core.records import Array
from emp.league.constraint import PidMultiplier, penalised

Judge = Callable[[Array, int], tuple[Array, Array]]
"""(candidates (n, weights), round) to (utility (n,), costs (n, constraints)); the same round is the same luck."""


class Budget(NamedTuple):
    """How long a training goes on."""

    rounds: int = 40
    pairs: int = 12  # of antithetic candidates in a round
    step: float = 0.2  # of the weights, in standard deviations of the search
    spread: float = 0.3  # standard deviation of the search at first; it falls by half to the end


class Trained(NamedTuple):
    """What a training found, and how it went."""

    weights: Array
    curve: Array  # float64 (rounds, 1 + 2 * constraints): utility, costs and multipliers of the weights
    evaluations: int  # candidates judged


def evolve(
    judge: Judge, start: Array, budget: Budget, seed: int, multipliers: list[PidMultiplier] | None = None
) -> Trained:
    """Improve weights (n,) from `start`; the multipliers are left where the constraints have brought them.

    The same seed gives the same weights, bit for bit. The weights that are returned are the average of the last
    quarter of the rounds (Polyak and Juditsky 1992): single rounds are noise.
    """
    if budget.rounds < 1 or budget.pairs < 2:
        raise UsageError(
            f"a training needs at least 1 round of 2 pairs, was {budget.rounds} of {budget.pairs}"
        )
    bound = multipliers or []
    rng = generator(seed, "evolve")
    w = start.astype(float).copy()
    curve = np.zeros((budget.rounds, 1 + 2 * len(bound)))
    tail = []
    for k in range(budget.rounds):
        spread = budget.spread * (1.0 - 0.5 * k / budget.rounds)
        half = rng.standard_normal((budget.pairs, len(w)))
        noise = np.concatenate([half, -half])
        utility, costs = judge(np.concatenate([w[None], w + spread * noise]), k)
        curve[k] = [utility[0], *costs[0, : len(bound)], *(m.value for m in bound)]
        score = penalised(utility, costs, bound)[1:] if bound else utility[1:]
        w += budget.step * spread * (_ranks(score) @ noise)
        for j, m in enumerate(bound):
            m.update(float(costs[0, j]))
        if k >= 0.75 * budget.rounds - 1:
            tail.append(w.copy())
    return Trained(np.mean(tail, axis=0), curve, budget.rounds * (1 + 2 * budget.pairs))


def _ranks(score: Array) -> Array:
    """Centred ranks, scaled to unit length; equal scores share a rank, so that no difference is no direction."""
    ordered = np.sort(score)
    r = 0.5 * (np.searchsorted(ordered, score, "left") + np.searchsorted(ordered, score, "right"))
    r -= r.mean()
    size = float(np.sqrt(np.sum(r * r)))
    return np.asarray(r / size if size > 0.0 else r)
