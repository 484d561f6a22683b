"""How liquidity leans against flow from outside: a kernel that makes metaorder impact obey the square-root law.

A recording shows no metaorder known to be one, so the kernel is estimated from a law instead. Impact of a metaorder
grows as the square root of its length, with an exponent equal to 1/2 within its error for every liquid stock of the
Tokyo exchange (Sato and Kanazawa, arXiv 2411.13965), and relaxes afterwards. In a propagator model (Bouchaud, Gefen,
Potters and Wyart, "Fluctuations and response in financial markets", Quantitative Finance 2004) both follow from a
single trade's impact fading as t ** -1/2: then a metaorder worked at a steady rate until T has moved the price by
t ** 1/2 at t <= T, and by t ** 1/2 - (t - T) ** 1/2 later.

The kernel is a sum of exponential memories of signed outside flow. Impact paths are nearly linear in its weights, so
each round simulates paths at the weights so far and beside them, draws a plane through those of the last rounds, which
averages out their noise, and goes to where the plane comes nearest to the law. The size of impact stays what the book
and the estimated flow make of the first child.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from emp.core.records import Array
from emp.sim.flow.params import MEMORY
from emp.sim.measure.metaorder import metaorder_paths
from emp.sim.world.market import Market

CHILDREN, EVERY = 32, 60
FASTEST, SLOWEST = 1, 5  # a memory of one event cannot answer anybody, and paths cannot tell of longer ones
RUNS = 300
FIRST_RUNS = 3_000  # of one child alone
ROUNDS = 8
LAST = 4  # rounds that a plane is drawn through
RIDGE = 0.005
TRIALS = 1 + SLOWEST - FASTEST + 1  # at the weights so far, and beside them in each direction
STEPS = ROUNDS * TRIALS


class _Seen(msgspec.Struct):
    """Impact at the weights of a kernel: mean over runs and its standard error, after each child's step."""

    weights: Array
    path: Array
    error: Array


def square_root_path(children: int, steps: int) -> Array:
    """Impact after each step in a propagator model with exponent 1/2, 1 after the first child."""
    t = np.arange(1, steps + 1, dtype=float)
    return np.asarray(np.sqrt(t) - np.sqrt(np.maximum(t - children, 0.0)))


def market_of(p: Array, seed: int, start: int) -> Market:
    """A market that has found its usual state."""
    market = Market(p, seed, start)
    market.run(2**62, 20_000)
    return market


def _see(
    p: Array, weights: Array, start: int, seed: int, children: int = CHILDREN, runs: int = RUNS
) -> _Seen:
    q = p.copy()
    q["outside"] = weights
    paths = metaorder_paths(market_of(q, seed, start), int(p["outside_qty"][0]), EVERY, children, runs)
    cut = np.clip(paths, *np.quantile(paths, (0.05, 0.95), axis=0))
    return _Seen(weights, cut.mean(axis=0), cut.std(axis=0) / np.sqrt(runs))


def steps_of(decay: Array) -> Array:
    """Trial weight of each memory: smaller where it sums up more children."""
    half_life = np.log(0.5) / np.log(np.maximum(decay, 1e-9))
    return np.asarray(0.05 / (1.0 + np.minimum(half_life / EVERY, CHILDREN)))


def plane(seen: list[_Seen], at: Array, unit: Array) -> tuple[Array, Array]:
    """Impact at some weights (steps,), and its slope by each of them (steps, MEMORY), in units of `unit`."""
    x = np.array([(s.weights - at) / unit for s in seen])
    design = np.column_stack([np.ones(len(x)), x])
    ridge = 1e-6 * len(x) * np.eye(1 + MEMORY)
    ridge[0, 0] = 0.0
    beta = np.linalg.solve(design.T @ design + ridge, design.T @ np.array([s.path for s in seen]))
    return beta[0], beta[1:].T


def leaning(p: Array, start: int, seed: int = 1, progress: Callable[[], None] = lambda: None) -> Array:
    """A copy of the flow with the kernel's weights; `progress` is called STEPS times."""
    unit = steps_of(p["decay"][0])
    now = np.zeros(MEMORY)
    first = _see(p, now, start, seed, 1, FIRST_RUNS).path[0]
    law = first * square_root_path(CHILDREN, 2 * CHILDREN)
    seen: list[_Seen] = []
    for k in range(ROUNDS):
        beside = (-1.0) ** k * np.diag(unit)[FASTEST : SLOWEST + 1]
        for j, step in enumerate([np.zeros(MEMORY), *beside]):
            seen.append(_see(p, now + step, start, seed + 100 * k + j))
            progress()
        seen = seen[-LAST * TRIALS :]
        base, slope = plane(seen, now, unit)
        weight = 1.0 / np.mean([s.error**2 for s in seen], axis=0)
        hess = slope.T @ (weight[:, None] * slope)
        hess += RIDGE * np.trace(hess) / MEMORY * np.eye(MEMORY)
        change = np.linalg.solve(hess, slope.T @ (weight * (law - base)))
        now = now + unit * change
    q = p.copy()
    q["outside"] = now
    return q
