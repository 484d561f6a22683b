"""The engine that trades live, in the queue-reactive flow, as one compiled loop: its rate, and what orders add."""

from collections.abc import Callable
from typing import Any

from emp.app.bench.stopwatch import Stopwatch

ROWS = 512
"""Rows of the action log that are written round and round."""
OPEN_NS = 1_340_285_400_000_000_000
"""A trading day's open: the engine trades in session."""


class TradingJobs:
    """An engine with the shipped linear model in two such markets: as it trades there, and without a size to trade."""

    def __init__(self, params: Any, start_px: int, events: int) -> None:
        self._events = events
        self._trading = _trader(params, start_px, "BENCHON0")
        self._quiet = _trader(params, start_px, "BENCHOFF")
        self._quiet.engine.desk.risk["context_mult"] = 0.0

    def jobs(self) -> dict[str, Callable[[], tuple[int, Stopwatch]]]:
        """The two cases of `emp bench sim`."""
        return {
            "engine": _job(self._trading, self._events),
            "engine_no_orders": _job(self._quiet, self._events),
        }

    def orders(self, rate: dict[str, int]) -> dict[str, float]:
        """Order messages (commands and reports) an event, and what one costs: the time that orders add, shared out."""
        per_event = self._trading.logged / self._trading.events
        added_us = 1e6 / rate["engine"] - 1e6 / rate["engine_no_orders"]
        return {"messages_per_event": round(per_event, 4), "message_us": round(added_us / per_event, 3)}


def _trader(params: Any, start_px: int, name: str) -> Any:
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.engine.engine import Engine, EngineLimits
    from emp.sim.world.market import Market
    from emp.sim.world.trader import Trader

    free = EngineLimits(
        orders_per_minute=1e9,
        turnover_per_minute=1e9,
        turnover_per_hour=1e9,
        max_daily_loss=1e15,
        max_drawdown=1e15,
        max_position_lots=200,
        depth_share=0.5,
    )
    engine = Engine([find("GOOG")], load_model("linear"), free, name)
    return Trader(engine, Market(params, 5, start_px, OPEN_NS), seed=5)


def _job(trader: Any, events: int) -> Callable[[], tuple[int, Stopwatch]]:
    import numpy as np

    from emp.core.records import DECISION

    rows, laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)

    def run() -> tuple[int, Stopwatch]:
        first = trader.events
        with Stopwatch() as watch:
            while trader.events - first < events:
                trader.run(rows, laps, first + events - trader.events)
        return trader.events - first, watch

    return run
