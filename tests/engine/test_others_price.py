"""What lots of somebody else's orders cost, where the venue tells them."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.access.port import OthersTrade
from emp.core.errors import VenueError
from emp.engine.engine import Engine
from emp.engine.reconciliation.others import CLOCKS_APART_NS, OthersTrades
from emp.execution.orders import OrderManager
from tests.kit.models import engine


class Told:
    """A venue that tells of others' orders."""

    def __init__(self, trades: Sequence[tuple[int, float]], instrument: str = "GOOG") -> None:
        self.trades = [
            OthersTrade(instrument=instrument, qty=qty, px=px, order=f"o{n}", ts=-n)
            for n, (qty, px) in enumerate(trades)
        ]
        self.since = -1
        self.is_ours: Callable[[str], bool] = lambda _: False
        self.silent = False

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        self.since, self.is_ours = since, is_ours
        if self.silent:
            raise VenueError("no answer")
        return self.trades


@pytest.fixture(scope="module")
def trader(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return engine(tmp_path_factory.mktemp("model"))


def price(trader: Engine, told: object, lots: int, instrument: str = "GOOG") -> float:
    return asyncio.run(OthersTrades(trader.orders, trader.run, told).price(instrument, lots, 5))  # type: ignore[arg-type]


def test_the_newest_orders_that_come_to_as_many_lots(trader: Engine) -> None:
    told = Told([(1, 100.0), (-3, 90.0), (-2, 50.0)])
    assert price(trader, told, 1) == 100.0
    assert price(trader, told, -2) == (1 * 100.0 - 3 * 90.0) / -2
    assert price(trader, told, -4) == (1 * 100.0 - 3 * 90.0 - 2 * 50.0) / -4
    assert told.since == 5 - CLOCKS_APART_NS
    assert told.is_ours(trader.next_id())
    assert not told.is_ours("")
    assert not told.is_ours("by hand")


def test_unknown_is_0(trader: Engine, tmp_path: Path) -> None:
    told = Told([(1, 100.0)])
    assert price(trader, told, 2) == 0.0
    assert price(trader, told, 1, "MSFT") == 0.0
    assert price(trader, object(), 1) == 0.0
    told.silent = True
    assert price(trader, told, 1) == 0.0


def test_an_order_explains_one_difference_alone(trader: Engine) -> None:
    others = OthersTrades(trader.orders, trader.run, Told([(2, 100.0), (2, 80.0)]))  # type: ignore[arg-type]
    found = [asyncio.run(others.price("GOOG", 2, 0)) for _ in range(3)]
    assert found == [100.0, 80.0, 0.0]


def test_what_was_booked_as_it_was_reported_explains_nothing_more(trader: Engine) -> None:
    told = Told([(2, 100.0), (2, 80.0)])
    trader.orders.strangers["o0"] = 2
    assert price(trader, told, 2) == 80.0
    del trader.orders.strangers["o0"]


@given(
    st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.floats(1.0, 1e6)), min_size=1, max_size=8),
    st.integers(1, 8),
)
def test_cash_is_what_the_orders_cost(trades: list[tuple[int, float]], n: int) -> None:
    """Whatever the orders between: what is booked for the difference is the sum of what each cost."""
    chosen = trades[:n]
    lots = sum(qty for qty, _ in chosen)
    sums = [sum(qty for qty, _ in trades[: k + 1]) for k in range(len(trades))]
    if lots == 0 or lots not in sums:
        return
    first = trades[: sums.index(lots) + 1]
    cost = sum(qty * px for qty, px in first)
    others = OthersTrades(OrderManager(["GOOG"]), "RUN", Told(trades))  # type: ignore[arg-type]
    found = asyncio.run(others.price("GOOG", lots, 0))
    assert found == pytest.approx(max(0.0, cost / lots))
