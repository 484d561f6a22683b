"""The engine that trades live, in the queue-reactive flow, as one compiled loop: its rate, and what an order costs."""

from collections.abc import Callable
from typing import Any

from emp.app.bench.stopwatch import Stopwatch

ROWS = 512
"""Rows of the action log that are written round and round."""
RECORDED = 200_000
"""Events of a recording with paper orders."""
OPEN_NS = 1_340_285_400_000_000_000
"""A trading day's open: the engine trades in session."""


class TradingJobs:
    """An engine with the shipped linear model in three such markets: with the built-in rule, with one that moves its
    order whenever it can, and with the same one idle.
    """

    def __init__(self, params: Any, start_px: int, events: int) -> None:
        self._events = events
        self._recorded = _recorded(params, start_px, min(events, RECORDED))
        self._trading = _trader(params, start_px, "BENCHON0")
        self._restless = _trader(params, start_px, "BENCHMOV")
        self._idle = _trader(params, start_px, "BENCHOFF")
        _make_restless(self._restless.engine, acts=True)
        _make_restless(self._idle.engine, acts=False)

    def jobs(self) -> dict[str, Callable[[], tuple[int, Stopwatch]]]:
        """The cases of `emp bench sim`."""
        return {
            "engine": _job(self._trading, self._events),
            "engine_restless": _job(self._restless, self._events),
            "engine_idle": _job(self._idle, self._events),
            "paper": self._paper,
        }

    def _paper(self) -> tuple[int, Stopwatch]:
        """The same engine over a recording of such a market, its orders on paper."""
        from emp.access.paper.venue import PaperVenue
        from emp.app.bench.path import Decoded
        from emp.engine.replay import Backtest

        engine = _engine("BENCHPAP")
        facts = engine.instruments[0]
        trading = Backtest(Decoded(self._recorded, facts), engine, PaperVenue(facts))
        trading.warm_up()
        with Stopwatch() as watch:
            trading.run()
        return len(self._recorded), watch

    def orders(self, rate: dict[str, int]) -> dict[str, float]:
        """Order messages (commands and reports) an event of the built-in rule and of the restless one, and what a
        message costs: the time that the restless one adds to the idle one, shared out.
        """
        often = self._restless.logged / self._restless.events
        added_us = 1e6 / rate["engine_restless"] - 1e6 / rate["engine_idle"]
        return {
            "messages_per_event": round(self._trading.logged / self._trading.events, 4),
            "restless_messages_per_event": round(often, 4),
            "message_us": round(added_us / often, 3),
        }


def _make_restless(engine: Any, acts: bool) -> None:
    import numpy as np

    from emp.app.bench.restless import RestlessRule

    engine.attach_rule(RestlessRule(np.array([acts])))


def _recorded(params: Any, start_px: int, events: int) -> Any:
    """EVENT rows of such a market, as it would have been recorded."""
    from emp.core.records import empty_events
    from emp.sim.world.market import Market
    from emp.sim.world.screen import Screen

    rows = empty_events(events)
    Market(params, 6, start_px, OPEN_NS).run(2**62, events, rows=rows)
    return Screen().show(rows)[0]


def _engine(name: str) -> Any:
    """An engine with the shipped linear model, and limits that let it trade all day."""
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.engine.engine import Engine
    from emp.engine.limits import EngineLimits

    free = EngineLimits(
        orders_per_minute=1e9,
        turnover_per_minute=1e9,
        turnover_per_hour=1e9,
        max_daily_loss=1e15,
        max_drawdown=1e15,
        max_position_lots=200,
        depth_share=0.5,
    )
    return Engine([find("GOOG")], load_model("linear"), free, name)


def _trader(params: Any, start_px: int, name: str) -> Any:
    from emp.sim.world.market import Market
    from emp.sim.world.trader import Trader

    return Trader(_engine(name), Market(params, 5, start_px, OPEN_NS), seed=5)


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
