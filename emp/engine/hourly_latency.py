"""Times of every decision, summed up by the hour off the hot path, for whoever asks later whether limits were kept."""

import numpy as np

from emp.core.records import Array
from emp.journal.latency_log import HOUR_NS, PARTS, Hour, LatencyLog

FINE = 32
"""Bins between two powers of two: a p99 is at most 1/32 too high, never too low."""

_BINS = 32 * FINE


class HourlyLatency:
    """Counts laps into bins; a line for every hour and every model."""

    def __init__(self, log: LatencyLog, model: str) -> None:
        """`model` is the hash of the one that serves first."""
        self._log, self._model = log, model
        self._hour = 0
        self._made: list[Hour] = []
        self._begin()

    def _begin(self) -> None:
        self._counts = np.zeros((len(PARTS), _BINS), np.int64)

    def add(self, events: Array, laps: Array) -> None:
        """Count int32[m, 3] laps, ns in adapter, model and in all, into the hour at which the first of EVENT[n], n > 0,
        was received.
        """
        if not len(laps):
            return
        hour = int(events["ts_recv"][0]) // HOUR_NS
        if hour > self._hour:
            self._end_hour()
            self._hour = hour
        for part in range(len(PARTS)):
            self._counts[part] += np.bincount(bins(laps[:, part]), minlength=_BINS)

    def serve(self, model: str) -> None:
        """Another model serves: its times are its own."""
        self._end_hour()
        self._model = model

    def write(self) -> None:
        """Write the hours that have ended. Once their rows last: a line of more decisions than the action log has is
        no honest one.
        """
        while self._made:
            self._log.write(self._made[0])
            del self._made[0]

    def close(self, *, lasting: bool = True) -> None:
        """End the hour and the file; `lasting` says whether the rows so far were written."""
        try:
            self._end_hour()
            if lasting:
                self.write()
        finally:
            self._log.close()

    def _end_hour(self) -> None:
        n = int(self._counts[0].sum())
        if n:
            adapter, model, total = (p99(one) for one in self._counts)
            self._made.append(Hour(self._hour, self._model, n, (adapter, model, total)))
        self._begin()


def bins(ns: Array) -> Array:
    """The bin of each of int[n] times: FINE of equal width between two powers of two, one each below 2 FINE."""
    whole = np.maximum(ns, 0).astype(np.int64)
    shift = np.maximum(np.frexp(np.maximum(whole, 1).astype(float))[1] - FINE.bit_length(), 0)
    found: Array = shift * FINE + (whole >> shift)
    return found


def upper_ns(k: int) -> int:
    """The longest time that falls into a bin, ns."""
    if k < 2 * FINE:
        return k
    shift = k // FINE - 1
    return ((k - shift * FINE + 1) << shift) - 1


def p99(counts: Array) -> int:
    """A time that 99 of 100 counted ones do not exceed, ns: the end of the bin that holds the 99 % point."""
    total = np.cumsum(counts)
    return upper_ns(int(np.searchsorted(total, 0.99 * total[-1])))
