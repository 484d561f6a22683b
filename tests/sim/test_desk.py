"""Our orders inside the kernel: delays, places, reports, money, replace."""

from dataclasses import dataclass

import numpy as np
import pytest

from emp.core.numba.rng import seeded
from emp.sim.book import book as eb
from emp.sim.book.check import check_book
from emp.sim.book.matching import submit
from emp.sim.flow.zi import zi_params
from emp.sim.world import desk as ds
from emp.sim.world.latency import LatencyConfig, Leg, latency_record
from emp.sim.world.market import Market

LEG = Leg(100.0, 0.001, 0.01)  # 100 us, no spread
SLOW = Leg(900.0, 0.001, 0.01)


@dataclass
class Trader:
    world: ds.World
    now: int = 0

    @property
    def desk(self) -> np.ndarray:
        return self.world.desk

    @property
    def book(self) -> np.ndarray:
        return self.world.flow.book

    def run(self, n: int = 0, until_ns: int = 2**62) -> int:
        return int(ds.run_desk(self.world, until_ns, n or 1 << 30))

    def new(self, side: int, px: int, qty: int, kind: int = eb.POST_ONLY) -> int:
        return int(ds.desk_new(self.world, self.now, side, px, qty, kind))

    def wait(self, us: float) -> None:
        """Pass time, then read what has been reported by then."""
        self.now += int(us * 1000)
        self.run(until_ns=self.now)
        ds.deliver(self.world, self.now)

    def order(self, slot: int) -> np.void:
        return self.desk["orders"][0][slot]


@pytest.fixture
def trader() -> Trader:
    still = zi_params(limit_hz=1e-3, market_hz=1e-3, cancel_hz=1e-9)  # nothing happens by itself
    market = Market(still, 1, 50_000)
    market.state["next"] = 2**61
    latency = latency_record(LatencyConfig(LEG, LEG, SLOW, LEG, LEG, 0.0, 1e9, 0.0))
    return Trader(ds.World(market.flow, ds.new_desk(0.25, 0.5), latency, seeded(1, "t")))


def test_an_order_is_known_to_rest_only_after_both_ways(trader: Trader) -> None:
    slot = trader.new(eb.BUY, 49_999, 3)
    trader.wait(90)
    assert trader.order(slot)["handle"] == 0
    trader.wait(60)
    at_venue = trader.order(slot)
    assert at_venue["handle"] != 0
    assert at_venue["state"] == ds.SENT
    assert at_venue["ahead"] == 10  # the ladder's two orders of five
    trader.wait(500)
    assert trader.order(slot)["state"] == ds.RESTING
    check_book(trader.book)


def test_a_crossing_order_pays_the_taker_fee(trader: Trader) -> None:
    trader.new(eb.BUY, 50_001, 7, eb.IOC)
    trader.wait(1_000)
    d = trader.desk[0]
    assert (d["position"], d["seen_position"], d["taker_lots"]) == (7, 7, 7)
    assert d["fees"] == pytest.approx(3.5)
    assert d["cash"] == pytest.approx(-7 * 50_001)
    assert ds.worth(trader.world) == pytest.approx(-7.0 - 3.5)


def test_partial_fill_rejection_and_cancel(trader: Trader) -> None:
    trader.new(eb.BUY, 50_001, 14, eb.IOC)
    trader.new(eb.BUY, 50_002, 1, eb.POST_ONLY)
    keep = trader.new(eb.BUY, 49_990, 1)
    trader.wait(1_000)
    d = trader.desk[0]
    assert (d["taker_lots"], d["expired"], d["rejected"]) == (10, 1, 1)
    ds.desk_cancel(trader.world, trader.now, keep)
    trader.wait(1_000)
    assert trader.order(keep)["state"] == ds.FREE
    assert trader.book[eb.OWN_LIVE] == 0


def test_a_replace_takes_its_own_leg_and_goes_to_the_end(trader: Trader) -> None:
    slot = trader.new(eb.BUY, 49_999, 3)
    trader.wait(1_000)
    ds.desk_replace(trader.world, trader.now, slot, 49_998, 2)
    trader.wait(800)
    assert eb.level_qty(trader.book, eb.BUY, 49_999) == 13
    trader.wait(1_000)
    assert eb.level_qty(trader.book, eb.BUY, 49_999) == 10
    order = trader.order(slot)
    assert (order["px"], order["leaves"], order["state"], order["ahead"]) == (49_998, 2, ds.RESTING, 10)
    ds.desk_replace(trader.world, trader.now, slot, 50_001, 2)
    trader.wait(3_000)
    assert trader.order(slot)["px"] == 49_998
    assert trader.desk["rejected"][0] == 1


def test_commands_never_overtake(trader: Trader) -> None:
    slot = trader.new(eb.BUY, 49_999, 3)
    trader.wait(1_000)
    ds.desk_replace(trader.world, trader.now, slot, 49_998, 2)  # 900 us
    second = trader.new(eb.SELL, 50_005, 1)  # 100 us, but behind
    trader.wait(500)
    assert trader.order(second)["handle"] == 0
    trader.wait(2_000)
    assert trader.order(second)["state"] == ds.RESTING


def test_a_maker_fill_says_what_stood_before_us(trader: Trader) -> None:
    slot = trader.new(eb.BUY, 49_999, 3)
    trader.wait(1_000)
    eb.clear_trade(trader.book)
    submit(trader.book, trader.world.flow.fills, eb.SELL, 49_999, 12, eb.IOC, 0, 0)
    ds.collect(trader.world)
    d = trader.desk[0]
    assert (d["maker_lots"], d["ahead_sum"], d["position"], d["seen_position"]) == (2, 10, 2, 0)
    assert d["fees"] == pytest.approx(0.5)
    trader.wait(1_000)
    assert (trader.desk["seen_position"][0], trader.order(slot)["leaves"]) == (2, 1)


@pytest.mark.parametrize("what", ["cancel", "replace"])
def test_a_command_for_an_order_that_the_price_window_has_withdrawn_ends_it(
    trader: Trader, what: str
) -> None:
    """The record that it had may belong to somebody else by then."""
    book, fills = trader.book, trader.world.flow.fills
    low = int(book[eb.LO]) + 5
    slot = trader.new(eb.BUY, low, 3)
    trader.wait(250)
    assert trader.order(slot)["state"] == ds.RESTING
    handle = int(trader.order(slot)["handle"])
    eb.slide(book, low + 5)
    stranger = int(submit(book, fills, eb.BUY, 49_000, 7, eb.LIMIT, 0, 0))
    assert stranger == handle  # the very record
    if what == "cancel":
        ds.desk_cancel(trader.world, trader.now, slot)
    else:
        ds.desk_replace(trader.world, trader.now, slot, 49_001, 4)
    trader.wait(2_000)
    assert trader.order(slot)["state"] == ds.FREE
    assert int(book[handle + eb.QTY]) == 7
    check_book(book)
