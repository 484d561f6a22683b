"""What a format's reader is, and what it hands over."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from emp.access.recordings.container import Item
from emp.access.recordings.dialect import Dialect, opened
from emp.access.recordings.lines import Lines
from emp.access.recordings.localtime import LocalClock
from emp.access.recordings.packing import Progress
from emp.access.recordings.scan import Column
from emp.core.errors import DataError
from emp.core.records import EVENT, LEVELS, Array, empty_events

BATCH = 4_096
"""Rows that are decoded at a time: about 1.5 MiB of EVENT rows, which stay near the processor from pass to pass."""

WORDS = EVENT.itemsize // 8


class Raw(NamedTuple):
    """Decoded rows on their way to `fold`: see there what `rows`, `kind` and `status` mean."""

    rows: Array  # EVENT[n]
    kind: Array  # uint8[n]
    status: Array  # uint8[n]
    text: Callable[[int], str]  # row i as read


class Reader(Protocol):
    """One recording of one format: a file, or the files that belong together."""

    label: str  # what messages call it
    flags: int  # EventFlag bits of every event: NO_SIZE, NO_DEPTH
    stored_bytes: int  # for progress
    first_ts_ns: int  # recordings are read in this order
    sortable: bool  # rows stand by themselves: neighbours that are swapped can be put in order

    @property
    def gaps(self) -> int:
        """Breaks of the stream that the last reading found."""

    def describe(self) -> str:
        """What it is read as, and what is assumed."""

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield decoded rows in file order; a batch is valid until the next one is asked for."""


def as_words(rows: Array) -> Array:
    """EVENT rows as int64[n, WORDS], so that a parser can write columns straight into fields."""
    return rows.view(np.int64).reshape(len(rows), WORDS)


def word_of(field: str, level: int = 0) -> int:
    """Index in `as_words` of an 8-byte field of EVENT."""
    fields = EVENT.fields
    assert fields is not None
    return int(fields[field][1]) // 8 + level


def read_levels(rows: Array, bids: int, asks: int) -> None:
    """Say of rows how many levels per side were read, beyond LEVELS or not; `fold` sorts out which are there."""
    rows["n_bid"] = min(bids, LEVELS)
    rows["n_ask"] = min(asks, LEVELS)


def blank(n: int) -> tuple[Array, Array, Array]:
    """Fresh rows, kinds and statuses."""
    return empty_events(n), np.zeros(n, np.uint8), np.zeros(n, np.uint8)


def first_time(item: Item, dialect: Dialect, columns: Sequence[Column], zone: str) -> int:
    """UTC ns of the first row that can be read; DataError where there is none. The time is in the first slot."""
    rows = empty_events(4096)
    with opened(item, dialect) as stream:
        lines = Lines(stream, columns, item.label, skip_header=True)
        n = lines.read(as_words(rows))
    good = np.flatnonzero(lines.status[:n] == 0)
    if not len(good):
        raise DataError(f"{item.label}: {'no row' if n == 0 else f'none of the first {n} rows'} can be read")
    first = rows["ts"][good[:1]].copy()
    LocalClock(zone).to_utc(first, np.ones(1, bool))
    return int(first[0])
