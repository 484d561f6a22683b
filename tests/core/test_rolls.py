"""When positions roll: to the second over changes of the clock, nights and weekends."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.instrument import find
from emp.core.rolls import RollTime, next_roll, roll_time

S = 1_000_000_000
NEW_YORK = RollTime(17 * 60, "America/New_York", 2)


def ns(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * S


@pytest.mark.parametrize(
    ("after", "roll", "nights"),
    [
        ("2024-03-08T21:59:59", "2024-03-08T22:00:00", 1),  # Friday, winter: 17:00 is 22:00 UTC
        ("2024-03-08T22:00:00", "2024-03-11T21:00:00", 1),  # over the weekend and into summer time
        ("2024-03-12T22:00:00", "2024-03-13T21:00:00", 3),  # Wednesday
        ("2024-11-01T21:00:00", "2024-11-04T22:00:00", 1),  # and back
        ("2024-11-02T12:00:00", "2024-11-04T22:00:00", 1),  # nothing rolls on a Saturday
    ],
)
def test_a_roll_is_at_its_time_where_it_is_kept(after: str, roll: str, nights: int) -> None:
    found = next_roll(NEW_YORK, ns(after))
    assert (found.ts, found.nights) == (ns(roll), nights)
    assert next_roll(NEW_YORK, found.ts - 1) == found
    assert next_roll(NEW_YORK, found.ts).ts > found.ts


def test_the_venue_s_own_minute_is_utc_whatever_the_season() -> None:
    stated = RollTime(22 * 60, "UTC", -1)
    for month in (1, 7):
        found = next_roll(stated, ns(f"2024-{month:02d}-10T12:00:00"))
        assert (found.ts, found.nights) == (ns(f"2024-{month:02d}-10T22:00:00"), 1)


@given(st.integers(ns("2015-01-01T00:00:00"), ns("2035-01-01T00:00:00")))
def test_a_week_has_seven_nights_and_every_roll_is_on_the_wall_clock(start: int) -> None:
    zone, at, nights, days = ZoneInfo("America/New_York"), start, 0, []
    local = datetime.fromtimestamp(start // S, zone)
    if (local.hour, local.minute, local.second) == (17, 0, 0):
        at -= S
    for _ in range(5):
        at, count = next_roll(NEW_YORK, at)
        wall = datetime.fromtimestamp(at // S, zone)
        assert (wall.hour, wall.minute, wall.second, at % S) == (17, 0, 0, 0)
        nights += count
        days.append(wall.weekday())
    assert (sorted(days), nights) == ([0, 1, 2, 3, 4], 7)
    assert timedelta(0) <= timedelta(seconds=(at - start) // S) < timedelta(days=8)


def test_the_catalogue_rolls_at_five_in_new_york() -> None:
    assert roll_time(find("EURUSD")) == NEW_YORK
