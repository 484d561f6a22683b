"""Cells as people and spreadsheets write them."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.app.statements.cells import date_order, decimal_mark, number, side_of, stamp

UTC_ZONE, ATHENS = ZoneInfo("UTC"), ZoneInfo("Europe/Athens")
AMOUNTS = st.decimals(-(10**9), 10**9, places=4)


@given(AMOUNTS, st.sampled_from(["", ",", " ", "'", "\u00a0", "\u202f"]))
def test_a_number_is_read_however_its_thousands_are_grouped(value: Decimal, group: str) -> None:
    text = f"{value:,.4f}".replace(",", group)
    assert number(text) == value


@given(AMOUNTS)
def test_a_comma_may_be_the_decimal_mark(value: Decimal) -> None:
    text = f"{value:,.4f}".translate({ord(","): ".", ord("."): ","})
    assert number(text, ",") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(12.50)", "-12.50"),
        ("\u22123", "-3"),
        ("$1,000.5", "1000.5"),
        ("USD -4", "-4"),
        ("1e3", "1000"),
        (".5", ".5"),
    ],
)
def test_signs_brackets_and_currencies(text: str, value: str) -> None:
    assert number(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "-", "n/a", "1.2.3", "nan", "inf", "1e400", "12 lots", "--1"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert number(text) is None


@given(st.text(max_size=40))
def test_any_text_is_a_number_a_time_or_none(text: str) -> None:
    number(text)
    stamp(text, "", UTC_ZONE)
    assert side_of(text) in (-1, 0, 1)


@given(st.lists(AMOUNTS, min_size=1, max_size=20), st.booleans())
def test_the_mark_is_found_from_the_prices(values: list[Decimal], comma: bool) -> None:
    texts = [f"{value:.4f}".replace(".", "," if comma else ".") for value in values]
    assert decimal_mark(texts) == ("," if comma else ".")


def test_prices_with_grouped_thousands_have_a_point() -> None:
    assert decimal_mark(["1,234.50", "999.00"]) == "."
    assert decimal_mark(["1.234,50", "999,00"]) == ","


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))
FORMS = [
    ("%Y-%m-%d %H:%M:%S.%f", ""),
    ("%Y-%m-%dT%H:%M:%S.%fZ", ""),
    ("%Y.%m.%d %H:%M:%S.%f", ""),
    ("%Y%m%d;%H%M%S.%f", ""),
    ("%d/%m/%Y %H:%M:%S.%f", "dmy"),
    ("%m/%d/%Y %I:%M:%S.%f %p", "mdy"),
    ("%d.%m.%y %H:%M:%S,%f", "dmy"),
    ("%Y-%m-%d, %H:%M:%S.%f", ""),
]


@given(MOMENTS, st.sampled_from(FORMS))
def test_a_time_is_read_to_the_microsecond(at: datetime, form: tuple[str, str]) -> None:
    wanted = (at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    found = stamp(at.strftime(form[0]), form[1], UTC_ZONE)
    assert found is not None
    assert found // 1_000_000_000 == int(wanted // 1)
    assert found // 1_000 % 1_000_000 == at.microsecond


@given(MOMENTS, st.sampled_from([1, 10**3, 10**6, 10**9]))
def test_an_epoch_is_read_in_each_unit(at: datetime, unit: int) -> None:
    seconds = int(at.timestamp())
    assert stamp(str(seconds * unit), "", UTC_ZONE) == seconds * 10**9


def test_a_wall_clock_is_that_of_its_zone() -> None:
    summer, winter = stamp("2024-07-01 12:00:00", "", ATHENS), stamp("2024-01-01 12:00:00", "", ATHENS)
    assert summer == int(datetime(2024, 7, 1, 9, tzinfo=UTC).timestamp()) * 10**9
    assert winter == int(datetime(2024, 1, 1, 10, tzinfo=UTC).timestamp()) * 10**9
    said = stamp("2024-07-01 12:00:00 -05:30", "", ATHENS)
    assert said == int(datetime(2024, 7, 1, 17, 30, tzinfo=UTC).timestamp()) * 10**9


def test_the_order_of_a_date_is_found_or_said_to_be_open() -> None:
    assert date_order(["2024.01.02", "2024-03-04"]) == ""
    assert date_order(["01/02/2024", "13/02/2024"]) == "dmy"
    assert date_order(["01/02/2024", "02/13/2024"]) == "mdy"
    assert date_order(["01/02/2024", "03/04/2024"]) == "?"
