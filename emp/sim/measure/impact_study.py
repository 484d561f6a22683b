"""Metaorders by LOB-Impact's protocol: how the mid answers orders of 5 to 20 % of the trade, and what it keeps.

A day is a market of its own, 6.5 hours long; its volume and its Parkinson volatility scale its metaorders. From moments
spread over it the market goes on five times, by the same random numbers: alone; with a metaorder that buys and with one
that sells, which the flow sees and answers; and with both again while the market's messages stay those of the run
alone, as a recording's would. A pair is a metaorder and the run alone. What both twins share cancels between them; the
days are what intervals resample, since moments of one day overlap.
"""

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.records import Array
from emp.sim.book.book import BUY, SELL
from emp.sim.measure import impact_law as law
from emp.sim.measure.child_orders import (
    EVENTS,
    EXECUTIONS,
    HIGH,
    LOTS,
    LOW,
    follower,
    replay_metaorder,
    trade_day,
    work_metaorder,
)
from emp.sim.measure.observe_market import observe_market
from emp.sim.world.market import Market

CHILDREN = (2, 4, 8, 16)
SHARES = (0.05, 0.1, 0.2)
PAIRS = 15_000
DAYS = 50
DAY_NS = 23_400 * 10**9
WARM = 20_000
TAPE = 200_000
"""Events from which the median size of a market order and the share of those among events are taken."""

SIDES = (BUY, SELL)
DRIVERS = ("reaction", "replay")
UP_TO = 3.0
"""Lengths of the insertion phase that a metaorder is watched for."""

OBSERVATION = np.dtype(
    [
        ("day", "i8"),
        ("shape", "i8"),
        ("lots", "i8"),  # executed
        ("shortfall", "f8"),  # VWAP over the mid before the first child, less 1, the side's sign
        ("moved", "f8"),  # mid at the last child over that of the market alone, less 1, the side's sign
        ("ticks", "f8"),  # the same in ticks
        ("valid", "?"),
    ],
    align=True,
)


class Shape(NamedTuple):
    """A kind of metaorder: children, the share of the trade they ask for, and events between two of them."""

    children: int
    share: float
    every: int

    @property
    def length(self) -> int:
        """Steps of the insertion phase, the unit of normalised time."""
        return self.children * (self.every + 1)

    @property
    def steps(self) -> int:
        """Steps of a run: whole blocks of `every` events, to UP_TO lengths at least."""
        cooling = -(-(int(UP_TO * self.length) + 1 - self.length) // self.every)
        return self.length + cooling * self.every

    @property
    def longest(self) -> float:
        """Normalised time of the end of a run."""
        return self.steps / self.length


class ByLength(msgspec.Struct):
    """Mean impact of one kind of metaorder on the mid at its last child, against the market alone."""

    children: int
    share: float  # of the trade asked for
    realised: float  # and taken, in lots
    every: int
    ticks: float
    stderr: float  # over days


class Response(msgspec.Struct):
    """What the metaorders came to under one driver; intervals are 95 %, over resampled days."""

    n: int
    dropped: int
    beta: law.Estimate  # of |shortfall|, free intercept: LOB-Impact's exponent
    r2: float
    beta_sigma: law.Estimate  # the same of |shortfall| over the day's volatility
    paired: law.Estimate  # of the mid's move against the market alone over volatility, signs kept
    relaxation: (
        law.Estimate
    )  # share of the impact at the last child left at three lengths, all kinds together
    relaxation_kinds: law.Estimate  # mean over kinds of metaorder of each one's share
    curve: list[
        float
    ]  # master curve: mean combined return of all kinds, at GRID points from 0 to UP_TO lengths
    lengths: list[ByLength]


class ImpactStudy(msgspec.Struct):
    """A flow by LOB-Impact, its answer beside the same orders in its own replay."""

    model: str
    pairs: int
    days: int
    child: int  # lots: the median market order
    executed: float  # share of events that trade
    volume: float  # lots of a day, mean
    sigma: float  # Parkinson volatility of a day, mean
    reaction: Response
    replay: Response


class _Sums:
    """What one driver's runs add up to."""

    def __init__(self, shapes: int, days: int, rows: int) -> None:
        self.rows = np.zeros(rows, OBSERVATION)
        self.peak, self.end = np.zeros((shapes, days)), np.zeros((shapes, days))
        self.curve: Array = np.zeros(law.GRID)
        self.n = 0

    def take(self, day: int, shape: int, kind: Shape, run: "_Run", alone: Array) -> None:
        """Add the two twins of a moment."""
        whole = law.combined(*run.mids) if not law.outlier(list(run.mids)) else np.zeros(kind.steps)
        path = law.in_normal_time(whole, kind.length, kind.longest)
        self.curve += law.in_normal_time(whole, kind.length, UP_TO)
        self.peak[shape, day] += path[law.nearest(kind.longest, 1.0)]
        self.end[shape, day] += path[law.nearest(kind.longest, UP_TO)]
        for k, side in enumerate(SIDES):
            self.rows[self.n] = _observe(day, shape, kind, 1 - 2 * side, run, k, alone)
            self.n += 1


class _Run(NamedTuple):
    mids: Array  # float64[2, steps]: bought and sold
    lots: Array  # int64[2, children]
    px: Array

    @classmethod
    def empty(cls, kind: Shape) -> "_Run":
        return cls(
            np.zeros((2, kind.steps)),
            np.zeros((2, kind.children), np.int64),
            np.zeros((2, kind.children), np.int64),
        )


def _observe(
    day: int, shape: int, kind: Shape, sign: int, run: _Run, k: int, alone: Array
) -> tuple[int, int, int, float, float, float, bool]:
    mids, lots, px = run.mids[k], run.lots[k], run.px[k]
    arrival, last = mids[kind.every - 1], kind.length - 1
    if (lots <= 0).any() or (px <= 0).any() or arrival <= 0 or law.outlier([mids]):
        return day, shape, 0, 0.0, 0.0, 0.0, False
    ticks = sign * (mids[last] - alone[last])
    shortfall = sign * (law.vwap(lots, px) / arrival - 1.0)
    return day, shape, int(lots.sum()), shortfall, ticks / arrival, ticks, True


def _run_pairs(market: Market, kind: Shape, child: int) -> tuple[Array, _Run, _Run]:
    """The mids of a market alone, and the twins with reaction and in replay."""
    alone, answered, replayed = np.zeros(kind.steps), _Run.empty(kind), _Run.empty(kind)
    replay_metaorder(
        market.clone().flow, follower(market), follower(market), kind.every, child, alone, *replayed
    )
    for k, side in enumerate(SIDES):
        work_metaorder(
            market.clone().flow,
            kind.every,
            child,
            side,
            answered.mids[k],
            answered.lots[k],
            answered.px[k],
        )
    return alone, answered, replayed


class _Flow(NamedTuple):
    """What a child is sized and paced by."""

    child: int
    executed: float
    lots_per_event: float


def _observe_flow(params: Array, seed: int, start: int) -> _Flow:
    obs = observe_market(Market(params, seed, start), TAPE, "").obs
    hits = obs["qty"][obs["sign"] != 0]
    if len(hits) == 0:
        raise UsageError("the flow has no market orders: there is nothing to size a metaorder by")
    return _Flow(max(1, int(np.median(hits))), len(hits) / len(obs), float(hits.sum()) / len(obs))


def _shapes(flow: _Flow, children: tuple[int, ...], shares: tuple[float, ...]) -> list[Shape]:
    return [
        Shape(n, share, law.interval_for(share, flow.child, flow.executed, flow.child))
        for n in children
        for share in shares
    ]


def study_impact(
    params: Array,
    model: str,
    *,
    pairs: int = PAIRS,
    days: int = DAYS,
    children: tuple[int, ...] = CHILDREN,
    shares: tuple[float, ...] = SHARES,
    seed: int = 1,
    start_px: int = 58_000,
    progress: Callable[[float], None] = lambda _: None,
) -> ImpactStudy:
    """Measure impact by `pairs` pairs spread over `days` days and all combinations of `children` and `shares`.

    Raises `UsageError` where the flow never trades, or there are too few pairs for the days and combinations.
    """
    flow = _observe_flow(params, seed, start_px)
    shapes = _shapes(flow, children, shares)
    moments = -(-pairs // (2 * days))
    if moments * days < len(shapes):
        raise UsageError(f"{pairs} pairs are too few for {len(shapes)} kinds of metaorder")
    sums = {name: _Sums(len(shapes), days, 2 * moments * days) for name in DRIVERS}
    seen = np.zeros((days, 5))
    for day in range(days):
        market = Market(params, seed + day, start_px)
        market.run(2**62, WARM)
        begin = market.now_ns
        seen[day, LOW] = np.inf
        for k in range(moments):
            at = day * moments + k
            trade_day(market.flow, begin + k * DAY_NS // moments, seen[day])
            shape = at % len(shapes)
            alone, *runs = _run_pairs(market, shapes[shape], flow.child)
            for name, run in zip(DRIVERS, runs, strict=True):
                sums[name].take(day, shape, shapes[shape], run, alone)
            progress(at / (moments * days))
        trade_day(market.flow, begin + DAY_NS, seen[day])
    if (seen[:, LOTS] == 0).any():
        raise UsageError("a day of the flow has no trade: there is nothing to hold its metaorders to")
    sigma = np.array([law.parkinson(*row) for row in seen[:, [HIGH, LOW]]])
    found = {name: _response(one, shapes, flow, seen[:, LOTS], sigma, seed) for name, one in sums.items()}
    executed = float(seen[:, EXECUTIONS].sum() / seen[:, EVENTS].sum())
    return ImpactStudy(
        model,
        2 * moments * days,
        days,
        flow.child,
        executed,
        float(seen[:, LOTS].mean()),
        float(sigma.mean()),
        **found,
    )


def _response(
    sums: _Sums, shapes: list[Shape], flow: _Flow, volume: Array, sigma: Array, seed: int
) -> Response:
    days = len(volume)
    rows = sums.rows[sums.rows["valid"]]
    day = rows["day"]
    x = np.log(rows["lots"] / volume[day])
    unsigned = np.abs(rows["shortfall"])
    some = unsigned > law.LEAST
    xs, y, d = x[some], np.log(unsigned[some]), day[some]
    return Response(
        int(some.sum()),
        len(sums.rows) - int(some.sum()),
        law.slope(xs, y, d, days, seed),
        law.line(xs, y).r2,
        law.slope(xs, y - np.log(sigma[d]), d, days, seed),
        law.direct(x, rows["moved"] / sigma[day], day, days, seed),
        law.relaxation(sums.peak.sum(0, keepdims=True), sums.end.sum(0, keepdims=True), seed),
        law.relaxation(sums.peak, sums.end, seed),
        (sums.curve / len(sums.rows) * 2.0).tolist(),
        [_by_length(rows[rows["shape"] == k], kind, flow) for k, kind in enumerate(shapes)],
    )


def _by_length(rows: Array, kind: Shape, flow: _Flow) -> ByLength:
    days = np.unique(rows["day"])
    daily = np.array([rows["ticks"][rows["day"] == day].mean() for day in days])
    lots = float(rows["lots"].mean()) / kind.children if len(rows) else 0.0
    return ByLength(
        kind.children,
        kind.share,
        lots / (lots + kind.every * flow.lots_per_event),
        kind.every,
        float(daily.mean()) if len(daily) else float("nan"),
        float(daily.std() / np.sqrt(max(1, len(daily) - 1))) if len(daily) else float("nan"),
    )
