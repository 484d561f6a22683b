"""A first book far from the price known last is believed once the market insists."""

from typing import Any

import numpy as np
import pytest

from emp.core.book import FAR_ROWS
from emp.core.clock import SimClock
from emp.engine.reconciliation.first_book import WEEK_NS, FirstBooks, KnownPrice
from emp.observe.board import Board
from tests.live.world import book


class Known:
    """Books of a market that was known at 100,000 ticks when the ledger ended, at 0 ns."""

    def __init__(self, px: float = 100_000.0) -> None:
        self.board = Board(SimClock(1))
        self.first = FirstBooks(("BTCUSDT",), self.board)
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


def test_a_weekend_opens_with_its_gap() -> None:
    assert Known().let_through(1.9) == 1
    assert Known().let_through(0.55) == 1


def test_a_market_that_stays_where_it_is_is_believed() -> None:
    known = Known()
    assert known.let_through(3.0, FAR_ROWS) == 0
    assert known.let_through(3.0, 5) == 5


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
