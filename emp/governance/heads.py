"""How far a paper run had come while it went on: its journal so far, hour by hour, signed.

A journal whose end was cut off with all that belongs to it is whole in itself, and so is one that was signed as told to
its end while its process traded on. Either is shorter than what was signed of it.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import msgspec
import numpy as np

from emp.core.records import Array
from emp.engine.watched_days import DAY_NS
from emp.governance.evidence import Evidence, Kind, new_evidence
from emp.governance.paper_source import Source

REACHED: Kind = "reached"

HEAD_S = 3_600.0
"""Between two times at which it is signed how far a journal has come."""

LOOK_S = 300.0
"""Between two tries."""

_HOUR_NS = 3_600_000_000_000


class Head(NamedTuple):
    """Events of a run's journal, first and end, and the digest of all in between (`emp.journal.digest`)."""

    first: int
    end: int
    sha256: str
    files: tuple[tuple[str, int, str], ...] = ()  # beside it: name, bytes that it had, and their SHA-256
    ts: int = 0  # when it was signed, ns


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


class Unsigned:
    """Hours of a run's journal of which nothing was signed while they went by.

    Held against a limit is how much had come, whenever a head was signed, since the head before it: also where many
    were signed at once. Of the time that passes between two events `LOOK_S` counts at most, so that a closed market, a
    machine that slept or a process that was down is no unsigned hour. Twice `HEAD_S` is more than any run leaves that
    signs, one that has failed to for most of an hour included.
    """

    def __init__(self, heads: Iterable[Head]) -> None:
        self._heads = sorted(heads, key=lambda one: one.end)
        self._passed = 0  # ns that count, up to the newest event
        self._newest: int | None = None
        self._by_end = {one.end: 0 for one in self._heads}
        self._by_time = {one.ts: 0 for one in self._heads}
        self._hours: list[tuple[int, int]] = []  # since 1970, each with the number of its first event
        self._n = 0

    def take(self, received: Array) -> None:
        """Take the times int64[n], ns, at which the next events of the journal were received."""
        if not len(received):
            return
        newest = received[0] if self._newest is None else self._newest
        times = np.maximum.accumulate(np.maximum(received, newest))
        pauses = np.minimum(np.diff(times, prepend=newest), int(LOOK_S * 1e9))
        passed = self._passed + np.cumsum(pauses)
        for end in self._by_end:
            if self._n < end <= self._n + len(times):
                self._by_end[end] = int(passed[end - self._n - 1])
        for ts in self._by_time:
            before = int(np.searchsorted(times, ts, "right"))
            if before:
                self._by_time[ts] = int(passed[before - 1])
        hours = times // _HOUR_NS
        known = self._hours[-1][0] if self._hours else -1
        for at in np.flatnonzero(np.diff(hours, prepend=known)).tolist():
            self._hours.append((int(hours[at]), self._n + at))
        self._passed, self._newest, self._n = int(passed[-1]), int(times[-1]), self._n + len(times)

    def hours(self) -> set[int]:
        """Since 1970, of the time at which events were received."""
        found: set[int] = set()
        signed = before = 0
        for head in self._heads:
            at = self._by_end[head.end]
            if max(at, self._by_time[head.ts]) - before > 2 * HEAD_S * 1e9:
                found |= self._between(signed, head.end)
            signed, before = head.end, at
        if self._passed - before > 2 * HEAD_S * 1e9:
            found |= self._between(signed, self._n)
        return found

    def _between(self, first: int, end: int) -> set[int]:
        """Hours of the events [first, end)."""
        ends = [at for _, at in self._hours[1:]] + [self._n]
        return {
            hour for (hour, at), until in zip(self._hours, ends, strict=True) if at < end and first < until
        }


def unsigned_of(hours: Iterable[int], day: int) -> list[int]:
    """Of hours since 1970 those of one day since 1970, in their order: 0 to 23."""
    return sorted(hour % 24 for hour in hours if hour // 24 == day)
