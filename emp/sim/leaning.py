"""How liquidity leans against flow from outside: a kernel that makes metaorder impact obey the square-root law.

A recording shows no metaorder known to be one, so the kernel is estimated from a law instead. Impact of a metaorder
grows as the square root of its length, with an exponent equal to 1/2 within its error for every liquid stock of the
Tokyo exchange (Sato and Kanazawa, arXiv 2411.13965), and relaxes afterwards. In a propagator model (Bouchaud, Gefen,
Potters and Wyart, "Fluctuations and response in financial markets", Quantitative Finance 2004) both follow from a
single trade's impact fading as t ** -1/2: then a metaorder worked at a steady rate until T has moved the price by
t ** 1/2 at t <= T, and by t ** 1/2 - (t - T) ** 1/2 later.

The kernel is a sum of exponential memories of signed outside flow. Impact paths are nearly linear in its weights, so
they follow by regularised least squares from the paths of markets that differ in one weight, a few times over. The
size of impact stays what the book and the estimated flow make of the first children.
"""

from collections.abc import Callable

import numpy as np

from emp.core.records import Array
from emp.sim.flow.params import MEMORY
from emp.sim.market import Market
from emp.sim.metaorder import metaorder_paths

CHILDREN, EVERY = 32, 60
FIRST = 3  # children whose impact gives the size
FASTEST = 1  # a memory of one event cannot answer anybody
RUNS = 400
ROUNDS = 4
RIDGE = 0.02
STEPS = ROUNDS * (1 + MEMORY - FASTEST)


def square_root_path(children: int, steps: int) -> Array:
    """Impact after each step in a propagator model with exponent 1/2, 1 after the first child."""
    t = np.arange(1, steps + 1, dtype=float)
    return np.asarray(np.sqrt(t) - np.sqrt(np.maximum(t - children, 0.0)))


def _paths(p: Array, start: int, seed: int) -> tuple[Array, Array]:
    market = Market(p, seed, start)
    market.run(2**62, 20_000)
    paths = metaorder_paths(market, int(p["outside_qty"][0]), EVERY, CHILDREN, RUNS)
    cut = np.clip(paths, *np.quantile(paths, (0.05, 0.95), axis=0))
    return cut.mean(axis=0), cut.std(axis=0) / np.sqrt(RUNS)


def steps_of(decay: Array) -> Array:
    """Trial weight of each memory: smaller where it sums up more children."""
    half_life = np.log(0.5) / np.log(np.maximum(decay, 1e-9))
    return np.asarray(0.05 / (1.0 + np.minimum(half_life / EVERY, CHILDREN)))


def leaning(p: Array, start: int, seed: int = 1, progress: Callable[[], None] = lambda: None) -> Array:
    """A copy of the flow with the kernel's weights; `progress` is called STEPS times."""
    q = p.copy()
    q["outside"] = 0.0
    trial = steps_of(p["decay"][0])
    shape = square_root_path(CHILDREN, 2 * CHILDREN)
    size = 0.0
    for _ in range(ROUNDS):
        base, error = _paths(q, start, seed)
        progress()
        if size == 0.0:
            size = float((base[:FIRST] / shape[:FIRST]).mean())
        slope = np.zeros((len(base), MEMORY))
        for k in range(FASTEST, MEMORY):
            other = q.copy()
            other["outside"][0, k] += trial[k]
            slope[:, k] = _paths(other, start, seed)[0] - base
            progress()
        weight = 1.0 / error**2
        hess = slope.T @ (weight[:, None] * slope)
        hess += RIDGE * np.trace(hess) / MEMORY * np.eye(MEMORY)
        change = np.linalg.solve(hess, slope.T @ (weight * (size * shape - base)))
        q["outside"] += change * trial
    return q
