"""Method of simulated moments (McFadden, Econometrica 1989): parameters whose simulations look like the recording.

Simulated moments are noisy and bend, so slopes at a point lead astray. Instead each stage simulates points spread over
a region, fits a quadratic surface to every moment (Box and Wilson, "On the experimental attainment of optimum
conditions", JRSS B 1951), goes to where the surfaces come nearest to the target, and makes the region smaller.

The distance of two vectors of moments is weighted by what a recording of this length can know of each: the inverse
variance of the moment between simulated stretches as long as the recording, at the best parameters so far.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from emp.core.ids import generator
from emp.core.records import Array

STAGES = 4
POINTS = 40  # simulations of a stage
SHRINK = 0.55  # of the region from stage to stage,
BORDER = 0.9  # but not along a parameter that went this far towards its border
CANDIDATES = 50_000
FARTHEST = 5.0  # times the usual deviation of a moment: a market that runs away must not bend the surface


class Bounded(msgspec.Struct):
    """A parameter to be estimated: the middle of the first region and half its width, and the parameter's range."""

    start: float
    reach: float
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


EVALUATIONS = STAGES * (POINTS + 1) + 1
"""How often `match` calls its simulator."""


class _Trial(msgspec.Struct):
    """Parameters, and the moments of their simulation with the variances between stretches."""

    theta: Array
    got: Array
    variance: Array


def _score(trial: _Trial, target: Array, weight: Array) -> float:
    """Weighted mean squared distance of the moments that count; infinite where one of them is not finite."""
    if not np.isfinite(trial.got[weight > 0]).all():
        return np.inf
    gap = np.where(weight > 0, np.nan_to_num(target - trial.got), 0.0)
    return float((weight * gap**2).sum() / max(1, (weight > 0).sum()))


def match(
    simulate: Callable[[Array], Array], target: Array, parameters: list[Bounded], seed: int = 1
) -> tuple[Array, float]:
    """Return the best parameters met, and their weighted mean squared distance.

    `simulate` maps parameters to moments of several stretches, shape (stretches, moments); moments that are not
    finite, there or in `target`, do not count.
    """
    rng = generator(seed, "moments")
    low, high = np.array([p.low for p in parameters]), np.array([p.high for p in parameters])
    reach = np.array([p.reach for p in parameters])

    def attempt(theta: Array) -> _Trial:
        return _Trial(theta, *known(simulate(theta)))

    best = attempt(np.array([p.start for p in parameters]))
    trials = [best]
    for _ in range(STAGES):
        weight = np.where(
            np.isfinite(best.got) & np.isfinite(target),
            1.0 / np.maximum(np.nan_to_num(best.variance), 1e-8),
            0.0,
        )
        first, last = np.maximum(low, best.theta - reach), np.minimum(high, best.theta + reach)
        trials += [attempt(first + (last - first) * x) for x in _spread(POINTS, len(low), rng)]
        inside = [t for t in trials if (np.abs(t.theta - best.theta) <= 1.5 * reach).all()]
        wanted = first + (last - first) * rng.random((CANDIDATES, len(low)))
        surface = _surface(inside, best.theta, reach, target, weight)
        trials.append(attempt(wanted[np.argmin(surface(wanted))]))
        before, best = best, min(trials, key=lambda t: _score(t, target, weight))
        reach = np.where(np.abs(best.theta - before.theta) < BORDER * reach, SHRINK * reach, reach)
    return best.theta, _score(best, target, weight)


def _spread(points: int, dimensions: int, rng: np.random.Generator) -> Array:
    """A Latin hypercube: shape (points, dimensions), in 0..1."""
    cells = np.array([rng.permutation(points) for _ in range(dimensions)]).T
    return np.asarray((cells + rng.random((points, dimensions))) / points)


def _surface(
    trials: list[_Trial], middle: Array, reach: Array, target: Array, weight: Array
) -> Callable[[Array], Array]:
    """The score by quadratic surfaces through the moments of some trials, as a function of parameters (n, k)."""

    def terms(theta: Array) -> Array:
        x = (theta - middle) / reach
        return np.column_stack([np.ones(len(x)), x, x**2])

    design = terms(np.array([t.theta for t in trials]))
    root = np.sqrt(weight)
    pulls = np.array([root * np.where(weight > 0, t.got - target, 0.0) for t in trials])
    far = FARTHEST * (1.0 + np.nanmedian(np.abs(pulls), axis=0))
    pulls = np.clip(np.where(np.isfinite(pulls), pulls, far), -far, far)
    ridge = 1e-3 * len(trials) * np.eye(design.shape[1])
    beta = np.linalg.solve(design.T @ design + ridge, design.T @ pulls)
    return lambda theta: np.asarray(((terms(theta) @ beta) ** 2).sum(axis=1))
