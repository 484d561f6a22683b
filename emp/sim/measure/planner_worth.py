"""What a planner is worth: the same markets traded with it and without it, at every depth of its search.

In a simulated market a pair has the same random numbers, which the orders of each then change; on a recording both meet
the same events, and are compared block of time by block of time. A session's profit is marked to the mid after fees,
what is held at its end paid for at the touch. Intervals: 95 %, Student's t over pairs.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from emp.access.paper.venue import PaperVenue
from emp.core.instrument import Instrument
from emp.core.records import DECISION, Array
from emp.decision.student import student_quantile
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.own import Rule
from emp.engine.planning import PlannedRule
from emp.engine.replay import Backtest
from emp.plan.artifact import PlannerArtifact
from emp.plan.planner import KEPT
from emp.sim.measure.planning import START_PX
from emp.sim.measure.trade_study import OPEN_NS, ROWS
from emp.sim.world.market import Market
from emp.sim.world.trader import Trader
from emp.train.data.data import Dataset
from emp.train.data.exploring import Recorded
from emp.train.judge.alpha import TestPart, block_starts

BUDGETS_MS = (0.3, 0.5)


class Arm(NamedTuple):
    """What one way of trading brought, pair by pair."""

    depth: int  # of the search; 0: the rule alone
    pnl: Array  # float64[pairs], ticks times lots
    lots: Array  # float64[pairs], both sides
    choices: int  # of the planner
    took_us: Array  # float64[m], of searches


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """A planner of one depth beside the rule alone."""

    market: str
    depth: int
    pairs: int
    kind_of_pair: str
    pnl: float  # a pair, with it
    pnl_rule: float
    lots: float  # a pair, with it
    lots_rule: float
    more: float  # pnl with it less without it, a pair
    more_half: float | None  # half of its interval
    choices: float  # a pair
    per_choice: float | None  # more, over choices
    per_choice_half: float | None
    search_us: dict[str, float]  # p50, p99
    within: dict[str, float]  # share of searches that took no longer, by budget in ms

    @property
    def verdict(self) -> str:
        """Whether it is worth something, costs something, or cannot be told from nothing."""
        if self.more_half is None:
            return "too few pairs"
        if self.more - self.more_half > 0.0:
            return "earns"
        return "costs" if self.more + self.more_half < 0.0 else "not told apart"


def free_of_losses(limits: EngineLimits) -> EngineLimits:
    """The same limits without those of loss: a study goes on to the end."""
    return msgspec.structs.replace(limits, max_daily_loss=1e15, max_drawdown=1e15)


def closed_pnl(engine: Engine) -> float:
    """Profit after fees, what is held paid for at the touch."""
    account, p, costs = engine.desk.account[0], engine.desk.perception[0], engine.desk.costs[0]
    out = abs(int(account["position"])) * (0.5 * float(p["ask"] - p["bid"]) + float(costs["taker_fee"]))
    return float(account["pnl"]) - out


def _attached(engine: Engine, artifact: PlannerArtifact, depth: int) -> PlannedRule | None:
    if depth == 0:
        return None
    rule = PlannedRule(artifact, depth=depth)
    rule.attach(engine)
    return rule


def _taken(rule: Rule | None) -> tuple[int, Array]:
    """Choices of a planner, and how long its newest searches took, us."""
    if not isinstance(rule, PlannedRule) or rule.planner is None:
        return 0, np.zeros(0)
    count = int(rule.planner.took[KEPT])
    return int(rule.planner.seat["points"][0]), rule.planner.took[: min(count, KEPT)] / 1e3


def in_sessions(
    params: Array,
    instrument: Instrument,
    model: LoadedModel,
    limits: EngineLimits,
    artifact: PlannerArtifact,
    depth: int,
    *,
    sessions: int,
    events: int,
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Arm:
    """Trade sessions of a flow; arguments as `emp.sim.measure.trade_study.study_trading` takes them."""
    pnl, lots, choices, took = [], [], 0, []
    rows, laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
    for k in range(sessions):
        engine = Engine([instrument], model, free_of_losses(limits), f"W{k:07d}")
        rule = _attached(engine, artifact, depth)
        trader = Trader(engine, Market(params, seed + k, START_PX, OPEN_NS), seed=seed + k)
        while trader.events < events and not trader.closed:
            trader.run(rows, laps, min(ROWS, events - trader.events))
        pnl.append(closed_pnl(engine))
        lots.append(float(engine.desk.account["traded"][0]))
        made, times = _taken(rule)
        choices += made
        took.append(times)
        progress((k + 1) / sessions)
    return Arm(depth, np.array(pnl), np.array(lots), choices, np.concatenate(took))


class _Watched(Backtest):
    """A backtest that keeps profit, lots and choices so far at every decision."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.seen: list[Array] = []

    def _put_away(self, n: int) -> None:
        rows = self._rows[:n]
        traded = np.full(n, float(self.engine.desk.account["traded"][0]))
        chosen = np.full(n, float(_taken(self.rule)[0]))
        self.seen.append(np.stack([rows["ts"].astype(np.float64), rows["pnl_ticks"], traded, chosen]))
        super()._put_away(n)


def in_recording(
    recorded: Recorded,
    data: Dataset,
    model: LoadedModel,
    limits: EngineLimits,
    artifact: PlannerArtifact,
    depth: int,
) -> Arm:
    """Trade the test part of a series; each block of time is a pair."""
    engine = Engine([data.instrument], model, free_of_losses(limits), "WORTH")
    rule = _attached(engine, artifact, depth)
    begins = block_starts(data)
    source = TestPart(recorded, engine, data.split.test_ns, begins)
    running = _Watched(source, engine, PaperVenue(data.instrument), rule=rule)
    running.run()
    ts, pnl, lots, chosen = np.concatenate(running.seen, axis=1)
    starts = begins.astype(np.float64)
    at = np.searchsorted(ts, starts[1:], side="left")
    edge = np.r_[0, np.minimum(at, len(ts) - 1)]
    ends = np.r_[pnl[edge[1:]], closed_pnl(engine)]
    begun = np.r_[0.0, pnl[edge[1:]]]
    whole = float(engine.desk.account["traded"][0])
    by_lot = np.diff(np.r_[0.0, lots[edge[1:]], whole])
    choices, took = _taken(rule)
    first = int(np.searchsorted(ts, starts[0]))
    before = int(chosen[first - 1]) if first else 0  # nothing could be traded then
    return Arm(depth, ends - begun, by_lot, choices - before, took)


def compare(market: str, alone: Arm, arms: Sequence[Arm], kind_of_pair: str) -> list[Worth]:
    """Each planner beside the rule alone."""
    return [_worth(market, alone, arm, kind_of_pair) for arm in arms]


def _worth(market: str, alone: Arm, arm: Arm, kind_of_pair: str) -> Worth:
    more = arm.pnl - alone.pnl
    n = len(more)
    half = None
    if n >= 5:
        half = student_quantile(0.025, n - 1) * float(more.std(ddof=1)) / math.sqrt(n)
    choices = arm.choices / n
    quantiles = np.percentile(arm.took_us, [50, 99]) if len(arm.took_us) else np.zeros(2)
    return Worth(
        market=market,
        depth=arm.depth,
        pairs=n,
        kind_of_pair=kind_of_pair,
        pnl=float(arm.pnl.mean()),
        pnl_rule=float(alone.pnl.mean()),
        lots=float(arm.lots.mean()),
        lots_rule=float(alone.lots.mean()),
        more=float(more.mean()),
        more_half=half,
        choices=choices,
        per_choice=float(more.mean()) / choices if choices else None,
        per_choice_half=half / choices if half is not None and choices else None,
        search_us={"p50": float(quantiles[0]), "p99": float(quantiles[1])},
        within={
            f"{ms:g}": float((arm.took_us <= 1e3 * ms).mean()) if len(arm.took_us) else 0.0
            for ms in BUDGETS_MS
        },
    )
