"""Databento market-by-order: what a trade's three tellings do to a book, by hand and on a recorded day."""

from pathlib import Path

import numpy as np
import pytest

from emp.access.recordings.databento import F_LAST, MBO, RTYPE_MBO
from emp.access.recordings.source import open_recording
from emp.core.errors import DataError
from emp.core.instrument import find
from emp.sim.book import book as eb
from emp.sim.book.check import check_book
from emp.sim.book.matching import submit
from emp.sim.flow.state import ADD, CROSS, DELETE, HIDDEN, REDUCE, TRADE
from emp.sim.tape.recording import Recording, load_recording
from emp.sim.tape.replay import plan, replay_book, replay_message
from emp.sim.tape.verify_orders import verify_orders

ES = "databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst"
TICK = 250_000_000
LAST = True

Row = tuple[str, str, int, int, int, bool]


def load(tmp_path: Path, *rows: Row, **columns: int) -> Recording:
    """A DBN file of rows (action, side, ticks, size, order, last of its event), read back."""
    out = np.zeros(len(rows), MBO)
    out["length"], out["rtype"], out["instrument_id"], out["publisher_id"] = (
        MBO.itemsize // 4,
        RTYPE_MBO,
        7,
        1,
    )
    for i, (action, side, px, size, order, last) in enumerate(rows):
        out["action"][i], out["side"][i] = ord(action), ord(side)
        out["price"][i], out["size"][i], out["order_id"][i] = px * TICK, size, order
        out["flags"][i] = F_LAST if last else 0
        out["ts_event"][i] = out["ts_recv"][i] = 1000 * (i + 1)
    for name, value in columns.items():
        out[name][-1] = value
    path = tmp_path / "ESX-test.mbo.dbn"
    path.write_bytes(b"DBN\x03" + (0).to_bytes(4, "little") + out.tobytes())
    return load_recording(path)


def told(recording: Recording) -> list[tuple[int, int, int, int]]:
    return [(int(m["kind"]), int(m["px"]), int(m["qty"]), int(m["handle"])) for m in recording.msgs]


BOOK: tuple[Row, ...] = (
    ("A", "B", 99, 1, 9, LAST),
    ("A", "A", 101, 3, 1, LAST),
    ("A", "A", 101, 5, 2, LAST),
    ("A", "A", 101, 4, 3, LAST),
)
BEFORE = [(ADD, 99, 1, 9), (ADD, 101, 3, 1), (ADD, 101, 5, 2), (ADD, 101, 4, 3)]


def test_a_trade_told_three_times_happens_once(tmp_path: Path) -> None:
    """A buyer of 6 takes order 1 whole (its cancel follows) and 3 of order 2 (its modify follows)."""
    made = load(
        tmp_path,
        *BOOK,
        ("T", "B", 101, 6, 0, False),
        ("F", "A", 101, 3, 1, False),
        ("F", "A", 101, 3, 2, False),
        ("C", "A", 101, 3, 1, False),
        ("M", "A", 101, 2, 2, LAST),
        ("C", "A", 101, 4, 3, LAST),
    )
    assert told(made)[4:] == [(TRADE, 101, 3, 1), (TRADE, 101, 3, 2), (DELETE, 101, 4, 3)]
    report = verify_orders(made)
    assert report.meaning == {"book": 5, "execution": 2, "repeated": 2, "trade_sum": 1}
    assert (report.misfits, report.compared, report.matched) == (0, 7, 7)
    b, misfits = replay_book(plan(made))
    assert misfits == 0
    assert eb.level_qty(b, eb.SELL, 101) == 2


def test_a_cancel_after_a_fill_takes_only_what_was_left(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        *BOOK,
        ("T", "B", 101, 2, 0, False),
        ("F", "A", 101, 2, 1, False),
        ("C", "A", 101, 3, 1, LAST),
    )
    assert told(made)[4:] == [(TRADE, 101, 2, 1), (DELETE, 101, 1, 1)]
    assert verify_orders(made).misfits == 0


def test_an_iceberg_trades_more_than_it_shows_and_is_refilled_behind(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        *BOOK,
        ("T", "B", 101, 5, 0, False),
        ("F", "A", 101, 5, 1, False),
        ("M", "A", 101, 3, 1, LAST),
    )
    assert told(made)[4:] == [(TRADE, 101, 3, 1), (HIDDEN, 101, 2, 0), (ADD, 101, 3, 1)]
    report = verify_orders(made)
    assert report.meaning["iceberg"] == report.meaning["refilled"] == 1
    assert report.misfits == 0
    b, _ = replay_book(plan(made))
    head = int(b[eb.level_of(b, eb.SELL, 101) + eb.HEAD])
    assert b[head + eb.QTY] == 5  # order 2 is first now


def test_an_order_moved_into_the_market_is_the_taker(tmp_path: Path) -> None:
    """Order 9 rests at 99, is moved to 101, takes 3 there: its own fill is no execution of its rest."""
    made = load(
        tmp_path,
        *BOOK,
        ("T", "B", 101, 3, 9, False),
        ("F", "B", 101, 3, 9, False),
        ("F", "A", 101, 3, 1, False),
        ("C", "B", 99, 1, 9, False),
        ("C", "A", 101, 3, 1, LAST),
    )
    assert told(made)[4:] == [(TRADE, 101, 3, 1), (DELETE, 99, 1, 9)]
    assert verify_orders(made).meaning["aggressor"] == 1


def test_moves_lose_their_place_and_shrinking_keeps_it(tmp_path: Path) -> None:
    made = load(
        tmp_path, *BOOK, ("M", "A", 101, 1, 1, LAST), ("M", "A", 102, 5, 2, LAST), ("M", "A", 101, 9, 1, LAST)
    )
    assert told(made)[4:] == [
        (REDUCE, 101, 2, 1),
        (DELETE, 101, 5, 2),
        (ADD, 102, 5, 2),
        (DELETE, 101, 1, 1),
        (ADD, 101, 9, 1),
    ]
    assert verify_orders(made).misfits == 0


def test_an_order_that_prevents_a_self_match_does_not_cross_the_book(tmp_path: Path) -> None:
    """A bid at 101 arrives; its owner's offer there is withdrawn without a trade, in the same event."""
    book = BOOK[:2]
    made = load(tmp_path, *book, ("A", "B", 101, 1, 6, False), ("C", "A", 101, 3, 1, LAST))
    assert told(made)[2:] == [(DELETE, 101, 3, 1), (ADD, 101, 1, 6)]
    report = verify_orders(made)
    assert (report.misfits, report.crossed_events) == (0, 0)
    short = load(tmp_path, *book, ("A", "B", 100, 2, 6, False), ("C", "B", 100, 1, 6, LAST))
    assert told(short)[2:] == [(ADD, 100, 2, 6), (REDUCE, 100, 1, 6)]


def test_an_auction_executes_both_sides_at_one_price(tmp_path: Path) -> None:
    """Crossed before the opening: a bid at 103 meets order 1 at 101; the print is at 102. Order 8 never rested."""
    made = load(
        tmp_path,
        *BOOK,
        ("A", "B", 103, 3, 4, LAST),
        ("T", "N", 102, 3, 0, False),
        ("F", "N", 102, 3, 4, False),
        ("F", "N", 102, 3, 1, False),
        ("F", "N", 102, 1, 8, False),
        ("C", "B", 103, 3, 4, False),
        ("C", "A", 101, 3, 1, LAST),
    )
    assert told(made)[5:] == [(CROSS, 102, 3, 4), (CROSS, 102, 3, 1)]
    report = verify_orders(made)
    assert report.crossed_events == 1
    assert report.meaning["auction"] == 2
    assert report.meaning["never_rested"] == 1
    assert report.misfits == 0


def test_what_fits_no_order_is_classed_by_cause(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        *BOOK,
        ("C", "A", 101, 1, 77, LAST),
        ("A", "A", 102, 2, 1, LAST),
        ("F", "A", 101, 2, 2, LAST),
        ("M", "N", 101, 2, 2, LAST),
        ("T", "B", 101, 1, 0, False),
        ("F", "A", 101, 1, 78, LAST),
    )
    report = verify_orders(made)
    assert report.meaning == {
        "book": 4,
        "unknown_order": 2,
        "twice": 1,
        "unbooked": 1,
        "malformed": 1,
        "trade_sum": 1,
    }
    assert report.misfits == 5
    assert report.compared == report.matched
    assert sum(report.meaning.values()) == report.records == 10


def test_a_cleared_book_is_empty(tmp_path: Path) -> None:
    made = load(tmp_path, *BOOK, ("R", "N", 0, 0, 0, LAST), ("A", "B", 90, 1, 5, LAST))
    b, misfits = replay_book(plan(made))
    assert misfits == 0
    assert eb.level_qty(b, eb.SELL, 101) == 0
    assert eb.level_qty(b, eb.BUY, 90) == 1


def test_our_order_in_the_queue_is_filled_by_what_trades_behind_it_only(tmp_path: Path) -> None:
    made = load(
        tmp_path,
        *BOOK,
        ("T", "B", 101, 5, 0, False),
        ("F", "A", 101, 3, 1, False),
        ("F", "A", 101, 2, 2, False),
        ("C", "A", 101, 3, 1, False),
        ("M", "A", 101, 3, 2, LAST),
    )
    p = plan(made)
    b, fills = p.new_book(), eb.new_fills()
    for m in p.msgs[:2]:
        replay_message(b, fills, m)
    submit(b, fills, eb.SELL, 101, 1, eb.POST_ONLY, 1, 7)  # behind order 1, before order 2
    for m in p.msgs[2:]:
        replay_message(b, fills, m)
    check_book(b)
    assert fills[: b[eb.N_FILLS]]["qty"].tolist() == [1]


@pytest.mark.parametrize("column", ["instrument_id", "publisher_id"])
def test_two_books_in_one_file_are_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f"several books \\({column} differs\\)"):
        load(tmp_path, *BOOK, **{column: 8})


@pytest.mark.real_data
def test_every_row_of_the_es_day_is_understood(data_dir: Path) -> None:
    made = load_recording(data_dir / ES)
    report = verify_orders(made)
    assert report.records == 68_792
    assert report.misfits == 0
    assert report.compared == report.matched > 59_000
    assert report.meaning["execution"] > 6_000


@pytest.mark.real_data
def test_the_es_book_ends_as_another_reading_of_the_file_ends(data_dir: Path) -> None:
    """The engine's own reader rebuilds levels from cancels and modifies, without executions."""
    source = open_recording([data_dir / ES], find("ES"))
    rows = [batch[-1].copy() for batch in source.batches() if len(batch)]
    end = rows[-1]
    b, misfits = replay_book(plan(load_recording(data_dir / ES)))
    assert misfits == 0
    for side, px, sz in ((eb.BUY, "bid_px", "bid_sz"), (eb.SELL, "ask_px", "ask_sz")):
        at = int(b[eb.BEST + side])
        for k in range(10):
            assert (at, int(eb.level_qty(b, side, at))) == (int(end[px][k]), int(end[sz][k]))
            at = int(eb.next_level(b, side, at))
