"""A stretch of recorded events in memory: the beginning of a series' test part, as a source of its own."""

from collections.abc import Iterator

import numpy as np

from emp.access.port import ReadCounts
from emp.access.recordings import open_recording
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.train.data.data import Series

BATCH = 1024


class Stretch:
    """EVENT rows of one instrument as a Source."""

    def __init__(self, instrument: Instrument, events: Array) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()
        self.events = events

    def batches(self) -> Iterator[Array]:
        """Yield copies of the rows in batches."""
        self.counts = ReadCounts(rows=len(self.events), events=len(self.events))
        for at in range(0, len(self.events), BATCH):
            yield self.events[at : at + BATCH].copy()


def read_stretch(series: Series, instrument: Instrument, begin_ns: int, most: int) -> Array:
    """The first EVENT rows of a series from a time on, `most` at most.

    Raises:
        DataError: there are none.
    """
    parts: list[Array] = []
    n = 0
    for events in open_recording(list(series.paths), instrument).batches():
        later = events[events["ts"] >= begin_ns][: most - n]
        if len(later):
            parts.append(later.copy())
            n += len(later)
        if n == most:
            break
    if not n:
        raise DataError(f"{series.name}: no events at or after {begin_ns}")
    return np.concatenate(parts)
