"""What a format's reader is, and what it hands over."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from emp.access.recordings.container import Progress
from emp.core.records import EVENT, Array, empty_events

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


def blank(n: int = BATCH) -> tuple[Array, Array, Array]:
    """Fresh rows, kinds and statuses."""
    return empty_events(n), np.zeros(n, np.uint8), np.zeros(n, np.uint8)
