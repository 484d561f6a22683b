"""Rows in order of time: swapped neighbours are put right within a window, a stamp far ahead costs its own row.

A row that is later than most of the WINDOW rows after it did not happen then: it is AHEAD. What is left is sorted
within the window where rows stand by themselves (quotes, books, trades); where they build on each other their order
is theirs, and a row that goes back is left to be refused.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings.reader import Raw
from emp.core.codes import Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import EVENT, Array

WINDOW = 32
"""Rows that are looked ahead, and over which a row may be moved."""

_AHEAD = int(Quarantine.AHEAD)


class _Kept(NamedTuple):
    rows: Array
    kind: Array
    status: Array
    text: list[str]


class Reorder:
    """Holds back the last rows of each batch, so that the next one can show which of them stand too early."""

    def __init__(self, sortable: bool) -> None:
        self._sortable = sortable
        self._kept = _Kept(np.zeros(0, EVENT), np.zeros(0, np.uint8), np.zeros(0, np.uint8), [])

    def pass_on(self, raw: Raw) -> list[Raw]:
        """What can go on of the rows held back and those of a batch."""
        kept, n = self._kept, len(raw.rows)
        if n <= WINDOW:
            self._kept = _join(kept, raw, n)
            if len(self._kept.rows) <= 4 * WINDOW:
                return []
            both = self._kept
            return self._split(Raw(both.rows, both.kind, both.status, both.text.__getitem__))
        last = kept.rows["ts"][-1] if len(kept.rows) else raw.rows["ts"][0]
        ts = raw.rows["ts"]
        good = raw.status == 0
        calm = bool(good.all()) and bool((kept.status == 0).all()) and ts[0] >= last
        if calm and in_order(raw.rows, len(raw.rows)) and in_order(kept.rows, len(kept.rows)):
            out = [Raw(kept.rows, kept.kind, kept.status, kept.text.__getitem__)] if len(kept.rows) else []
            cut = n - WINDOW
            out.append(Raw(raw.rows[:cut], raw.kind[:cut], raw.status[:cut], raw.text))
            self._kept = _tail(raw, cut)
            return out
        k = len(kept.rows)
        rows = np.concatenate((kept.rows, raw.rows))

        def text(i: int) -> str:
            return kept.text[i] if i < k else raw.text(i - k)

        joined = Raw(
            rows, np.concatenate((kept.kind, raw.kind)), np.concatenate((kept.status, raw.status)), text
        )
        return self._split(joined)

    def flush(self) -> list[Raw]:
        """The rows that are still held back."""
        kept = self._kept
        if not len(kept.rows):
            return []
        raw = Raw(kept.rows, kept.kind, kept.status, kept.text.__getitem__)
        self._kept = _Kept(kept.rows[:0], kept.kind[:0], kept.status[:0], [])
        return [self._put_right(raw, len(raw.rows))]

    def _split(self, raw: Raw) -> list[Raw]:
        """Put rows right; the last of them wait."""
        done = self._put_right(raw, len(raw.rows) - WINDOW)
        cut = len(raw.rows) - WINDOW
        self._kept = _tail(done, cut)
        return [Raw(done.rows[:cut], done.kind[:cut], done.status[:cut], done.text)]

    def _put_right(self, raw: Raw, judged: int) -> Raw:
        mark_ahead(raw.rows, raw.status, judged)
        if not self._sortable:
            return raw
        order = np.arange(len(raw.rows))
        if not sort_window(raw.rows, raw.status, order):
            return raw
        text: Callable[[int], str] = raw.text
        return Raw(raw.rows[order], raw.kind[order], raw.status[order], lambda i: text(int(order[i])))


def _tail(raw: Raw, cut: int) -> _Kept:
    text = [raw.text(i) for i in range(cut, len(raw.rows))]
    return _Kept(raw.rows[cut:].copy(), raw.kind[cut:].copy(), raw.status[cut:].copy(), text)


def _join(kept: _Kept, raw: Raw, n: int) -> _Kept:
    return _Kept(
        np.concatenate((kept.rows, raw.rows)),
        np.concatenate((kept.kind, raw.kind)),
        np.concatenate((kept.status, raw.status)),
        [*kept.text, *(raw.text(i) for i in range(n))],
    )


@kernel
def in_order(rows: Any, n: int) -> bool:
    """Whether no row's time goes back."""
    for i in range(1, n):  # noqa: SIM110  kernels compile no generators
        if rows[i].ts < rows[i - 1].ts:
            return False
    return True


@kernel
def mark_ahead(rows: Any, status: Any, judged: int) -> None:
    """Mark the rows, of the first `judged`, that are later than most of the rows after them."""
    n = len(rows)
    for i in range(judged):
        if status[i] != 0:
            continue
        before = 0
        seen = 0
        j = i + 1
        while j < n and seen < WINDOW:
            if status[j] == 0:
                seen += 1
                before += rows[j].ts < rows[i].ts
            j += 1
        if seen >= 2 and 2 * before > seen and before > 2:
            status[i] = _AHEAD


@kernel
def sort_window(rows: Any, status: Any, order: Any) -> bool:
    """Arrange `order` so that good rows are in order of time, none moved over more than WINDOW; whether it changed."""
    changed = False
    for i in range(1, len(order)):
        if status[order[i]] != 0:
            continue
        j = i
        moved = order[i]
        while (
            j > 0 and i - j < WINDOW and (rows[order[j - 1]].ts > rows[moved].ts or status[order[j - 1]] != 0)
        ):
            # rows without a time of their own are passed only where something later lies before them
            if status[order[j - 1]] != 0:
                k = j - 1
                while k > 0 and i - k < WINDOW and status[order[k - 1]] != 0:
                    k -= 1
                if k == 0 or status[order[k - 1]] != 0 or rows[order[k - 1]].ts <= rows[moved].ts:
                    break
            order[j] = order[j - 1]
            j -= 1
        if j != i:
            order[j] = moved
            changed = True
    return changed
