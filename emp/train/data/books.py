"""Windows of whole books, as a model that convolves over raw depth takes them, scaled by what was known then.

Prices of a window are ticks from the mid at its last event, divided by the mean distance of visible levels from
the mid; sizes are log(1 + lots), brought to mean 0 and deviation 1 level by level. Means are exponential over
NORM_SPAN events, up to and with the last event of the window.
"""

from typing import NamedTuple

import numpy as np

from emp.access.recordings import open_recording
from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.perception.book import running_weight
from emp.perception.state import NORM_SPAN
from emp.train.data.data import Dataset, Progress, Series

SIDES = 2  # ask, bid: the order of the paper
FLOOR = 1e-3


class Books(NamedTuple):
    """Books of the n rows of a dataset, and the scales known at each."""

    px: Array  # float32[n, levels, SIDES], ticks from the mid of the first row
    sz: Array  # float32[n, levels, SIDES], log(1 + lots); 0 where a level is empty
    mid: Array  # float32[n], ticks from the mid of the first row
    reach: Array  # float32[n], ticks
    centre: Array  # float32[n, levels]
    spread: Array  # float32[n, levels]

    @property
    def levels(self) -> int:
        """Price levels per side."""
        return int(self.px.shape[1])


def read_books(series: Series, data: Dataset, progress: Progress | None = None) -> Books:
    """Read the books of every row of a dataset from its recordings.

    Raises:
        DataError: the recordings no longer hold the events of the dataset.
    """
    seq = data.seen.states["seq"]
    parts = []
    for events in open_recording(series.paths, data.instrument, progress=progress).batches():
        place = np.minimum(np.searchsorted(seq, events["seq"]), len(seq) - 1)
        parts.append(_sides(events[seq[place] == events["seq"]]))
    px, sz = (np.concatenate(a) for a in zip(*parts, strict=True))
    if len(px) != len(seq):
        raise DataError(f"{series.name}: {len(px)} books for {len(seq)} events")
    used = max(1, int((sz > 0).any(axis=(0, 2)).sum()))
    return scaled(px[:, :used], sz[:, :used])


def _sides(events: Array) -> tuple[Array, Array]:
    """Prices and sizes by level and side; an empty level stands at the last price that is in use."""
    level = np.arange(events["ask_px"].shape[1])
    px, sz = [], []
    for side in ("ask", "bid"):
        n = events[f"n_{side}"][:, None]
        place = np.minimum(level, n - 1)
        px.append(np.take_along_axis(events[f"{side}_px"], place, axis=1))
        sz.append(np.where(level < n, events[f"{side}_sz"], 0))
    return np.stack(px, axis=2), np.stack(sz, axis=2)


def scaled(px: Array, sz: Array) -> Books:
    """Books from prices int64[n, levels, SIDES] in ticks and sizes in lots."""
    base = px[0, 0].sum() // 2
    near = (px - base).astype(np.float32)
    mid = near[:, 0].mean(axis=1)
    logs = np.log1p(sz).astype(np.float32)
    n, levels = len(px), px.shape[1]
    reach = np.zeros(n, np.float32)
    centre, spread = np.zeros((n, levels), np.float32), np.zeros((n, levels), np.float32)
    _running(near, logs, mid, reach, centre, spread)
    return Books(near, logs, mid, reach, centre, spread)


@kernel
def _running(px: Array, sz: Array, mid: Array, reach: Array, centre: Array, spread: Array) -> None:
    """Fill the exponential means of row t from rows 0 to t."""
    levels = px.shape[1]
    mean, square, far = np.zeros(levels), np.zeros(levels), 0.0
    for t in range(px.shape[0]):
        weight = running_weight(float(t + 1), float(NORM_SPAN))
        distance = 0.0
        for k in range(levels):
            a, b = float(sz[t, k, 0]), float(sz[t, k, 1])
            mean[k] += weight * (0.5 * (a + b) - mean[k])
            square[k] += weight * (0.5 * (a * a + b * b) - square[k])
            centre[t, k] = mean[k]
            spread[t, k] = np.sqrt(max(square[k] - mean[k] * mean[k], FLOOR))
            distance += abs(px[t, k, 0] - mid[t]) + abs(px[t, k, 1] - mid[t])
        far += weight * (distance / (2.0 * levels) - far)
        reach[t] = max(far, FLOOR)


def windows(books: Books, rows: Array, length: int) -> Array:
    """The last `length` books up to and with each row, scaled: float32[rows, length, 4 * levels].

    Per level: ask price, ask size, bid price, bid size.
    """
    place = rows[:, None] + np.arange(1 - length, 1)
    px = (books.px[place] - books.mid[rows][:, None, None, None]) / books.reach[rows][:, None, None, None]
    sz = books.sz[place] - books.centre[rows][:, None, :, None]
    sz = sz / books.spread[rows][:, None, :, None]
    return np.stack([px, sz], axis=-1).reshape(len(rows), length, 4 * books.levels)
