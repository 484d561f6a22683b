"""Prices, sizes and ages of orders: what an event of a given kind does to the book."""

import numpy as np

from emp.core.records import Array
from emp.sim.fit.samples import FEWEST, edges_at, quantile_table, quantiles
from emp.sim.flow.observe import AT, CANCEL_AT, CANCEL_DEEP, DEEP, HIT, IN
from emp.sim.flow.params import GAPS, KINDS, SIZES, SPREADS

SPREAD_LEVELS = (0.01, 0.03, 0.08, 0.18, 0.35, 0.55, 0.75, 0.88, 0.95, 0.985, 0.995)
"""Finer in the tails: what brings a very wide spread back decides how often there is one."""

SIZE_LEVELS = (0.1, 0.25, 0.6, 0.75, 0.9)
"""About the middle most quantities are one and the same round lot."""


def fit_marks(p: Array, obs: Array, level: Array) -> None:
    """Prices, sizes and ages of orders; distances are taken over the level (n,) of usual distances."""
    kind = obs["type"] % KINDS
    spread = (obs["ask"] - obs["bid"]) / level
    p["live_ref"] = obs["live"].mean()
    edges = edges_at(spread, np.array(SPREAD_LEVELS))
    p["spread_edges"] = edges
    which = np.searchsorted(edges, spread, side="right")
    inside = kind == IN
    better = -obs["dist"] / level
    for j in range(SPREADS):
        here = inside & (which == j)
        p["in_ticks"][0, j] = quantiles(better[here if here.sum() >= FEWEST else inside], 256)
    deep = kind == DEEP
    _deep_marks(p, obs[deep], level[deep], which[deep])
    for k in (IN, AT, DEEP):
        p["limit_qty"][0, k] = np.maximum(1, quantile_table(obs["qty"][kind == k], 1024))
    p["outside_qty"] = max(1.0, float(np.median(obs["qty"][obs["sign"] != 0])))
    met = np.where(obs["type"] >= KINDS, obs["ask_sz"], obs["bid_sz"])
    size_edges = edges_at(np.concatenate([obs["bid_sz"], obs["ask_sz"]]), np.array(SIZE_LEVELS))
    p["size_edges"] = size_edges
    bucket = np.searchsorted(size_edges, met, side="right")
    hit = kind == HIT
    lots = np.where(obs["qty"] > met, -obs["qty"], np.where(obs["qty"] == met, 0, obs["qty"]))
    for j in range(SIZES):
        here = hit & (bucket == j)
        p["hit_qty"][0, j] = quantile_table(lots[here if here.sum() >= FEWEST else hit], 1024)
    for k, what in enumerate((CANCEL_AT, CANCEL_DEEP)):
        ages = obs["age"][(kind == what) & (obs["age"] > 0)]
        p["age"][0, k] = np.maximum(1, quantile_table(ages, 1024))


def _deep_marks(p: Array, obs: Array, level: Array, which: Array) -> None:
    """Distances of deeper orders, by the spread's bucket and the gap behind the best price.

    Who places them knows where the price usually is: where the best price has just come nearer, alone, they stay
    farther behind it.
    """
    behind = np.where(obs["type"] >= KINDS, obs["gap_ask"], obs["gap_bid"]) / level
    p["deep_gaps"] = edges = edges_at(behind, np.arange(1, GAPS) / GAPS)
    gap = np.searchsorted(edges, behind, side="right")
    p["deep_elasticity"] = elasticity = _elasticity(obs["dist"], level, which)
    away = obs["dist"] / level**elasticity
    for j in range(SPREADS):
        wide = which == j if (which == j).sum() >= FEWEST else np.full(len(obs), True)
        for k in range(GAPS):
            here = wide & (gap == k)
            p["deep_ticks"][0, j, k] = quantiles(away[here if here.sum() >= FEWEST else wide], 256)


def _elasticity(dist: Array, level: Array, which: Array) -> float:
    """How far a distance follows the level in buckets of the spread over the level (`which`).

    0 is not at all, 1 in proportion: the slope of the logarithms within buckets.
    """
    x, y = np.log(level), np.log(np.maximum(1, dist))
    within = np.eye(SPREADS)[which]
    seen = np.maximum(1, within.sum(axis=0))
    x, y = x - within @ (within.T @ x / seen), y - within @ (within.T @ y / seen)
    spread = float(x @ x)
    return float(np.clip(x @ y / spread, 0.0, 1.0)) if spread > 0 else 0.0
