"""How far a paper run had come while it went on: its journal so far, hour by hour, signed.

A journal whose end was cut off with all that belongs to it is whole in itself, and so is one that was signed as told to
its end while its process traded on. Either is shorter than what was signed of it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Literal, NamedTuple, cast

import msgspec
import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Evidence, Kind, new_evidence
from emp.governance.paper_source import Source

REACHED: Kind = "reached"

HEAD_S = 3_600.0
"""Between two times at which it is signed how far a journal has come."""

LOOK_S = 300.0
"""Between two tries."""

HOURS = 4
"""Hours of the clock of which a run has events between two heads at most: three while it goes on and fails to sign for
most of an hour, and that in which it wakes.
"""

_FIRST = itemgetter(2)
_HOUR_NS = 3_600_000_000_000


Over = Literal["", "ended", "found"]
"""Whether nothing comes after it: the run's own process had ended it, or it was found without one."""


class Head(NamedTuple):
    """Events of a run's journal, first and end, and the digest of all in between (`emp.journal.digest`)."""

    first: int
    end: int
    sha256: str
    files: tuple[tuple[str, int, str], ...] = ()  # beside it: name, bytes that it had, and their SHA-256
    ts: int = 0  # when it was signed, ns
    over: Over = ""


def of_head(model: str, source: Source, head: Head, now_ns: int) -> Evidence:
    """Evidence that a run's journal had come so far; `model` is the one that served first."""
    config = {**source._asdict(), "day": now_ns // DAY_NS, **head._replace(ts=now_ns)._asdict()}
    return msgspec.structs.replace(new_evidence(REACHED, model, [], config), code=source.code)


def heads_of(evidence: Mapping[str, Evidence], run: str) -> list[Head]:
    """What was signed of a run's journal, in the order of its events."""
    mine = [one.config for one in evidence.values() if one.kind == REACHED and one.config.get("run") == run]
    return sorted(msgspec.convert([[told[name] for name in Head._fields] for told in mine], list[Head]))


def reached(evidence: Mapping[str, Evidence]) -> dict[str, int]:
    """Events that every run had at least, as far as that was signed."""
    found: dict[str, int] = {}
    for one in evidence.values():
        if one.kind == REACHED:
            run = str(one.config["run"])
            found[run] = max(found.get(run, 0), cast(int, one.config["end"]))
    return found


def in_doubt(heads: Iterable[Head], events: int, newest_ns: int, now_ns: int) -> list[int]:
    """Days since 1970 of which a run that has ended may have traded more than the `events` of its journal, of which the
    newest was received at `newest_ns` (0: it is not on record that it began): none where its own process has signed its
    end. Else the end could have been cut off, back to where it was signed last, and nobody can tell that from a machine
    that was off: days from the newest event on, until the run was found without a process. None is after `now_ns`: a
    time ahead of it is one of a clock that was wrong.
    """
    told = list(heads)
    if not newest_ns or any(one.over == "ended" and one.end == events for one in told):
        return []
    newest_ns = min(newest_ns, now_ns)
    told = [one for one in told if one.ts <= now_ns]
    traded_ns = max((one.ts for one in told if not one.over), default=newest_ns)
    found_ns = [one.ts for one in told if one.over and one.ts >= max(traded_ns, newest_ns)]
    until_ns = min(found_ns, default=max(traded_ns, newest_ns))
    return list(range(newest_ns // DAY_NS, until_ns // DAY_NS + 1))


@kernel
def pass_on(received: Array, newest: int, most: int, passed: Array) -> int:
    """Fill in what passed up to each of the times int64[n], ns, and return the newest. A pause counts `most` at most.

    A time that lies further behind the newest than that says that the newest was wrong, or that the clock was set
    back: what follows counts from there. One a little behind says nothing.
    """
    sum_ns = 0
    for i in range(len(received)):
        if received[i] > newest:
            sum_ns += min(received[i] - newest, most)
            newest = received[i]
        elif received[i] < newest - most:
            newest = received[i]
        passed[i] = sum_ns
    return newest


class Unsigned:
    """Hours of a run's journal of which nothing was signed while they went by.

    Held against limits is how much had come, whenever a head was signed, since the head before it: also where many
    were signed at once. Of the time that passes between two events `LOOK_S` counts at most, so that a closed market, a
    machine that slept or a process that was down is no unsigned hour. Twice `HEAD_S` is more than any run leaves that
    signs, one that has failed to for most of an hour included. Nor has it events of more than `HOURS` hours of the
    clock, which tells of events that came in bursts.
    """

    def __init__(self, heads: Iterable[Head]) -> None:
        self._heads = sorted(heads, key=lambda one: one.end)
        self._passed = 0  # ns that count, up to the newest event
        self._newest: int | None = None  # time received from which pauses count
        self._latest: int | None = None  # greatest time received
        self._by_end = {one.end: 0 for one in self._heads}
        self._by_time = {one.ts: (0, 0) for one in self._heads}  # ns that count, and events
        self._hours: list[tuple[int, int, int]] = []  # as days are told, as received, its first event
        self._n = 0

    def take(self, received: Array) -> None:
        """Take the times int64[n], ns, at which the next events of the journal were received."""
        if not len(received):
            return
        if self._newest is None or self._latest is None:
            self._newest = self._latest = int(received[0])
        passed = np.zeros(len(received), np.int64)
        self._newest = int(pass_on(received, self._newest, int(LOOK_S * 1e9), passed))
        passed += self._passed
        for end in self._by_end:
            if self._n < end <= self._n + len(passed):
                self._by_end[end] = int(passed[end - self._n - 1])
        first, last = int(received.min()), int(received.max())
        for ts in self._by_time:
            if ts >= first:
                at = len(received) - 1 if ts >= last else int(np.flatnonzero(received <= ts)[-1])
                self._by_time[ts] = int(passed[at]), self._n + at + 1
        times = np.maximum.accumulate(np.maximum(received, self._latest))
        self._add_hours(times // _HOUR_NS, received // _HOUR_NS)
        self._passed, self._latest, self._n = int(passed[-1]), int(times[-1]), self._n + len(passed)

    def _add_hours(self, told: Array, clock: Array) -> None:
        known = self._hours[-1] if self._hours else (-1, -1, 0)
        new = (np.diff(told, prepend=known[0]) != 0) | (np.diff(clock, prepend=known[1]) != 0)
        self._hours += [(int(told[at]), int(clock[at]), self._n + at) for at in np.flatnonzero(new).tolist()]

    @property
    def latest_ns(self) -> int:
        """Greatest time at which an event was received; 0 where there was none."""
        return self._latest or 0

    def hours(self) -> set[int]:
        """Since 1970, of the time at which events were received, as days are told: never back."""
        found: set[int] = set()
        signed = before = 0
        for head in self._heads:
            at = self._by_end[head.end]
            passed, events = self._by_time[head.ts]
            if self._too_much(max(at, passed) - before, signed, max(head.end, events)):
                found |= self._between(signed, head.end, 0)
            signed, before = head.end, at
        if self._too_much(self._passed - before, signed, self._n):
            found |= self._between(signed, self._n, 0)
        return found

    def _too_much(self, passed: int, first: int, end: int) -> bool:
        return passed > 2 * HEAD_S * 1e9 or len(self._between(first, end, 1)) > HOURS

    def _between(self, first: int, end: int, which: int) -> set[int]:
        """Hours of the events [first, end): as days are told (0) or as received (1)."""
        begin = max(bisect_right(self._hours, first, key=_FIRST) - 1, 0)
        return {one[which] for one in self._hours[begin : bisect_left(self._hours, end, key=_FIRST)]}


def unsigned_of(hours: Iterable[int], day: int) -> list[int]:
    """Of hours since 1970 those of one day since 1970, in their order: 0 to 23."""
    return sorted(hour % 24 for hour in hours if hour // 24 == day)
