"""The engine's own policy in many sessions of a calibrated flow: expected against realised value, and false stops.

Nothing is recorded here and everything is known: the flow does not change, so an instrument whose lots bring what was
believed of them should go on trading in all but the share of sessions that the level allows. With `misled` the rule
sees every forecast turned around, which its lots should tell it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import DECISION, HORIZONS, Array
from emp.decision.outcomes import per_lot
from emp.decision.port import register
from emp.decision.rule import ValueRule, decide_by_value
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.sim.world.market import Market
from emp.sim.world.trader import Trader

ROWS = 2_048
OPEN_NS = 1_340_285_400_000_000_000  # 2012-06-21, 13:30 UTC: a trading day of the shipped flows' instruments


class Misled(NamedTuple):
    """The built-in rule, to which every forecast says the opposite."""

    costs: Array  # COSTS[instruments]


@kernel
def _turn(f: Any) -> None:
    for h in range(HORIZONS):
        f.mean[h] = -f.mean[h]


@kernel
def decide_misled(
    rule: Misled,
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
    """As `decide_by_value` with the expected moves turned around."""
    _turn(f)
    decide_by_value(ValueRule(rule.costs), i, event, sigma_ticks, f, e, account, working, standing, row)
    _turn(f)


register(Misled, decide_misled)


class TradeStudy(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the sessions; values in ticks per closed lot, with 95 % half widths over sessions."""

    sessions: int
    events: int  # of each
    stopped: int  # sessions in which lots brought less than was believed, at the level of `standing.LEVEL`
    trips_to_stop: float | None  # median of those
    lots: int
    pnl_ticks: float  # mean of a session
    expected: float
    realised: float
    realised_half: float
    missed: float  # realised less expected
    missed_half: float


def study_trading(
    params: Array,
    instrument: Instrument,
    model: LoadedModel,
    limits: EngineLimits,
    *,
    sessions: int,
    events: int,
    start_px: int,
    seed: int = 1,
    misled: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> TradeStudy:
    """Trade sessions of a flow, each with its own seed and without loss limits.

    Args:
        params: of the flow, as `emp.sim.flow.shipped.named_flow` reads them.
        start_px: ticks, where each session begins.
    """
    free = msgspec.structs.replace(limits, max_daily_loss=1e12, max_drawdown=1e12)
    done: list[tuple[float, ...]] = []
    to_stop: list[int] = []
    for k in range(sessions):
        engine = Engine([instrument], model, free, f"S{k:07d}")
        if misled:
            engine.attach_rule(Misled(engine.desk.costs))
        stopped_at = trade_session(engine, Market(params, seed + k, start_px, OPEN_NS), events, seed + k)
        if stopped_at is not None:
            to_stop.append(stopped_at)
        lots = engine.desk.lots[0]
        done.append(
            (
                float(lots["lots"]),
                float(lots["believed"]),
                float(lots["brought"]),
                float(engine.desk.account["pnl"][0]),
            )
        )
        progress((k + 1) / sessions)
    return _summed(np.array(done), to_stop, events)


def trade_session(engine: Engine, market: Market, events: int, seed: int) -> int | None:
    """Trade one session; after how many round trips it was stopped, None where it was not."""
    trader = Trader(engine, market, seed=seed)
    rows, laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
    stopped = None
    while trader.events < events and not trader.closed:
        trader.run(rows, laps, min(ROWS, events - trader.events))
        if stopped is None and engine.desk.standing["stops"][0]:
            stopped = int(engine.desk.lots["trips"][0])
    return stopped


def _summed(done: Array, to_stop: list[int], events: int) -> TradeStudy:
    lots, believed, brought, pnl = done.T
    sums = float(lots.sum()), float((lots**2).sum()), len(done)
    realised, half = per_lot(
        float(brought.sum()), float((brought**2).sum()), float((brought * lots).sum()), *sums
    )
    gone = brought - believed
    missed, missed_half = per_lot(
        float(gone.sum()), float((gone**2).sum()), float((gone * lots).sum()), *sums
    )
    return TradeStudy(
        sessions=len(done),
        events=events,
        stopped=len(to_stop),
        trips_to_stop=float(np.median(to_stop)) if to_stop else None,
        lots=int(lots.sum()),
        pnl_ticks=float(pnl.mean()),
        expected=realised - missed,
        realised=realised,
        realised_half=half,
        missed=missed,
        missed_half=missed_half,
    )
