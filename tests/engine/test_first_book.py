"""A first book far from the price known last is believed once the market insists."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.book import FAR_NS, FAR_ROWS, SLOW_NS, SLOW_ROWS
from emp.core.clock import SimClock
from emp.engine.reconciliation.first_book import WEEK_NS, FirstBooks, KnownPrice
from emp.observe.board import Board
from tests.live.world import book


class Known:
    """Books of a market that was known at 100,000 ticks when the ledger ended, at 0 ns."""

    def __init__(self, px: float = 100_000.0) -> None:
        self.clock = SimClock(1)
        self.board = Board(self.clock)
        self.first = FirstBooks(("BTCUSDT",), self.board, self.clock)
        self.first.know(0, KnownPrice(px, 0))

    def let_through(self, factor: float, n: int = 1, ts: int = WEEK_NS // 2) -> int:
        rows = book(1, ts, n)
        rows["bid_px"] = (rows["bid_px"] * factor).astype(np.int64)
        rows["ask_px"] = rows["bid_px"] + 2
        return len(self.first.believed(rows))


@pytest.mark.parametrize("factor", [3.0, 0.3])
def test_a_far_first_book_is_kept_back_and_said(factor: float) -> None:
    known = Known()
    assert known.let_through(factor, 20) == 0
    assert any("not believed yet" in one for one in known.board.unhealthy())
    assert known.let_through(1.0) == 1
    assert known.board.unhealthy() == Known().board.unhealthy()
    assert known.let_through(factor) == 1, "from here on the door judges"


def test_a_price_below_zero_is_known_as_any_other() -> None:
    known = Known(-100_000.0)
    assert known.let_through(-3.0, 20) == 0
    known.first.traded(0, -300_000.0)
    assert known.let_through(-3.0) == 1


def test_a_weekend_opens_with_its_gap() -> None:
    assert Known().let_through(1.9) == 1
    assert Known().let_through(0.55) == 1


def test_a_market_that_stays_where_it_is_is_believed() -> None:
    known = Known()
    assert known.let_through(3.0, FAR_ROWS) == 0
    known.clock.advance(FAR_NS)
    assert known.let_through(3.0, 5) == 5
    assert known.board.unhealthy() == Known().board.unhealthy()


def test_many_far_books_at_once_are_no_market() -> None:
    """A wrong feed sends as many in a millisecond: so many were enough."""
    known = Known()
    assert known.let_through(3.0, 10 * FAR_ROWS) == 0
    known.clock.advance(FAR_NS - 1)
    assert known.let_through(3.0, FAR_ROWS) == 0
    assert known.let_through(1.0) == 1


def test_a_slow_market_is_believed_by_few_books_over_a_minute() -> None:
    known = Known()
    for _ in range(SLOW_ROWS - 1):
        assert known.let_through(3.0) == 0
        known.clock.advance(SLOW_NS // (SLOW_ROWS - 1))
    assert known.let_through(3.0) == 1


def test_a_trade_that_was_told_bears_a_far_book_out_at_once() -> None:
    known = Known()
    known.first.traded(0, 290_000.0)
    assert known.let_through(3.0) == 1
    assert known.board.unhealthy() == Known().board.unhealthy()


def test_a_trade_near_what_was_known_bears_nothing_out_and_is_said() -> None:
    known = Known()
    known.first.traded(0, 101_000.0)
    assert known.let_through(3.0, 20) == 0
    (line,) = [one for one in known.board.unhealthy() if "not believed yet" in one]
    assert "100000 was known, a trade was told at 101000: they are once" in line
    assert "\n" not in line


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.3, 1.0, 1.2, 3.0, 3.2, 9.0]), st.integers(1, 40), st.integers(0, 2 * 10**10)
    ),
    min_size=1,
    max_size=12,
)


@given(STEPS, st.sampled_from([0.0, 95_000.0, 310_000.0]))
def test_no_far_book_passes_that_nothing_bears_out(steps: list[tuple[float, int, int]], trade: float) -> None:
    """Whatever comes, how much at once, how late: the first that passes is near what was known, or near a trade
    that was told, or the last of enough that agreed for long enough; and from it on all pass.
    """
    known = Known()
    known.first.traded(0, trade)
    run: list[tuple[float, int]] = []  # what agrees so far: the mid of each book, and when it came
    passed = False
    for factor, n, wait in steps:
        for _ in range(n):
            came, mid = known.clock.monotonic_ns(), 100_000 * factor
            let = known.let_through(factor)
            assert let == 1 or not passed
            run = [*run, (mid, came)] if run and agree(mid, run[-1][0]) else [(mid, came)]
            span = came - run[0][1]
            enough = (len(run) > FAR_ROWS and span >= FAR_NS) or (len(run) >= SLOW_ROWS and span >= SLOW_NS)
            due = agree(mid, 100_000.0) or (trade > 0.0 and agree(mid, trade)) or enough
            assert let == (passed or due)
            passed = passed or due
        known.clock.advance(wait)


def agree(a: float, b: float) -> bool:
    """No more than twice as high; of these prices none is near the edge."""
    return max(a, b) <= 2 * min(a, b)


def test_far_books_that_do_not_agree_are_no_market() -> None:
    known = Known()
    for _ in range(FAR_ROWS):
        assert known.let_through(3.0) == 0
        assert known.let_through(9.0) == 0


def test_the_longer_it_was_not_seen_the_further_it_may_have_gone() -> None:
    assert Known().let_through(3.0, ts=WEEK_NS - 1) == 0
    assert Known().let_through(3.0, ts=WEEK_NS) == 1
    assert Known().let_through(5.0, ts=WEEK_NS) == 0


def test_nothing_is_held_against_what_is_no_book() -> None:
    known = Known()
    rows: Any = book(1, 0)
    rows["n_ask"] = 0
    assert len(known.first.believed(rows)) == 1
    assert known.let_through(3.0) == 0, "and nothing was learnt of it"


def test_where_no_price_is_known_the_first_book_is_believed() -> None:
    assert Known(px=0.0).let_through(3.0) == 1
