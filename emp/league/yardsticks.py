"""The policies that a surrogate is judged over: what trades in it must come to the same as in the simulator.

A plain rule, makers, takers, and agents as a league has them, at one size. Those of the league are the untrained one,
one that stands deeper, and one that crosses on what it sees; none was chosen by what a surrogate makes of it.
"""

import numpy as np

from emp.core.records import Array
from emp.league.seats import (
    FEATURES,
    IMMEDIATE,
    LEANING,
    LEARNED,
    MAKER,
    OUTPUTS,
    TIMED,
    WEIGHTS,
    first_weights,
    seat,
)

SIZE, LIMIT, PARENT = 5, 50, 100
"""Lots of an order, of a position, of an execution."""
EXPLORED = 0.5
"""Deviation of the weights that explore."""
CROSS, STAND, DEPTH = OUTPUTS.index("cross"), OUTPUTS.index("stand"), OUTPUTS.index("depth")
IMBALANCE, POSITION = FEATURES.index("imbalance"), FEATURES.index("position")


def deep_maker() -> Array:
    """Float64 (WEIGHTS,): stands half a usual spread behind the best price."""
    w = first_weights().reshape(len(OUTPUTS), len(FEATURES))
    w[DEPTH, 0] = 0.5
    return w.ravel()


def imbalance_taker() -> Array:
    """Float64 (WEIGHTS,): never stands; crosses where the best quantities lean its way, the less the more it holds."""
    w = np.zeros((len(OUTPUTS), len(FEATURES)))
    w[STAND, 0] = -1.0
    w[CROSS, 0], w[CROSS, IMBALANCE], w[CROSS, POSITION] = -0.5, 1.0, -1.0
    return w.ravel()


def yardsticks() -> dict[str, Array]:
    """SEAT by name, each of shape (1,)."""

    def of(kind: int, weights: Array | None = None) -> Array:
        return seat(kind, weights=weights, size=SIZE, limit=LIMIT, parent=PARENT)

    return {
        "naive maker": of(MAKER),
        "imbalance rule": of(LEANING),
        "time-weighted taker": of(TIMED),
        "immediate taker": of(IMMEDIATE),
        "imbalance taker": of(LEARNED, imbalance_taker()),
        "league agent": of(LEARNED, first_weights()),
        "deep league agent": of(LEARNED, deep_maker()),
    }


def explorer(k: int, rng: np.random.Generator, around: Array | None = None) -> Array:
    """SEAT of the k-th episode to learn from: every kind, and a league's agents with drawn weights.

    `around` are weights (WEIGHTS,) that agents are drawn around instead of the untrained one's.
    """
    kind = (MAKER, LEANING, TIMED, LEARNED, LEARNED, LEARNED, IMMEDIATE)[k % 7]
    base = (first_weights(), deep_maker(), imbalance_taker())[k % 3] if around is None else around
    return seat(
        kind,
        weights=base + rng.normal(0.0, EXPLORED, WEIGHTS),
        size=SIZE,
        limit=LIMIT,
        parent=int(rng.integers(SIZE, 2 * PARENT)),
        side=1 if rng.random() < 0.5 else -1,
    )
