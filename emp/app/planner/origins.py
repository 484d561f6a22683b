"""Where a planner's choices come from: recordings by series, flows of the simulator by name."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from emp.core.errors import DataError, UsageError
from emp.core.instrument import Instrument, find
from emp.core.records import Array
from emp.engine.load import LoadedModel
from emp.sim.flow.shipped import named_flow
from emp.sim.measure.planning import explore_simulated
from emp.train.data.data import Dataset, Progress, Series, load_dataset, parse_series
from emp.train.data.exploring import Manner, Recorded, explore_recording
from emp.train.data.recipe import recipe
from emp.train.fit.rounds import Origin

RECORDED = (
    "GOOG=lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv*",
    "AAPL=lobster/AAPL_2012-06-21_34200000_57600000_message_1.csv*",
    "GC=cme/GC_XAUUSD_20230501_book5.csv*",
    "EURUSD=fx_ticks/EURUSD_dukascopy_20190204.csv*",
    "BTCUSDT=crypto/binance_spot__btcusdt_20240808.jsonl*",
)
"""Series that a planner is trained on unless others are named: those whose feeds show sizes."""

JUDGED = (*RECORDED, "XAUUSD=fx_ticks/XAUUSD_oanda_201405*.csv*")
"""Series that it is held to: those, and what else the shipped models know, so that a gate finds each instrument."""

FLOWS = ("goog:GOOG", "tsla:TSLA")
"""Flows of the simulator, with the instrument that trades there."""

SESSION_EVENTS = 60_000


class Market(NamedTuple):
    """A series in memory."""

    series: Series
    data: Dataset
    recorded: Recorded


def load_markets(
    texts: Sequence[str] | None,
    k_sigma: float,
    progress: Callable[[str], Progress],
    usual: tuple[str, ...] = RECORDED,
) -> list[Market]:
    """Read series, `[INSTRUMENT=]PATH[,PATH...]`, or the usual ones; `progress` is given each one's name."""
    series = [parse_series(text) for text in texts] if texts else recipe(usual)
    found = []
    for one in series:
        tell = progress(one.name)
        data = load_dataset(one, k_sigma, tell)
        if not len(data.part("test")):
            raise DataError(f"{one.name}: too short: no event of its test part comes after the warm-up")
        found.append(Market(one, data, Recorded(one, data.instrument, tell)))
    return found


def recorded_origin(market: Market, model: LoadedModel) -> Origin:
    """Choices in the training part of a series; what comes after it is seen by nobody who learns."""

    def choose(manner: Manner, seed: int) -> Array:
        return explore_recording(market.recorded, model, manner, seed)

    return Origin(market.series.name, choose, market.data.split.calibrate_ns)


def simulated_origin(text: str, model: LoadedModel, events: int = SESSION_EVENTS) -> Origin:
    """Choices in sessions of a flow, `FLOW:INSTRUMENT`, where our orders act.

    Raises:
        UsageError: it is not of that form, or there is no such flow or instrument.
    """
    flow, params, instrument = flow_of(text)

    def choose(manner: Manner, seed: int) -> Array:
        return explore_simulated(params, instrument, model, manner, events, seed)

    return Origin(f"flow {flow}", choose, 0)


def flow_of(text: str) -> tuple[str, Array, Instrument]:
    """Name, FLOW record and instrument of `FLOW:INSTRUMENT`.

    Raises:
        UsageError: it is not of that form, or there is no such flow or instrument.
    """
    flow, colon, name = text.partition(":")
    if not colon or not flow or not name:
        raise UsageError(f"--flow {text}: name it as FLOW:INSTRUMENT, such as goog:GOOG; or none")
    return flow, named_flow(flow), find(name)
