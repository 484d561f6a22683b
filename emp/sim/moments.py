"""Method of simulated moments (McFadden, Econometrica 1989): parameters whose simulations look like the recording.

The distance of two vectors of moments is weighted by what a recording of this length can know of each: the inverse
variance of the moment between simulated stretches as long as the recording, at the parameters it begins with.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from emp.core.records import Array

ROUNDS = 5
DAMPING = 0.3


class Bounded(msgspec.Struct):
    """A parameter to be estimated: where to begin, how far to step for a slope, and its range."""

    start: float
    step: float
    low: float
    high: float


def known(rows: Array) -> tuple[Array, Array]:
    """Mean and variance over the stretches in which a moment is finite; nan where it is in none."""
    ok = np.isfinite(rows)
    n = ok.sum(axis=0)
    mean = np.where(ok, rows, 0.0).sum(axis=0) / np.maximum(n, 1)
    spread = np.where(ok, rows - mean, 0.0)
    variance = (spread**2).sum(axis=0) / np.maximum(n, 1)
    return np.where(n > 0, mean, np.nan), variance


def evaluations(parameters: int) -> int:
    """How often `match` calls its simulator."""
    return ROUNDS * (1 + parameters) + 1


def match(
    simulate: Callable[[Array], Array], target: Array, parameters: list[Bounded]
) -> tuple[Array, float]:
    """Return the best parameters met by damped Gauss-Newton steps, and their weighted mean squared distance.

    `simulate` maps parameters to moments of several stretches, shape (stretches, moments), with the same random
    numbers at each call; moments that are not finite, there or in `target`, do not count.
    """
    low, high = np.array([p.low for p in parameters]), np.array([p.high for p in parameters])
    steps = np.array([p.step for p in parameters])
    now = np.array([p.start for p in parameters])
    best, least = now, np.inf
    weight: Array | None = None
    for _ in range(ROUNDS):
        got, variance = known(simulate(now))
        if weight is None:
            weight = 1.0 / np.maximum(variance, 1e-8)
            weight[~np.isfinite(got) | ~np.isfinite(target)] = 0.0
        gap = np.where(weight > 0, target - got, 0.0)
        if (score := float((weight * gap**2).mean())) < least:
            best, least = now, score
        slope = np.zeros((len(target), len(now)))
        for k, step in enumerate(steps):
            h = step if now[k] + step <= high[k] else -step
            moved = now.copy()
            moved[k] += h
            slope[:, k] = np.nan_to_num((known(simulate(moved))[0] - got) / h)
        scaled = slope * steps  # so that the damping means the same for every parameter
        hess = scaled.T @ (weight[:, None] * scaled)
        hess += DAMPING * (np.trace(hess) / len(now) + 1e-12) * np.eye(len(now))
        change = np.linalg.solve(hess, scaled.T @ (weight * gap))
        now = np.clip(now + steps * np.clip(change, -3.0, 3.0), low, high)
    got, _ = known(simulate(now))
    assert weight is not None
    ok = np.isfinite(got) & np.isfinite(target) & (weight > 0)
    score = float((weight[ok] * (target - got)[ok] ** 2).sum() / len(target))
    return (now, score) if score < least else (best, least)
