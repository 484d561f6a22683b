"""A recording as the flow of a world: what was recorded stays as recorded, beside orders of ours."""

import numpy as np
import pytest

from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    HEAD,
    LO,
    MASK,
    NEXT,
    OWNER,
    cancel,
    level_of,
    level_qty,
    new_fills,
)
from emp.sim.measure.maker import naive_maker
from emp.sim.tape.feed import feed_of
from emp.sim.tape.replay import Plan, replay_all
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import zero_intelligence
from emp.sim.world.stream import message_stream
from emp.sim.world.tape import TapeMarket

N = 40_000


@pytest.fixture(scope="module")
def stream() -> Plan:
    """Messages of zero-intelligence flow."""
    return message_stream(zero_intelligence(3), N)


def _levels(book: Array, stream: Plan) -> Array:
    """Lots by side and price of the whole window of the stream."""
    prices = range(stream.lo, stream.lo + stream.ticks)
    return np.array([[level_qty(book, side, px) for px in prices] for side in range(2)])


def _recorded(stream: Plan, n: int) -> Array:
    book = stream.new_book()
    assert replay_all(book, new_fills(8), stream.msgs[:n]) == 0
    return book


def _played(stream: Plan, limit: int) -> tuple[TapeMarket, int]:
    market = TapeMarket(stream)
    fills = naive_maker(market, 1, LatencyConfig(), 0.0, 0.0, N // 20, 10, limit=limit).maker_fills
    return market, fills


def test_a_tape_without_orders_is_the_replay(stream: Plan) -> None:
    market, fills = _played(stream, 0)
    n = int(market.flow.at[0])
    book = _recorded(stream, n)
    assert N // 2 <= n < len(stream.msgs)
    assert fills == 0
    assert np.array_equal(_levels(market.flow.book, stream), _levels(book, stream))
    assert list(market.flow.book[BEST : BEST + 2]) == list(book[BEST : BEST + 2])
    assert int(market.flow.state["now"][0]) == int(stream.msgs["ts"][n - 1])


def test_what_we_traded_away_from_recorded_orders_does_not_stay_in_the_book(stream: Plan) -> None:
    market, fills = _played(stream, 10)
    book = market.flow.book
    for handle in [h for h in _handles(book) if book[h + OWNER] != 0]:
        cancel(book, handle)
    recorded = _levels(_recorded(stream, int(market.flow.at[0])), stream)
    assert fills > 200
    assert (_levels(book, stream) <= recorded).all()  # lots that met our orders on arrival are missing
    assert book[BEST] < book[BEST + 1]


def _handles(book: Array) -> list[int]:
    """Orders in the book, from its own queues."""
    found = []
    for side in range(2):
        for px in range(int(book[LO]), int(book[LO] + book[MASK]) + 1):
            handle = int(book[level_of(book, side, px) + HEAD])
            while handle:
                found.append(handle)
                handle = int(book[handle + NEXT])
    return found


def test_a_tape_ends(stream: Plan) -> None:
    market = TapeMarket(stream)
    events = naive_maker(market, 1, LatencyConfig(), 0.0, 0.0, N, 10, limit=0).events
    assert events == len(stream.msgs) == int(market.flow.at[0])


def test_a_feed_tells_levels_and_orders_as_the_book_has_them(stream: Plan) -> None:
    feed = feed_of(stream)
    book = _recorded(stream, len(stream.msgs))
    lots: dict[tuple[int, int], int] = {}
    orders: dict[int, tuple[int, int, int]] = {}
    for row in feed:
        key = int(row["side"]), int(row["px"])
        lots[key] = int(row["level"])
        assert bool(row["new"]) == (int(row["order"]) not in orders)
        orders[int(row["order"])] = (*key, int(row["left"]))
    for key in list(lots):
        told = sum(left for *at, left in orders.values() if tuple(at) == key)
        assert lots[key] == told == level_qty(book, *key), key
    assert int(feed["traded"].sum()) == int(stream.msgs["qty"][stream.msgs["kind"] == 4].sum())
