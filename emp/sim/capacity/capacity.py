"""Capacity: what a trade earns as its size grows from a sliver of the first level to several times it.

What is measured is how money, Sharpe ratio, fills and impact change with size, so the strategy needs an edge
that is known and does not change with size. It is told the side of somebody else's metaorder as the first of
its equal market orders leaves, trades in its direction until the last one has, and then gives the position
back. Nobody has such a signal; the edge at the smallest size is reported with the curve, and says nothing
about what can be earned. Everything is paid for: spread, fees, latency, and the strategy's own impact, since
it runs inside reactive flow.

Every trade of every size, buying and selling, starts from a clone of the same market with the same random
numbers. Half the sum of both sides has no drift of the market in it, and differences between sizes are those
of size.
"""

from collections.abc import Callable, Iterator
from functools import partial

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.ids import generator
from emp.core.numba.rng import seeded
from emp.core.records import Array
from emp.core.spread import ALONE, Workers, spread
from emp.sim.book.book import BUY, SELL
from emp.sim.capacity.trade import FIELDS, depth_samples, play_trade, two_sided
from emp.sim.flow.params import ZI
from emp.sim.world.desk import World, new_desk
from emp.sim.world.latency import LatencyConfig, latency_record
from emp.sim.world.market import Market

HARD_CAP = 0.02
"""Share of the median first level that the engine never exceeds (roadmap G.3, `risk.depth_share`)."""

SHARES = (0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
PERCENTILE = 50
"""Of the first level's quantity: the median, as in the engine's decision rule."""

SHARPE_LOSS = (
    0.8  # capacity ends where the Sharpe ratio has fallen to this share of that of the smallest size
)
CHILDREN = (5, 10, 20, 40, 80, 160, 320)
"""Lengths of the metaorder; the shortest one that pays for the smallest size's costs is taken."""

BETWEEN = 2_000  # events of the undisturbed market between trades
BLOCK = 10  # trades that a resample keeps together
LEVEL = 0.95
RESAMPLES = 1_000
GRAIN = 8  # parts of a lot in the smallest size, at least
PILOT = 60  # trades that choose the length of the metaorder


class Known(msgspec.Struct):
    """A value and its interval."""

    value: float
    low: float
    high: float


class Point(msgspec.Struct):
    """One size; money in ticks, after fees."""

    share: float  # of the depth percentile
    lots: float
    tradable: bool  # at least one lot
    within_cap: bool
    pnl_per_lot: Known  # per lot traded
    profit: Known  # per trade, ticks times lots
    sharpe: Known  # per trade
    turnover: Known  # lots per hour of trading
    fill_rate: Known  # share of the size that the first order filled, before the next decision
    reached: Known  # share of the size held when the metaorder ended
    impact: Known  # own impact at the end of the metaorder: mid move less that without us, ticks
    impact_first: Known  # the same right after the first order


class Curve(msgspec.Struct):
    """The capacity of one signal in one market."""

    depth_percentile: int
    depth_lots: float
    hard_cap_lots: float
    trades: int  # per size, buying and selling
    effective_trades: float  # of them, as many independent ones would give the same interval
    metaorder: int  # market orders of the median size, of which the signal knows the side
    edge: Known  # mid move from the first to behind the last one, without us, ticks
    points: list[Point]
    capacity_sharpe: Known  # share where the Sharpe ratio has fallen to SHARPE_LOSS; inf: not in range
    capacity_profit: Known  # share where more size earns no more

    @property
    def capacity_share(self) -> float:
        """The smaller of the two."""
        return min(self.capacity_sharpe.value, self.capacity_profit.value)


class Setting(msgspec.Struct):
    """What stays the same for all sizes."""

    params: Array  # FLOW, in units of 1 / unit lots
    unit: int
    latency: Array
    fees: tuple[float, float]
    passive: bool
    every: int
    start_px: int
    seed: int

    @property
    def child(self) -> int:
        """Units of one market order of the metaorder: the median of the flow's own."""
        p = self.params
        if p["model"][0] == ZI:
            return max(1, int(p["max_qty"][0]) // 2)
        return max(1, int(p["outside_qty"][0]))


def capacity_curve(
    params: Array,
    start_px: int,
    *,
    passive: bool = False,
    fees: tuple[float, float] = (0.0, 0.0),
    shares: tuple[float, ...] = SHARES,
    trades: int = 600,
    every: int = 25,
    seed: int = 1,
    workers: Workers = ALONE,
    progress: Callable[[float], None] = lambda _: None,
) -> Curve:
    """Trade at every size from the same states of the market; `fees` are the maker's and the taker's, in ticks per lot.

    `trades` states, each bought and sold in; the metaorder and the strategy act every `every` events. The curve is the
    same whoever plays: a trade knows its state and its seed.
    """
    if trades < 2 * BLOCK:
        raise UsageError(f"capacity needs at least {2 * BLOCK} trades per size, was {trades}")
    record = latency_record(LatencyConfig())
    depth = _depth(params, start_px, record, seed)
    level = float(np.percentile(depth, PERCENTILE))
    unit = max(1, int(np.ceil(GRAIN / (min(shares) * level))))
    setting = Setting(scaled(params, unit), unit, record, fees, passive, every, start_px, seed)
    sizes = np.array([0, *(max(1, round(s * level * unit)) for s in shares)])
    children = _length(setting, sizes[:2])
    took = _trades(setting, sizes, children, trades, workers, progress)
    return _curve(took, sizes / unit, shares, level, children)


def scaled(params: Array, unit: int) -> Array:
    """The same flow with lots divided into `unit` parts, so that a sliver of a thin level is a whole number."""
    out = params.copy()
    for name in ("limit_qty", "hit_qty", "size_edges", "start_qty", "max_qty", "outside_qty"):
        out[name] *= unit
    return out


def _market(setting: Setting, seed: int) -> Market:
    market = Market(setting.params, seed, setting.start_px)
    market.run(2**62, 10_000)
    return market


def _depth(params: Array, start_px: int, record: Array, seed: int) -> Array:
    market = Market(params, seed, start_px)
    market.run(2**62, 20_000)
    out = np.zeros(5_000)
    depth_samples(World(market.flow, new_desk(0.0, 0.0), record, seeded(seed, "depth")), out)
    return out


def _length(setting: Setting, sizes: Array) -> int:
    """The shortest metaorder whose side pays for the smallest size's costs; the longest where none does."""
    for children in CHILDREN:
        took = _trades(setting, sizes, children, PILOT, ALONE)
        if _known(took[:, 1, :, FIELDS.index("pnl")].mean(axis=1), 1).low > 0:
            return children
    return CHILDREN[-1]


def _trades(
    setting: Setting,
    sizes: Array,
    children: int,
    trades: int,
    workers: Workers,
    progress: Callable[[float], None] = lambda _: None,
) -> Array:
    """Float64 (trades, sizes, 2 sides, FIELDS): every size from the same states."""
    out = np.zeros((trades, len(sizes), 2, len(FIELDS)))
    play = partial(_trade, setting=setting, sizes=sizes, children=children)
    played = spread(play, _states(setting, trades), workers, most=trades)
    for done, ((k, _), took) in enumerate(played, 1):
        out[k] = took
        progress(done / trades)
    for name in ("pnl", "lots"):
        out[..., FIELDS.index(name)] /= setting.unit
    return out


def _states(setting: Setting, trades: int) -> Iterator[tuple[int, Market]]:
    """States of the undisturbed market in which trades begin, with their numbers."""
    base = _market(setting, setting.seed)
    for k in range(trades):
        base.run(2**62, BETWEEN)
        while not two_sided(base.book):
            base.run(2**62, 10)
        yield k, base.clone()


def _trade(state: tuple[int, Market], setting: Setting, sizes: Array, children: int) -> Array:
    """Float64 (sizes, 2 sides, FIELDS): every size from one state, with the same random numbers."""
    k, base = state
    out = np.zeros((len(sizes), 2, len(FIELDS)))
    for j, size in enumerate(sizes):
        for side in (BUY, SELL):
            desk, rng = new_desk(*setting.fees), seeded(setting.seed + k, "capacity")
            play_trade(
                World(base.clone().flow, desk, setting.latency, rng),
                side,
                int(size),
                setting.passive,
                children,
                setting.child,
                setting.every,
                out[j, side],
            )
    return out


def _resamples(n: int) -> Array:
    """Indices (RESAMPLES, n) of a block bootstrap."""
    rng = generator(1, "capacity", n)
    blocks = max(1, n // BLOCK)
    first = rng.integers(0, max(1, n - BLOCK + 1), (RESAMPLES, blocks))
    return np.asarray((first[:, :, None] + np.arange(min(BLOCK, n))).reshape(RESAMPLES, -1))


def _interval(value: float, drawn: Array) -> Known:
    low, high = np.nanquantile(drawn, (0.5 - LEVEL / 2, 0.5 + LEVEL / 2), method="nearest")
    return Known(float(value), float(low), float(high))


def _known(x: Array, over: Array | float) -> Known:
    """Ratio of the sums of two columns, one row a trade (both sides together)."""
    below = np.broadcast_to(np.asarray(over, float), x.shape)
    pick = _resamples(len(x))
    drawn = x[pick].sum(axis=1) / np.maximum(1e-12, below[pick].sum(axis=1))
    return _interval(x.sum() / max(1e-12, below.sum()), drawn)


def _sharpes(pnl: Array, pick: Array) -> Array:
    """Sharpe ratios per trade (RESAMPLES, sizes) of pnl (trades, sizes, 2)."""
    first, second = pnl.mean(axis=2), (pnl**2).mean(axis=2)
    mean = np.stack([first[rows].mean(axis=0) for rows in pick])
    square = np.stack([second[rows].mean(axis=0) for rows in pick])
    return np.asarray(mean / np.sqrt(np.maximum(1e-24, square - mean**2)))


def _curve(took: Array, lots: Array, shares: tuple[float, ...], level: float, children: int) -> Curve:
    field = {name: took[..., i] for i, name in enumerate(FIELDS)}
    pnl, trades = field["pnl"][:, 1:], len(took)
    pick = _resamples(trades)
    sharpe = _sharpes(pnl, np.arange(trades)[None])[0]
    drawn = _sharpes(pnl, pick)
    sums = field["pnl"].sum(axis=2)
    points = []
    for j in range(1, took.shape[1]):
        both = {name: values[:, j].sum(axis=1) for name, values in field.items()}
        none = {name: values[:, 0].sum(axis=1) for name, values in field.items()}
        points.append(
            Point(
                float(lots[j] / level),
                float(lots[j]),
                bool(lots[j] >= 1),
                shares[j - 1] <= HARD_CAP,
                _known(both["pnl"], both["lots"]),
                _known(both["pnl"], 2.0),
                _interval(sharpe[j - 1], drawn[:, j - 1]),
                _known(both["lots"], both["hours"]),
                _known(both["at_once"], 2.0),
                _known(both["reached"], 2.0),
                _known(both["move"] - none["move"], 2.0),
                _known(both["first"] - none["first"], 2.0),
            )
        )
    share = lots[1:] / level
    means = np.stack([sums[rows, 1:].mean(axis=0) for rows in pick])
    return Curve(
        PERCENTILE,
        level,
        HARD_CAP * level,
        2 * trades,
        _effective(sums[:, 1]),
        children,
        _known(field["move"][:, 0].sum(axis=1), 2.0),
        points,
        _interval(_falls(share, sharpe), np.array([_falls(share, row) for row in drawn])),
        _interval(_peak(share, sums[:, 1:].mean(axis=0)), np.array([_peak(share, row) for row in means])),
    )


def _effective(x: Array) -> float:
    """Trades (of both sides) that would give the same interval if they were independent."""
    blocks = len(x) // BLOCK
    means = x[: blocks * BLOCK].reshape(blocks, BLOCK).mean(axis=1)
    return float(min(2.0, x.var() / max(1e-24, BLOCK * means.var())) * len(x))


def _falls(share: Array, sharpe: Array) -> float:
    """Share at which the Sharpe ratio has fallen to SHARPE_LOSS of the smallest size's, log-interpolated."""
    if sharpe[0] <= 0:
        return 0.0
    want = SHARPE_LOSS * sharpe[0]
    for j in range(1, len(share)):
        if sharpe[j] < want:
            part = (sharpe[j - 1] - want) / (sharpe[j - 1] - sharpe[j])
            return float(np.exp(np.log(share[j - 1]) + part * np.log(share[j] / share[j - 1])))
    return float("inf")


def _peak(share: Array, profit: Array) -> float:
    """Share of the largest profit: beyond it the next lot loses. Nothing is earned: 0; no peak in range: inf."""
    best = int(np.argmax(profit))
    if profit[best] <= 0:
        return 0.0
    return float(share[best]) if best < len(share) - 1 else float("inf")
