"""Real recordings: every row accounted for, and the book at random moments equal to the recording's own."""

import csv
import gzip
import io
import json
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from emp.access.recordings.source import Recording
from emp.core.codes import EventFlag, Quarantine
from emp.core.ids import generator
from emp.core.instrument import find
from emp.core.records import Array
from tests.access.reading import read
from tests.access.small_market import truth

pytestmark = pytest.mark.real_data

MOMENTS = 1_000
BOOK_FIELDS = ("bid_px", "bid_sz", "ask_px", "ask_sz")
GOOG = "GOOG_2012-06-21_34200000_57600000_{}_10.csv.zst"


def read_market(path: Path | list[Path], instrument: str) -> tuple[Array, Recording]:
    """A recording of a market that is never locked or crossed."""
    events, source = read(path, instrument)
    assert (events["ask_px"][:, 0] > events["bid_px"][:, 0]).all()
    return events, source


def text(path: Path) -> str:
    with path.open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read().decode()


def book_of(event: Array) -> list[list[int]]:
    return [event[field].tolist() for field in BOOK_FIELDS]


def some(n: int) -> list[int]:
    """Indices of random moments."""
    return sorted(generator(0, "moments").choice(n, min(n, MOMENTS), replace=False).tolist())


def test_goog_day(data_dir: Path) -> None:
    events, source = read_market(data_dir / "lobster" / GOOG.format("message"), "GOOG")
    assert source.counts.rows == 147_916
    assert not source.counts.quarantined
    books = text(data_dir / "lobster" / GOOG.format("orderbook")).splitlines()
    for i in some(len(events)):
        assert book_of(events[i]) == [a.tolist() for a in truth(books[events[i]["seq"] - 1])]
    # what was traded is what the messages say, hidden and visible, by the side that took
    messages = csv.reader(io.StringIO(text(data_dir / "lobster" / GOOG.format("message"))))
    traded = sum(-int(m[5]) * int(m[3]) for m in messages if m[1] in "45")
    assert events["trade_qty"].sum() == traded


@pytest.mark.parametrize(
    ("ticker", "pattern", "rows"),
    [("AAPL", "AAPL*message*", 118_497), ("MSFT", "MSFT*message*", 1_000)],
)
def test_other_lobster_days(data_dir: Path, ticker: str, pattern: str, rows: int) -> None:
    path = next((data_dir / "lobster").glob(pattern))
    events, source = read_market(path, ticker)
    assert source.counts.rows == rows
    assert not source.counts.quarantined
    books = text(path.with_name(path.name.replace("message", "orderbook"))).splitlines()
    for i in some(len(events)):
        assert book_of(events[i]) == [a.tolist() for a in truth(books[events[i]["seq"] - 1])]


def test_goog_messages_alone(data_dir: Path, tmp_path: Path) -> None:
    message = tmp_path / GOOG.format("message")
    message.write_bytes((data_dir / "lobster" / GOOG.format("message")).read_bytes())
    events, source = read_market(message, "GOOG")
    assert source.counts.rows == 147_916
    assert set(source.counts.quarantined) <= {Quarantine.UNKNOWN_ORDER, Quarantine.ONE_SIDED}
    books = text(data_dir / "lobster" / GOOG.format("orderbook")).splitlines()
    same = same_early = early = 0
    for event in events[::10]:
        bid, _, ask, _ = truth(books[event["seq"] - 1])
        good = event["bid_px"][0] == bid[0] and event["ask_px"][0] == ask[0]
        same += good
        # in the first minutes nothing has left the ten levels that the file tells of and come back
        if event["ts"] - events["ts"][0] < 5 * 60_000_000_000:
            early += 1
            same_early += good
    assert same_early / early > 0.99
    assert same / len(events[::10]) > 0.85


def test_gold_day(data_dir: Path) -> None:
    path = data_dir / "cme" / "GC_XAUUSD_20230501_book5.csv.zst"
    events, source = read_market(path, "GC")
    assert source.counts.rows == 257_891 + 88_646
    assert source.counts.quarantined == {Quarantine.CLOSED_HOURS: 840, Quarantine.ONE_SIDED: 2}
    rows = [row for row in csv.reader(io.StringIO(text(path))) if row[0][11:13] != "21"][1:]
    stamps = np.array([row[0][:-1] for row in rows], "datetime64[ns]").astype(np.int64)
    last = np.searchsorted(events["ts"], stamps, side="right") - 1
    for i in some(len(rows)):
        values = [float(v) for v in rows[i][1:]]
        event = events[last[i]]
        assert event["ts"] == stamps[i]
        for level in range(5):
            bid, bid_sz, ask, ask_sz = values[4 * level : 4 * level + 4]
            assert [int(event[f][level]) for f in BOOK_FIELDS] == [
                round(bid * 10),
                bid_sz,
                round(ask * 10),
                ask_sz,
            ]
        assert event["n_bid"] == event["n_ask"] == 5
    trades = csv.DictReader(io.StringIO(text(path.with_name(path.name.replace("book5", "trades")))))
    traded = [(1 if t["side"] == "O" else -1) * int(t["qty"]) for t in trades if t["ts_utc"][11:13] != "21"]
    assert events["trade_qty"].sum() == sum(traded[2:])  # two come before the first book


def test_sgx_morning(data_dir: Path) -> None:
    path = data_dir / "sgx" / "SGX_A50_20140109_book3.csv.zst"
    events, source = read_market(path, "A50")
    assert set(source.counts.quarantined) == {
        Quarantine.CROSSED,
        Quarantine.LOCKED,
        Quarantine.DUPLICATE,
        Quarantine.CLOSED_HOURS,
    }
    blocks = [block.split() for block in text(path).split("TimeStamp,")[1:]]
    assert source.counts.rows == len(blocks) == 26_805
    for i in some(len(events)):
        _, *levels = blocks[events[i]["seq"] - 1]
        for level, line in enumerate(levels):
            bid, bid_sz, ask, ask_sz = (float(v) for v in line.split(","))
            assert [int(events[i][f][level]) for f in BOOK_FIELDS] == [bid / 500, bid_sz, ask / 500, ask_sz]


def test_tesla_events_against_the_recorded_best_prices(data_dir: Path) -> None:
    path = data_dir / "tsla" / "TSLA_20150129_0930_1200_exchange_events.csv.zst"
    events, source = read_market(path, "TSLA")
    assert source.counts.rows == 188_461
    assert source.counts.quarantined == {Quarantine.ONE_SIDED: 4}
    best: dict[str, dict[str, tuple[int, int]]] = {}
    now = {"bid": (0, 0), "ask": (0, 0)}
    for row in csv.DictReader(io.StringIO(text(path.with_name(path.name.replace("exchange_events", "bbo"))))):
        now = {**now, row["what"]: (round(float(row["px"]) * 100), int(row["qty"]))}
        best[row["ts_et"]] = now
    stamps = (events["ts"] - 5 * 3600 * 10**9).astype("datetime64[ns]").astype("datetime64[us]").astype(str)
    last = {stamp: i for i, stamp in enumerate(stamps)}
    counted = prices = sizes = 0
    for stamp, top in best.items():
        if stamp in last and min(top["bid"][0], top["ask"][0]) > 0:
            e = events[last[stamp]]
            counted += 1
            prices += (e["bid_px"][0], e["ask_px"][0]) == (top["bid"][0], top["ask"][0])
            sizes += ((e["bid_px"][0], e["bid_sz"][0]), (e["ask_px"][0], e["ask_sz"][0])) == (
                top["bid"],
                top["ask"],
            )
    assert counted > 60_000
    assert prices / counted > 0.999  # the new size of a modified order is not recorded
    assert sizes / counted > 0.99


@pytest.mark.parametrize(
    ("name", "instrument", "crossed", "locked"),
    [
        ("EURUSD_dukascopy_20190204", "EURUSD", 0, 0),
        ("EURUSD_oanda_20140501", "EURUSD", 0, 0),
        ("EURUSD_oanda_20140504", "EURUSD", 0, 0),
        ("EURUSD_oanda_20140509", "EURUSD", 0, 0),
        ("EURUSD_fxcm_20140505", "EURUSD", 4_987, 7_109),
        ("EURUSD_fxcm_20140506", "EURUSD", 9_999, 12_154),
        ("XAUUSD_oanda_20140501", "XAUUSD", 0, 0),
        ("XAUUSD_oanda_20140504", "XAUUSD", 0, 0),
    ],
)
def test_quote_days(data_dir: Path, name: str, instrument: str, crossed: int, locked: int) -> None:
    path = data_dir / "fx_ticks" / f"{name}.csv.zst"
    events, source = read_market(path, instrument)
    expected = Counter({Quarantine.CROSSED: crossed, Quarantine.LOCKED: locked})
    assert +source.counts.quarantined == +expected
    rows = list(csv.DictReader(io.StringIO(text(path))))
    assert source.counts.rows == len(rows)
    sized = "bid_vol_m" in rows[0]
    assert (events["flags"] & EventFlag.NO_DEPTH != 0).all()
    assert (events["flags"] & EventFlag.NO_SIZE == 0).all() == sized
    tick = find(instrument).tick
    for i in some(len(events)):
        row, e = rows[events[i]["seq"] - 1], events[i]
        assert (e["bid_px"][0], e["ask_px"][0]) == (
            round(float(row["bid"]) / tick),
            round(float(row["ask"]) / tick),
        )
        volumes = [round(float(row[f]) * 1000) for f in ("bid_vol_m", "ask_vol_m")] if sized else [0, 0]
        assert [e["bid_sz"][0], e["ask_sz"][0]] == volumes


def test_several_days_in_any_order(data_dir: Path) -> None:
    days = sorted((data_dir / "fx_ticks").glob("EURUSD_oanda_*"), reverse=True)
    events, source = read_market(days, "EURUSD")
    assert len(days) == 8
    assert source.counts.quarantined == {Quarantine.DUPLICATE: 1}
    assert len(events) == sum(len(text(day).splitlines()) - 1 for day in days) - 1


@pytest.mark.parametrize(("name", "instrument"), [("spot", "BTCUSDT"), ("usdm", "BTCUSDT-PERP")])
def test_binance_best_prices_are_those_of_the_ticker(data_dir: Path, name: str, instrument: str) -> None:
    path = next((data_dir / "crypto").glob(f"*{name}*"))
    events, source = read_market(path, instrument)
    with gzip.open(path, "rt") as file:
        lines = file.read().splitlines()
    assert source.counts.rows == len(lines)
    assert set(source.counts.quarantined) == {
        Quarantine.UNKNOWN_ORDER
    }  # what came before the first whole book
    assert len(events) == len(lines) - source.counts.merged - source.counts.quarantined.total()
    assert source.counts.quarantined.total() < 60
    what = find(instrument)
    by_row = dict(zip(events["seq"].tolist(), events, strict=True))
    tickers = {}  # by update id; one comes with every change of the best prices
    depths = []  # update id and row of depth messages that no ticker had overtaken
    newest = 0
    for row, line in enumerate(lines, start=1):
        message = json.loads(line.partition(" ")[2])
        data = message.get("data", {})
        if "@depth" in message.get("stream", "") and newest <= data["u"]:
            depths.append((data["u"], row))
        elif "@bookTicker" in message.get("stream", ""):
            newest = data["u"]
            tickers[newest] = data
    ids = sorted(tickers)
    checked = 0
    for u, row in depths:
        before = bisect_right(ids, u) - 1
        if row in by_row and 0 <= before < len(ids) - 1:
            e, ticker = by_row[row], tickers[ids[before]]
            top = [e[field][0] for field in ("bid_px", "bid_sz", "ask_px", "ask_sz")]
            grid = (what.tick, what.lot, what.tick, what.lot)
            assert top == [round(float(ticker[k]) / g) for k, g in zip("bBaA", grid, strict=True)]
            checked += 1
    assert checked > 1_000


def test_es_orders(data_dir: Path) -> None:
    path = next((data_dir / "databento").glob("*.dbn.zst"))
    events, source = read_market(path, "ES")
    assert source.counts.rows == 68_792
    assert set(source.counts.quarantined) == {
        Quarantine.CLOSED_HOURS
    }  # Christmas Day, until 17:00 Chicago time
    assert events["flags"][0] & EventFlag.AUCTION
    wanted = {int(events["seq"][i]) - 1: i for i in some(len(events))}
    book = PlainBook()
    for row, record in enumerate(decoded(path)):
        book.apply(record)
        if row in wanted:
            assert book_of(events[wanted.pop(row)]) == book.ladders()
    assert not wanted


def decoded(path: Path) -> list[Any]:
    """The records as Databento's own package reads them."""
    dbn = pytest.importorskip("databento_dbn")
    decoder = dbn.DBNDecoder()
    with path.open("rb") as file:
        decoder.write(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read())
    _, *records = decoder.decode()
    return records


class PlainBook:
    """Orders and levels in plain Python."""

    def __init__(self) -> None:
        self.orders: dict[int, tuple[str, int, int]] = {}
        self.levels: dict[str, Counter[int]] = {"B": Counter(), "A": Counter()}

    def apply(self, r: Any) -> None:
        action = str(r.action)
        if action not in "AMC":
            return
        size = r.size
        if action in "MC" and r.order_id in self.orders:
            side, ticks, before = self.orders.pop(r.order_id)
            self.levels[side][ticks] -= before
            if action == "C":
                size = before - r.size
        if size:
            order = str(r.side), round(r.price / 250_000_000), size
            self.orders[r.order_id] = order
            self.levels[order[0]][order[1]] += size

    def ladders(self) -> list[list[int]]:
        """The ten best levels."""
        out = []
        for side, sign in (("B", -1), ("A", 1)):
            held = sorted(sign * ticks for ticks, size in self.levels[side].items() if size)
            best = [sign * key for key in held[:10]]
            out += [best, [self.levels[side][ticks] for ticks in best]]
        return [level + [0] * (10 - len(level)) for level in out]
