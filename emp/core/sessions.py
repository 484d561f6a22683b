"""Trading calendars in UTC: which session an instant belongs to, and which trading day."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np

from emp.core.codes import Session
from emp.core.instrument import DAYS, Instrument, SessionSpan
from emp.core.records import SESSION, Array

DAY_NS = 86_400_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MARGIN_DAYS = 3  # a span is at most a day long and a zone at most 14 hours off UTC


def session_table(instrument: Instrument, ts_from_ns: int, ts_to_ns: int) -> Array:
    """Return the instrument's calendar from `ts_from_ns` to a day beyond `ts_to_ns` as SESSION rows.

    Rows are sorted by `start`, the first starts at or before `ts_from_ns`, and each holds until the next one.
    `session_id` is a `codes.Session`, CLOSED outside the trading hours; `day` is the proleptic ordinal
    (`date.toordinal`) of the trading date, which changes at `day_end` in `day_zone`.
    """
    first = _utc_date(ts_from_ns) - timedelta(days=_MARGIN_DAYS)
    last = _utc_date(ts_to_ns) + timedelta(days=_MARGIN_DAYS)
    day_ends = [_day_end_ns(instrument, day) for day in _dates(first, last)]
    spans = [
        (start, end, Session[span.session.upper()])
        for span in instrument.sessions
        for start, end in _occurrences(span, first, last)
    ]
    early = list(_early_closes(instrument, first, last))
    ends = [*day_ends, *(close for _, close in early), *(edge for span in spans for edge in span[:2])]
    edges = np.unique(np.array(ends, np.int64))
    table: Array = np.zeros(len(edges), SESSION)
    table["start"] = edges
    table["session_id"] = Session.CLOSED
    for start, end, session in spans:
        table["session_id"][np.searchsorted(edges, start) : np.searchsorted(edges, end)] = session
    # a trading date lasts from the end of the one before it to its own end
    table["day"] = first.toordinal() + np.searchsorted(np.array(day_ends, np.int64), edges, side="right")
    for holiday in instrument.holidays:
        table["session_id"][table["day"] == date.fromisoformat(holiday).toordinal()] = Session.CLOSED
    for day, close in early:
        table["session_id"][(table["day"] == day) & (table["start"] >= close)] = Session.CLOSED
    changes = np.ones(len(table), bool)
    changes[1:] = (np.diff(table["session_id"]) != 0) | (np.diff(table["day"]) != 0)
    table = table[changes]
    begin = max(0, int(np.searchsorted(table["start"], ts_from_ns, side="right")) - 1)
    end = int(np.searchsorted(table["start"], ts_to_ns + DAY_NS, side="right"))
    return table[begin:end]


def local_ns_to_utc(zone: str, local_ns: int) -> int:
    """Return the UTC ns of a wall-clock reading in `zone`, given as ns since 1970-01-01 00:00 there."""
    seconds, rest = divmod(local_ns, 1_000_000_000)
    wall = datetime(1970, 1, 1) + timedelta(seconds=seconds)
    return _ns(wall.replace(tzinfo=_zone(zone))) + rest


def _occurrences(span: SessionSpan, first: date, last: date) -> Iterator[tuple[int, int]]:
    zone = _zone(span.zone)
    start, end = time.fromisoformat(span.start), time.fromisoformat(span.end)
    overnight = timedelta(days=1 if end <= start else 0)
    weekdays = {DAYS.index(day) for day in span.days}
    for day in _dates(first, last):
        if day.weekday() in weekdays:
            yield (
                _ns(datetime.combine(day, start, zone)),
                _ns(datetime.combine(day + overnight, end, zone)),
            )


def _day_end_ns(instrument: Instrument, day: date) -> int:
    """When the trading date `day` ends: at `day_end` on that date, where "00:00" means its last midnight."""
    end = time.fromisoformat(instrument.day_end)
    if end == time(0, 0):
        day += timedelta(days=1)
    return _ns(datetime.combine(day, end, _zone(instrument.day_zone)))


def _early_closes(instrument: Instrument, first: date, last: date) -> Iterator[tuple[int, int]]:
    """Trading days that end early: the day's ordinal, and the UTC ns at which it closes."""
    for entry in instrument.early_closes:
        day, _, hour = entry.partition(" ")
        on = _date(day)
        if first <= on <= last:
            close = datetime.combine(on, time.fromisoformat(hour), _zone(instrument.day_zone))
            yield on.toordinal(), _ns(close)


def _dates(first: date, last: date) -> Iterator[date]:
    for ordinal in range(first.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(ordinal)


def _utc_date(ts_ns: int) -> date:
    return date(1970, 1, 1) + timedelta(days=ts_ns // DAY_NS)


def _ns(moment: datetime) -> int:
    """UTC ns of an aware datetime on a whole microsecond, without a detour through floating point."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


@cache
def _date(text: str) -> date:
    return date.fromisoformat(text)


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
