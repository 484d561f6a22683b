"""Recordings through the book: reconstruction, accounting for the unseen, own orders in a real queue."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from emp.core.errors import DataError
from emp.sim.book import book as eb
from emp.sim.book.book import new_fills
from emp.sim.book.check import check_book
from emp.sim.book.matching import submit
from emp.sim.flow.state import ADD, DELETE, MSG, REDUCE, TRADE
from emp.sim.tape.recording import Recording, load_recording
from emp.sim.tape.replay import plan, replay_all, replay_book, replay_message
from emp.sim.tape.verify import verify

GOOG = "lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv.zst"
B, S = eb.BUY, eb.SELL


def messages(*rows: tuple[int, int, int, int, int]) -> np.ndarray:
    """(kind, side, px, qty, id) per row."""
    out = np.zeros(len(rows), MSG)
    for i, (kind, side, px, qty, order) in enumerate(rows):
        out[i] = (i * 1000, kind, side, px, qty, order)
    return out


def recording(msgs: np.ndarray, book: list[list[int]] | None = None) -> Recording:
    return Recording("T", 0.01, msgs, None if book is None else np.array(book, np.int64), Counter())


def test_orders_that_stood_before_the_recording_are_put_where_they_belong() -> None:
    """Two levels are shown. Order 1 is mentioned only when it trades: 5, then deleted with 2, so it had 7."""
    msgs = messages((ADD, S, 102, 3, 2), (TRADE, B, 100, 5, 1), (DELETE, B, 100, 2, 1))
    book = [
        [101, 4, 100, 9, 102, 3, 99, 6],
        [101, 4, 100, 4, 102, 3, 99, 6],
        [101, 4, 100, 2, 102, 3, 99, 6],
    ]
    report, whole = verify(recording(msgs, book))
    assert report.matched == report.compared == [4, 4]
    assert report.unseen_orders == 1
    assert report.nameless_orders == 3  # 2 more at 100, 4 at 101, 6 at 99
    assert report.misfits == 0
    b, misfits = replay_book(whole)
    assert misfits == 0
    check_book(b)
    assert eb.level_qty(b, B, 100) == 2


def test_a_mismatch_in_view_is_never_corrected() -> None:
    msgs = messages((ADD, B, 100, 3, 2), (ADD, B, 100, 5, 3), (ADD, B, 99, 1, 4))
    book = [
        [101, 4, 100, 3, 0, 0, 0, 0],
        [101, 4, 100, 7, 0, 0, 0, 0],
        [101, 4, 100, 7, 0, 0, 99, 1],
    ]
    report, _ = verify(recording(msgs, book))
    assert report.causes["message"] == [1, 0]
    assert report.causes["carried"] == [1, 0]
    assert report.matched == [2, 4]


def test_an_order_that_never_fits_is_counted() -> None:
    made = plan(recording(messages((ADD, B, 100, 3, 2), (DELETE, B, 100, 3, 2), (TRADE, B, 100, 1, 2))))
    _, misfits = replay_book(made)
    assert misfits == 1


def test_a_recording_without_orders_or_book_is_refused() -> None:
    with pytest.raises(DataError, match="names no orders"):
        plan(recording(messages((5, B, 100, 3, 0))))
    with pytest.raises(DataError, match="no book to verify"):
        verify(recording(messages((ADD, B, 100, 3, 2))))
    with pytest.raises(DataError, match="no such file"):
        load_recording(Path("nowhere.csv"))


def own_in_queue(*later: tuple[int, int, int, int, int]) -> tuple[np.ndarray, np.ndarray, int]:
    """5 of a stranger, then 4 of ours, then 6 of another stranger, at 100; then the given messages."""
    msgs = messages((ADD, B, 100, 5, 1), (ADD, B, 100, 6, 2), (ADD, B, 99, 9, 3), *later)
    made = plan(recording(msgs))
    b, fills = made.new_book(), new_fills()
    replay_message(b, fills, made.msgs[0])
    mine = int(submit(b, fills, B, 100, 4, eb.POST_ONLY, 1, 7))
    for m in made.msgs[1:]:
        replay_message(b, fills, m)
    check_book(b)
    return b, fills[: b[eb.N_FILLS]], mine


def test_a_recorded_trade_behind_us_takes_us_first() -> None:
    b, fills, mine = own_in_queue((TRADE, B, 100, 5, 1), (TRADE, B, 100, 6, 2))
    assert fills["qty"].tolist() == [4]
    assert not eb.alive(b, mine)
    assert eb.level_qty(b, B, 100) == 4  # what we took instead of order 2


def test_a_recorded_trade_before_us_leaves_us_alone() -> None:
    b, fills, mine = own_in_queue((TRADE, B, 100, 5, 1))
    assert len(fills) == 0
    assert eb.ahead_of(b, mine) == 0


def test_a_recorded_trade_at_a_worse_price_takes_our_better_one_first() -> None:
    b, fills, _ = own_in_queue((TRADE, B, 100, 5, 1), (DELETE, B, 100, 6, 2), (TRADE, B, 99, 6, 3))
    assert fills["qty"].tolist() == [4]
    assert eb.level_qty(b, B, 99) == 7


def test_a_recorded_order_through_our_price_trades_with_us() -> None:
    _, fills, _ = own_in_queue((DELETE, B, 100, 5, 1), (DELETE, B, 100, 6, 2), (ADD, S, 100, 3, 9))
    assert fills["qty"].tolist() == [3]
    assert fills["ahead"].tolist() == [0]


def test_cancel_before_us_moves_us_forward() -> None:
    b, _, mine = own_in_queue((REDUCE, B, 100, 2, 1), (REDUCE, B, 100, 2, 2))
    assert eb.ahead_of(b, mine) == 3


@pytest.mark.real_data
def test_goog_day_is_reconstructed_at_every_event(data_dir: Path) -> None:
    report, whole = verify(load_recording(data_dir / GOOG))
    rates = report.rates()
    assert min(rates[:9]) >= 0.9999
    assert rates[9] >= 0.9
    assert report.causes["message"] == report.causes["carried"] == [0] * 10
    assert report.misfits == 0
    b, misfits = replay_book(whole)
    assert misfits == 0
    check_book(b)
    again = whole.new_book()
    replay_all(again, new_fills(8), whole.msgs)
    assert np.array_equal(b, again)
