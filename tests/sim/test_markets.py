"""Several built-in markets behind one door: one clock, one stream, and orders of one that do not touch another."""

import asyncio

import numpy as np
import pytest

from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate
from emp.core.errors import UsageError, VenueError
from emp.core.instrument import Instrument, find
from emp.sim.flow.shipped import named_flow
from emp.sim.world.day import DayConfig, DayMarket
from emp.sim.world.market import Market
from emp.sim.world.markets import MockMarkets
from emp.sim.world.mock import MockMarket
from tests.kit.listener import Listener, Reports
from tests.kit.orders import new_order

NS = 1_000_000_000
NOON = 1_340_294_400 * NS  # 2012-06-21 16:00 UTC, when both trade
GOOG, TSLA = find("GOOG"), find("TSLA")


def market(instrument: Instrument, seed: int, start_ns: int = NOON, speed: float = 1.0) -> MockMarket:
    flow = Market(named_flow(instrument.name.lower()), seed, 100_000, start_ns)
    return MockMarket(instrument, seed, market=flow, start_ns=start_ns, speed=speed)


def both(speed: float = 1.0, past: int = 0) -> MockMarkets:
    return MockMarkets([market(GOOG, 3, speed=speed), market(TSLA, 4, speed=speed)], past=past)


def rows_of(markets: MockMarkets, seconds: float) -> np.ndarray:
    until = max(one.seen_ns for one in markets.markets) + int(seconds * NS)
    return np.concatenate([rows.copy() for rows in markets.batches(until)])


def buy(instrument: Instrument, number: int, px: int) -> NewOrder:
    return new_order(f"T-{number}", 1, 2, px, immediate=True, seq=number, instrument=instrument.name)


def test_all_are_told_in_order_of_time_and_each_as_it_is_alone() -> None:
    rows = rows_of(both(), 120)
    assert (np.diff(rows["ts"]) >= 0).all()
    for place, alone in enumerate((market(GOOG, 3), market(TSLA, 4))):
        own = rows[rows["instrument"] == place].copy()
        assert len(own) > 200
        assert (np.diff(own["seq"]) == 1).all()
        own["instrument"] = 0
        assert own.tobytes() == alone.until(NOON + 120 * NS).tobytes()


def test_what_is_traded_in_one_moves_that_one_alone() -> None:
    quiet, traded = both(), both()
    reports: list[OrderUpdate] = []
    traded.report_to(Reports(reports))
    first, again = rows_of(quiet, 20), rows_of(traded, 20)
    assert first.tobytes() == again.tobytes()
    ask = int(again["ask_px"][again["instrument"] == 1][-1][3])
    traded.take(buy(TSLA, 1, ask))
    calm, moved = rows_of(quiet, 60), rows_of(traded, 60)
    assert [(one.clOrdID, one.instrument, one.status) for one in reports][-1] == (
        "T-1",
        "TSLA",
        OrderStatus.FILLED,
    )
    calm_by, moved_by = ([rows[rows["instrument"] == k] for k in (0, 1)] for rows in (calm, moved))
    assert calm_by[0].tobytes() == moved_by[0].tobytes()
    assert calm_by[1].tobytes() != moved_by[1].tobytes()
    assert [(one.instrument, one.qty) for one in asyncio.run(held(traded))] == [("GOOG", 0), ("TSLA", 2)]


async def held(markets: MockMarkets) -> list:
    return list(await markets.positions())


def test_they_keep_one_clock_behind_one_past() -> None:
    async def scenario() -> np.ndarray:
        markets = Listener(both(speed=50.0, past=100))
        await markets.connect([GOOG, TSLA])
        parts = []
        async for rows in markets.events():
            parts.append(rows)
            if int(rows["ts"][-1]) > NOON + 120 * NS:
                assert len({one.seen_ns for one in markets.markets}) == 1, "the clocks have come apart"
                await markets.close()
        return np.concatenate(parts)

    rows = asyncio.run(scenario())
    assert (np.diff(rows["ts"]) >= 0).all()
    visible = rows[rows["flags"] & EventFlag.VISIBLE != 0]
    assert np.bincount(visible["instrument"]).min() >= 100


def test_a_halt_of_one_does_not_hold_up_the_other() -> None:
    rules = DayConfig(halts=((NOON + 5 * NS, 60.0),))
    halted = DayMarket(named_flow("goog"), 3, 100_000, NOON, GOOG, rules)
    markets = MockMarkets([MockMarket(GOOG, 3, market=halted, start_ns=NOON), market(TSLA, 4)])
    rows = rows_of(markets, 50)
    last = [int(rows["ts"][rows["instrument"] == k][-1]) - NOON for k in (0, 1)]
    assert last[0] <= 6 * NS
    assert last[1] > 40 * NS


def test_strangers_and_markets_of_other_times_are_refused() -> None:
    markets = both()
    with pytest.raises(VenueError, match="there is no instrument MSFT"):
        markets.take(buy(find("MSFT"), 1, 100_000))
    with pytest.raises(VenueError, match="serve GOOG, TSLA, were asked for TSLA, GOOG"):
        asyncio.run(markets.connect([TSLA, GOOG], Reports([])))
    with pytest.raises(UsageError, match="begin at the same time"):
        MockMarkets([market(GOOG, 3), market(TSLA, 4, NOON + 1)])
    with pytest.raises(UsageError, match="each instrument has one"):
        MockMarkets([market(GOOG, 3), market(GOOG, 4)])
