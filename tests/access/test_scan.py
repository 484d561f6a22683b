"""The byte parser against Python's own numbers and dates."""

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.access.recordings.lines import Lines
from emp.access.recordings.scan import (
    EPOCH,
    GRID,
    INT,
    LEVEL_PX,
    LEVEL_SZ,
    NO_PRICE,
    OPTIONAL,
    SKIP,
    STAMP,
    WORD,
    Column,
    word,
)
from emp.access.recordings.stamps import HAS_ZONE
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.records import Array

PRICE, SIZE, MALFORMED = Quarantine.ABSURD_PRICE, Quarantine.ABSURD_SIZE, Quarantine.MALFORMED


class Pieces:
    """A stream that hands out so many bytes at a time."""

    def __init__(self, text: str, step: int = 1 << 20) -> None:
        data = text.encode()
        self.pieces = [data[i : i + step] for i in range(0, len(data), step)]

    def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def parse(text: str, *columns: Column, step: int = 1 << 20, rows: int = 100) -> tuple[Array, Array]:
    """All rows and their statuses, read `rows` at a time."""
    lines = Lines(Pieces(text, step), columns, "test", skip_header=False)
    values, status = [], []
    while True:
        out = np.zeros((rows, len(columns)), np.int64)
        n = lines.read(out)
        if n == 0:
            return np.concatenate(values) if values else out[:0], np.array(status)
        values.append(out[:n])
        status += lines.status[:n].tolist()


@given(st.lists(st.integers(-(10**17), 10**17), min_size=1), st.integers(1, 40), st.integers(1, 9))
def test_integers_however_the_bytes_arrive(numbers: list[int], step: int, rows: int) -> None:
    text = "\n".join(map(str, numbers))
    values, status = parse(text, Column(INT, 0), step=step, rows=rows)
    assert values[:, 0].tolist() == numbers
    assert not status.any()


@given(st.integers(-(10**9), 10**9), st.integers(0, 6), st.sampled_from(["", "0", "00", "000000000001"]))
def test_decimals_on_a_grid_are_exact(steps: int, places: int, dust: str) -> None:
    text = str(Decimal(steps).scaleb(-places))
    if "." in text and "E" not in text:
        text += dust
    values, status = parse(text + "\n", Column(GRID, 0, 10.0**places, PRICE))
    assert values[0, 0] == steps
    assert status.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1995.8000000000002", 19958),
        ("1995.6000000000001", 19956),
        ("1e3", 10000),
        ("19958e-1", 19958),
        ("-0.1", -1),
        (".5", 5),
        ("2.", 20),
    ],
)
def test_spellings_of_numbers(text: str, value: int) -> None:
    values, status = parse(text, Column(GRID, 0, 10.0, PRICE))
    assert (values[0, 0], status[0]) == (value, 0)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (LEVEL_PX, "-37.6", -376),
        (LEVEL_PX, "0", 0),
        (LEVEL_PX, "", NO_PRICE),
        (LEVEL_PX, "9999999999", NO_PRICE),  # LOBSTER's marks of a level that does not exist
        (LEVEL_PX, "-9999999999", NO_PRICE),
        (LEVEL_SZ, "1.29", 12),
        (LEVEL_SZ, "0.3", 3),
        (LEVEL_SZ, "0.09", 0),
        (LEVEL_SZ, "1.1999999999", 12),
        (LEVEL_SZ, "9999999999", 99_999_999_990),
        (LEVEL_SZ, "-0.01", -1),
        (LEVEL_SZ, "", 0),
    ],
)
def test_prices_and_sizes_of_levels(kind: int, text: str, value: int) -> None:
    values, status = parse(f"{text},7\n", Column(kind, 0, 10.0, SIZE), Column(INT, 1))
    assert (values[0, 0], status[0]) == (value, 0)


@pytest.mark.parametrize(
    ("kind", "text", "status"),
    [
        (GRID, "1.05", PRICE),
        (GRID, "1e40", MALFORMED),
        (GRID, "1e", MALFORMED),
        (GRID, "nan", MALFORMED),
        (GRID, "inf", MALFORMED),
        (GRID, "", MALFORMED),
        (GRID, "-", MALFORMED),
        (GRID, "1.2.3", MALFORMED),
        (GRID, "1 ", MALFORMED),
        (GRID, "12345678901234567890", MALFORMED),
        (OPTIONAL, "", 0),
        (OPTIONAL, "x", MALFORMED),
        (LEVEL_PX, "1.05", PRICE),
        (LEVEL_SZ, "1e17", PRICE),
        (LEVEL_PX, "nap", MALFORMED),
        (LEVEL_PX, "nan", 0),
        (LEVEL_SZ, "null", 0),
        (INT, "1.0", 0),
        (INT, "1.5", MALFORMED),
        (INT, "0x1", MALFORMED),
        (EPOCH, "-1.0", MALFORMED),
        (EPOCH, "1e30", MALFORMED),
        (STAMP, "2023-02-29T00:00:00", MALFORMED),
        (STAMP, "2024-02-29T00:00:00", 0),
        (STAMP, "2100-02-29T00:00:00", MALFORMED),
        (STAMP, "2024-04-31T00:00:00", MALFORMED),
        (STAMP, "2023-13-01T00:00:00", MALFORMED),
        (STAMP, "2023-01-01T24:00:00", MALFORMED),
        (STAMP, "2023-01-01T00:60:00", MALFORMED),
        (STAMP, "2023-01-01", MALFORMED),
        (STAMP, "1600-01-01T00:00:00", MALFORMED),
        (STAMP, "2023-01-01T00:00:00+01:00", MALFORMED),
    ],
)
def test_what_is_refused(kind: int, text: str, status: int) -> None:
    _, found = parse(f"{text},7\n1,7\n", Column(kind, 0, 10.0, PRICE), Column(INT, 1))
    assert found[0] == status


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 12, 31)),
    st.sampled_from("T D"),
    st.sampled_from(["", "Z", " UTC", "+00:00", " GMT+0000"]),
)
def test_time_stamps(moment: datetime, between: str, zone: str) -> None:
    text = moment.isoformat(sep=between) + zone
    values, status = parse(text + "\n", Column(STAMP, 0, HAS_ZONE if zone else 0))
    seconds = int(moment.replace(microsecond=0, tzinfo=UTC).timestamp())
    assert status.tolist() == [0]
    assert values[0, 0] == seconds * 1_000_000_000 + moment.microsecond * 1000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("34200.015105074", 34_200_015_105_074),
        ("34200", 34_200_000_000_000),
        ("34200.1", 34_200_100_000_000),
        ("34200.01719", 34_200_017_190_000),
        ("34200.0171901234567", 34_200_017_190_123),
    ],
)
def test_seconds_are_exact(text: str, ns: int) -> None:
    assert parse(text, Column(EPOCH, 0, 9))[0][0, 0] == ns


def test_nanoseconds_of_a_time_stamp() -> None:
    values, _ = parse("2014-01-09D04:21:26.224430600", Column(STAMP, 0))
    assert values[0, 0] % 1_000_000_000 == 224_430_600


def test_words_and_skipped_columns() -> None:
    values, status = parse("LIMIT_ORDER,anything at all,B\n", Column(WORD, 0), Column(SKIP), Column(WORD, 2))
    assert values[0].tolist() == [word("LIMIT_ORDER"), 0, word("B")]
    assert status.tolist() == [0]
    assert word("CANCEL_ORDER") != word("LIMIT_ORDER")


def test_wrong_numbers_of_columns_and_blank_lines() -> None:
    values, status = parse("1,2\n\n1\n1,2,3\r\n\r\n3,4\r\n5,6", Column(INT, 0), Column(INT, 1))
    assert status.tolist() == [0, MALFORMED, MALFORMED, 0, 0]
    assert values[status == 0].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_the_first_fault_of_a_row_is_its_reason() -> None:
    columns = (Column(GRID, 0, 1.0, PRICE), Column(GRID, 1, 1.0, SIZE))
    assert parse("1.5,1.5\n1,1.5\n1.5,1\n", *columns)[1].tolist() == [PRICE, SIZE, PRICE]


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(DataError, match="a line is longer than"):
        parse("1" * (3 << 23), Column(INT, 0), step=1 << 18)
