"""What the rule believes of a fill beside what follows it, where the market is simulated and every mid is known.

For every fill of ours the belief is that of the last decision before it that placed or kept the order: `gain`, ticks a
lot, with its parts (`decision.rule`), of lots that open from flat: what is held adds a pressure to it, which is a
preference and no belief. The truth is what the mid has done at the horizon of that decision:

    came = s (mid at the horizon - price of the fill) - fee

At rest the same is asked of adverse selection alone: what the estimate says the mid falls with and after a trade at
that touch, beside what it fell from that decision to the horizon of the estimate.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from emp.core.codes import Action, Reason
from emp.core.contracts import OrderUpdate
from emp.core.instrument import Instrument
from emp.core.records import DECISION, HORIZON_EVENTS, HORIZON_NS, Array
from emp.decision.estimates import LOOKAHEAD
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.sim.measure.tenths import Tenth, by_tenth, tenth_facts
from emp.sim.measure.trade_study import OPEN_NS, ROWS
from emp.sim.world.market import Market
from emp.sim.world.trader import Trader

KEPT = (
    "ts",
    "action",
    "reason_code",
    "side",
    "px",
    "gain",
    "horizon",
    "bid",
    "ask",
    "adverse_bid",
    "adverse_ask",
    "inventory",
)
"""Columns of the rows of a session that are kept."""

TABLES = 3
"""Beliefs that are shown beside each other."""

BACK = 4_096
"""Rows before a fill among which its decision is looked for."""

FILLED = np.dtype(
    [
        ("session", "i8"),
        ("rested", "?"),
        ("flat", "?"),  # whether nothing was held at the decision
        ("gain", "f8"),
        ("came", "f8"),
        ("adverse", "f8"),  # said, ticks
        ("fell", "f8"),  # the mid, against us, from the decision to LOOKAHEAD decisions later
    ]
)
"""One lot that was filled."""


class BeliefStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Beliefs by tenth, in ticks a lot."""

    sessions: int
    events: int  # of each
    fills: int
    gain_at_rest: list[Tenth]
    gain_crossing: list[Tenth]
    adverse: list[Tenth]


def study_beliefs(
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
) -> BeliefStudy:
    """Trade sessions of a flow, without loss limits, and hold what was believed of every fill against what came.

    Args:
        params: of the flow, as `emp.sim.flow.shipped.named_flow` reads them.
        sessions: two or more.
        start_px: ticks, where each session begins.
    """
    free = msgspec.structs.replace(limits, max_daily_loss=1e12, max_drawdown=1e12)
    found = []
    for k in range(sessions):
        engine = Engine([instrument], model, free, f"B{k:07d}")
        rows, fills = _session(engine, Market(params, seed + k, start_px, OPEN_NS), events, seed + k)
        mine = filled(rows, fills)
        mine["session"] = k
        found.append(mine)
        progress((k + 1) / sessions)
    all_fills = np.concatenate(found)
    rest, cross = all_fills[all_fills["rested"]], all_fills[~all_fills["rested"]]
    return BeliefStudy(
        sessions=sessions,
        events=events,
        fills=len(all_fills),
        gain_at_rest=_tenths(rest[rest["flat"]], "gain", "came"),
        gain_crossing=_tenths(cross[cross["flat"]], "gain", "came"),
        adverse=_tenths(rest, "adverse", "fell"),
    )


def _tenths(fills: Array, said: str, came: str) -> list[Tenth]:
    if not len(fills):
        return []
    return by_tenth(fills[said], fills[came], fills["session"], TABLES)


def _session(engine: Engine, market: Market, events: int, seed: int) -> tuple[Array, list[OrderUpdate]]:
    """Trade a session: its rows, of the columns KEPT, and the reports of its fills."""
    trader = Trader(engine, market, seed=seed)
    rows, laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
    kept, fills = [], []
    while trader.events < events and not trader.closed:
        n = trader.run(rows, laps, min(ROWS, events - trader.events))
        part = np.zeros(n, [(name, DECISION[name]) for name in KEPT])
        for name in KEPT:
            part[name] = rows[name][:n]
        kept.append(part)
        fills += [one for one in trader.messages() if isinstance(one, OrderUpdate) and one.filled > 0]
    return np.concatenate(kept), fills


def filled(rows: Array, reports: list[OrderUpdate]) -> Array:
    """FILLED[n] of the fills among some reports whose decision and whose horizon lie in the rows, a record a lot."""
    mid = 0.5 * (rows["bid"] + rows["ask"])
    found, so_far = [], dict[str, int]()
    for report in reports:
        lots = report.filled - so_far.get(report.clOrdID, 0)
        so_far[report.clOrdID] = report.filled
        at = _decision(rows, report) if lots > 0 else None
        if at is None:
            continue
        row, later = rows[at], _at_horizon(rows, at)
        behind = at + LOOKAHEAD
        if later is None or behind >= len(rows):
            continue
        one = np.zeros(lots, FILLED)
        one["rested"], one["flat"], one["gain"] = report.maker, row["inventory"] == 0, row["gain"]
        one["came"] = report.side * (mid[later] - report.price) - report.fee / lots
        one["adverse"] = max(0.0, float(row["adverse_bid" if report.side > 0 else "adverse_ask"]))
        one["fell"] = -report.side * (mid[behind] - mid[at])
        found.append(one)
    return np.concatenate(found) if found else np.zeros(0, FILLED)


def _decision(rows: Array, report: OrderUpdate) -> int | None:
    """The last row before a fill that placed or kept the order, None where it is not to be found."""
    end = int(np.searchsorted(rows["ts"], report.ts, side="left"))
    near = rows[max(0, end - BACK) : end]
    if report.maker:
        placed = np.isin(near["action"], (Action.POST, Action.REPLACE))
        mine = (placed | (near["reason_code"] == Reason.KEEP_RESTING)) & (near["px"] == report.price)
    else:
        mine = near["action"] == Action.CROSS
    at = np.flatnonzero(mine & (near["side"] == report.side))
    return None if not len(at) else end - len(near) + int(at[-1])


def _at_horizon(rows: Array, at: int) -> int | None:
    """The last row at or before the horizon of a decision; None where the rows end before."""
    h = int(rows["horizon"][at])
    if h < len(HORIZON_EVENTS):
        later = at + HORIZON_EVENTS[h]
    else:
        due = int(rows["ts"][at]) + HORIZON_NS[h - len(HORIZON_EVENTS)]
        if due > int(rows["ts"][-1]):
            return None
        later = int(np.searchsorted(rows["ts"], due, side="right")) - 1
    return later if later < len(rows) else None


def as_json(found: BeliefStudy) -> dict[str, Any]:
    """The study as JSON says it."""
    said: dict[str, Any] = msgspec.to_builtins(found)
    for name in ("gain_at_rest", "gain_crossing", "adverse"):
        said[name] = [tenth_facts(one) for one in getattr(found, name)]
    return said
