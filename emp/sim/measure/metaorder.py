"""Impact of a metaorder: trade Q in slices and look at the path of the mid.

Every run is a pair: two clones of one market with the same random numbers, one is bought in, the other sold in.
Half the difference of their mids is the impact; what the market would have done anyway drops out.
"""

from typing import Any

import msgspec
import numpy as np

from emp.core.ids import generator
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, LIVE, MARKET, SELL, clear_trade
from emp.sim.book.matching import submit
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.world.desk import OWNER
from emp.sim.world.market import Market, flow_event


class Impact(msgspec.Struct):
    """Impact by length of the metaorder, and its path."""

    slices: list[int]  # child orders of each metaorder
    impact: list[float]  # mean mid move at the last child, ticks
    stderr: list[float]
    exponent: float  # of impact ~ Q ** exponent
    low: float  # 90 % bootstrap interval of the exponent
    high: float
    path: list[float]  # mean mid move through the longest metaorder and as long again after, 20 points
    reversion: float  # share of the peak given back at the end of the path


@kernel
def _mid(b: Any) -> float:
    return 0.5 * (b[BEST] + b[BEST + 1])


@kernel
def slice_path(flow: Any, children: int, every: int, qty: int, side: int, out: Any) -> None:
    """Send `children` market orders, one every `every` events, then only watch; `out` gets the mid per step."""
    flow = borrowed(flow)
    b, s, p = flow.book, flow.state[0], flow.params[0]
    for i in range(len(out)):
        if i < children:
            clear_trade(b)
            if b[LIVE] > 0 and qty > 0:
                submit(b, flow.fills, side, 0, qty, MARKET, OWNER, 0)
                if p.model == QUEUE_REACTIVE:
                    remember_ours(s, p, side, qty)
        for _ in range(every):
            flow_event(flow)
        out[i] = _mid(b)


def metaorder_impact(
    market: Market,
    qty: int,
    every: int = 60,
    slices: tuple[int, ...] = (2, 4, 8, 16, 32),
    runs: int = 300,
    seed: int = 1,
) -> Impact:
    """Measure impact against length; `qty` lots per child, one child every `every` events.

    The path of the longest metaorder up to its n-th child is the path of one of n children: the market cannot
    know how many more are to come. So one pair of runs gives every length, and lengths share their noise.
    """
    longest = max(slices)
    steps = 2 * longest
    paths = metaorder_paths(market, qty, every, longest, runs)
    moves = paths[:, np.array(slices) - 1]
    mean = trimmed(moves)
    rng = generator(seed, "metaorder")
    again = np.array([trimmed(moves[rng.integers(0, runs, runs)]) for _ in range(400)])
    error = again.std(axis=0)
    exponent = impact_exponent(slices, mean, error)
    resampled = [impact_exponent(slices, row, error) for row in again]
    known = [x for x in resampled if np.isfinite(x)] or [float("nan")]
    low, high = np.quantile(known, (0.05, 0.95))
    path = trimmed(paths)
    peak = path[longest - 1]
    return Impact(
        list(slices),
        mean.tolist(),
        error.tolist(),
        exponent,
        float(low),
        float(high),
        path[np.linspace(0, steps - 1, 20).astype(int)].tolist(),
        float(1 - path[-5:].mean() / peak) if peak > 0 else float("nan"),
    )


def metaorder_paths(market: Market, qty: int, every: int, children: int, runs: int) -> Array:
    """Half the difference of the mids of two twins, one bought in and one sold in: shape (runs, 2 * children)."""
    steps = 2 * children
    paths = np.zeros((runs, steps))
    base = market.clone()
    for k in range(runs):
        base.run(2**62, 2_000)
        bought = _path(base, children, every, qty, BUY, steps)
        paths[k] = 0.5 * (bought - _path(base, children, every, qty, SELL, steps))
    return paths


def trimmed(x: Array, share: float = 0.05) -> Array:
    """Mean over rows without the lowest and highest `share`: a paired market now and then parts ways by a lot."""
    cut = int(share * len(x))
    return np.asarray(np.sort(x, axis=0)[cut : len(x) - cut].mean(axis=0))


def _path(market: Market, children: int, every: int, qty: int, side: int, steps: int) -> Array:
    out = np.zeros(steps)
    slice_path(market.clone().flow, children, every, qty, side, out)
    return out


def impact_exponent(slices: tuple[int, ...], impact: Array, error: Array) -> float:
    """Exponent of impact ~ Q ** exponent, each length weighted by how well its impact is known."""
    good = impact > 0
    if good.sum() < 3:
        return float("nan")
    x, y = np.log(np.array(slices)[good]), np.log(impact[good])
    weight = impact[good] / np.maximum(error[good], 1e-9)
    return float(np.polyfit(x, y, 1, w=weight)[0])
