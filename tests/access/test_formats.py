"""Quote ticks, books with trades, exchange events, SGX books, Binance lines and Databento records."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.access.recordings import merged, table
from emp.access.recordings.source import Recording
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from tests.access.reading import read

VISIBLE, TRADE, GAP = EventFlag.VISIBLE, EventFlag.TRADE, EventFlag.GAP


def write(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


# --- quote ticks


def test_quotes_without_sizes(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "any name.csv",
        "ts_utc,bid,ask",
        "2014-05-05T10:00:00.292Z,1.38676,1.38686",
        "2014-05-05T10:00:00.292Z,1.38676,1.38686",  # the same again at the same instant
        "2014-05-05T10:00:00.292Z,1.38675,1.38686",
        "2014-05-05T10:00:01Z,1.38675,1.38686",  # the same again later
        "2014-05-05T10:00:02Z,1.38676,1.38676",
        "2014-05-05T10:00:03Z,1.38677,1.38676",
        "2014-05-05T10:00:04Z,1.386755,1.38686",
        "2014-05-05T09:59:59Z,1.38675,1.38686",
        "2014-05-05T10:00:05Z,0,1.38686",
        "2014-05-05T10:00:06Z,13.8675,13.8686",
        "2014-05-05T10:00:07Z,1.3867500001,1.3868599999",  # float dust
        "2014-05-10T10:00:00Z,1.38675,1.38686",  # Saturday
    )
    events, source = read(path, "EURUSD")
    quote = EventFlag.NO_SIZE | EventFlag.NO_DEPTH
    assert events["flags"].tolist() == [quote | VISIBLE, quote | VISIBLE, quote | VISIBLE, quote, quote]
    assert events["ts"][0] == np.datetime64("2014-05-05T09:59:59", "ns").astype(np.int64)  # put in its place
    assert events["bid_px"][:, 0].tolist() == [138675, 138676, 138675, 138675, 138675]
    assert not events["bid_sz"].any()
    assert not events["bid_px"][:, 1:].any()
    assert [(s.row, s.reason) for s in sorted(source.counts.samples, key=lambda s: s.row)] == [
        (2, Quarantine.DUPLICATE),
        (5, Quarantine.LOCKED),
        (6, Quarantine.CROSSED),
        (7, Quarantine.ABSURD_PRICE),
        (8, Quarantine.ONE_SIDED),
        (9, Quarantine.ABSURD_PRICE),
        (11, Quarantine.CLOSED_HOURS),
    ]


def test_quotes_with_sizes_in_millions(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "quotes.csv",
        "ts_utc,bid,ask,bid_vol_m,ask_vol_m",
        "2019-02-04T00:00:00.994Z,1.14543,1.14545,2.06,1.0",
        "2019-02-04T00:00:01.994Z,1.14543,1.14545,0,1.0",
        "2019-02-04T00:00:02.994Z,1.14543,1.14545,-1,1.0",
        "2019-02-04T00:00:03.994Z,1.14543,1.14545,nan,1.0",
        "2019-02-04T00:00:04.994Z,1.14543,1.14545,2.06,0.999999",
    )
    events, source = read(path, "EURUSD")
    sized = EventFlag.NO_DEPTH | VISIBLE
    unsized = sized | EventFlag.NO_SIZE
    assert events["flags"].tolist() == [sized, unsized, unsized ^ VISIBLE, sized]
    sizes = [(int(e["bid_sz"][0]), int(e["ask_sz"][0])) for e in events]
    assert sizes == [(2060, 1000), (0, 0), (0, 0), (2060, 999)]  # lots of 1,000 units, whole ones
    assert source.counts.quarantined == {Quarantine.ABSURD_SIZE: 1}


def test_new_york_time_is_known_by_the_column(tmp_path: Path) -> None:
    path = write(
        tmp_path, "q.csv", "ts_et,bid,ask", "2014-01-06T10:00:00,1.3,1.4", "2014-07-07T10:00:00,1.3,1.4"
    )
    rows = path.read_text().splitlines()
    events = [read(write(tmp_path, f"{i}.csv", rows[0], rows[i]), "EURUSD")[0] for i in (1, 2)]
    stamps = [np.datetime64(int(e["ts"][0]), "ns").astype(str)[:19] for e in events]
    assert stamps == ["2014-01-06T15:00:00", "2014-07-07T14:00:00"]


# --- books of several levels with trades

HEADER = "ts_utc,bid_px_0,bid_qty_0,ask_px_0,ask_qty_0,bid_px_1,bid_qty_1,ask_px_1,ask_qty_1"


def gold_book(second: str, bid: str = "1995.6000000000001", size: int = 5) -> str:
    return f"2023-05-01T10:00:{second}Z,{bid},{size},1995.8000000000002,6,1995.5,1,1995.9,10"


def gold_trade(second: str, side: str, px: str, qty: int) -> str:
    return f"2023-05-01T10:00:{second}Z,id,{side},{px},{qty}"


def test_trades_join_the_book_of_their_instant(tmp_path: Path) -> None:
    book = write(
        tmp_path,
        "GC_book5.csv",
        HEADER,
        gold_book("00.100"),
        gold_book("00.200", size=4),
        gold_book("00.300", size=3),
        gold_book("00.400", size=3),
    )
    write(
        tmp_path,
        "GC_trades.csv",
        "ts_utc,trade_id,side,px,qty",
        gold_trade("00.050", "O", "1995.8", 1),  # before any book
        gold_trade("00.200", "O", "1995.8000000000002", 2),
        gold_trade("00.200", "B", "1995.6", 1),
        gold_trade("00.200", "B", "1995.5", 3),
        gold_trade("00.250", "B", "1995.5", 7),
        gold_trade("00.400", "O", "1995.8", 1),
        gold_trade("00.500", "O", "1995.8", 1),
        gold_trade("00.500", "X", "1995.8", 1),
        gold_trade("00.500", "O", "1995.8", -1),
        gold_trade("00.500", "O", "1995.85", 1),
        gold_trade("00.500", "O", "19.8", 1),
    )
    events, source = read(book, "GC")
    assert [
        (e["flags"], e["trade_qty"], e["trade_px"], e["trade_qty_last"], e["bid_sz"][0]) for e in events
    ] == [
        (VISIBLE, 0, 0, 0, 5),
        (TRADE, 2, 19958, 2, 5),  # a run of the other side, with the book before
        (VISIBLE | TRADE, -4, 19955, 3, 4),
        (TRADE, -7, 19955, 7, 4),
        (VISIBLE, 0, 0, 0, 3),
        (TRADE, 1, 19958, 1, 3),  # joins a book that is as it was
        (TRADE, 1, 19958, 1, 3),
    ]
    assert source.counts.merged == 3
    assert source.counts.quarantined == {
        Quarantine.ONE_SIDED: 1,
        Quarantine.MALFORMED: 1,
        Quarantine.ABSURD_SIZE: 1,
        Quarantine.ABSURD_PRICE: 2,
    }
    texts = {s.reason: s.text for s in source.counts.samples}
    assert texts[Quarantine.MALFORMED] == gold_trade("00.500", "X", "1995.8", 1)
    alone, _ = read(write(tmp_path, "alone.csv", *book.read_text().splitlines()), "GC")
    assert alone["flags"].tolist() == [VISIBLE, VISIBLE, VISIBLE, 0]


@given(
    books=st.lists(st.integers(0, 30), min_size=1, max_size=40),
    trades=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(("buy", "sell"))), max_size=40),
    batch=st.sampled_from([1, 3, 16_384]),
)
@settings(max_examples=40)
def test_merging_keeps_every_row_and_the_order_of_time(
    tmp_path_factory: pytest.TempPathFactory, books: list[int], trades: list[tuple[int, str]], batch: int
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    rows = [gold_book(f"{s:02d}.000", size=i + 1) for i, s in enumerate(sorted(books))]
    book = write(folder, "GC_book5.csv", HEADER, *rows)
    ordered = sorted(trades, key=lambda trade: trade[0])
    lines = [gold_trade(f"{s:02d}.000", side, "1995.7", 1) for s, side in ordered]
    write(folder, "GC_trades.csv", "ts_utc,trade_id,side,px,qty", *lines)
    with pytest.MonkeyPatch.context() as patch:
        for module in (merged, table):
            patch.setattr(module, "BATCH", batch)
        if not lines:
            (folder / "GC_trades.csv").unlink()
        events, source = read(book, "GC")
    assert source.counts.rows == len(books) + len(trades)
    early = sum(1 for s, _ in trades if s < min(books)) + sum(1 for s, _ in trades if s == min(books))
    assert source.counts.quarantined.total() == early
    # all trades that have a book, bought less sold, are in the events
    signs = {"buy": 1, "sell": -1}
    assert events["trade_qty"].sum() == sum(signs[side] for s, side in trades if s > min(books))
    assert (events["flags"] & VISIBLE != 0).sum() == len(books)


def test_sides_of_other_vendors(tmp_path: Path) -> None:
    book = write(tmp_path, "X_book.csv", HEADER, gold_book("00.100"))
    for word, qty in (("buy", 1), ("sell", -1), ("O", 1), ("S", -1), ("A", -1), ("ask", -1)):
        lines = [gold_trade("00.200", word, "1995.7", 1)]
        write(tmp_path, "X_trades.csv", "ts_utc,trade_id,side,px,qty", *lines)
        assert read(book, "GC")[0]["trade_qty"].tolist() == [0, qty]
    write(tmp_path, "X_trades.csv", "ts_utc,trade_id,side,px,qty", gold_trade("00.200", "up", "1995.7", 1))
    with pytest.raises(DataError, match="column 'side' holds 'up'"):
        read(book, "GC")


# --- an exchange's events


def test_exchange_events_rebuild_the_book(tmp_path: Path) -> None:
    def line(second: str, *fields: str) -> str:
        return f"2015-01-29T09:30:{second}," + ",".join(fields)

    path = write(
        tmp_path,
        "X_exchange_events.csv",
        "ts_et,event,order_id,side,px,qty,fill_px",
        line("00.1", "LIMIT_ORDER", "1", "B", "200.0", "40", ""),
        line("00.2", "LIMIT_ORDER", "2", "S", "200.1", "30", ""),
        line("00.3", "LIMIT_ORDER", "3", "S", "200.2", "50", ""),
        line("00.4", "MARKET_ORDER", "9", "B", "", "10", ""),
        line("00.4", "ORDER_EXECUTED", "2", "S", "200.1", "10", "200.1"),
        line("00.5", "LIMIT_ORDER", "4", "B", "200.15", "25", ""),
        line("00.5", "ORDER_EXECUTED", "2", "S", "200.1", "20", "200.1"),
        line("00.6", "CANCEL_ORDER", "4", "B", "200.15", "5", ""),
        line("00.6", "ORDER_CANCELLED", "4", "B", "200.15", "5", ""),
        line("00.7", "ORDER_CANCELLED", "77", "B", "200.15", "5", ""),
        line("00.8", "NO_SUCH_EVENT", "77", "B", "200.15", "5", ""),
        line("00.9", "LIMIT_ORDER", "5", "B", "200.05", "-5", ""),
    )
    events, source = read(path, "TSLA")
    tops = [(e["bid_px"][0], e["bid_sz"][0], e["ask_px"][0], e["ask_sz"][0]) for e in events]
    assert tops == [
        (20000, 40, 20010, 30),
        (20000, 40, 20010, 30),
        (20000, 40, 20010, 20),
        (20015, 5, 20020, 50),  # what was left of the buy order rests
        (20000, 40, 20020, 50),
    ]
    assert events["trade_qty"].tolist() == [0, 0, 10, 20, 0]
    assert source.counts.merged == 3
    assert source.counts.quarantined == {
        Quarantine.ONE_SIDED: 1,
        Quarantine.UNKNOWN_ORDER: 1,
        Quarantine.MALFORMED: 1,
        Quarantine.ABSURD_SIZE: 1,
    }
    bbo = write(tmp_path, "X_bbo.csv", "ts_et,what,px,qty", "2015-01-29T09:30:00.1,bid,200.0,40")
    assert (read(bbo, "TSLA")[0] == events).all()


# --- SGX


def test_sgx_blocks(tmp_path: Path) -> None:
    def block(second: str, *levels: str) -> list[str]:
        return [f"TimeStamp,2014-01-09D09:00:{second}", *levels]

    good = ("667500.0,1.0,683000.0,2.0", "660000.0,100.0,684500.0,2.0", "640000.0,100.0,686000.0,2.0")
    path = write(
        tmp_path,
        "sgx.csv",
        "Bid,Bid_Quantity,Ask,Ask_Quantity",
        *block("00.130972200", *good),
        *block("01.0", good[0]),
        *block("02.0", "667500.0,1.0,667500.0,2.0"),
        *block("03.0", "667600.0,1.0,683000.0,2.0"),
        *block("04.0", "667500.0,1.0"),
        *block("05.0", *good),
        *block("05.0", *good),
        "TimeStamp,yesterday",
        good[0],
        *block("06.0", ",,683000.0,2.0"),
    )
    events, source = read(path, "A50")
    assert events["n_bid"].tolist() == [3, 1, 3]
    assert events["bid_px"][0, :3].tolist() == [1335, 1320, 1280]  # 6675.00 in ticks of 5 points
    assert events["ask_sz"][0, :3].tolist() == [2, 2, 2]
    assert np.datetime64(int(events["ts"][0]), "ns").astype(str) == "2014-01-09T01:00:00.130972200"
    assert [(s.row, s.reason) for s in sorted(source.counts.samples, key=lambda s: s.row)] == [
        (2, Quarantine.LOCKED),
        (3, Quarantine.ABSURD_PRICE),
        (4, Quarantine.MALFORMED),
        (6, Quarantine.DUPLICATE),
        (7, Quarantine.MALFORMED),
        (8, Quarantine.ONE_SIDED),
    ]


# --- Binance


class BinanceFile:
    """Writes raw lines of a spot symbol."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, message: dict[str, object]) -> "BinanceFile":
        stamp = 1_723_161_253_000_000_000 + len(self.lines) * 1_000_000
        self.lines.append(f"{stamp} {json.dumps(message)}")
        return self

    def snapshot(self, last: int, bid: str = "100.00", ask: str = "101.00") -> "BinanceFile":
        return self.line(
            {"lastUpdateId": last, "bids": [[bid, "1.0"], ["99.00", "2.0"]], "asks": [[ask, "3.0"]]}
        )

    def depth(
        self, first: int, last: int, bids: list[list[str]], asks: list[list[str]], **more: int
    ) -> "BinanceFile":
        data = {"e": "depthUpdate", "U": first, "u": last, **more, "b": bids, "a": asks}
        return self.line({"stream": "btcusdt@depth@100ms", "data": data})

    def ticker(self, u: int, bid: str, bid_sz: str, ask: str, ask_sz: str) -> "BinanceFile":
        data = {"u": u, "b": bid, "B": bid_sz, "a": ask, "A": ask_sz}
        return self.line({"stream": "btcusdt@bookTicker", "data": data})

    def trade(self, time: int, px: str, qty: str, maker_bought: bool) -> "BinanceFile":
        return self.line(
            {"stream": "btcusdt@trade", "data": {"T": time, "p": px, "q": qty, "m": maker_bought}}
        )

    def read(self, folder: Path) -> tuple[list[tuple[int, ...]], Recording]:
        events, source = read(write(folder, "lines.jsonl", *self.lines), "BTCUSDT")
        fields = [
            (e["flags"], e["bid_px"][0], e["bid_sz"][0], e["ask_px"][0], e["ask_sz"][0], e["trade_qty"])
            for e in events
        ]
        return fields, source


LOT = 100_000  # lots of one BTC


def test_binance_depth_starts_with_the_snapshot_and_takes_the_newer_of_depth_and_ticker(
    tmp_path: Path,
) -> None:
    file = BinanceFile()
    file.depth(1, 5, [["100.00", "9.0"]], [])  # before the snapshot, and in it
    file.depth(6, 11, [["100.50", "4.0"]], [])  # reaches beyond it
    file.snapshot(10)
    file.depth(12, 14, [["100.50", "0"]], [["100.90", "0.5"]])
    file.ticker(20, "100.00", "1.5", "101.00", "3.0")  # 100.90 is gone
    file.ticker(19, "1.00", "1", "2.00", "1")  # older than the one before
    file.depth(15, 18, [["100.00", "7.0"]], [["100.90", "0.7"]])  # older than the ticker at the top
    file.trade(5, "100.00", "0.5", True).trade(5, "100.00", "0.25", True).trade(5, "101.00", "0.5", False)
    file.depth(19, 25, [["100.20", "0.00000001"]], [])  # less than a lot is no level
    file.ticker(26, "100.10", "0.00002999", "101.00", "3.0")
    rows, source = file.read(tmp_path)
    assert rows == [
        (VISIBLE | GAP, 10050, 4 * LOT, 10100, 3 * LOT, 0),
        (VISIBLE, 10000, LOT, 10090, LOT // 2, 0),
        (VISIBLE, 10000, LOT * 3 // 2, 10100, 3 * LOT, 0),
        (0, 10000, LOT * 3 // 2, 10100, 3 * LOT, 0),
        (TRADE, 10000, LOT * 3 // 2, 10100, 3 * LOT, -LOT * 3 // 4),
        (TRADE, 10000, LOT * 3 // 2, 10100, 3 * LOT, LOT // 2),
        (0, 10000, LOT * 3 // 2, 10100, 3 * LOT, 0),
        (VISIBLE, 10010, 2, 10100, 3 * LOT, 0),
    ]
    assert source.counts.quarantined == {Quarantine.UNKNOWN_ORDER: 2}
    assert source.counts.merged == 2  # the older ticker, and the second trade of a sweep


def test_binance_a_gap_makes_the_book_wait_for_the_next_snapshot(tmp_path: Path) -> None:
    file = BinanceFile().snapshot(10)
    file.depth(11, 12, [["100.10", "1.0"]], [])
    file.depth(14, 15, [["100.20", "1.0"]], [])  # 13 is missing
    file.depth(16, 17, [["100.30", "1.0"]], [])
    file.snapshot(16)
    file.depth(18, 19, [["100.40", "1.0"]], [])
    rows, source = file.read(tmp_path)
    assert [(row[0], row[1]) for row in rows] == [
        (VISIBLE | GAP, 10000),
        (VISIBLE, 10010),
        (VISIBLE | GAP, 10030),
        (VISIBLE, 10040),
    ]
    assert source.counts.quarantined == {Quarantine.UNKNOWN_ORDER: 2}


def test_binance_futures_follow_by_pu(tmp_path: Path) -> None:
    file = BinanceFile().snapshot(10)
    file.depth(8, 12, [["100.10", "1.0"]], [], pu=7)
    file.depth(15, 20, [["100.20", "1.0"]], [], pu=12)
    file.depth(25, 30, [["100.30", "1.0"]], [], pu=24)  # one is missing
    rows, source = file.read(tmp_path)
    assert [row[1] for row in rows] == [10000, 10010, 10020]
    assert source.counts.quarantined == {Quarantine.UNKNOWN_ORDER: 1}


def test_binance_bad_lines(tmp_path: Path) -> None:
    file = BinanceFile().snapshot(10)
    file.trade(1, "0", "1", False).trade(2, "100.005", "1", False).trade(3, "100.00", "0", False)
    file.trade(4, "oops", "1", False).line({"stream": "btcusdt@kline", "data": {}})
    file.lines += ["1723161260000000000 {half a li", "no stamp {}"]
    file.lines.insert(1, file.lines[0].replace("17231612530", "17231612520"))
    rows, source = file.read(tmp_path)
    assert len(rows) == 1
    assert source.counts.quarantined == {
        Quarantine.ABSURD_PRICE: 2,
        Quarantine.ABSURD_SIZE: 1,
        Quarantine.MALFORMED: 2,  # another stream's message is none of ours and no fault
        Quarantine.BACKWARDS: 1,
    }


# --- Databento

LAST, SNAPSHOT = 128, 32


class Dbn:
    """Writes MBO records."""

    def __init__(self, version: int = 1) -> None:
        metadata = b"\0" * 100
        self.data = b"DBN" + bytes([version]) + struct.pack("<I", len(metadata)) + metadata
        self.now = 1_703_547_000_000_000_000  # Monday 23:30 UTC, Globex is open
        self.rows = 0

    def add(
        self,
        action: str,
        side: str,
        key: int,
        price: float,
        size: int,
        flags: int = LAST,
        instrument: int = 7,
    ) -> "Dbn":
        self.now += 1000
        head = struct.pack("<BBHIq", 14, 160, 1, instrument, self.now)
        body = struct.pack("<qqIBB", key, round(price * 1e9), size, flags, 0)
        tail = action.encode() + side.encode() + struct.pack("<qiI", self.now + 500, 0, self.rows)
        self.data += head + body + tail
        self.rows += 1
        return self

    def note(self) -> "Dbn":
        """A record of another type."""
        self.data += struct.pack("<BBHIq", 5, 23, 1, 0, self.now) + b"\0" * 4
        self.rows += 1
        return self

    def write(self, folder: Path) -> Path:
        path = folder / "es.dbn"
        path.write_bytes(self.data)
        return path


def dbn() -> Dbn:
    file = Dbn()
    file.add("A", "B", 1, 4800.00, 5, SNAPSHOT).add("A", "A", 2, 4800.25, 4, SNAPSHOT)
    return file.add("A", "A", 3, 4800.50, 6)


def test_mbo_rebuilds_the_book_event_by_event(tmp_path: Path) -> None:
    file = dbn()
    file.note()
    file.add("T", "B", 9, 4800.25, 4, 0).add("F", "A", 2, 4800.25, 4, 0)
    file.add("T", "B", 9, 4800.50, 2, 0).add("F", "A", 3, 4800.50, 2, 0)
    file.add("C", "A", 2, 4800.25, 4, 0).add("M", "A", 3, 4800.50, 4)
    file.add("M", "B", 1, 4800.25, 3)  # moves up, smaller
    file.add("C", "B", 1, 4800.25, 2)
    file.add("C", "B", 99, 4800.25, 2)  # never seen
    file.add("A", "B", 4, 4800.3, 2)  # off the grid
    file.add("T", "N", 0, 4800.50, 8, 0).add("A", "B", 5, 4800.0, 1)
    events, source = read(file.write(tmp_path), "ES")
    tops = [(e["flags"], e["bid_px"][0], e["bid_sz"][0], e["ask_px"][0], e["ask_sz"][0]) for e in events]
    assert tops == [
        (VISIBLE | GAP, 19200, 5, 19201, 4),
        (VISIBLE | TRADE, 19200, 5, 19202, 4),
        (VISIBLE, 19201, 3, 19202, 4),
        (VISIBLE, 19201, 1, 19202, 4),
        (VISIBLE | TRADE | EventFlag.AUCTION, 19201, 1, 19202, 4),
    ]
    assert (events[1]["trade_qty"], events[1]["trade_px"], events[1]["trade_qty_last"]) == (6, 19202, 2)
    assert (events[-1]["trade_qty"], events[-1]["trade_px"]) == (8, 19202)
    assert (events["ts_recv"] - events["ts"] == 500).all()
    assert source.counts.quarantined == {Quarantine.UNKNOWN_ORDER: 1, Quarantine.ABSURD_PRICE: 1}
    assert source.counts.rows == file.rows


def test_mbo_clear_empties_the_book(tmp_path: Path) -> None:
    file = dbn().add("R", "N", 0, 0, 0, 0).add("A", "B", 1, 4790.0, 1).add("A", "A", 2, 4791.0, 1)
    events, source = read(file.write(tmp_path), "ES")
    assert events["bid_px"][:, 0].tolist() == [19200, 19160]
    assert events["n_ask"].tolist() == [2, 1]
    assert source.counts.quarantined == {Quarantine.ONE_SIDED: 1}


def test_broken_dbn_files_end_in_one_line(tmp_path: Path) -> None:
    whole = dbn().add("A", "A", 4, 4800.50, 6)
    path = whole.write(tmp_path)
    path.write_bytes(whole.data[:-10])
    with pytest.raises(DataError, match=r"es.dbn: the file is cut off in the middle of a record"):
        read(path, "ES")
    path.write_bytes(whole.data[:20])
    with pytest.raises(DataError, match="cut off in its metadata"):
        read(path, "ES")
    with pytest.raises(DataError, match="holds several instruments"):
        read(dbn().add("A", "A", 4, 4800.50, 6, instrument=8).write(tmp_path), "ES")
    path.write_bytes(Dbn().data)
    with pytest.raises(DataError, match="holds no records"):
        read(path, "ES")
    with pytest.raises(DataError, match="none of which is MBO"):
        read(Dbn().note().write(tmp_path), "ES")
