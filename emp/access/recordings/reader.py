"""What a format's reader is, and what it hands over."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from emp.access.recordings.container import Item, Progress
from emp.access.recordings.lines import Lines
from emp.access.recordings.scan import ISO, Column
from emp.core.errors import DataError
from emp.core.records import EVENT, LEVELS, Array, empty_events
from emp.core.sessions import DAY_NS, local_ns_to_utc

BATCH = 16_384
"""Rows that are decoded at a time: about 6 MiB of EVENT rows, which a cache still holds."""

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


class TimeColumn(NamedTuple):
    """The csv column that holds the time."""

    name: str
    column: Column


_ZONES = {"et": "America/New_York", "utc": "UTC"}


def time_column(header: tuple[str, ...], item: Item) -> tuple[TimeColumn, str]:
    """Find the time column (ts, time, timestamp; _et for New York time, else UTC) and its zone."""
    for name in header:
        stem, _, suffix = name.lower().partition("_")
        if stem in ("ts", "time", "timestamp", "datetime") and suffix in ("", *_ZONES):
            return TimeColumn(name, Column(ISO, word_of("ts"))), _ZONES.get(suffix, "UTC")
    raise DataError(f"{item.label}: no time column (ts_utc, ts_et or time) among {', '.join(header)}")


def local_to_utc(ts: Array, zone: str) -> None:
    """Turn wall-clock ns of a zone into UTC ns, in place; a day's noon tells the offset of the day."""
    if zone == "UTC":
        return
    days = ts // DAY_NS
    for day in np.unique(days):
        noon = int(day) * DAY_NS + DAY_NS // 2
        ts[days == day] += local_ns_to_utc(zone, noon) - noon


def first_time(item: Item, columns: Sequence[Column], zone: str) -> int:
    """UTC ns of the first row that can be read; DataError where there is none."""
    rows = empty_events(64)
    with item.open() as stream:
        lines = Lines(stream, columns, item.label, skip_header=True)
        n = lines.read(as_words(rows))
    good = np.flatnonzero(lines.status[:n] == 0)
    if not len(good):
        raise DataError(f"{item.label}: {'no row' if n == 0 else f'none of the first {n} rows'} can be read")
    first = rows["ts"][good[:1]].copy()
    local_to_utc(first, zone)
    return int(first[0])
