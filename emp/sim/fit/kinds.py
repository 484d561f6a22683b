"""Which kind of event comes next: by imbalance and spread, by what came last, by recent market orders."""

import msgspec
import numpy as np

from emp.core.records import Array
from emp.sim.fit.samples import recent_hits, what_came
from emp.sim.flow.observe import CANCEL_AT, CANCEL_DEEP, HIT
from emp.sim.flow.params import BURSTS, IMBALANCES, KINDS, LASTS, SPREADS

SMOOTHING = 40.0  # events of prior per cell of the type table
ROUNDS = 6


class Cells(msgspec.Struct):
    """The bucket of imbalance and of spread that each event met (n,), and that of imbalance seen in a mirror."""

    imbalance: Array
    mirrored: Array
    spread: Array


def cells(p: Array, obs: Array, level: Array) -> Cells:
    """Choose the buckets of imbalance and find each event's cell; the spread is taken over the level (n,)."""
    imb = (obs["bid_sz"] - obs["ask_sz"]) / np.maximum(1, obs["bid_sz"] + obs["ask_sz"])
    edges = np.quantile(np.abs(imb), np.arange(1, IMBALANCES - 1, 2) / IMBALANCES)
    p["imbalance_edges"] = np.concatenate([-edges[::-1], edges])

    def bucket(x: Array) -> Array:
        return np.searchsorted(p["imbalance_edges"][0], x, side="right")

    spread = np.searchsorted(p["spread_edges"][0], (obs["ask"] - obs["bid"]) / level, side="right")
    return Cells(bucket(imb), bucket(-imb), spread)


def counts(obs: Array, at: Cells) -> Array:
    """Events of each cell and kind, of the bid and of the ask side, each also mirrored: shape (2, cells, kinds)."""
    kind, ask = obs["type"] % KINDS, (obs["type"] >= KINDS).astype(int)
    count = np.zeros((2, IMBALANCES, SPREADS, KINDS))
    np.add.at(count, (ask, at.imbalance, at.spread, kind), 1)
    np.add.at(count, (1 - ask, at.mirrored, at.spread, kind), 1)
    return count


def fit_kinds(p: Array, obs: Array, at: Cells, count: Array) -> None:
    """The probability of each kind in each cell, and how what came before shifts it."""
    total = count.sum(axis=0)
    prior = total.sum(axis=0, keepdims=True) + 1.0
    weight = total + SMOOTHING * prior / prior.sum(axis=2, keepdims=True)
    weight /= weight.sum(axis=2, keepdims=True)
    live = obs["live"] / p["live_ref"][0]
    crowd = _crowding(live, at)
    weight[..., CANCEL_AT] /= crowd
    weight[..., CANCEL_DEEP] /= crowd
    p["kind_weight"] = weight
    rows = weight[at.imbalance, at.spread]
    rows[:, CANCEL_AT] *= live
    rows[:, CANCEL_DEEP] *= live
    _succession(p, rows, obs)


def _crowding(live: Array, at: Cells) -> Array:
    """Mean number of live orders per cell over its overall mean: cancels are proportional to it."""
    total = np.full((IMBALANCES, SPREADS), SMOOTHING)
    sums = total * 1.0
    for i in (at.imbalance, at.mirrored):
        np.add.at(sums, (i, at.spread), live)
        np.add.at(total, (i, at.spread), 1)
    return sums / total


def _succession(p: Array, rows: Array, obs: Array) -> None:
    """How what came before shifts the kinds; `rows` (n, KINDS) is how likely each is but for that.

    What came last and recent market orders both shift market orders, so they are fitted in turn.
    """
    kind, last = obs["type"] % KINDS, what_came(obs)
    hits, hit = recent_hits(obs)[1:], kind[1:] == HIT
    after = np.ones((LASTS, KINDS))
    burst: Array = np.ones(len(hits))
    for _ in range(ROUNDS):
        raised = rows[1:].copy()
        raised[:, HIT] *= burst
        for which in range(LASTS):
            here = last[:-1] == which
            seen = np.bincount(kind[1:][here], minlength=KINDS)
            for _ in range(8):
                shifted = raised[here] * after[which]
                shifted /= shifted.sum(axis=1, keepdims=True)
                after[which] *= (seen + 1.0) / (shifted.sum(axis=0) + 1.0)
        odds = rows[1:] * after[last[:-1]]
        others = odds.sum(axis=1) - odds[:, HIT]
        weights = _bursts(odds[:, HIT], others, hits, hit)
        burst = weights[0] + hits @ weights[1:]
    p["after"], p["burst_usual"], p["burst"] = after, weights[0], weights[1:]


def _bursts(odds: Array, others: Array, hits: Array, hit: Array) -> Array:
    """How the weight of market orders grows with recent ones: its usual factor, and what each average adds.

    Maximum likelihood with factors linear in the averages, by minorisation: each round multiplies a weight by what
    market orders say of it over what all events say (Lange, Hunter and Yang, JCGS 2000), so none turns negative.
    """
    x = np.column_stack([np.ones(len(odds)), hits])
    w = np.ones(1 + BURSTS)
    for _ in range(100):
        boost = x @ w
        asked = (x * (odds / (odds * boost + others))[:, None]).sum(axis=0)
        w *= (x[hit] / boost[hit, None]).sum(axis=0) / asked
    return w
