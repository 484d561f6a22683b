"""Wall-clock stamps of a zone to UTC, over both changes of daylight saving time."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import numpy as np

from emp.core.records import Array
from emp.core.sessions import DAY_NS

_SECOND = 1_000_000_000
_BACK_NS = 30 * 60 * _SECOND
"""In the hour that the clock shows twice, a step back by more than this begins its second showing."""


class LocalClock:
    """Turns wall-clock ns into UTC ns, batch after batch.

    In spring the skipped hour belongs to the time after it. In autumn an hour is shown twice: it is the first
    showing until the stamps step back, then the second; a file that begins inside the second showing cannot be
    told from one that begins in the first.
    """

    def __init__(self, zone: str) -> None:
        self._zone: tzinfo = UTC if zone == "UTC" else ZoneInfo(zone)
        self._plain = zone == "UTC"
        self._last = -(1 << 62)
        self._second = -1  # local day whose second showing has begun

    def to_utc(self, ts: Array, good: Array) -> None:
        """In place; `good` marks the rows whose time could be read."""
        if self._plain or not len(ts):
            return
        days = ts // DAY_NS
        for day in np.unique(days[good]):
            here = np.flatnonzero(good & (days == day))
            self._one_day(ts, here, int(day))

    def _one_day(self, ts: Array, rows: Array, day: int) -> None:
        start, end = self._offset(day * DAY_NS), self._offset((day + 1) * DAY_NS - _SECOND)
        local = ts[rows]
        if start == end:
            self._last = int(local[-1])
            ts[rows] = local - start
            return
        change = self._change(day, start, end)  # UTC ns of the first instant under the new offset
        if end > start:  # spring
            ts[rows] = np.where(local < change + start, local - start, local - end)
            self._last = int(local[-1])
            return
        first, last = change + end, change + start  # local times from `first` to `last` are shown twice
        twice = (local >= first) & (local < last)
        steps = np.diff(local, prepend=self._last) < -_BACK_NS
        again = np.maximum.accumulate(steps & twice) if self._second != day else np.ones(len(local), bool)
        if again.any():
            self._second = day
        ts[rows] = np.where((local >= last) | (twice & again), local - end, local - start)
        self._last = int(local[-1])

    def _offset(self, local_ns: int) -> int:
        wall = datetime(1970, 1, 1) + timedelta(seconds=local_ns // _SECOND)
        ahead = self._zone.utcoffset(wall)
        assert ahead is not None
        return int(ahead / timedelta(microseconds=1)) * 1000

    def _change(self, day: int, start: int, end: int) -> int:
        low, high = day * DAY_NS - start, (day + 1) * DAY_NS - end
        while high - low > _SECOND:
            middle = (low + high) // 2
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=middle // 1000)
            ahead = moment.astimezone(self._zone).utcoffset()
            assert ahead is not None
            if int(ahead / timedelta(microseconds=1)) * 1000 == start:
                low = middle
            else:
                high = middle
        return -(-low // _SECOND) * _SECOND
