"""Replacing our order in the built-in market: its place in the queue, its refusals, its ids."""

import pytest

from emp.core.codes import OrderStatus
from emp.core.contracts import Command, OrderUpdate
from emp.core.records import empty_events
from emp.sim.book.book import BEST
from emp.sim.world.exchange import Exchange
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import zero_intelligence
from tests.kit.instruments import currency_pair
from tests.kit.orders import cancel_order, new_order, query_order, replace_order


class Floor:
    """An exchange in whose market nothing happens but what we send."""

    def __init__(self) -> None:
        self.reports: list[OrderUpdate] = []
        self.exchange = Exchange(zero_intelligence(1, start_ns=10**18), currency_pair(), LatencyConfig(), 1)
        self.exchange.run(10**18 + 10**9, 500, empty_events(500), self.reports.append)
        self.bid = int(self.exchange.market.book[BEST])
        self.ask = int(self.exchange.market.book[BEST + 1])

    def tell(self, command: Command) -> OrderUpdate:
        before = len(self.reports)
        now = self.exchange.market.now_ns
        self.exchange._arrive(command, now)
        while self.exchange._outbox:
            self.reports.append(self.exchange._outbox.pop(0)[2])
        assert len(self.reports) == before + 1
        return self.reports[-1]


@pytest.fixture
def floor() -> Floor:
    return Floor()


def test_a_smaller_size_keeps_its_place_and_anything_else_loses_it(floor: Floor) -> None:
    px = floor.bid
    first = floor.tell(new_order("A", 1, 5, px))
    floor.tell(new_order("B", 1, 3, px))
    smaller = floor.tell(replace_order("A2", "A", 1, 4, px))
    assert (smaller.clOrdID, smaller.replacement, smaller.leaves) == ("A2", "A2", 4)
    assert smaller.queue_ahead == first.queue_ahead
    larger = floor.tell(replace_order("A3", "A2", 1, 5, px))
    assert larger.queue_ahead == first.queue_ahead + 3
    moved = floor.tell(replace_order("A4", "A3", 1, 5, px - 1))
    assert (moved.price, moved.leaves) == (px - 1, 5)
    assert {u.clOrdID for u in floor.exchange.open_orders()} == {"A4", "B"}


def test_what_would_take_comes_late_or_is_unknown_is_refused_and_the_order_stays(floor: Floor) -> None:
    floor.tell(new_order("A", 1, 5, floor.bid))
    for name, orig, qty, px in (
        ("R1", "A", 5, floor.ask),
        ("R2", "X", 5, floor.bid),
        ("R3", "A", 0, floor.bid),
    ):
        refused = floor.tell(replace_order(name, orig, 1, qty, px))
        assert (refused.clOrdID, refused.status, refused.replacement) == (name, OrderStatus.REJECTED, "")
        assert floor.tell(query_order(name)).status is OrderStatus.REJECTED, (
            "a venue does not know what it refused"
        )
    [rests] = floor.exchange.open_orders()
    assert (rests.clOrdID, rests.price, rests.leaves) == ("A", floor.bid, 5)
    floor.tell(replace_order("R4", "A", 1, 4, floor.bid))
    assert floor.tell(query_order("A")).clOrdID == "R4"
    ended = floor.tell(cancel_order("C", "A"))
    assert (ended.clOrdID, ended.status) == ("R4", OrderStatus.CANCELED)
    assert floor.tell(replace_order("R5", "R4", 1, 3, floor.bid)).status is OrderStatus.REJECTED
