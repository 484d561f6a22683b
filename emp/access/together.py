"""Recordings of several instruments as one stream of events in order of time."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from emp.access.port import Source
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array

APART_NS = 86_400_000_000_000
"""Recordings that begin so far from each other are not of one time."""


class Together:
    """Sources of one instrument each; an event's `instrument` is the place of its source.

    Nothing is passed on before everything that is older: of each source no more than its next batch is read ahead. The
    order within a source stays as it is; an event that is older than one before it comes at that one's time. Of events
    of one time those of the source named first come first, whatever batches they came in.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.instruments: tuple[Instrument, ...] = tuple(one.instrument for one in sources)
        self.sources = tuple(sources)

    def batches(self) -> Iterator[Array]:
        """Yield EVENT rows in order of time; DataError where the recordings are not of one time, or one is damaged."""
        waiting = [_Waiting(i, one) for i, one in enumerate(self.sources)]
        waiting = [one for one in waiting if one.refill()]
        self._refuse_apart(waiting)
        while waiting:
            # up to here nothing can come any more that is not read yet
            until, first = min((int(one.times[-1]), one.place) for one in waiting)
            # of that very time the first of them may have more: what is named behind it waits
            taken = [one.take(until, "right" if one.place <= first else "left") for one in waiting]
            times = np.concatenate([at for _, at in taken])
            yield np.concatenate([rows for rows, _ in taken])[np.argsort(times, kind="stable")]
            waiting = [one for one in waiting if one.refill()]

    def _refuse_apart(self, waiting: Sequence["_Waiting"]) -> None:
        starts = {self.instruments[one.place].name: int(one.times[0]) for one in waiting}
        if starts and max(starts.values()) - min(starts.values()) >= APART_NS:
            told = ", ".join(f"{name} at {_utc(ts)}" for name, ts in starts.items())
            raise DataError(
                f"recordings of several instruments must begin within 24 hours: they begin with {told}"
            )


class _Waiting:
    """What has been read of a source and not passed on."""

    def __init__(self, place: int, source: Source) -> None:
        self.place = place
        self._batches = source.batches()
        self.rows: Array = np.zeros(0)
        self.times: Array = np.zeros(
            0, np.int64
        )  # when each row comes, ns; never earlier than the one before
        self._newest = np.iinfo(np.int64).min

    def refill(self) -> bool:
        """Read the next batch where nothing waits; whether anything does then."""
        while not len(self.rows):
            rows = next(self._batches, None)
            if rows is None:
                return False
            self.rows = rows.copy()
            self.rows["instrument"] = self.place
            self.times = np.maximum.accumulate(np.maximum(_stamped(self.rows["ts"]), self._newest))
            self._newest = int(self.times[-1]) if len(rows) else self._newest
        return True

    def take(self, until_ns: int, side: Literal["left", "right"]) -> tuple[Array, Array]:
        """EVENT rows [n] that come earlier, or ("right") no later, and when each comes (ns)."""
        n = int(np.searchsorted(self.times, until_ns, side=side))
        taken = self.rows[:n], self.times[:n]
        self.rows, self.times = self.rows[n:], self.times[n:]
        return taken


def _stamped(ts: Array) -> Array:
    """Times of rows [n], ns; what comes before the first stamp, a snapshot without one say, comes with it."""
    if not len(ts):
        return ts
    first = int(np.argmax(ts > 0))
    return np.where(np.arange(len(ts)) < first, ts[first], ts)


def _utc(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
