"""Models of the chance that an order at the touch is filled, held against what came: by Brier score and calibration.

Probes are those of `probe.py`: a virtual lot at the end of the best queue, watched for WAIT events, in a simulated
market, where the queue is known, or in an order-by-order recording; from the moment it joins, or from `rest` events
later, if it is then unfilled and still at the touch. Every model sees the same of a probe (lots ahead, the other side's
touch, recent flow into its side) and says how likely it is filled within so many events; of one that has rested, some
see only how many are ahead by a model of the queue (`queue_models`). What has to be fitted is fitted on the first part
of the probes, all are scored on the later part.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import UsageError
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import EVENT, Array
from emp.decision.estimates import SPAN, new_estimates, see_trade, update_estimates
from emp.decision.rule import fill_probability, wait_for
from emp.sim.book.book import BEST, STAMP, clear_trade, level_qty, new_fills
from emp.sim.book.view import VISIBLE, mark_visible, write_event
from emp.sim.flow.state import TRADE
from emp.sim.measure.probe import PASSES, PAUSE, WAIT, ahead_of, both_sides, reached
from emp.sim.measure.queue_models import NAMES, follow_queue
from emp.sim.measure.tenths import Tenth, by_tenth
from emp.sim.tape.replay import Plan, replay_message
from emp.sim.world.market import Market, flow_event

HORIZONS = (10, 25, 50, 100, 200)  # events, over which the Brier score is averaged

AHEAD, OTHER, FLOW, AFTER, SAID = range(5)
QUEUES = SAID + len(HORIZONS)
"""Columns of a probe: lots ahead, lots at the other touch, lots an event that traded into its side lately, after how
many events it was filled (0: not within WAIT), from SAID on how likely the engine held that then, by horizon, and from
QUEUES on the lots ahead by each model of the queue."""

COLUMNS = QUEUES + len(NAMES)

KEEP = 1.0 - 1.0 / 256.0  # of the average flow, per event
TRAINED = 0.6
BLOCKS = 20
TOLD = 50  # events, within which forecasts are held against fills tenth by tenth
FEWEST = 200
RIDGE = 1e-3

PAUSING, RESTING, WATCHING = 0, 1, 2

WATCH = np.dtype(
    [
        ("phase", "i8"),
        ("since", "i8"),  # events in this phase
        ("side", "i8"),
        ("px", "i8"),
        ("stamp", "i8"),  # orders with a later one are behind
        ("before", "i8"),  # lots at the price, and of them ahead, before the message at hand
        ("ahead", "i8"),
        ("queue", "f8", (len(NAMES),)),  # ahead, by each model of the queue
        ("rate", "f8", (2,)),
        ("ts", "i8"),  # of the message before
        ("gap_ns", "f8"),  # mean time between messages
        ("heard", "f8"),  # messages
    ],
    align=True,
)
"""A virtual lot."""


class Engine(NamedTuple):
    """What the engine would know of fills here: it sees what is shown, message by message."""

    estimates: Array  # ESTIMATES[1]
    shown: Array  # EVENT[2]: the last event, and the one before it


def new_engine() -> Engine:
    """One that has seen nothing."""
    return Engine(new_estimates(), np.zeros(2, EVENT))


@kernel
def see(engine: Engine, b: Any, w: Any, ts: int) -> None:
    """Let the engine see the book after a message."""
    e, now = engine.estimates[0], engine.shown[0]
    w.heard += 1.0
    if w.ts > 0:
        w.gap_ns += (ts - w.ts - w.gap_ns) / min(w.heard, float(SPAN))
    w.ts = ts
    write_event(b, now, ts, 0, 0)
    mark_visible(now, engine.shown[1])
    if now.flags & VISIBLE and both_sides(b):
        update_estimates(e, now)
    else:
        see_trade(e, now)
    engine.shown[1] = engine.shown[0]


@kernel
def look(b: Any, w: Any) -> None:
    """Note what stands at the lot's price, before a message."""
    if w.phase != PAUSING:
        w.before = level_qty(b, w.side, w.px)
        w.ahead = ahead_of(b, w.side, w.px, w.stamp)


@kernel
def hear(
    engine: Engine, b: Any, w: Any, kind: int, side: int, px: int, qty: int, n: int, rest: int, out: Any
) -> bool:
    """Carry the lot over a message that the book has taken; whether its probe, out float64[COLUMNS], is complete.

    The n-th probe buys or sells in turn.
    """
    for k in range(2):
        w.rate[k] *= KEEP
    if kind == TRADE:
        w.rate[side] += (1.0 - KEEP) * qty
    w.since += 1
    if w.phase == PAUSING:
        if w.since > PAUSE and both_sides(b):
            w.side, w.phase, w.since = n & 1, RESTING, 0
            w.px, w.stamp = b[BEST + w.side], b[STAMP]
            w.queue[:] = level_qty(b, w.side, w.px)
            if rest == 0:
                _begin(engine, b, w, out)
        return False
    hit = qty > 0 and reached(kind, side, px, qty, w.side, w.px, w.ahead)
    if w.phase == WATCHING:
        if hit and out[AFTER] == 0:
            out[AFTER] = w.since
        if w.since >= WAIT:
            w.phase, w.since = PAUSING, 0
            return True
        return False
    traded = qty if kind == TRADE and side == w.side and px == w.px else 0
    follow_queue(w.queue, w.before, level_qty(b, w.side, w.px), traded)
    if hit:
        w.phase, w.since = PAUSING, 0
    elif w.since >= rest:
        w.phase, w.since = PAUSING, 0
        if both_sides(b) and (b[BEST + w.side] - w.px) * (1 - 2 * w.side) <= 0:
            _begin(engine, b, w, out)
    return False


@kernel
def _begin(engine: Engine, b: Any, w: Any, out: Any) -> None:
    """What a model may see of the lot, from which it is watched."""
    w.phase, w.since = WATCHING, 0
    out[AHEAD] = ahead_of(b, w.side, w.px, w.stamp)
    out[OTHER] = level_qty(b, 1 - w.side, int(b[BEST + 1 - w.side]))
    out[FLOW], out[AFTER] = w.rate[w.side], 0.0
    e = engine.estimates[0]
    for k in range(len(HORIZONS)):
        wait = wait_for(e, HORIZONS[k] * w.gap_ns, True)
        out[SAID + k] = fill_probability(engine.shown[0], e, wait, 1 - 2 * w.side, w.px, out[AHEAD], 1.0)
    out[QUEUES:] = w.queue


@kernel
def watch_market(flow: Any, engine: Engine, w: Any, rest: int, out: Any) -> None:
    """Fill float64 [n, COLUMNS] with probes of a market."""
    flow = borrowed(flow)
    b, s = flow.book, flow.state[0]
    n = 0
    while n < len(out):
        look(b, w)
        flow_event(flow)
        see(engine, b, w, s.now)
        if hear(engine, b, w, s.kind, s.side, s.px, s.qty, n, rest, out[n]):
            n += 1


@kernel
def watch_replay(b: Any, fills: Any, msgs: Any, engine: Engine, w: Any, rest: int, out: Any, at: Any) -> int:
    """The same in a recording's messages; `at` int64[n] is the message at which each ended. Return the probes."""
    n = 0
    for i in range(len(msgs)):
        m = msgs[i]
        look(b, w)
        clear_trade(b)
        replay_message(b, fills, m)
        see(engine, b, w, m.ts)
        if n < len(out) and hear(engine, b, w, m.kind, m.side, m.px, m.qty, n, rest, out[n]):
            at[n] = i
            n += 1
    return n


def watched_market(market: Market, probes: int, rest: int = 0) -> Array:
    """float64 [probes, COLUMNS] of a market that has run for a while."""
    out = np.zeros((probes, COLUMNS))
    watch_market(market.flow, new_engine(), np.zeros(1, WATCH)[0], rest, out)
    return out


def watched_plan(plan: Plan, rest: int = 0) -> Array:
    """float64 [n, COLUMNS] of a recording, PASSES times with other moments, in the order of time."""
    found, ends = [], []
    for k in range(PASSES):
        out, w = np.zeros((len(plan.msgs) // (PAUSE + WAIT) + 1, COLUMNS)), np.zeros(1, WATCH)[0]
        w["since"] = -k * (PAUSE + WAIT + rest) // PASSES
        at = np.zeros(len(out), np.int64)
        n = watch_replay(plan.new_book(), new_fills(64), plan.msgs, new_engine(), w, rest, out, at)
        found.append(out[:n])
        ends.append(at[:n])
    return np.concatenate(found)[np.argsort(np.concatenate(ends), kind="stable")]


# --- models: fit(probes) gives a function of (probes, events) that gives a probability each

Forecast = Callable[[Array, int], Array]


def rule(_train: Array) -> Forecast:
    """What the rule believed at that moment, by what it had learned until then (`emp.decision.fills`)."""
    return lambda x, h: x[:, SAID + HORIZONS.index(h)]


def flow_on_queue(_train: Array) -> Forecast:
    """Lots expected to trade within the time, over the queue ahead and our lot: where the rule starts."""
    return lambda x, h: np.minimum(1.0, x[:, FLOW] * h / (x[:, AHEAD] + 1.0))


def roadmap(train: Array) -> Forecast:
    """our_size / (queue_size + eps) x trade_flow_factor: flow over its mean, scaled to the fills of the first part."""
    mean = max(float(train[:, FLOW].mean()), 1e-9)
    raw = train[:, FLOW] / mean / (train[:, AHEAD] + 1e-9)
    scale = {h: float(_filled(train, h).mean() / max(np.mean(raw), 1e-12)) for h in HORIZONS}
    return lambda x, h: np.minimum(1.0, scale[h] * x[:, FLOW] / mean / (x[:, AHEAD] + 1e-9))


def linear(train: Array) -> Forecast:
    """A straight line in the queue sizes, own and other, by least squares, one fit a horizon; cut off at 0 and 1."""

    def sizes(x: Array) -> Array:
        return np.column_stack([np.ones(len(x)), x[:, AHEAD], x[:, OTHER]])

    weights = {h: np.linalg.lstsq(sizes(train), _filled(train, h), rcond=None)[0] for h in HORIZONS}
    return lambda x, h: np.clip(sizes(x) @ weights[h], 0.0, 1.0)


def kaplan_meier(train: Array, column: int = AHEAD) -> Forecast:
    """Share filled by then, by tenth of the queue ahead; no probe ends before WAIT, so nothing else is censored."""
    edges = np.unique(np.quantile(train[:, column], np.linspace(0.1, 0.9, 9)))
    where = np.searchsorted(edges, train[:, column], side="right")
    base = {h: float(_filled(train, h).mean()) for h in HORIZONS}
    table = {
        h: np.array(
            [
                (_filled(train, h)[where == k].sum() + base[h]) / ((where == k).sum() + 1.0)
                for k in range(len(edges) + 1)
            ]
        )
        for h in HORIZONS
    }
    return lambda x, h: table[h][np.searchsorted(edges, x[:, column], side="right")]


def logistic(train: Array) -> Forecast:
    """Log-odds linear in the logarithms of the queue ahead, the other touch and the flow, one fit a horizon."""
    weights = {h: _newton(_design(train), _filled(train, h)) for h in HORIZONS}
    return lambda x, h: 1.0 / (1.0 + np.exp(-np.clip(_design(x) @ weights[h], -30.0, 30.0)))


def _design(x: Array) -> Array:
    return np.column_stack(
        [
            np.ones(len(x)),
            np.log1p(x[:, AHEAD]),
            np.log1p(x[:, OTHER]),
            np.log(x[:, FLOW] + 1e-3),
        ]
    )


def _newton(x: Array, y: Array) -> Array:
    """Weights of a logistic regression by Newton's steps."""
    w = np.zeros(x.shape[1])
    for _ in range(25):
        p = 1.0 / (1.0 + np.exp(-np.clip(x @ w, -30.0, 30.0)))
        hessian = (x * (p * (1.0 - p))[:, None]).T @ x + RIDGE * np.eye(len(w))
        w += np.linalg.solve(hessian, x.T @ (y - p) - RIDGE * w)
    return w


MODELS: dict[str, Callable[[Array], Forecast]] = {
    "rule": rule,
    "flow over queue": flow_on_queue,
    "roadmap": roadmap,
    "linear": linear,
    "kaplan-meier": kaplan_meier,
    "logistic": logistic,
}

BY_QUEUE = {
    f"kaplan-meier, queue by {name}": partial(kaplan_meier, column=QUEUES + k) for k, name in enumerate(NAMES)
}
"""For orders that have rested: the queue ahead not known but followed by a model of it."""


def queue_errors(probes: Array) -> dict[str, tuple[float, float]]:
    """Lots ahead by each model of the queue less those that are: their mean, and the mean of their size."""
    off = probes[:, QUEUES:] - probes[:, AHEAD : AHEAD + 1]
    return {name: (float(off[:, k].mean()), float(abs(off[:, k]).mean())) for k, name in enumerate(NAMES)}


class Scored(NamedTuple):
    """A model on the later part."""

    name: str
    brier: float  # integrated: mean over HORIZONS
    less: float  # than the rule's, and the half width of the 95 % interval over blocks
    less_half: float
    bias: dict[int, float]  # mean forecast less share filled, by horizon
    tenths: list[Tenth]  # forecast and share filled within TOLD events, by tenth of the forecast
    ns: float  # an order, all horizons one by one


def _filled(x: Array, h: int) -> Array:
    return ((x[:, AFTER] > 0) & (x[:, AFTER] <= h)).astype(float)


def score(probes: Array, models: dict[str, Callable[[Array], Forecast]] = MODELS) -> list[Scored]:
    """Every model (the first is the rule), fitted on the first TRAINED of the probes, scored on the rest.

    Raises UsageError where there are fewer than FEWEST probes.
    """
    if len(probes) < FEWEST:
        raise UsageError(f"{len(probes)} orders are too few to fit and score models: {FEWEST} are needed")
    cut = int(TRAINED * len(probes))
    train, test = probes[:cut], probes[cut:]
    losses, found = {}, []
    for name, fit in models.items():
        forecast = fit(train)
        began = time.perf_counter_ns()
        said = {h: forecast(test, h) for h in HORIZONS}
        ns = (time.perf_counter_ns() - began) / (len(HORIZONS) * len(test))
        losses[name] = np.mean([(said[h] - _filled(test, h)) ** 2 for h in HORIZONS], axis=0)
        less = losses[name] - losses["rule"]
        means = np.array([block.mean() for block in np.array_split(less, BLOCKS)])
        half = 1.96 * means.std(ddof=1) / np.sqrt(BLOCKS)
        bias = {h: float(said[h].mean() - _filled(test, h).mean()) for h in HORIZONS}
        found.append(
            Scored(
                name,
                float(losses[name].mean()),
                float(less.mean()),
                float(half),
                bias,
                by_tenth(said[TOLD], _filled(test, TOLD), np.arange(len(test)) * BLOCKS // len(test)),
                float(ns),
            )
        )
    return found
