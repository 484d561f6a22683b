"""Estimate a flow model from one recording's event stream (OBS rows).

Everything is counted twice, once as it was and once mirrored (bids as asks), so no model has a preferred
direction.
"""

from typing import Any

import numpy as np

from emp.core.errors import DataError
from emp.core.jit import kernel
from emp.core.records import Array
from emp.sim.flow.observe import AT, CANCEL_AT, CANCEL_DEEP, DEEP, HIT, IN
from emp.sim.flow.params import (
    FEATURES,
    FLOW,
    HAWKES,
    IMBALANCES,
    KINDS,
    MEMORY,
    PACE_LOGS,
    PACES,
    QUEUE_REACTIVE,
    SIZES,
    SPREADS,
    TYPES,
    ZI,
)
from emp.sim.flow.qr import MAX_MOVE, take_gap
from emp.sim.flow.tables import LOG_SHIFT_NS
from emp.sim.hawkes_fit import fit_hawkes
from emp.sim.rng import exponential_table
from emp.sim.wander_fit import fit_wander, local_level

MIN_EVENTS = 5_000
SMOOTHING = 40.0  # events of prior per cell of the type table
SPREAD_LEVELS = (0.01, 0.03, 0.08, 0.18, 0.35, 0.55, 0.75, 0.88, 0.95, 0.985, 0.995)
"""Finer in the tails: what brings a very wide spread back decides how often there is one."""
SMOOTH_NS = 30_000_000_000


def calibrate(obs: Array, model: str) -> Array:
    """Return the FLOW record (shape (1,)) of `model` ("zi", "hawkes" or "qr") for a stream of events."""
    if len(obs) < MIN_EVENTS:
        raise DataError(f"calibration needs at least {MIN_EVENTS} events, the recording has {len(obs)}")
    p = np.zeros(1, FLOW)
    p["exp"] = exponential_table()
    p["start_spread"] = int(np.median(obs["ask"] - obs["bid"]))
    p["start_qty"] = max(1, int(np.median(obs["bid_sz"])))
    if model == "zi":
        _zero_intelligence(p, obs)
        return p
    if model == "hawkes":
        _marks(p, obs, np.ones(len(obs)))
        p["model"] = HAWKES
        p["base_hz"], p["jump_hz"], p["decay_hz"], p["branching"] = fit_hawkes(obs["ts"], obs["type"])
        return p
    if model == "qr":
        p["model"] = QUEUE_REACTIVE
        fit_wander(p, obs)
        level = local_level(p, obs)
        _marks(p, obs, level)
        _types(p, obs, level)
        _clock(p, obs)
        return p
    raise DataError(f"unknown flow model {model!r}: choose zi, hawkes or qr")


def quantile_table(x: Array, n: int) -> Array:
    """Midpoint quantiles of a sample; zeros where it is empty."""
    if len(x) == 0:
        return np.zeros(n, np.int64)
    levels = (np.arange(n) + 0.5) / n
    return np.asarray(np.quantile(x, levels, method="inverted_cdf"), np.int64)


def quantiles(x: Array, n: int) -> Array:
    """Midpoint quantiles of a sample of floats; zeros where it is empty."""
    return np.quantile(x, (np.arange(n) + 0.5) / n, method="inverted_cdf") if len(x) else np.zeros(n)


def _edges(x: Array, levels: Array) -> Array:
    """Increasing inner edges of buckets at the given quantiles."""
    n = len(levels) + 1
    edges = np.unique(np.quantile(x, levels, method="inverted_cdf"))
    while len(edges) < n - 1:
        edges = np.append(edges, edges[-1] + 1 if len(edges) else 1)
    return edges


def _zero_intelligence(p: Array, obs: Array) -> None:
    """Match mean rates, mean size and the width of limit prices; everything else stays blind."""
    seconds = (obs["ts"][-1] - obs["ts"][0]) / 1e9
    kind = obs["type"] % KINDS
    limit = (kind == IN) | (kind == AT) | (kind == DEEP)
    p["model"] = ZI
    p["limit_hz"] = limit.sum() / seconds
    p["market_hz"] = (kind == HIT).sum() / seconds
    cancels = ((kind == CANCEL_AT) | (kind == CANCEL_DEEP)).sum() / seconds
    p["cancel_hz"] = cancels / obs["live"].mean()
    spread = obs["ask"] - obs["bid"]
    p["band"] = max(2, int(2 * np.mean((obs["dist"] + spread)[limit])))
    p["max_qty"] = max(1, int(2 * np.median(obs["qty"][limit]) - 1))


def _marks(p: Array, obs: Array, level: Array) -> None:
    """Prices, sizes and ages of orders; distances are taken over the level (n,) of usual distances."""
    kind = obs["type"] % KINDS
    spread = (obs["ask"] - obs["bid"]) / level
    dist = obs["dist"] / level
    p["live_ref"] = obs["live"].mean()
    edges = _edges(spread, np.array(SPREAD_LEVELS))
    p["spread_edges"] = edges
    which = np.searchsorted(edges, spread, side="right")
    inside = kind == IN
    for j in range(SPREADS):
        here = inside & (which == j)
        p["in_ticks"][0, j] = quantiles(-dist[here if here.sum() >= 30 else inside], 256)
    p["deep_ticks"] = quantiles(dist[kind == DEEP], 1024)
    for k in (IN, AT, DEEP):
        p["limit_qty"][0, k] = np.maximum(1, quantile_table(obs["qty"][kind == k], 1024))
    met = np.where(obs["type"] >= KINDS, obs["ask_sz"], obs["bid_sz"])
    size_edges = _edges(np.concatenate([obs["bid_sz"], obs["ask_sz"]]), np.arange(1, SIZES) / SIZES)
    p["size_edges"] = size_edges
    bucket = np.searchsorted(size_edges, met, side="right")
    hit = kind == HIT
    share = obs["qty"] / np.maximum(1, met)
    for j in range(SIZES):
        here = hit & (bucket == j)
        p["hit_share"][0, j] = quantiles(share[here if here.sum() >= 30 else hit], 1024)
    for k, what in enumerate((CANCEL_AT, CANCEL_DEEP)):
        ages = obs["age"][(kind == what) & (obs["age"] > 0)]
        p["age"][0, k] = np.maximum(1, quantile_table(ages, 1024))


def averages(x: Array, decay: Array, when: Array | None = None) -> Array:
    """Exponential averages of a series before each element; with `when`, only those elements enter.

    Shape (n, len(decay)): row i is what is known before element i.
    """
    take = np.ones(len(x), np.bool_) if when is None else when
    return np.asarray(_averages(x.astype(float), decay, take))


@kernel
def _averages(x: Any, decay: Any, take: Any) -> Any:
    out = np.zeros((len(x), len(decay)))
    now = np.zeros(len(decay))
    for i in range(len(x)):
        out[i] = now
        if take[i]:
            for k in range(len(decay)):
                now[k] += (x[i] - now[k]) * (1.0 - decay[k])
    return out


def memory_decay() -> Array:
    """Decays per step for half-lives of 0, 4, 16 ... 4**7 steps."""
    decay = 0.5 ** (1.0 / 2.0 ** np.arange(0, 2 * MEMORY, 2))
    decay[0] = 0.0
    return decay


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


def logistic(x: Array, up: Array, offset: Array, ridge: Array | float) -> Array:
    """Weights of a logistic regression without intercept, by Newton's method; the ridge is on unit-variance x."""
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


def _types(p: Array, obs: Array, level: Array) -> None:
    """Kind given imbalance and spread; side given these and memory.

    The prior of every standardised weight is the unit normal law, but an average over h events says something new
    only once per h events, so its ridge is h: weights of slow averages, fitted to a handful of swings, would
    otherwise feed on themselves in simulation.
    """
    imb = (obs["bid_sz"] - obs["ask_sz"]) / np.maximum(1, obs["bid_sz"] + obs["ask_sz"])
    edges = np.quantile(np.abs(imb), [1 / 7, 3 / 7, 5 / 7])
    p["imbalance_edges"] = np.concatenate([-edges[::-1], edges])
    j = np.searchsorted(p["spread_edges"][0], (obs["ask"] - obs["bid"]) / level, side="right")
    i = np.searchsorted(p["imbalance_edges"][0], imb, side="right")
    mirror = np.searchsorted(p["imbalance_edges"][0], -imb, side="right")
    kind = obs["type"] % KINDS
    ask = obs["type"] >= KINDS
    count = np.zeros((2, IMBALANCES, SPREADS, KINDS))
    np.add.at(count, (ask.astype(int), i, j, kind), 1)
    np.add.at(count, (1 - ask.astype(int), mirror, j, kind), 1)
    total = count.sum(axis=0)
    prior = total.sum(axis=0, keepdims=True) + 1.0
    weight = total + SMOOTHING * prior / prior.sum(axis=2, keepdims=True)
    weight /= weight.sum(axis=2, keepdims=True)
    crowd = _crowding(p, obs, (i, mirror), j)
    weight[..., CANCEL_AT] /= crowd
    weight[..., CANCEL_DEEP] /= crowd
    p["kind_weight"] = weight
    p["after"] = _succession(weight, kind, i, j, obs["live"] / p["live_ref"][0])
    p["side_odds"] = np.log((count[1] + SMOOTHING / 4) / (count[0] + SMOOTHING / 4))
    p["split_alpha"] = 2.0
    p["decay"] = memory_decay()
    p["decays"] = np.tile(memory_decay(), KINDS)
    p["unit_ticks"] = float(max(1, np.median(obs["ask"] - obs["bid"])))
    p["outside_qty"] = max(1.0, float(np.median(obs["qty"][obs["sign"] != 0])))
    x = memory_features(obs, p["decay"][0], p["unit_ticks"][0] * level)
    offset = p["side_odds"][0][i, j, kind]
    ridge = np.tile(4.0 ** np.arange(MEMORY), FEATURES // MEMORY)
    for k in range(HIT):
        here = kind == k
        p["side_weight"][0, k] = logistic(x[here], ask[here].astype(float), offset[here], ridge)
    gap = np.log(np.maximum(1, obs["gap_ask"]) / np.maximum(1, obs["gap_bid"]))
    hit = kind == HIT
    weight = logistic(
        np.column_stack([x[hit], gap[hit]]), ask[hit].astype(float), offset[hit], np.append(ridge, 1.0)
    )
    p["side_weight"][0, HIT], p["gap_weight"] = weight[:-1], weight[-1]


def _succession(weight: Array, kind: Array, i: Array, j: Array, live: Array) -> Array:
    """How much more often each kind follows the last one than imbalance and spread alone say."""
    expected = weight[i, j].copy()
    expected[:, CANCEL_AT] *= live
    expected[:, CANCEL_DEEP] *= live
    expected /= expected.sum(axis=1, keepdims=True)
    out = np.ones((KINDS, KINDS))
    for _ in range(8):
        for last in range(KINDS):
            rows = expected[1:][kind[:-1] == last] * out[last]
            rows /= rows.sum(axis=1, keepdims=True)
            seen = np.bincount(kind[1:][kind[:-1] == last], minlength=KINDS)
            out[last] *= (seen + 1.0) / (rows.sum(axis=0) + 1.0)
    return out


def _crowding(p: Array, obs: Array, buckets: tuple[Array, Array], j: Array) -> Array:
    """Mean number of live orders per cell over its overall mean: cancels are proportional to it."""
    total = np.full((IMBALANCES, SPREADS), SMOOTHING)
    sums = total * 1.0
    for i in buckets:
        np.add.at(sums, (i, j), obs["live"] / p["live_ref"][0])
        np.add.at(total, (i, j), 1)
    return sums / total


@kernel
def _paces(log_gap: Any, decay: Any, start: float) -> Any:
    out = np.zeros((len(log_gap), PACE_LOGS))
    pace = np.full(PACE_LOGS, start)
    for i in range(len(log_gap)):
        out[i] = pace
        take_gap(pace, decay, log_gap[i])
    return out


def _clock(p: Array, obs: Array) -> None:
    """The wandering of the rate, and at the usual rate the gaps that followed each predicted gap."""
    ts = obs["ts"]
    span = (ts[-1] - ts[0]) / 1e9
    around = np.searchsorted(ts, ts + SMOOTH_NS) - np.searchsorted(ts, ts - SMOOTH_NS)
    usual = len(ts) / span * 2 * SMOOTH_NS / 1e9
    gap = np.maximum(1.0, np.diff(ts) * (around[:-1] / usual))
    x = np.log(gap + LOG_SHIFT_NS)
    decay = memory_decay()[:PACE_LOGS]
    p["pace_start"], p["pace_decay"], p["pace_const"] = x.mean(), decay, 0.0
    kinds = np.eye(TYPES)[obs["type"][:-1]]
    design = np.column_stack([_paces(x, decay, x.mean()), kinds[:, :KINDS] + kinds[:, KINDS:]])
    ridge = 1e-6 * len(x) * np.eye(design.shape[1])
    beta = np.linalg.solve(design.T @ design + ridge, design.T @ x)
    p["pace_weight"] = beta[:PACE_LOGS]
    p["pace_type"] = np.tile(beta[PACE_LOGS:], 2)
    mean = design @ beta
    p["pace_edges"] = np.quantile(mean, np.arange(1, PACES) / PACES)
    which = np.searchsorted(p["pace_edges"][0], mean, side="right")
    for k in range(PACES):
        p["gap_ns"][0, k] = np.maximum(1, quantile_table(gap[which == k], 1024))
