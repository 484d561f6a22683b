"""Capacity: what a strategy earns as its size grows from a sliver of the first level to several times it.

The strategy follows a fixed signal, the imbalance of the first level, with one size per run; size is given as
a share of a low percentile of the first level's quantity. It runs inside reactive flow, so what it takes is
gone and what it posts is in the queue: only there does a capacity curve mean anything. Runs of different
sizes share their seeds.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from emp.core.borrow import borrowed
from emp.core.ids import generator
from emp.core.jit import kernel
from emp.core.records import Array
from emp.sim.book import BEST, BUY, IOC, LO, MARKET, MASK, POST_ONLY, SELL, level_qty
from emp.sim.desk import FREE, RESTING, SLOTS, deliver, desk_cancel, desk_new, new_desk, run_desk, worth
from emp.sim.flow.qr import imbalance
from emp.sim.latency import FEED, LatencyConfig, draw_latency, latency_record
from emp.sim.market import Market
from emp.sim.rng import seeded

HARD_CAP = 0.02
"""Share of the first level's depth percentile that the engine never exceeds (roadmap G.3)."""

SHARES = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
PERCENTILE = 25
SIGNAL = 0.5  # |imbalance| above which the strategy wants a position
LOSS = 0.8  # capacity ends where the Sharpe ratio has fallen to this share of its best, or pnl_low to 0


class Point(msgspec.Struct):
    """One size; per-lot money in ticks, intervals 90 %."""

    share: float  # of the depth percentile
    size: int  # lots per order
    within_cap: bool
    pnl_per_lot: float
    pnl_low: float
    pnl_high: float
    sharpe: float  # mean over standard deviation of worth changes per run stretch
    turnover: float  # lots per hour
    fill_rate: float  # of lots posted
    impact: float  # mid move against us from before our crossing orders to IMPACT_EVENTS later, ticks


class Curve(msgspec.Struct):
    """The capacity of one strategy in one market."""

    depth_percentile: int  # which
    depth_lots: float  # its value
    hard_cap_lots: int
    points: list[Point]
    capacity_lots: int  # largest size that surely earns with a Sharpe of LOSS of the best; 0 where none


@kernel
def depth_samples(b: Any, fills: Any, s: Any, p: Any, r: Any, d: Any, m: Any, r2: Any, out: Any) -> None:
    """First-level quantity of both sides, averaged, every 20 events of an undisturbed market."""
    b, fills, r, r2 = borrowed(b), borrowed(fills), borrowed(r), borrowed(r2)
    for i in range(len(out)):
        run_desk(b, fills, s, p, r, d, m, r2, 2**62, 20)
        out[i] = 0
        for side in range(2):
            px = int(b[BEST + side])
            if px != b[LO] and px != b[LO] + b[MASK]:
                out[i] += 0.5 * level_qty(b, side, px)


@kernel
def follow_signal(
    b: Any,
    fills: Any,
    s: Any,
    p: Any,
    r: Any,
    d: Any,
    m: Any,
    r2: Any,
    decisions: int,
    every: int,
    size: int,
    passive: bool,
    marks: Any,
    slip: Any,
) -> None:
    """Hold +-size in the direction of the imbalance; cross, or post at the best price.

    `slip` gathers (sum of signed mid moves over the decision after a crossing order, number of them).
    """
    b, fills, r, r2 = borrowed(b), borrowed(fills), borrowed(r), borrowed(r2)
    for i in range(decisions):
        run_desk(b, fills, s, p, r, d, m, r2, 2**62, every)
        marks[i] = worth(b, d)
        bid, ask = int(b[BEST]), int(b[BEST + 1])
        if bid == b[LO] or ask == b[LO] + b[MASK]:
            continue
        x = imbalance(b)
        mid = 0.5 * (bid + ask)
        act = s.now + draw_latency(m, FEED, s.load, r2) + int(m.compute_ns)
        run_desk(b, fills, s, p, r, d, m, r2, act, 1 << 30)
        deliver(d, act)
        want = size if x > SIGNAL else (-size if x < -SIGNAL else d.seen_position)
        gap = want - d.seen_position
        busy = False
        for slot in range(SLOTS):
            o = d.orders[slot]
            if o.state == FREE:
                continue
            stale = gap == 0 or (o.side == BUY) != (gap > 0) or o.px != (bid if o.side == BUY else ask)
            if o.state == RESTING and stale:
                desk_cancel(d, m, r2, act, s.load, slot)
            busy = True
        if gap == 0 or busy:
            continue
        side = BUY if gap > 0 else SELL
        if passive:
            desk_new(d, m, r2, act, s.load, side, bid if side == BUY else ask, abs(gap), POST_ONLY)
            continue
        before = d.taker_lots
        desk_new(d, m, r2, act, s.load, side, ask if side == BUY else bid, abs(gap), IOC)
        run_desk(b, fills, s, p, r, d, m, r2, 2**62, every)
        if d.taker_lots > before:
            slip[0] += (0.5 * (b[BEST] + b[BEST + 1]) - mid) * (1 - 2 * side)
            slip[1] += 1
    _close_out(b, fills, s, p, r, d, m, r2, marks)


@kernel
def _close_out(b: Any, fills: Any, s: Any, p: Any, r: Any, d: Any, m: Any, r2: Any, marks: Any) -> None:
    """Withdraw everything and give the position back to the market, so that the last mark is money."""
    for _ in range(50):
        deliver(d, s.now)
        idle = True
        for slot in range(SLOTS):
            if d.orders[slot].state == RESTING:
                desk_cancel(d, m, r2, s.now, s.load, slot)
            idle = idle and d.orders[slot].state == FREE
        if idle and d.seen_position == 0:
            break
        if idle:
            side = SELL if d.seen_position > 0 else BUY
            desk_new(d, m, r2, s.now, s.load, side, 0, abs(d.seen_position), MARKET)
        run_desk(b, fills, s, p, r, d, m, r2, 2**62, 20)
    marks[-1] = worth(b, d)


def capacity_curve(
    params: Array,
    start_px: int,
    *,
    passive: bool = True,
    maker_fee: float = 0.0,
    taker_fee: float = 0.0,
    shares: tuple[float, ...] = SHARES,
    runs: int = 12,
    decisions: int = 4_000,
    every: int = 10,
    latency: LatencyConfig | None = None,
    seed: int = 1,
    progress: Callable[[int], None] = lambda _: None,
) -> Curve:
    """Run the strategy at every size on the same seeds; fees in ticks per lot."""
    record = latency_record(latency or LatencyConfig())
    depth = _depth(params, start_px, record, seed)
    level = float(np.percentile(depth, PERCENTILE))
    points = []
    for share in shares:
        size = max(1, round(share * level))
        point = _point(
            params, start_px, record, size, passive, (maker_fee, taker_fee), runs, decisions, every, seed
        )
        point.share = share
        point.within_cap = size <= max(1, HARD_CAP * level)
        points.append(point)
        progress(len(points))
    best = max((p.sharpe for p in points), default=0.0)
    good = [p.size for p in points if p.pnl_low > 0 and p.sharpe >= LOSS * best]
    cap = max(1, int(HARD_CAP * level))
    return Curve(PERCENTILE, level, cap, points, max(good, default=0))


def _depth(params: Array, start_px: int, record: Array, seed: int) -> Array:
    market = Market(params, seed, start_px)
    market.run(2**62, 20_000)
    out = np.zeros(5_000)
    args = (market.book, market.fills, market.state[0], params[0], market.rng)
    depth_samples(*args, new_desk(0.0, 0.0)[0], record[0], seeded(seed, "depth"), out)
    return out


def _point(
    params: Array,
    start_px: int,
    record: Array,
    size: int,
    passive: bool,
    fees: tuple[float, float],
    runs: int,
    decisions: int,
    every: int,
    seed: int,
) -> Point:
    per_lot, changes, lots, hours, posted, made = [], [], 0, 0.0, 0, 0
    slip = np.zeros(2)
    for k in range(runs):
        market = Market(params, seed + 1000 + k, start_px)
        market.run(2**62, 10_000)
        began = market.now_ns
        d = new_desk(*fees)
        marks = np.zeros(decisions)
        args = (market.book, market.fills, market.state[0], params[0], market.rng, d[0], record[0])
        follow_signal(*args, seeded(seed + k, "capacity"), decisions, every, size, passive, marks, slip)
        traded = int(d["maker_lots"][0] + d["taker_lots"][0])
        per_lot.append(marks[-1] / max(1, traded))
        changes.append(np.diff(marks[:: max(1, decisions // 20)]))
        lots += traded
        hours += (market.now_ns - began) / 3.6e12
        posted += int(d["posted_lots"][0])
        made += int(d["maker_lots"][0])
    rng = generator(seed, "capacity", size)
    values = np.array(per_lot)
    means = [values[rng.integers(0, runs, runs)].mean() for _ in range(500)]
    low, high = np.quantile(means, (0.05, 0.95))
    moves = np.concatenate(changes)
    sharpe = float(moves.mean() / moves.std()) if moves.std() > 0 else 0.0
    return Point(
        0.0,
        size,
        False,
        float(values.mean()),
        float(low),
        float(high),
        sharpe,
        lots / max(hours, 1e-9),
        made / posted if posted else 0.0,
        float(slip[0] / slip[1]) if slip[1] else 0.0,
    )
