"""A crossing day limit at our venue takes what it crosses and rests with what is left, as one order; 18=6 does not."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from emp.access.fix.dialect import MOCK
from emp.core.codes import OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, Replace
from emp.sim.venues.fix.venue import FixVenue
from tests.fix.desk import EURUSD
from tests.fix.markets import Toy
from tests.fix.test_quickfix import Desk, until
from tests.fix.test_venue import together
from tests.kit.listener import Listener
from tests.kit.orders import cancel_order, cleared, new_order, query_order, replace_order

TAKES = msgspec.structs.replace(MOCK, name="takes", post_only="")
BEST = 108_757
"""The ask that the market shows; five lots stand there."""


class Shop(Toy):
    """A market whose resting orders never take: immediate ones fill up to the lots at the ask, then are cancelled."""

    def __init__(self) -> None:
        super().__init__([EURUSD], pause_s=3600.0)
        self.lots = 5
        self.refuse_posts = 0  # resting orders refused because the market has moved
        self.heard: list[Command] = []

    def take(self, command: Command) -> None:
        self.heard.append(command)
        if not isinstance(command, NewOrder):
            super().take(command)
            return
        self.orders[command.cl_ord_id], self.filled[command.cl_ord_id] = command, 0
        if not command.immediate and self.refuse_posts:
            self.refuse_posts -= 1
            self._report(
                command.cl_ord_id, OrderStatus.REJECTED, "post-only order would have taken liquidity"
            )
            return
        self._report(command.cl_ord_id, OrderStatus.NEW)
        if command.immediate:
            taken = min(self.lots, command.qty)
            self.lots -= taken
            if taken:
                self._fill(command.cl_ord_id, taken)
            if taken < command.qty:
                self._report(command.cl_ord_id, OrderStatus.CANCELED, "no more to take")


Work = Callable[[FixVenue, Listener, Desk, Shop], Any]


def at_the_shop(work: Work, dialect: Any = TAKES) -> list[OrderUpdate]:
    shop = Shop()

    async def inner(stand: FixVenue, access: Listener, desk: Desk) -> None:
        row = shop.row(0)[0]
        row["ask_px"][0] = BEST
        stand.last[EURUSD.name] = row
        await work(stand, access, desk, shop)

    heard: list[OrderUpdate] = []

    async def noted(stand: FixVenue, access: Listener, desk: Desk) -> None:
        await inner(stand, access, desk)
        heard.extend(desk.updates)

    together(shop, noted, dialect)
    return heard


def said(heard: list[OrderUpdate]) -> list[tuple[str, str, int, int]]:
    return [(u.clOrdID, u.status.value, u.filled, u.leaves) for u in heard]


def test_it_takes_and_rests_as_one_order() -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk, shop: Shop) -> None:
        access.send(cleared(new_order("A", 1, 8, BEST)))
        await until(lambda: len(shop.heard) == 2)
        await until(lambda: desk.filled.get("A") == (1, 5))
        shop._fill("A~1", 1)
        await until(lambda: desk.filled["A"] == (1, 6))
        access.send(query_order("A"))
        await until(lambda: len(desk.updates) == 4)
        [works] = await access.open_orders()
        assert (works.clOrdID, works.filled, works.leaves) == ("A", 6, 2)
        access.send(cleared(replace_order("B", "A", 1, 9, BEST - 1)))
        await until(lambda: "B" in desk.filled)
        assert isinstance(shop.heard[-1], Replace)
        assert shop.heard[-1].qty == 4  # of the leg that rests
        access.send(cancel_order("C", "B"))
        await until(lambda: desk.status.get("B") is OrderStatus.CANCELED)

    heard = at_the_shop(work)
    assert said(heard)[:4] == [
        ("A", "new", 0, 8),
        ("A", "partially_filled", 5, 3),
        ("A", "partially_filled", 6, 2),
        ("A", "partially_filled", 6, 2),
    ]
    assert said(heard)[-1] == ("B", "canceled", 6, 0)


def test_all_of_it_may_be_taken() -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk, shop: Shop) -> None:
        access.send(cleared(new_order("A", 1, 5, BEST + 3)))
        await until(lambda: desk.status.get("A") is OrderStatus.FILLED)

    assert said(at_the_shop(work)) == [("A", "new", 0, 5), ("A", "filled", 5, 0)]


@pytest.mark.parametrize(("dialect", "px"), [(MOCK, BEST), (TAKES, BEST - 1)], ids=["post-only", "passive"])
def test_a_post_only_order_or_one_that_does_not_cross_rests(dialect: Any, px: int) -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk, shop: Shop) -> None:
        access.send(cleared(new_order("A", 1, 8, px)))
        await until(lambda: "A" in desk.status)
        [order] = shop.heard
        assert isinstance(order, NewOrder)
        assert not order.immediate

    assert said(at_the_shop(work, dialect)) == [("A", "new", 0, 8)]


def test_where_the_market_moves_against_it_another_leg_follows_and_at_last_none() -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk, shop: Shop) -> None:
        shop.lots, shop.refuse_posts = 2, 2
        access.send(cleared(new_order("A", 1, 8, BEST)))
        await until(lambda: desk.filled.get("A") == (1, 2))
        await until(lambda: len(shop.heard) >= 4)
        shop.refuse_posts = 99
        access.send(cleared(new_order("B", 1, 3, BEST - 5)))
        await until(lambda: desk.status.get("B") is OrderStatus.CANCELED)

    heard = at_the_shop(work)
    assert said([u for u in heard if u.clOrdID == "A"])[:2] == [
        ("A", "new", 0, 8),
        ("A", "partially_filled", 2, 6),
    ]
    assert [u.status for u in heard if u.clOrdID == "B"] == [
        OrderStatus.NEW,
        OrderStatus.CANCELED,
    ]


def test_a_cancel_of_what_rests_names_the_leg() -> None:
    async def work(stand: FixVenue, access: Listener, desk: Desk, shop: Shop) -> None:
        access.send(cleared(new_order("A", 1, 8, BEST)))
        await until(lambda: len(shop.heard) == 2)
        access.send(cancel_order("C", "A"))
        await until(lambda: desk.status.get("A") is OrderStatus.CANCELED)
        [cancel] = [c for c in shop.heard if isinstance(c, CancelOrder)]
        assert cancel.orig == "A~1"

    assert said(at_the_shop(work))[-1] == ("A", "canceled", 5, 0)
