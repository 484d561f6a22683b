"""When a condition is said: once when it has held for its time, and once when it has been over for a while.

What was said stands in a file of the run, so that a start after a crash says nothing twice, and takes back what is
over by then.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from emp.observe.alerts import Alert

CLEAR_S = 30.0
"""Seconds for which a condition must be gone before its end is said; doubled each time it came back within an hour."""

HOUR_S = 3_600.0
MOST_DOUBLINGS = 7

Status = Literal["firing", "resolved"]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was said, or is to be said: also a line of the file, as JSON."""

    status: Status
    alert: Alert
    since_ns: int  # when it began, UTC
    at_ns: int  # when this was said, UTC


_log = structlog.get_logger(__name__)


class AlertLog:
    """Which conditions have been said, and what is to be said now. Durations are of a monotonic clock."""

    def __init__(self, path: Path | None = None) -> None:
        """Take up what the file says is still open; a last line that is torn counts as not written."""
        self._path = path
        self._said: dict[str, Told] = {}
        self._held_from: dict[str, tuple[float, int]] = {}  # monotonic s, UTC ns, of those that hold
        self._gone_from: dict[str, float] = {}
        self._begun: dict[str, deque[float]] = {}  # monotonic s at which it was said to hold
        self._torn = False  # the last line of the file has no end
        for told in self._read():
            if told.status == "firing":
                self._said[told.alert.key] = told
            else:
                self._said.pop(told.alert.key, None)

    @property
    def said(self) -> Mapping[str, Told]:
        """What was said to hold, and not yet to be over, by key."""
        return self._said

    def look(self, holding: Sequence[Alert], monotonic_s: float, now_ns: int) -> list[Told]:
        """Everything that is to be said, given all that holds now."""
        found = []
        keys = {alert.key for alert in holding}
        for alert in holding:
            began_s, since_ns = self._held_from.setdefault(alert.key, (monotonic_s, now_ns))
            self._gone_from.pop(alert.key, None)
            if alert.key not in self._said and monotonic_s - began_s >= alert.hold_s:
                found.append(self._say(alert, since_ns, monotonic_s, now_ns))
        for key in [key for key in self._held_from if key not in keys]:
            del self._held_from[key]
        for key, told in list(self._said.items()):
            if key not in keys:
                gone_from = self._gone_from.setdefault(key, monotonic_s)
                if monotonic_s - gone_from >= self._clear_s(key, monotonic_s):
                    found.append(self._take_back(told, now_ns))
        return found

    def end(self, now_ns: int) -> list[Told]:
        """The run is over in order: whatever was said to hold holds no more."""
        return [self._take_back(told, now_ns) for told in list(self._said.values())]

    def _say(self, alert: Alert, since_ns: int, monotonic_s: float, now_ns: int) -> Told:
        told = Told(status="firing", alert=alert, since_ns=since_ns, at_ns=now_ns)
        self._said[alert.key] = told
        begun = self._begun.setdefault(alert.key, deque())
        begun.append(monotonic_s)
        while begun[0] < monotonic_s - HOUR_S:
            begun.popleft()
        self._write(told)
        return told

    def _take_back(self, told: Told, now_ns: int) -> Told:
        over = Told(status="resolved", alert=told.alert, since_ns=told.since_ns, at_ns=now_ns)
        del self._said[told.alert.key]
        self._gone_from.pop(told.alert.key, None)
        self._write(over)
        return over

    def _clear_s(self, key: str, monotonic_s: float) -> float:
        """Longer for what comes and goes, so that a link that flaps does not become a stream of messages."""
        times = sum(at > monotonic_s - HOUR_S for at in self._begun.get(key, ()))
        return CLEAR_S * float(1 << min(max(times - 1, 0), MOST_DOUBLINGS))

    def _write(self, told: Told) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("ab") as file:
                file.write(b"\n" * self._torn + msgspec.json.encode(told) + b"\n")
            self._torn = False
        except OSError:
            return  # a full disk is an alert of its own; that a start may say this one twice is the lesser evil

    def _read(self) -> list[Told]:
        """What was said before; nothing where that cannot be read: to say an alert twice is the lesser evil."""
        if self._path is None:
            return []
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            _log.warning("alerts said before cannot be read", path=str(self._path), why=error.strerror)
            return []
        self._torn = lines[-1] != b""
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Told))
            except msgspec.DecodeError:
                continue
        return found
