"""Files as exports, crashes and collectors leave them: the right book, or one line that says what is wrong."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from emp.access.recordings import open_recording
from emp.access.recordings.source import Recording
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.instrument import find
from emp.core.records import Array

ROWS = 250
RNG = np.random.default_rng(8)
STEPS = RNG.integers(-3, 4, ROWS).cumsum().tolist()
START = datetime(2024, 3, 26, 15, 0, tzinfo=UTC)
STAMPS = [START + timedelta(milliseconds=250 * i) for i in range(ROWS)]


def read(folder: Path, instrument: str, files: dict[str, str | bytes]) -> tuple[Array, Recording]:
    """The events of files, of which the first is named."""
    for name, data in files.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    source = open_recording(folder / next(iter(files)), find(instrument))
    assert isinstance(source, Recording)
    return np.concatenate(list(source.batches())), source


def tops(events: Array) -> list[tuple[int, int]]:
    return list(zip(events["bid_px"][:, 0].tolist(), events["ask_px"][:, 0].tolist(), strict=True))


def table(head: str, row: str, base: int, scale: float, places: int) -> str:
    """A csv of quotes around `base` ticks, two ticks wide; a price is ticks times scale."""
    lines = [head]
    for stamp, step in zip(STAMPS, STEPS, strict=True):
        bid, ask = (f"{(base + step + off) * scale:.{places}f}" for off in (0, 2))
        lines.append(row.format(t=stamp.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3], at=stamp, bid=bid, ask=ask))
    return "\n".join(lines) + "\n"


def euro(head: str = "time,bid,ask", row: str = "{t},{bid},{ask}") -> str:
    return table(head, row, 108_500, 1e-5, 5)


EURO = [(108_500 + step, 108_502 + step) for step in STEPS]


@pytest.mark.parametrize(
    "text",
    [
        "# source: a broker\n# zone: UTC\n" + euro(),
        "Export of a broker\nAccount: 12345\n\n" + euro(),
        b"\xef\xbb\xbf# with a mark\n" + euro().encode(),
        ("Ticks\n" + euro()).encode("utf-16"),
        euro("Time (UTC),Bid,Ask"),
        euro("Time (GMT);Bid;Ask", "{t};{bid};{ask}"),
        euro("time,bid,ask,bid_price,ask_price", "{t},500000,700000,{bid},{ask}"),
    ],
)
def test_tables_under_titles_and_odd_headers(text: str | bytes, tmp_path: Path) -> None:
    events, source = read(tmp_path, "EURUSD", {"a.csv": text})
    assert tops(events) == EURO
    assert source.counts.quarantined.total() == 0


@pytest.mark.parametrize("batch", [ROWS - 1, 4096])
@pytest.mark.parametrize("lost", range(1, 12))
def test_a_last_price_that_was_cut_off_is_no_price(
    lost: int, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emp.access.recordings.table.BATCH", batch)
    events, source = read(tmp_path, "EURUSD", {"a.csv": euro()[:-lost]})
    whole = lost == 1  # nothing but the newline is gone
    assert tops(events) == EURO[: ROWS - (not whole)]
    assert source.counts.quarantined.total() == (not whole)


@pytest.mark.parametrize(
    ("instrument", "text", "why"),
    [
        (
            "EURUSD",
            table("time,bid,ask", "{t},{bid},{ask}", 108_500, 1, 0),
            "whole multiples of 1, and the tick",
        ),
        (
            "AAPL",
            table("time,bid,ask", "{t},{bid},{ask}", 19_000, 1, 0),
            "whole multiples of 1, and the tick",
        ),
        (
            "XAUUSD",
            euro("time;bid;ask", "{t};{bid};{ask}").replace(";1.08", ";2,108."),
            "separators between thousands",
        ),
        ("BTCUSDT", euro().replace(",1.0", ",61'108."), "separators between thousands"),
        (
            "EURUSD",
            json.dumps([{"time": "2024-03-06T10:00:00Z", "bid": 1.08, "ask": 1.09}] * 9),
            "one JSON document",
        ),
        ("EURUSD", json.dumps({"a": 1, "bids": [[1, 2]]}, indent=1), "one JSON document"),
        ("EURUSD", b"SQLite format 3\0" + bytes(4000), "not a recording"),
    ],
)
def test_what_is_refused_in_one_line(instrument: str, text: str | bytes, why: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=why) as error:
        read(tmp_path, instrument, {"a.csv": text})
    assert str(error.value).isprintable()


def test_coarse_prices_with_a_unit_or_a_few_round_ones_are_read(tmp_path: Path) -> None:
    few = "time,bid,ask\n" + "".join(
        f"2024-03-26 15:00:{i:02},{190 + i % 5},{191 + i % 5}\n" for i in range(50)
    )
    events, _ = read(tmp_path, "AAPL", {"few.csv": few})
    assert len(events) == 50


def ticker(step: int, i: int) -> str:
    bid, ask = 6_180_000 + step, 6_180_002 + step
    return json.dumps(
        {
            "u": i + 1,
            "s": "BTCUSDT",
            "b": f"{bid / 100:.2f}",
            "B": "1.5",
            "a": f"{ask / 100:.2f}",
            "A": "2",
            "E": int(STAMPS[i].timestamp() * 1000),
        }
    )


TICKERS = [ticker(step, i) for i, step in enumerate(STEPS)]
COIN = [(6_180_000 + step, 6_180_002 + step) for step in STEPS]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + "\n".join(TICKERS).encode(),
        "\r\n".join(TICKERS).encode("utf-16"),
        "\n".join(TICKERS).encode("utf-16-le"),
        "\n".join(line + " ," for line in TICKERS).encode(),
    ],
)
def test_json_lines_in_other_encodings(data: bytes, tmp_path: Path) -> None:
    events, source = read(tmp_path, "BTCUSDT", {"a.jsonl": data})
    assert tops(events) == COIN
    assert source.counts.quarantined.total() == 0


def test_a_json_list_with_a_message_a_line(tmp_path: Path) -> None:
    events, source = read(tmp_path, "BTCUSDT", {"a.json": "[\n" + ",\n".join(TICKERS) + "\n]\n"})
    assert tops(events) == COIN
    assert source.counts.quarantined == {Quarantine.MALFORMED: 2}  # the brackets


def test_of_two_messages_in_one_line_none_is_lost_unseen(tmp_path: Path) -> None:
    lines = [*TICKERS[:50], TICKERS[50] + TICKERS[51], *TICKERS[52:]]
    events, source = read(tmp_path, "BTCUSDT", {"a.jsonl": "\n".join(lines)})
    assert tops(events) == COIN[:50] + COIN[52:]
    assert source.counts.quarantined == {Quarantine.MALFORMED: 1}


@pytest.mark.parametrize(
    "order", [("price", "size"), ("amount", "price"), ("qty", "px"), ("volume", "price")]
)
def test_levels_that_name_the_size_first(order: tuple[str, str], tmp_path: Path) -> None:
    def level(ticks: int, size: float) -> dict[str, float]:
        price = ticks / 100
        return {name: price if name[0] == "p" else size for name in order}

    lines = [
        json.dumps(
            {
                "ts": int(stamp.timestamp() * 1000),
                "bids": [level(bid - i, 1 + i) for i in range(3)],
                "asks": [level(ask + i, 4 + i) for i in range(3)],
            }
        )
        for stamp, (bid, ask) in zip(STAMPS, COIN, strict=True)
    ]
    events, _ = read(tmp_path, "BTCUSDT", {"a.jsonl": "\n".join(lines)})
    assert tops(events) == COIN
    assert events["bid_sz"][0, :3].tolist() == [100_000, 200_000, 300_000]


def depth(i: int, first: int, last: int) -> str:
    """A difference that leaves nothing but the two best levels."""
    (bid, ask), stamp = COIN[i], STAMPS[i]
    gone = [[f"{p / 100:.2f}", "0"] for p in range(bid - 9, ask + 10)]
    message = {
        "e": "depthUpdate",
        "E": int(stamp.timestamp() * 1000),
        "s": "BTCUSDT",
        "U": first,
        "u": last,
        "b": [*gone, [f"{bid / 100:.2f}", "1"]],
        "a": [*gone, [f"{ask / 100:.2f}", "2"]],
    }
    return f"{int(stamp.timestamp() * 1000)} " + json.dumps({"stream": "btcusdt@depth", "data": message})


def snapshot(i: int, last: int) -> str:
    (bid, ask), stamp = COIN[i], STAMPS[i]
    book = {"lastUpdateId": last, "bids": [[f"{bid / 100:.2f}", "1"]], "asks": [[f"{ask / 100:.2f}", "2"]]}
    return f"{int(stamp.timestamp() * 1000)} " + json.dumps(book)


def test_ids_that_begin_anew_with_a_snapshot_are_a_gap_and_the_book_goes_on(tmp_path: Path) -> None:
    before = [snapshot(0, 5_000), *(depth(i, 5_000 + i, 5_000 + i) for i in range(1, 100))]
    after = [snapshot(100, 10), *(depth(i, i - 90, i - 90) for i in range(101, ROWS))]
    events, source = read(tmp_path, "BTCUSDT", {"a.jsonl": "\n".join([*before, *after])})
    assert tops(events) == COIN
    assert source.counts.gaps == 1


def test_differences_in_utf_16_are_differences(tmp_path: Path) -> None:
    lines = [snapshot(0, 5_000), *(depth(i, 5_000 + i, 5_000 + i) for i in range(1, ROWS))]
    events, _ = read(tmp_path, "BTCUSDT", {"a.jsonl": "\n".join(lines).encode("utf-16")})
    assert tops(events) == COIN
    assert (events["bid_sz"][:, 0] == 100_000).all()


def test_ids_that_begin_anew_without_one_leave_no_frozen_book(tmp_path: Path) -> None:
    before = [snapshot(0, 5_000), *(depth(i, 5_000 + i, 5_000 + i) for i in range(1, 100))]
    after = [depth(i, i - 90, i - 90) for i in range(101, ROWS)]
    with pytest.raises(DataError, match="change a book that is not known"):
        read(tmp_path, "BTCUSDT", {"a.jsonl": "\n".join([*before, *after])})


def test_two_collectors_in_one_file_are_one_stream(tmp_path: Path) -> None:
    one = [snapshot(0, 5_000), *(depth(i, 5_000 + i, 5_000 + i) for i in range(1, ROWS))]
    both = one[:1] + [line for again in one[1:] for line in (again, again)]
    events, source = read(tmp_path, "BTCUSDT", {"a.jsonl": "\n".join(both)})
    assert tops(events) == COIN
    assert source.counts.gaps == 0


def test_trades_of_another_time_than_the_books(tmp_path: Path) -> None:
    books = table("ts,bid,ask", "{t},{bid},{ask}", 19_000, 0.01, 2)
    trades = ["ts,price,size,side"]
    trades += [f"{at - timedelta(hours=5):%Y-%m-%d %H:%M:%S.%f},190.00,3,buy" for at in STAMPS]
    with pytest.raises(DataError, match="none of its trades lies within the time of the books"):
        read(tmp_path, "AAPL", {"AAPL_quotes.csv": books, "AAPL_trades.csv": "\n".join(trades) + "\n"})
