"""What readers make of odd levels: prices below zero, sizes below a lot, levels and quotes that are not there."""

from pathlib import Path

import numpy as np
import pytest

from emp.access.recordings import open_recording
from emp.access.recordings.source import Recording
from emp.core.codes import EventFlag, Quarantine
from emp.core.instrument import find
from emp.core.records import Array
from tests.access.test_formats import GAP, TRADE, VISIBLE, write
from tests.core.book_reference import book_of

NO_SIZE = int(EventFlag.NO_SIZE)
HEADER = "ts_utc,bid_px_0,bid_qty_0,ask_px_0,ask_qty_0,bid_px_1,bid_qty_1,ask_px_1,ask_qty_1"


def read(path: Path, instrument: str) -> tuple[Array, Recording]:
    source = open_recording(path, find(instrument), accept_losses=True)
    events = np.concatenate(list(source.batches()))
    counts = source.counts
    assert counts.rows == counts.events + counts.merged + counts.quarantined.total()
    return events, source


def gold(tmp_path: Path, *books: str) -> tuple[Array, Recording]:
    lines = [f"2023-05-01T10:00:{i:02d}Z,{book}" for i, book in enumerate(books)]
    return read(write(tmp_path, "GC_book2.csv", HEADER, *lines), "GC")


def test_prices_fall_through_zero(tmp_path: Path) -> None:
    middles = [5, 2, 0, -1, -4, -40, -30]  # tenths
    lines = [f"2020-04-20T18:00:{i:02d}Z,{(m - 1) / 10},{(m + 1) / 10},3,4" for i, m in enumerate(middles)]
    events, source = read(write(tmp_path, "q.csv", "ts_utc,bid,ask,bid_size,ask_size", *lines), "GC")
    assert events["bid_px"][:, 0].tolist() == [4, 1, -1, -2, -5, -31]
    assert source.counts.quarantined == {
        Quarantine.ABSURD_PRICE: 1
    }  # 36 ticks at once: more than 16 usual spreads


def test_levels_without_a_lot_are_left_out_and_the_row_stays(tmp_path: Path) -> None:
    events, source = gold(
        tmp_path,
        "1995.6,5,1995.8,6,1995.5,0,1995.9,10",
        "1995.6,0,1995.8,6,1995.5,2,1995.9,0.9",
        "1995.6,0,1995.8,6,1995.5,,1995.9,10",
        "1995.6,5.9,1995.8,6,,,,",
    )
    assert not source.counts.quarantined
    assert [book_of(e) for e in events] == [
        (((19956, 5),), ((19958, 6), (19959, 10)), True),
        (((19955, 2),), ((19958, 6),), True),
        (((19956, 0),), ((19958, 0),), False),
        (((19956, 5),), ((19958, 6),), True),
    ]
    assert events["flags"].tolist() == [VISIBLE, VISIBLE, VISIBLE | NO_SIZE, VISIBLE]
    assert source.sub_lot_levels == 5


def test_sizes_that_cannot_be_cost_the_row(tmp_path: Path) -> None:
    good = "1995.6,5,1995.8,6,1995.5,1,1995.9,10"
    events, source = gold(
        tmp_path,
        good,
        "1995.6,5,1995.8,6,1995.5,-0.5,1995.9,10",
        "1995.6,5,1995.8,6,1995.5,1,1995.9,10000000000001",
        ",,1995.8,6,1995.5,1,1995.9,10",  # no best bid, but one behind it
        "1995.6,5,1995.8,6,1995.7,1,1995.9,10",  # the second bid is better than the first
        ",,1995.8,6,,,1995.9,10",
    )
    assert len(events) == 1
    assert [(s.row, s.reason) for s in sorted(source.counts.samples, key=lambda s: s.row)] == [
        (1, Quarantine.ABSURD_SIZE),
        (2, Quarantine.ABSURD_SIZE),
        (3, Quarantine.MALFORMED),
        (4, Quarantine.MALFORMED),
        (5, Quarantine.ONE_SIDED),
    ]


def test_a_book_csv_without_sizes_has_none_throughout(tmp_path: Path) -> None:
    lines = [f"2023-05-01T10:00:0{i}Z,1995.{i},1995.8,,,,,," for i in range(3)]
    header = HEADER.replace("bid_qty_0,ask_px_0", "ask_px_0,bid_qty_0")
    events, source = read(write(tmp_path, "GC_book2.csv", header, *lines), "GC")
    assert (events["flags"] == VISIBLE | NO_SIZE).all()
    assert not source.counts.quarantined
    assert len(events) == 3


def test_trades_keep_what_is_known_of_the_sizes_of_their_book(tmp_path: Path) -> None:
    book = write(
        tmp_path,
        "GC_book2.csv",
        HEADER,
        "2023-05-01T10:00:00Z,1995.6,0,1995.8,6,,,,",
        "2023-05-01T10:00:02Z,1995.6,5,1995.8,6,,,,",
        "2023-05-01T10:00:04Z,1995.6,0,1995.8,6,,,,",
    )
    trades = [f"2023-05-01T10:00:0{second}Z,buy,1995.8,1" for second in (1, 2, 3, 4)]
    trades.append("2023-05-01T10:00:05Z,buy,19958,1")  # too far off
    write(tmp_path, "GC_trades.csv", "ts_utc,side,px,qty", *trades)
    events, source = read(book, "GC")
    assert source.counts.quarantined == {Quarantine.ABSURD_PRICE: 1}
    assert events["flags"].tolist() == [
        VISIBLE | NO_SIZE,
        TRADE | NO_SIZE,
        VISIBLE | TRADE,
        TRADE,
        VISIBLE | TRADE | NO_SIZE,
    ]
    assert not (events["flags"] & GAP).any()


def test_the_first_rows_may_lack_a_side(tmp_path: Path) -> None:
    lines = [f"2024-03-06T10:00:0{i}Z,{bid},1.0866" for i, bid in enumerate(["", "", "1.0865", "0"])]
    events, source = read(write(tmp_path, "q.csv", "ts_utc,bid,ask", *lines), "EURUSD")
    assert events["bid_px"][:, 0].tolist() == [108650]
    assert source.counts.quarantined == {Quarantine.ONE_SIDED: 3}


@pytest.mark.parametrize(("px", "believed"), [(1995.7, False), (5987.0, True)])
def test_a_feed_of_wrong_books_is_not_believed_while_others_trade_where_the_market_was(
    tmp_path: Path, px: float, believed: bool
) -> None:
    wrong = [f"2023-05-01T10:00:{k // 5:02}.{k % 5 * 2}00Z,5986.6,5,5987.4,6,,,," for k in range(5, 100)]
    book = write(tmp_path, "GC_book2.csv", HEADER, "2023-05-01T10:00:00Z,1995.6,5,1995.8,6,,,,", *wrong)
    trades = [f"2023-05-01T10:00:{second:02}Z,buy,{px},1" for second in range(2, 20)]
    write(tmp_path, "GC_trades.csv", "ts_utc,side,px,qty", *trades)
    events, _ = read(book, "GC")
    assert (59866 in events["bid_px"][:, 0]) == believed
