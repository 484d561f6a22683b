"""What the board has shown so far: bounded series and lists per instrument, for pages that come late or come back.

It is filled by whoever publishes views, never by the engine's loop, and read by the thread that answers HTTP.
Everything in it carries a stamp, one counter for all, so that a page says which stamp it has and gets what is newer.
What a page has missed for so long that it is no longer here is not told: the newest state is, never a backlog.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from emp.core.records import LEVELS, Array
from emp.observe.board import InstrumentView, View

SAMPLE = np.dtype(
    [
        ("stamp", "i8"),
        ("ts", "i8"),  # market time of the newest event
        ("bid", "i8"),
        ("ask", "i8"),
        ("position", "i8"),
        ("pnl", "f8"),
        ("unrealised", "f8"),  # NaN: not known
        ("drawdown", "f8"),
        ("low", "f8"),  # of the forecast at the longest horizon, ticks from the mid; NaN where there is none
        ("median", "f8"),
        ("high", "f8"),
        ("lag_ms", "f8"),
        ("book", "i8", (4, LEVELS)),  # bid prices, bid lots, ask prices, ask lots; unused levels are 0
    ]
)
"""One moment of one instrument."""

LINES = tuple(name for name in SAMPLE.names or () if name not in ("stamp", "book"))

LONGEST = "2s"

RINGS = ((250_000_000, 2_400), (2_000_000_000, 1_800), (30_000_000_000, 2_880))
"""Least ns between two samples, and how many are kept: ten minutes, an hour, a day."""

BOOKS_SENT = 1_200
"""Samples of the finest ring that are sent with their book."""

KEPT = {"decisions": 400, "recent_fills": 1_000, "outcomes": 600}
"""Rows that are kept of the lists of an `InstrumentView`, and how many."""


class _Ring:
    """The newest samples, at least so many ns apart."""

    def __init__(self, apart_ns: int, size: int) -> None:
        self._apart, self._rows, self._used = apart_ns, np.zeros(size, SAMPLE), 0
        self._at: int | None = None

    def is_due(self, now_ns: int) -> bool:
        """Whether the next sample is so late that it is kept."""
        return self._at is None or not 0 <= now_ns - self._at < self._apart

    def add(self, sample: Array, now_ns: int) -> None:
        """Keep a sample where one is due."""
        if self.is_due(now_ns):
            self._at = now_ns
            self._rows[self._used % len(self._rows)] = sample
            self._used += 1

    def begins(self) -> int:
        """The stamp before which nothing is kept; 0 where nothing was lost yet."""
        if self._used <= len(self._rows):
            return 0
        return int(self._rows[self._used % len(self._rows)]["stamp"])

    def after(self, stamp: int) -> Array:
        """Copies of the samples newer than a stamp, oldest first."""
        n = min(self._used, len(self._rows))
        rows = self._rows[(self._used - n + np.arange(n)) % len(self._rows)]
        return rows[np.searchsorted(rows["stamp"], stamp, side="right") :]


class _Rows:
    """The newest rows of a list by their number `n`; one that changes counts as new."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: OrderedDict[int, tuple[int, Any]] = OrderedDict()

    def add(self, rows: Sequence[Any], stamp: int) -> bool:
        changed = False
        for row in reversed(rows):  # oldest first
            known = self._rows.get(row.n)
            if known is None or known[1] != row:
                self._rows[row.n] = (stamp, row)
                changed = True
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)
        return changed

    def after(self, stamp: int) -> list[Any]:
        return [row for at, row in self._rows.values() if at > stamp]


class _Kept:
    """What is kept of one instrument."""

    def __init__(self) -> None:
        self.rings = [_Ring(*ring) for ring in RINGS]
        self.rows = {name: _Rows(most) for name, most in KEPT.items()}


class History:
    """Series and lists of all instruments of a run; `add` is to be given to `Board.watch`."""

    def __init__(self) -> None:
        self.stamp = 0
        """Of the newest thing that came."""
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def add(self, view: View) -> None:
        """Take a view in."""
        with self._lock:
            self.stamp += 1
            for one in view.instruments:
                kept = self._kept.setdefault(one.name, _Kept())
                for name, rows in kept.rows.items():
                    rows.add(getattr(one, name), self.stamp)
                if one.bid < one.ask and kept.rings[0].is_due(view.now_ns):  # coarser ones are rarer
                    row = sample(one, self.stamp)
                    for ring in kept.rings:
                        ring.add(row, view.now_ns)

    def reaches(self, stamp: int) -> bool:
        """Whether everything newer than a stamp is still here, in the finest samples."""
        with self._lock:
            return 0 <= stamp <= self.stamp and all(
                kept.rings[0].begins() <= stamp for kept in self._kept.values()
            )

    def of(self, instrument: str) -> dict[str, Any]:
        """Everything kept of an instrument, as plain values: `stamp`, `lines` by name, `books`, and the lists; older
        samples are farther apart. Empty for a name that no view had.
        """
        with self._lock:
            kept = self._kept.get(instrument)
            if kept is None:
                return {}
            stamp = self.stamp
            fine, *coarser = [ring.after(0) for ring in kept.rings]
            rows = {name: rows.after(0) for name, rows in kept.rows.items()}
        samples = fine
        for ring in coarser:
            oldest = samples["stamp"][0] if len(samples) else np.iinfo(np.int64).max
            samples = np.concatenate([ring[ring["stamp"] < oldest], samples])
        return {"stamp": stamp, **_plain(samples, fine[-BOOKS_SENT:]), **rows}

    def since(self, stamp: int) -> dict[str, Any]:
        """What is newer than a stamp, by instrument, as plain values: as `of`, but of the finest samples."""
        with self._lock:
            found = {}
            for name, kept in self._kept.items():
                fine = kept.rings[0].after(stamp)
                rows = {key: rows.after(stamp) for key, rows in kept.rows.items()}
                found[name] = (fine, rows)
        return {name: {**_plain(fine, fine), **rows} for name, (fine, rows) in found.items()}


def sample(one: InstrumentView, stamp: int) -> Array:
    """One SAMPLE record of an instrument."""
    told = one.forecast.get(LONGEST)
    low, median, high = (np.nan, np.nan, np.nan) if told is None else (told.low, told.median, told.high)
    unrealised = np.nan if one.unrealised_ticks is None else one.unrealised_ticks
    book = [column for side in (one.bids, one.asks) for column in _columns(side)]
    return np.array(
        (
            stamp,
            one.last_ts,
            one.bid,
            one.ask,
            one.position,
            one.pnl_ticks,
            unrealised,
            one.drawdown_ticks,
            low,
            median,
            high,
            one.event_lag_ms,
            book,
        ),
        SAMPLE,
    )


def _columns(side: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Prices and lots of one side of a book, LEVELS of each."""
    unused = [0] * (LEVELS - len(side[:LEVELS]))
    return [px for px, _ in side[:LEVELS]] + unused, [lots for _, lots in side[:LEVELS]] + unused


def _plain(samples: Array, with_books: Array) -> dict[str, Any]:
    """Columns of samples, and the books of some of them, as lists; what is not a number becomes null in JSON."""
    lines = {name: samples[name].tolist() for name in LINES}
    books = {
        "ts": with_books["ts"].tolist(),
        "levels": with_books["book"].reshape(len(with_books), 4 * LEVELS).tolist(),
    }
    return {"lines": lines, "books": books}


def encoded(value: Any) -> bytes:
    """JSON of plain values and of views."""
    return msgspec.json.encode(value)
