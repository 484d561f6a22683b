"""Calendars: local hours around clock changes, weekends, maintenance, holidays and trading days."""

from datetime import UTC, date, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.codes import Session
from emp.core.instrument import catalogue
from emp.core.sessions import DAY_NS, local_ns_to_utc, session_table

KNOWN = catalogue()


def ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def at(name: str, moment: str) -> tuple[str, date]:
    """Session and trading date of an instrument at a UTC moment."""
    ts = ns(moment)
    table = session_table(KNOWN[name], ts, ts)
    row = table[np.searchsorted(table["start"], ts, side="right") - 1]
    return Session(row["session_id"]).name, date.fromordinal(int(row["day"]))


@pytest.mark.parametrize(
    ("name", "moment", "session"),
    [
        # New York cash session, winter and summer, to the second
        ("GOOG", "2012-01-05T14:24:59", "CLOSED"),
        ("GOOG", "2012-01-05T14:25:00", "AUCTION_OPEN"),
        ("GOOG", "2012-01-05T14:30:00", "NY"),
        ("GOOG", "2012-06-21T13:29:59", "AUCTION_OPEN"),
        ("GOOG", "2012-06-21T13:30:00", "NY"),
        ("GOOG", "2012-06-21T19:49:59", "NY"),
        ("GOOG", "2012-06-21T19:50:00", "NY"),
        ("GOOG", "2012-06-21T20:00:00", "CLOSED"),
        ("GOOG", "2012-06-23T15:00:00", "CLOSED"),  # Saturday
        ("GOOG", "2012-07-04T15:00:00", "CLOSED"),  # Independence Day
        # the Friday before and the Monday after the clocks went forward on 2014-03-09
        ("GOOG", "2014-03-07T14:30:00", "NY"),
        ("GOOG", "2014-03-10T13:30:00", "NY"),
        ("GOOG", "2014-03-10T13:24:59", "CLOSED"),
        # Globex: maintenance 17:00-18:00 New York in summer and in winter, weekend
        ("GC", "2023-05-01T20:59:59", "NY"),
        ("GC", "2023-05-01T21:00:00", "CLOSED"),
        ("GC", "2023-05-01T21:59:59", "CLOSED"),
        ("GC", "2023-05-01T22:00:00", "ASIA"),
        ("ES", "2023-12-20T21:59:59", "NY"),
        ("ES", "2023-12-20T22:30:00", "CLOSED"),
        ("ES", "2023-12-20T23:00:00", "ASIA"),
        ("ES", "2023-12-25T22:59:59", "CLOSED"),  # Christmas
        ("ES", "2023-12-25T23:00:00", "ASIA"),
        ("GC", "2023-05-05T21:00:00", "CLOSED"),  # Friday
        ("GC", "2023-05-07T21:59:59", "CLOSED"),
        ("GC", "2023-05-07T22:00:00", "ASIA"),
        # FX week: Sunday 17:00 to Friday 17:00 New York, summer and winter
        ("EURUSD", "2014-05-04T20:59:59", "CLOSED"),
        ("EURUSD", "2014-05-04T21:00:00", "ASIA"),
        ("EURUSD", "2014-05-02T20:59:59", "NY"),
        ("EURUSD", "2014-05-02T21:00:00", "CLOSED"),
        ("EURUSD", "2014-01-05T21:59:59", "CLOSED"),
        ("EURUSD", "2014-01-05T22:00:00", "ASIA"),
        ("EURUSD", "2014-01-10T21:59:59", "NY"),
        # between the American and the European change of clocks, New York opens at noon in London
        ("EURUSD", "2014-03-12T07:59:59", "ASIA"),
        ("EURUSD", "2014-03-12T08:00:00", "LONDON"),
        ("EURUSD", "2014-03-12T11:59:59", "LONDON"),
        ("EURUSD", "2014-03-12T12:00:00", "NY"),
        ("EURUSD", "2014-05-05T06:59:59", "ASIA"),
        ("EURUSD", "2014-05-05T07:00:00", "LONDON"),
        # spot gold opens an hour later on Sunday
        ("XAUUSD", "2014-05-04T21:59:59", "CLOSED"),
        ("XAUUSD", "2014-05-04T22:00:00", "ASIA"),
        ("XAUUSD", "2014-05-05T21:14:59", "NY"),
        ("XAUUSD", "2014-05-05T21:15:00", "CLOSED"),
        ("XAUUSD", "2014-05-09T21:00:00", "CLOSED"),
        # crypto never closes
        ("BTCUSDT", "2024-08-10T03:00:00", "ASIA"),
        ("BTCUSDT", "2024-08-11T09:00:00", "LONDON"),
        ("BTCUSDT", "2024-08-11T20:00:00", "NY"),
        # Singapore has no summer time
        ("A50", "2014-01-09T00:44:59", "CLOSED"),
        ("A50", "2014-01-09T00:45:00", "AUCTION_OPEN"),
        ("A50", "2014-01-09T01:00:00", "ASIA"),
        ("A50", "2014-01-09T08:00:00", "CLOSED"),
        ("A50", "2014-07-09T01:00:00", "ASIA"),
    ],
)
def test_session_at_a_moment(name: str, moment: str, session: str) -> None:
    assert at(name, moment)[0] == session


@pytest.mark.parametrize(
    ("name", "moment", "day"),
    [
        ("GOOG", "2012-06-21T13:30:00", "2012-06-21"),
        ("GOOG", "2012-06-22T03:59:59", "2012-06-21"),  # still the 21st in New York
        ("GOOG", "2012-06-22T04:00:00", "2012-06-22"),
        ("GC", "2023-04-30T22:00:00", "2023-05-01"),  # Sunday evening trades for Monday
        ("GC", "2023-05-01T20:59:59", "2023-05-01"),
        ("GC", "2023-05-01T21:00:00", "2023-05-02"),
        ("EURUSD", "2014-03-09T21:00:00", "2014-03-10"),  # an hour earlier than the week before
        ("EURUSD", "2014-03-03T21:59:59", "2014-03-03"),
        ("BTCUSDT", "2024-08-08T23:59:59", "2024-08-08"),
        ("BTCUSDT", "2024-08-09T00:00:00", "2024-08-09"),
    ],
)
def test_trading_day_at_a_moment(name: str, moment: str, day: str) -> None:
    assert at(name, moment)[1] == date.fromisoformat(day)


@given(
    name=st.sampled_from(sorted(KNOWN)),
    begin=st.integers(ns("2012-01-01T00:00:00"), ns("2026-12-31T00:00:00")),
    length=st.integers(0, 40 * DAY_NS),
)
def test_table_is_sorted_covers_its_span_and_does_not_depend_on_it(
    name: str, begin: int, length: int
) -> None:
    table = session_table(KNOWN[name], begin, begin + length)
    assert table["start"][0] <= begin
    assert (np.diff(table["start"]) > 0).all()
    assert (np.diff(table["day"]) >= 0).all()
    for before, after in pairwise(table):
        assert (before["session_id"], before["day"]) != (after["session_id"], after["day"])
    wide = session_table(KNOWN[name], begin - 5 * DAY_NS, begin + length + 5 * DAY_NS)
    for ts in (begin, begin + length // 2, begin + length, begin + length + DAY_NS - 1):
        rows = [t[np.searchsorted(t["start"], ts, side="right") - 1] for t in (table, wide)]
        assert rows[0] == rows[1]


def test_local_time_to_utc_at_a_change_of_clocks() -> None:
    local = ns("2014-03-09T12:00:00")
    assert local_ns_to_utc("America/New_York", local + 5) == ns("2014-03-09T16:00:00") + 5
    assert local_ns_to_utc("America/New_York", local - DAY_NS) == ns("2014-03-08T17:00:00")
