"""When a session may be open, and how long to wait before trying again: data, and pure functions of it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from emp.core.ids import generator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SECOND_NS = 1_000_000_000


class Hours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A venue's session hours in the local time of `zone`: one session per start; sequence numbers live as long.

    `days` are the weekdays on which a session starts; it ends at `end`, `length_days` later (0: the same day, or
    the next where `end` is not after `start`).
    """

    start: str  # "HH:MM"
    end: str
    days: tuple[str, ...] = ("mon", "tue", "wed", "thu", "fri")
    zone: str = "UTC"
    length_days: int = 0

    def session(self, now_ns: int) -> tuple[int, int] | None:
        """(start, end) in ns of the session that is open now, None between sessions."""
        for back in range(8):
            found = self._starting(now_ns, -back)
            if found is not None and found[0] <= now_ns < found[1]:
                return found
        return None

    def next_start_ns(self, now_ns: int) -> int:
        """When the next session starts, after now."""
        starts = [s[0] for ahead in range(9) if (s := self._starting(now_ns, ahead)) is not None]
        return min(start for start in starts if start > now_ns)

    def _starting(self, now_ns: int, offset_days: int) -> tuple[int, int] | None:
        """The session that starts `offset_days` from the local date of now, None where none does."""
        zone = ZoneInfo(self.zone)
        local = datetime.fromtimestamp(now_ns // _SECOND_NS, UTC).astimezone(zone)
        day = local.date() + timedelta(days=offset_days)
        if DAYS[day.weekday()] not in self.days:
            return None
        length = timedelta(days=self.length_days)
        if self.length_days == 0 and self.end <= self.start:
            length = timedelta(days=1)
        times = []
        for clock, date in ((self.start, day), (self.end, day + length)):
            hour, minute = clock.split(":")
            moment = datetime(date.year, date.month, date.day, int(hour), int(minute), tzinfo=zone)
            times.append(int(moment.timestamp()) * _SECOND_NS)
        return times[0], times[1]


class Backoff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait before attempt 1, 2, …: growing, bounded, spread so that many clients do not meet.

    Attempts are counted until a session has been logged on for `steady_s`.
    """

    first_s: float = 0.5
    factor: float = 2.0
    longest_s: float = 30.0
    spread: float = 0.25
    steady_s: float = 30.0
    denials: int = 6  # logons denied in a row, over at least `denied_s`, after which none is tried any more
    denied_s: float = 1_800.0

    def delay_s(self, attempt: int, seed: int = 0) -> float:
        """Seconds before the `attempt`-th try after a loss, counted from 1; a pure function of its arguments."""
        plain = min(self.longest_s, self.first_s * self.factor ** min(attempt - 1, 60))
        return float(plain * (1.0 + self.spread * generator(seed, "fix-backoff", attempt).uniform(-1.0, 1.0)))
