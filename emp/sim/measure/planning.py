"""Choices of a planner in a simulated market, where what we do moves what comes: one lot at a time."""

import numpy as np

from emp.core.instrument import Instrument
from emp.core.records import DECISION, Array
from emp.engine.engine import Engine
from emp.engine.load import LoadedModel
from emp.sim.measure.trade_study import OPEN_NS, ROWS
from emp.sim.world.market import Market
from emp.sim.world.trader import Trader
from emp.train.data.exploring import ONE_LOT, Manner, kept, seat

START_PX = 58_000


def explore_simulated(
    params: Array, instrument: Instrument, model: LoadedModel, manner: Manner, events: int, seed: int
) -> Array:
    """Choose through a session of a flow: POINT[n].

    Args:
        params: of the flow, as `emp.sim.flow.shipped.named_flow` reads them.
        events: of the session.
        seed: of the market and of what is drawn.
    """
    engine = Engine([instrument], model, ONE_LOT, f"X{seed:07d}")
    made = seat(engine, manner, seed, events // manner.step + 16)
    trader = Trader(engine, Market(params, seed, START_PX, OPEN_NS), seed=seed)
    rows, laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
    while trader.events < events and not trader.closed:
        trader.run(rows, laps, min(ROWS, events - trader.events))
    return kept(made)
