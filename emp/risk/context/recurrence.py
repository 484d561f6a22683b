"""Days of events that recur by a rule: weekday rules, business days, reference weeks; and US federal holidays by law.

list(recurrence.days(date(2024, 1, 1), date(2024, 2, 1)))
"""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from typing import Literal

import msgspec

from emp.core.instrument import DAYS

DAY = timedelta(days=1)
WEEK = 7 * DAY
LONGEST_AWAY = 5 * WEEK
"""How far from the month that a rule counts in its day may lie."""

_SATURDAY, _SUNDAY = 5, 6
_MONDAY = 0

Kind = Literal["weekly", "monthly", "business_day", "reference_week"]
OnHoliday = Literal["keep", "before", "skip", "skip_week"]


class Recurrence(msgspec.Struct, frozen=True, kw_only=True):
    """The days of a recurring event.

    weekly           every `weekday`
    monthly          the `nth` `weekday` of a month, -1 the last
    business_day     the `nth` day of a month that is neither a weekend nor a US federal holiday
    reference_week   the `nth` `weekday` after the week (Sunday to Saturday) that has day `day` of the month
    """

    kind: Kind
    weekday: int = 0  # 0 Monday
    nth: int = 1
    day: int = 1
    months: tuple[int, ...] = tuple(range(1, 13))  # months that it falls in
    january_from: int = 1  # a day of January before this one moves to the week after
    on_holiday: OnHoliday = (
        "keep"  # a US federal holiday: the business day before; none; none from its Monday on
    )
    first: date = date.min  # on which the rule held first, and last
    last: date = date.max

    def days(self, first: date, last: date) -> Iterator[date]:
        """Days on which it falls, from `first` to `last` inclusive, in order."""
        for planned in self._planned(first - WEEK, last + WEEK):
            day = self._moved(planned)
            if day is not None and max(first, self.first) <= day <= min(last, self.last):
                yield day

    def _planned(self, first: date, last: date) -> Iterator[date]:
        if self.kind == "weekly":
            day = first + (self.weekday - first.weekday()) % 7 * DAY
            while day <= last:
                if day.month in self.months:
                    yield day
                day += WEEK
            return
        month = (first - LONGEST_AWAY).replace(day=1)
        while month <= last:
            day = self._of_month(month)
            if day.month == 1 and day.day < self.january_from:
                day += WEEK
            if first <= day <= last and day.month in self.months:
                yield day
            month = _next_month(month)

    def _of_month(self, month: date) -> date:
        if self.kind == "reference_week":
            within = month.replace(day=self.day)
            saturday = within + (_SATURDAY - within.weekday()) % 7 * DAY
            return _on_or_after(saturday + DAY, self.weekday) + (self.nth - 1) * WEEK
        if self.kind == "monthly":
            if self.nth < 0:
                return _on_or_after(_next_month(month) - WEEK, self.weekday) + (self.nth + 1) * WEEK
            return _on_or_after(month, self.weekday) + (self.nth - 1) * WEEK
        day, left = month, self.nth
        while True:
            left -= is_business_day(day)
            if left == 0:
                return day
            day += DAY

    def _moved(self, day: date) -> date | None:
        if self.on_holiday == "skip_week":
            monday = day - day.weekday() * DAY
            week = (monday + k * DAY for k in range(day.weekday() + 1))
            return day if all(is_business_day(one) for one in week) else None
        if self.on_holiday == "keep" or is_business_day(day):
            return day
        if self.on_holiday == "skip":
            return None
        while not is_business_day(day):
            day -= DAY
        return day


def is_business_day(day: date) -> bool:
    """Whether US federal offices work on a day, by the calendar: neither a weekend nor a holiday."""
    return day.weekday() < _SATURDAY and day not in us_federal_holidays(day.year)


@cache
def us_federal_holidays(year: int) -> frozenset[date]:
    """The days on which US federal holidays are observed in a year (5 U.S.C. 6103): Saturday's on Friday, Sunday's on
    Monday. 1 January of the next year may be observed on 31 December.
    """
    fixed = [date(year, 1, 1), date(year, 7, 4), date(year, 11, 11), date(year, 12, 25), date(year + 1, 1, 1)]
    if year >= 2021:  # the law of 17 June 2021
        fixed.append(date(year, 6, 19))
    nth = [(1, 3), (2, 3), (9, 1), (10, 2)]  # King, Washington, Labor, Columbus: Mondays
    moving = [_on_or_after(date(year, month, 1), _MONDAY) + (n - 1) * WEEK for month, n in nth]
    moving.append(_on_or_after(date(year, 5, 25), _MONDAY))  # Memorial Day, the last Monday of May
    moving.append(_on_or_after(date(year, 11, 22), DAYS.index("thu")))  # Thanksgiving, the fourth Thursday
    observed = [
        day - DAY if day.weekday() == _SATURDAY else day + DAY if day.weekday() == _SUNDAY else day
        for day in fixed
    ]
    return frozenset(day for day in (*observed, *moving) if day.year == year)


def _on_or_after(day: date, weekday: int) -> date:
    return day + (weekday - day.weekday()) % 7 * DAY


def _next_month(month: date) -> date:
    return (month.replace(day=1) + timedelta(days=32)).replace(day=1)
