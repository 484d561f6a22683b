"""A context provider of recorded values of a volatility index: above its threshold size is multiplied by 0.3 (D.4.2).

The file is a csv with a header and two columns, `time,value`: ISO 8601 with an offset (or ns since 1970 UTC),
ascending. A value counts from its time on, until the next one, and for `max_age_ns` at most. Before the first, and
where the newest is older, nothing is known: size is on the safe side, as it is where the file cannot be read.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.small_file import read_small
from emp.risk.context.port import FOREVER_NS, SAFE, Window

VOLATILITY = "volatility"
"""What a reason of this provider begins with."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = 2
_STALE = f"{VOLATILITY}: no recent value"


class Volatility:
    """See the module's docstring."""

    def __init__(self, path: Path, above: float, max_age_ns: int) -> None:
        self._path, self._above, self._max_age_ns = path, above, max_age_ns
        self._stamp: tuple[int, int] | None = None
        self._windows: list[Window] = []
        self.failure = ""
        self.refresh()

    def refresh(self) -> bool:
        """Read the file again where it has changed."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp and not self.failure:
                return False
            values = read_values(self._path)
        except (OSError, DataError) as error:
            why = error.strerror if isinstance(error, OSError) else ""
            failure = f"{self._path}: cannot be read: {why}" if why else str(error)
            changed, self.failure = failure != self.failure, failure
            self._windows = [Window(0, FOREVER_NS, SAFE, f"{VOLATILITY}: {failure}")]
            return changed
        self._stamp, self.failure = stamp, ""
        self._windows = value_windows(values, self._above, self._max_age_ns)
        return True

    def windows(self, instrument: Instrument, from_ns: int, to_ns: int) -> list[Window]:
        """The windows that overlap [from_ns, to_ns), of every instrument alike."""
        return [one for one in self._windows if one.start_ns < to_ns and one.end_ns > from_ns]


def value_windows(values: Sequence[tuple[int, float]], above: float, max_age_ns: int) -> list[Window]:
    """Windows of (ns UTC, value), ascending: above a threshold, and where nothing is known."""
    return list(_joined(_spans(values, above, max_age_ns)))


def _spans(values: Sequence[tuple[int, float]], above: float, max_age_ns: int) -> Iterator[Window]:
    """Spans above the threshold, and spans of which nothing is known, in order."""
    yield Window(0, values[0][0] if values else FOREVER_NS, SAFE, _STALE)
    for (at, value), (following, _) in pairwise([*values, (FOREVER_NS, 0.0)]):
        known_until = min(following, at + max_age_ns)
        if value > above:
            yield Window(at, known_until, SAFE, f"{VOLATILITY}: above {above:g}")
        yield Window(known_until, following, SAFE, _STALE)


def _joined(spans: Iterator[Window]) -> Iterator[Window]:
    """Spans that touch and say the same as one; empty ones left out."""
    last: Window | None = None
    for span in spans:
        if span.start_ns >= span.end_ns:
            continue
        if last is not None and last.end_ns == span.start_ns and last[2:] == span[2:]:
            last = last._replace(end_ns=span.end_ns)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last


def read_values(path: Path) -> list[tuple[int, float]]:
    """The rows of a csv of `time,value`: (ns UTC, value), ascending.

    Raises:
        DataError: a row is not such a pair, or before the one above it; the line names its number.
        OSError: the file cannot be read.
    """
    try:
        rows = list(csv.reader(read_small(path).decode().splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a csv file: {error}") from error
    if not rows or [name.strip().lower() for name in rows[0]] != ["time", "value"]:
        raise DataError(f"{path}: line 1: expected the header time,value")
    found: list[tuple[int, float]] = []
    for line, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        try:
            if len(row) != _COLUMNS:
                raise ValueError("expected two columns")
            at, value = _time_ns(row[0].strip()), float(row[1])
            if not math.isfinite(value) or value < 0.0:
                raise ValueError(f"{value} is no such value")
            if found and at <= found[-1][0]:
                raise ValueError("not after the row above it")
        except ValueError as error:
            raise DataError(f"{path}: line {line}: {error}") from error
        found.append((at, value))
    return found


def _time_ns(text: str) -> int:
    if text.isdigit():
        return int(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no offset from UTC")
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000
