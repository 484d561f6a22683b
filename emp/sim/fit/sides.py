"""Which side the next event is on: log-odds by imbalance and spread, shifted by quantities and memory."""

import numpy as np

from emp.core.records import Array
from emp.sim.fit.kinds import SMOOTHING, Cells
from emp.sim.fit.samples import averages, memory_decay
from emp.sim.flow.observe import HIT
from emp.sim.flow.params import FEATURES, KINDS, MEMORY, SIZES
from emp.sim.flow.qr import MAX_MOVE

HALF_LIVES = 150
"""A recording tells the weight of an average if it holds this many of its half-lives: fifty of its windows."""

SIZE_PRIOR = 4.0  # the shift by a quantity is normal with a deviation of 1/2
LONGEST = 0.1
"""The longest order that is split, as a share of the recording's trades."""


def memory_features(obs: Array, decay: Array, unit_ticks: Array) -> Array:
    """What the queue-reactive flow remembers before each event: shape (n, FEATURES); `unit_ticks` is (n,)."""
    kind = obs["type"] % KINDS
    side = np.where(obs["type"] >= KINDS, 1.0, -1.0)
    mid = (obs["bid"] + obs["ask"]) / 2.0
    known = mid[0] + averages(mid - mid[0], decay)
    known[0] = mid[0]
    moved = np.clip((mid[:, None] - known) / unit_ticks[:, None], -MAX_MOVE, MAX_MOVE)
    pulses = [averages(np.where(kind == k, side, 0.0), decay) for k in range(KINDS)]
    return np.hstack([averages(obs["sign"], decay, obs["sign"] != 0), *pulses, moved])


def known_features(events: int, trades: int) -> Array:
    """Which features (FEATURES,) a recording can tell the weights of, bool: each counts steps of its own clock."""
    steps = np.repeat([trades] + [events] * (FEATURES // MEMORY - 1), MEMORY)
    return np.asarray(np.tile(4.0 ** np.arange(MEMORY), FEATURES // MEMORY) * HALF_LIVES <= steps)


def logistic(x: Array, up: Array, offset: Array, ridge: Array | float) -> Array:
    """Weights of a logistic regression without intercept, by Newton's method; the ridge is on unit-variance x.

    Without an observation they are 0.
    """
    if len(x) == 0:
        return np.zeros(x.shape[1])
    ridge = ridge * np.ones(x.shape[1])
    scale = x.std(axis=0) + 1e-12
    x = x / scale
    w = np.zeros(x.shape[1])
    for _ in range(15):
        prob = 1.0 / (1.0 + np.exp(-np.clip(offset + x @ w, -30, 30)))
        grad = x.T @ (up - prob) - ridge * w
        hess = (x * (prob * (1 - prob))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(hess, grad)
        w = w + step
        if np.abs(step).max() < 1e-3:
            break
    return np.asarray(w / scale)


def fit_sides(p: Array, obs: Array, at: Cells, count: Array, level: Array) -> None:
    """Log-odds of the ask side in each cell, and how quantities and memory shift them.

    The prior of every standardised weight is the unit normal law, but an average over h events says something new
    only once per h events, so its ridge is h. Averages too slow for the recording get no weight at all: fitted to a
    handful of swings, weights feed on themselves in simulation, and those of displacements are biased towards the
    mean, as the coefficient of any slow regressor is in a short sample (Stambaugh, Journal of Financial Economics
    1999): price then comes back by itself, and pays whoever provides liquidity.
    """
    p["side_odds"] = _odds(count)
    p["split_alpha"], p["split_longest"] = 2.0, max(1.0, LONGEST * (obs["sign"] != 0).sum())
    p["decay"] = memory_decay()
    p["unit_ticks"] = float(max(1, np.median(obs["ask"] - obs["bid"])))
    kind, ask = obs["type"] % KINDS, (obs["type"] >= KINDS).astype(float)
    known = known_features(len(obs), int((obs["sign"] != 0).sum()))
    x = memory_features(obs, p["decay"][0], p["unit_ticks"][0] * level)[:, known]
    sizes = size_features(p, obs)
    x = np.hstack([sizes, x])
    offset = p["side_odds"][0][at.imbalance, at.spread, kind]
    of_memory = np.tile(4.0 ** np.arange(MEMORY), FEATURES // MEMORY)[known]
    ridge = np.append(SIZE_PRIOR / np.maximum(sizes.var(axis=0), 1e-6), of_memory)
    for k in range(HIT):
        here = kind == k
        weight = logistic(x[here], ask[here], offset[here], ridge)
        p["size_odds"][0, k], p["side_weight"][0, k, known] = weight[:SIZES], weight[SIZES:]
    gap = np.log(np.maximum(1, obs["gap_ask"]) / np.maximum(1, obs["gap_bid"]))
    hit = kind == HIT
    weight = logistic(np.column_stack([x, gap])[hit], ask[hit], offset[hit], np.append(ridge, 1.0))
    p["size_odds"][0, HIT], p["side_weight"][0, HIT, known] = weight[:SIZES], weight[SIZES:-1]
    p["gap_weight"] = weight[-1]


def size_features(p: Array, obs: Array) -> Array:
    """Bucket of the quantity at the ask less that of the bid's: shape (n, SIZES), of -1, 0 and 1."""
    one, edges = np.eye(SIZES), p["size_edges"][0]
    ask, bid = (one[np.searchsorted(edges, obs[name], side="right")] for name in ("ask_sz", "bid_sz"))
    return np.asarray(ask - bid)


def _odds(count: Array) -> Array:
    """Log-odds of the ask side; the prior of a cell is what its imbalance says whatever the spread."""
    share = (count[1].sum(axis=1) + 1.0) / (count.sum(axis=(0, 2)) + 2.0)
    prior = SMOOTHING / 2 * share[:, None, :]
    return np.asarray(np.log((count[1] + prior) / (count[0] + SMOOTHING / 2 - prior)))
