"""What an order at rest brings a lot that it fills: the rule, which knows its place in the queue, beside others.

Four ways to trade the same sessions of a calibrated flow, in markets with the same random numbers, by the same engine
with the same forecasts, fees and delays:

    rule     the built-in rule
    blind    the built-in rule for which nothing stands ahead of any order (`Part.QUEUE` left out)
    join     the built-in rule that can do nothing but join the touch, and for which nothing stands ahead there
    touch    one lot always at the best price, moved whenever the touch moves: on the side of the forecast where nothing
             is held, else on the side that closes

A lot counts for the order at rest that opened it, with all that it brought until it was closed, after fees. What one
way brings a lot more than another is a difference of ratios of sums over sessions, its variance by linearisation of
both (Cochran, Sampling Techniques, 1977, 6.3): sessions are the blocks, paired.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.core.codes import Action, Reason, WorkingState
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.decision.kinds import QUESTIONS, kinds_of
from emp.decision.markouts import SPAN_NAMES
from emp.decision.port import register
from emp.decision.rule import Part, strongest_horizon
from emp.decision.student import student_quantile
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.sim.measure.trade_study import OPEN_NS, trade_session
from emp.sim.world.market import Market

HOLD, POST, REPLACE = int(Action.HOLD), int(Action.POST), int(Action.REPLACE)
POST_EDGE, CHASE, KEEP_RESTING = int(Reason.POST_EDGE), int(Reason.CHASE), int(Reason.KEEP_RESTING)
IN_FLIGHT = int(Reason.IN_FLIGHT)
NONE, RESTING = int(WorkingState.NONE), int(WorkingState.RESTING)

AT_REST = slice(
    kinds_of("action").start + QUESTIONS["action"].index("improve"),
    kinds_of("action").start + QUESTIONS["action"].index("behind") + 1,
)
"""Kinds of lots that an order at rest has opened."""

WITHOUT = {
    "rule": Part(0),
    "blind": Part.QUEUE,
    "join": Part.QUEUE | Part.IMPROVE | Part.CROSS_OPENING | Part.CROSS_CLOSING,
    "touch": Part(0),
}
"""What the built-in rule goes without, by the way of trading; `touch` has a rule of its own."""

WAYS = tuple(WITHOUT)


class TouchRule(NamedTuple):
    """One lot at the best price, always."""

    costs: Array  # COSTS[instruments]


@kernel
def decide_touch(
    rule: TouchRule,
    i: int,
    event: Any,
    sigma_ticks: float,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    standing: Any,
    row: Any,
) -> None:
    """Join the touch, and follow it; see `emp.decision.port.decide` for the arguments."""
    spread = event.ask_px[0] - event.bid_px[0]
    unit = max(float(spread), rule.costs[i].k_sigma * sigma_ticks)
    h = strongest_horizon(f)
    edge = f.mean[h] * unit
    row.spread_ticks, row.unit_ticks, row.sigma_ticks = spread, unit, sigma_ticks
    row.horizon, row.edge_ticks = h, edge
    row.cost_to_take = row.slip_ticks = row.gain = 0.0
    if working.state == RESTING:
        side = working.side
    elif account.position != 0:
        side = 1 if account.position < 0 else -1
    else:
        side = 1 if edge > 0.0 else -1
    touch = event.bid_px[0] if side > 0 else event.ask_px[0]
    row.side, row.px, row.qty = side, touch, 1
    row.queue_ahead = event.bid_sz[0] if side > 0 else event.ask_sz[0]
    if working.state == NONE:
        row.action, row.reason_code = POST, POST_EDGE
    elif working.state != RESTING:
        row.action, row.reason_code = HOLD, IN_FLIGHT
    elif working.px != touch:
        row.action, row.reason_code = REPLACE, CHASE
    else:
        row.action, row.reason_code = HOLD, KEEP_RESTING


register(TouchRule, decide_touch, in_the_head=False)


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """What the lots of one way brought, ticks; half widths are 95 % over sessions."""

    way: str
    lots: float  # opened at rest and closed, a session
    pnl_ticks: float  # a session, all lots
    brought: float  # a lot opened at rest, until closed
    brought_half: float
    markouts: dict[str, float]  # a fill, at rest or crossing


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """By how much the rule is ahead of another way, a lot opened at rest."""

    of: str
    ticks: float
    half: float
    bps: float
    low_bps: float


class PostingStudy(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the sessions."""

    sessions: int
    events: int  # of each
    start_px: int  # ticks, at which a tick is counted in bps
    ways: list[Way]
    ahead: list[Ahead]


def study_posting(
    params: Array,
    instrument: Instrument,
    model: LoadedModel,
    limits: EngineLimits,
    *,
    sessions: int,
    events: int,
    start_px: int,
    seed: int = 1,
    progress: Callable[[float], None] = lambda _: None,
) -> PostingStudy:
    """Trade the sessions in every way, without loss limits.

    Args:
        params: of the flow, as `emp.sim.flow.shipped.named_flow` reads them.
        sessions: five or more.
        start_px: ticks, where each session begins.
    """
    free = msgspec.structs.replace(limits, max_daily_loss=1e12, max_drawdown=1e12)
    done = np.zeros((sessions, len(WAYS), 3 + 2 * len(SPAN_NAMES)))
    for k in range(sessions):
        for v, way in enumerate(WAYS):
            engine = Engine([instrument], model, free, f"P{k:07d}")
            engine.desk.costs["without"] = int(WITHOUT[way])
            if way == "touch":
                engine.attach_rule(TouchRule(engine.desk.costs))
            trade_session(engine, Market(params, seed + k, start_px, OPEN_NS), events, seed + k)
            kinds, marks = engine.desk.lots[0]["kinds"][AT_REST], engine.desk.markouts[0]
            money = float(engine.desk.account["pnl"][0]), kinds["closed"].sum(), kinds["brought"].sum()
            done[k, v] = *money, *marks["sum_lots"], *marks["sum"]
        progress((k + 1) / sessions)
    ways = [_way(way, done[:, v]) for v, way in enumerate(WAYS)]
    ahead = [_ahead(way, done[:, 0], done[:, v + 1], start_px) for v, way in enumerate(WAYS[1:])]
    return PostingStudy(sessions=sessions, events=events, start_px=start_px, ways=ways, ahead=ahead)


def _way(way: str, done: Array) -> Way:
    spans = len(SPAN_NAMES)
    total = done.sum(axis=0)
    mean, half = paired_ratio(done[:, 2], done[:, 1], np.zeros(len(done)), np.ones(len(done)))
    marks = total[3 + spans :] / np.maximum(1.0, total[3 : 3 + spans])
    return Way(
        way=way,
        lots=float(done[:, 1].mean()),
        pnl_ticks=float(done[:, 0].mean()),
        brought=mean,
        brought_half=half,
        markouts=dict(zip(SPAN_NAMES, map(float, marks), strict=True)),
    )


def _ahead(way: str, rule: Array, other: Array, start_px: int) -> Ahead:
    ticks, half = paired_ratio(rule[:, 2], rule[:, 1], other[:, 2], other[:, 1])
    bps = 1e4 / start_px
    return Ahead(of=way, ticks=ticks, half=half, bps=ticks * bps, low_bps=(ticks - half) * bps)


def paired_ratio(y: Array, n: Array, other_y: Array, other_n: Array) -> tuple[float, float]:
    """sum y / sum n less the same of another, and the half width of its 95 % interval: blocks float64[m], paired.

    Raises:
        ZeroDivisionError: nothing was counted on one side.
    """
    m = len(y)
    residuals, ratios = [], []
    for a, b in ((y, n), (other_y, other_n)):
        ratio = float(a.sum()) / float(b.sum())
        residuals.append((a - ratio * b) / b.mean())
        ratios.append(ratio)
    off = residuals[0] - residuals[1]
    half = student_quantile(0.025, m - 1) * np.sqrt(float((off**2).sum()) / (m * (m - 1)))
    return ratios[0] - ratios[1], float(half)


def posting_lines(found: PostingStudy) -> list[str]:
    """The study as Markdown tables."""
    spans = [f"a fill after {name}" for name in SPAN_NAMES]
    lines = [
        f"{found.sessions:,} sessions of {found.events:,} events, a tick is {1e4 / found.start_px:.3f} bps",
        "",
        "| way | lots at rest a session | brought a lot | " + " | ".join(spans) + " | PnL a session |",
        "|---|" + "---|" * (3 + len(spans)),
    ]
    for one in found.ways:
        marks = " | ".join(f"{one.markouts[name]:+.2f}" for name in SPAN_NAMES)
        lines.append(
            f"| {one.way} | {one.lots:.1f} | {one.brought:+.2f} +- {one.brought_half:.2f} | {marks} |"
            f" {one.pnl_ticks:+.1f} |"
        )
    for ahead in found.ahead:
        lines.append(
            f"the rule is ahead of {ahead.of} by {ahead.ticks:+.2f} +- {ahead.half:.2f} ticks a lot,"
            f" {ahead.bps:+.3f} bps, at least {ahead.low_bps:+.3f} (95 %, paired)"
        )
    return lines
