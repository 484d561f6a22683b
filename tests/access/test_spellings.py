"""The same market, however it is written, gives the same events."""

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
import zstandard

from emp.access.recordings import packing
from emp.access.recordings.container import Item
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from tests.access.reading import read
from tests.access.spelled import BASE, PACKED, SPELLINGS, lines, plain, quotes, stamp, truth, write

EASTERN_NS = 5 * 3_600 * 1_000_000_000


def tops(path: Path, instrument: str = "EURUSD") -> np.ndarray:
    events, _ = read(path, instrument, accept_losses=False)
    return np.column_stack((events["ts"], events["bid_px"][:, 0], events["ask_px"][:, 0]))


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_spelling(tmp_path: Path, name: str) -> None:
    found = tops(write(tmp_path, "q.txt", SPELLINGS[name]))
    expected = truth()
    if name == "histdata":
        expected[:, 0] += EASTERN_NS
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", PACKED)
def test_a_packing(tmp_path: Path, name: str) -> None:
    assert np.array_equal(tops(write(tmp_path, "q.bin", PACKED[name])), truth())


def test_sizes_in_millions_and_in_units(tmp_path: Path) -> None:
    for name in ("jforex", "dukascopy-node", "cells"):
        events, _ = read(write(tmp_path, f"{name}.csv", SPELLINGS[name]), "EURUSD")
        assert events["bid_sz"][:, 0].tolist() == [q.bid_sz for q in quotes()]
        assert events["ask_sz"][:, 0].tolist() == [q.ask_sz for q in quotes()]


def test_neighbours_that_are_swapped_are_put_in_order(tmp_path: Path) -> None:
    rows = SPELLINGS["base"].splitlines()
    for i in range(1, len(rows) - 1, 2):
        rows[i], rows[i + 1] = rows[i + 1], rows[i]
    assert np.array_equal(tops(write(tmp_path, "q.csv", "\n".join(rows))), truth())


@pytest.mark.parametrize("seconds", [30, 86_400 * 400])
def test_a_stamp_far_ahead_costs_its_own_row(tmp_path: Path, seconds: int) -> None:
    rows = SPELLINGS["epoch-ms"].splitlines()
    first, rest = rows[60].split(",", 1)
    rows[60] = f"{int(first) + 1000 * seconds},{rest}"
    events, source = read(write(tmp_path, "q.csv", "\n".join(rows)), "EURUSD", accept_losses=False)
    assert len(events) == len(quotes()) - 1
    assert source.counts.quarantined == {Quarantine.AHEAD: 1}
    assert source.counts.samples[0].text == rows[60]


@pytest.mark.parametrize("days", [7, 14, 350])
def test_a_hole_of_any_length_is_a_hole(tmp_path: Path, days: int) -> None:
    rows = SPELLINGS["epoch-ms"].splitlines()
    for i in range(61, len(rows)):
        first, rest = rows[i].split(",", 1)
        rows[i] = f"{int(first) + days * 86_400_000},{rest}"
    found = tops(write(tmp_path, "q.csv", "\n".join(rows)))
    assert len(found) == len(quotes())
    assert np.diff(found[:, 0]).max() > (days - 1) * 86_400 * 10**9


def test_the_clock_of_new_york_over_both_changes(tmp_path: Path) -> None:
    def tops_of(*stamps: str) -> list[str]:
        text = "ts_et,bid,ask\n" + "".join(f"{s},6000{i}.00,6000{i}.05\n" for i, s in enumerate(stamps))
        found = tops(write(tmp_path, "b.csv", text), "BTCUSDT")
        return [str(np.datetime64(int(ts), "ns"))[11:16] for ts in found[:, 0]]

    spring = ("2024-03-10 01:50:00", "2024-03-10 01:59:59", "2024-03-10 03:00:00", "2024-03-10 03:10:00")
    assert tops_of(*spring) == ["06:50", "06:59", "07:00", "07:10"]
    autumn = ("2024-11-03 01:10:00", "2024-11-03 01:50:00", "2024-11-03 01:05:00", "2024-11-03 02:00:00")
    assert tops_of(*autumn) == ["05:10", "05:50", "06:05", "07:00"]


def test_day_or_month_first_is_told_by_the_dates_or_not_at_all(tmp_path: Path) -> None:
    both = lines("time,bid,ask", lambda q: f"{stamp(q, '%d/%m/%Y %H:%M:%S.%f')},{q.bid_text},{q.ask_text}")
    with pytest.raises(DataError, match="day or month first cannot be told"):
        read(write(tmp_path, "q.csv", both), "EURUSD")
    told = both.replace("06/03/2024", "26/03/2024")
    assert str(np.datetime64(int(tops(write(tmp_path, "q.csv", told))[0, 0]), "ns"))[:10] == "2024-03-26"


def test_the_first_rows_may_be_empty_and_some_later_ones(tmp_path: Path) -> None:
    rows = SPELLINGS["base"].splitlines()
    for i in (*range(1, 20), 50, 60):
        at, _, ask = rows[i].split(",")
        rows[i] = f"{at},{'' if i < 10 else 'nan'},{ask}"
    events, source = read(write(tmp_path, "q.csv", "\n".join(rows)), "EURUSD", accept_losses=False)
    assert len(events) == len(quotes()) - 21
    assert source.counts.quarantined == {Quarantine.ONE_SIDED: 21}


def test_more_than_a_small_share_is_refused_unless_losses_are_accepted(tmp_path: Path) -> None:
    rows = SPELLINGS["base"].splitlines()
    for i in range(1, 21):
        rows[i] = rows[i].replace(",", ",x", 1)
    path = write(tmp_path, "q.csv", "\n".join(rows))
    with pytest.raises(
        DataError, match=r"20 of 120 rows cannot be read.*row 0: .*5% is refused unless --accept-losses"
    ):
        read(path, "EURUSD", accept_losses=False)
    events, source = read(path, "EURUSD")
    assert len(events) == 100
    assert source.counts.losses()["malformed"]["n"] == 20
    assert source.counts.losses()["malformed"]["sample"][0].startswith("row 0: 2024-03-06")


def test_prices_finer_than_the_tick_are_named(tmp_path: Path) -> None:
    finer = lines("ts_utc,bid,ask", lambda q: f"{stamp(q)},{q.bid / 1e5 + 4e-6:.6f},{q.ask / 1e5:.6f}")
    with pytest.raises(DataError, match="the tick of EURUSD is 1e-05; prices are in 1e-06"):
        read(write(tmp_path, "q.csv", finer), "EURUSD", accept_losses=False)


def test_bars_are_no_recording(tmp_path: Path) -> None:
    text = "timestamp,open,high,low,close,volume\n" + "2024-03-06 10:00:00,1.1,1.2,1.0,1.15,5\n" * 5
    with pytest.raises(DataError, match=r"bars .* hold no book; needed are ticks"):
        read(write(tmp_path, "q.csv", text), "EURUSD")


def unpack(path: Path) -> None:
    with Item(path).open() as stream:
        while stream.read():
            pass


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "RATIO_FROM", 1 << 20)
    for pack in (gzip.compress, lzma.compress, zstandard.ZstdCompressor().compress):
        monkeypatch.setattr(packing, "MAX_RATIO", 500)
        path = write(tmp_path, "q.csv", pack(b"ts_utc,bid,ask\n" * 2 + bytes(1 << 24)))
        with pytest.raises(DataError, match="unpacks to more than 500 times its size"):
            unpack(path)
        with pytest.raises(DataError):
            read(path, "EURUSD")


def test_other_instruments_of_a_file_are_left_out(tmp_path: Path) -> None:
    text = "symbol,timestamp,bid,ask\n"
    for q in quotes():
        text += f"EUR/USD,{q.ms},{q.bid_text},{q.ask_text}\nGBPUSD,{q.ms},1.30000,1.30010\n"
    path = write(tmp_path, "q.csv", text)
    events, source = read(path, "EURUSD", accept_losses=False)
    assert events["bid_px"][:, 0].tolist() == [q.bid for q in quotes()]
    assert source.counts.quarantined == {Quarantine.OTHER_INSTRUMENT: len(quotes())}
    with pytest.raises(DataError, match="holds EUR/USD, GBPUSD, not USDJPY"):
        read(path, "USDJPY")


def test_the_base_is_what_it_says() -> None:
    assert BASE.decode().splitlines()[1] == plain(quotes()[0])
