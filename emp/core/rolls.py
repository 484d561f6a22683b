"""When positions roll: the instants at which what is held is financed over one night or several.

Spot positions settle two days on, so who holds one over the roll is lent one currency and lends the other for a night:
at 17:00 in New York each weekday, and for the weekend as well on one of them (by custom Wednesday, whose roll takes a
position's settlement from Friday to Monday). Holidays, on which brokers move nights from one roll to another, are not
known here.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from emp.core.instrument import DAYS, Instrument

MINUTES = 24 * 60
WEEKEND = (5, 6)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RollTime(NamedTuple):
    """When an instrument rolls."""

    minute: int  # of the day, in `zone`
    zone: str
    triple: int  # weekday whose roll counts three nights, Monday 0; -1: none does


class Roll(NamedTuple):
    """One roll."""

    ts: int  # ns UTC
    nights: int


def roll_time(one: Instrument) -> RollTime:
    """That of the catalogue."""
    hour, _, minute = one.swap_time.partition(":")
    triple = DAYS.index(one.swap_triple) if one.swap_triple else -1
    return RollTime(int(hour) * 60 + int(minute), one.swap_zone, triple)


def next_roll(when: RollTime, after_ns: int) -> Roll:
    """The first roll after an instant; at a wall-clock time that a day has twice it is the first of them."""
    zone = _zone(when.zone)
    day = (_EPOCH + timedelta(seconds=after_ns // 1_000_000_000)).astimezone(zone).date() - timedelta(days=1)
    while True:
        ts = _ns(datetime(day.year, day.month, day.day, *divmod(when.minute, 60), tzinfo=zone))
        if ts > after_ns and day.weekday() not in WEEKEND:
            return Roll(ts, 3 if day.weekday() == when.triple else 1)
        day += timedelta(days=1)


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


@cache
def _zone(name: str) -> tzinfo:
    return UTC if name == "UTC" else ZoneInfo(name)
