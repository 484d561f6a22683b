"""A recorded book becomes a market: what was shown is there, in its queues, and what comes after is the flow's."""

import numpy as np
import pytest

from emp.core.codes import EventFlag
from emp.core.errors import UsageError
from emp.core.numba.rng import seeded
from emp.core.records import Array, empty_events
from emp.sim.book.book import BEST, BUY, SELL, ahead_of, alive, level_qty
from emp.sim.book.check import check_book
from emp.sim.book.view import write_event
from emp.sim.flow.shipped import named_flow
from emp.sim.world.graft import NOBODY, Ours, come_near, graft, refuse_unlike
from emp.sim.world.market import Market

NOW = 1_340_285_400_000_000_000


def recorded(levels: int = 10, bid: int = 57_990, spread: int = 12) -> Array:
    """EVENT[1]: a book of so many levels, none like another."""
    event = empty_events(1)
    e = event[0]
    e["ts"], e["seq"], e["flags"], e["n_bid"], e["n_ask"] = NOW, 4711, EventFlag.VISIBLE, levels, levels
    for k in range(levels):
        e["bid_px"][k], e["ask_px"][k] = bid - 3 * k, bid + spread + 2 * k
        e["bid_sz"][k], e["ask_sz"][k] = 100 + 7 * k, 60 + 11 * k
    return event


@pytest.fixture(scope="module")
def warm() -> Market:
    market = Market(named_flow("goog"), 3, 100_000)
    market.run(2**62, 5_000)
    return market


@pytest.mark.parametrize("levels", [1, 3, 10])
def test_the_market_begins_with_the_recorded_book(warm: Market, levels: int) -> None:
    event, before = recorded(levels), warm.book.copy()
    market, mine = graft(warm, event, NOBODY, seeded(1, "test"))
    assert mine == 0
    seen = empty_events(1)
    write_event(market.book, seen[0], NOW, 4711, 0)
    for name in ("bid_px", "bid_sz", "ask_px", "ask_sz"):
        np.testing.assert_array_equal(seen[name][0, :levels], event[name][0, :levels])
    if levels < 10:
        assert min(seen["n_bid"][0], seen["n_ask"][0]) > levels, "nothing stands behind what was shown"
    check_book(market.book)
    np.testing.assert_array_equal(warm.book, before)


def test_time_and_numbers_go_on_from_the_event(warm: Market) -> None:
    market, _ = graft(warm, recorded(), NOBODY, seeded(1, "test"))
    rows = empty_events(2_000)
    n = market.run(2**62, 2_000, rows=rows)
    assert n == 2_000
    assert rows["seq"][0] == 4712
    assert (np.diff(rows["ts"]) >= 0).all()
    assert rows["ts"][0] >= NOW
    assert rows["ts"][-1] - NOW < 3_600 * 10**9, "the flow's clock has stopped"
    whole = rows[(rows["n_bid"] > 0) & (rows["n_ask"] > 0)]
    assert len(whole) > 1_950
    middle = 0.5 * (whole["bid_px"][:, 0] + whole["ask_px"][:, 0])
    assert np.abs(middle - 57_996).max() < 500
    assert market.state["skipped"][0] - warm.state["skipped"][0] < 200, "cancels find no orders"
    check_book(market.book)


@pytest.mark.parametrize(
    ("ours", "shown", "ahead"),
    [
        (Ours(1, 57_990, 5, 40, False, 1, 0), 105, 40),  # in the queue of the touch, as the venue told
        (Ours(1, 57_990, 5, -1, False, 1, 0), 105, 100),  # nothing was told: behind all
        (
            Ours(1, 57_990, 5, 500, True, 1, 0),
            100,
            95,
        ),  # more told than others show; ours are among the shown
        (Ours(-1, 58_004, 2, 0, False, 1, 0), 73, 0),  # on the second ask, first in its queue
        (Ours(-1, 57_995, 3, -1, False, 1, 0), 3, 0),  # inside the spread
        (Ours(1, 57_900, 3, -1, False, 1, 0), None, None),  # behind all that is shown
    ],
)
def test_our_order_stands_in_its_place(
    warm: Market, ours: Ours, shown: int | None, ahead: int | None
) -> None:
    market, mine = graft(warm, recorded(), ours, seeded(1, "test"))
    assert alive(market.book, mine)
    side = BUY if ours.side > 0 else SELL
    if shown is not None:
        assert level_qty(market.book, side, ours.px) == shown
        assert ahead_of(market.book, mine) == ahead
    check_book(market.book)


def test_the_warm_market_comes_near_the_recorded_spread(warm: Market) -> None:
    one = warm.clone()
    for spread in (15, 40):
        near = come_near(one, recorded(spread=spread))
        found = int(near.book[BEST + 1]) - int(near.book[BEST])
        assert abs(found - spread) <= spread // 10
        assert near.state["seq"][0] <= one.state["seq"][0]


def test_books_that_no_flow_goes_on_from_are_refused() -> None:
    refuse_unlike(recorded())
    unsized, cheap, crossed, endless = recorded(), recorded(bid=500), recorded(spread=-1), recorded()
    unsized["flags"] = EventFlag.NO_SIZE
    endless["ask_sz"][0, 2] = 2**40
    for event, why in (
        (unsized, "no sizes"),
        (cheap, "below 1000 ticks"),
        (crossed, "crossed"),
        (endless, "more than"),
    ):
        with pytest.raises(UsageError, match=why):
            refuse_unlike(event)
