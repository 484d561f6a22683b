"""Books of several levels in a csv, and beside them a csv of the trades.

The two are merged by time. At one instant trades come before the book, because the book is as it is after
them: the last run of trades of one side joins that book's event, others are events with the book before.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.container import Item, Progress
from emp.access.recordings.detect import Found
from emp.access.recordings.lines import Lines
from emp.access.recordings.reader import (
    BATCH,
    Raw,
    as_words,
    blank,
    first_time,
    local_to_utc,
    read_levels,
    time_column,
    word_of,
)
from emp.access.recordings.scan import GRID, LEVEL_PX, LEVEL_SZ, SKIP, WORD, Column, word
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import LEVELS, Array

_LEVEL = re.compile(r"(bid|ask)_(px|qty)_(\d+)")
_MALFORMED = int(Quarantine.MALFORMED)

BUY, SELL = 1, -1
SIDES = (
    # O lifted the offer, B hit the bid
    {"O": BUY, "B": SELL},
    {"B": BUY, "S": SELL},
    {"B": BUY, "A": SELL},
    {"buy": BUY, "sell": SELL},
    {"BUY": BUY, "SELL": SELL},
)
"""Spellings of the aggressor's side in a trades file."""

SIDE = word_of("seq")  # where the side's word stands until it has become the sign of trade_qty


class BookCsvReader:
    """A book csv, with its trades csv where there is one."""

    flags = 0

    def __init__(
        self,
        book: Item,
        found: Found,
        trades: Item | None,
        trades_found: Found | None,
        instrument: Instrument,
    ) -> None:
        self.label = book.label
        self.stored_bytes = book.size
        self._book = book
        at, self._zone = time_column(found.header, book)
        self._columns = _book_columns(found.header, at.name, at.column, instrument)
        self._depth = _depth(found.header, "bid"), _depth(found.header, "ask")
        self.first_ts_ns = first_time(book, self._columns, self._zone)
        self._trades = trades
        if trades is not None and trades_found is not None:
            self.stored_bytes += trades.size
            at, self._trades_zone = time_column(trades_found.header, trades)
            self._trades_columns = _trade_columns(trades_found.header, at.name, at.column, instrument)
            self._buy, self._sell = _sides(trades, trades_found.header)

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield books and trades in order of time."""
        with self._book.open(progress) as stream:
            read = Lines(stream, self._columns, self._book.label, skip_header=True)
            books = _Queue(read, self._zone, depth=self._depth)
            if self._trades is None:
                while books.refill():
                    books.kind[:] = fold.QUOTE
                    yield books.take_all()
                return
            with self._trades.open(progress) as other:
                lines = Lines(other, self._trades_columns, self._trades.label, skip_header=True)
                yield from _merged(books, _Queue(lines, self._trades_zone, self._buy, self._sell))


class Waiting(NamedTuple):
    """Rows of one file for `merge`: those from `at` to `n` wait, and where `ended` no more will come."""

    rows: Array  # EVENT
    status: Array  # uint8
    at: int
    n: int
    ended: bool


class Merged(NamedTuple):
    """What `merge` writes: rows of both files, by time."""

    rows: Array  # EVENT
    kind: Array  # uint8, of `fold`
    status: Array  # uint8
    origin: Array  # int64: index among the books, or minus one minus the index among the trades


class _Queue:
    """Rows of one file that wait to be merged."""

    def __init__(
        self, lines: Lines, zone: str, buy: int = 0, sell: int = 0, depth: tuple[int, int] = (0, 0)
    ) -> None:
        self.rows, self.kind, self.status = blank(BATCH)
        self._lines = lines
        self._zone = zone
        self._buy, self._sell = buy, sell
        self._bids, self._asks = depth
        self.next = 0
        self.n = 0
        self.ended = False

    def refill(self) -> bool:
        """Read the next rows where none waits; False at the end."""
        if self.next < self.n:
            return True
        as_words(self.rows)[:] = 0
        self.n = 0 if self.ended else self._lines.read(as_words(self.rows))
        self.next = 0
        self.ended = self.n == 0
        rows, status = self.rows[: self.n], self.status[: self.n]
        read_levels(rows, self._bids, self._asks)
        status[:] = self._lines.status[: self.n]
        local_to_utc(rows["ts"], self._zone)
        rows["ts_recv"] = rows["ts"]
        if self._buy:
            buys, sells = rows["seq"] == self._buy, rows["seq"] == self._sell
            status[(status == 0) & ~buys & ~sells] = _MALFORMED
            status[(status == 0) & (rows["trade_qty"] <= 0)] = Quarantine.ABSURD_SIZE
            rows["trade_qty"][sells] *= -1
        return not self.ended

    @property
    def waiting(self) -> Waiting:
        return Waiting(self.rows, self.status, self.next, self.n, self.ended)

    def take_all(self) -> Raw:
        """Hand over all that waits."""
        self.next = self.n
        return Raw(self.rows[: self.n], self.kind[: self.n], self.status[: self.n], self._lines.text)

    def text(self, i: int) -> str:
        return self._lines.text(i)


def _merged(books: _Queue, trades: _Queue) -> Iterator[Raw]:
    out = Merged(*blank(2 * BATCH), np.zeros(2 * BATCH, np.int64))
    clock: Array = np.full(2, fold.NO_TIME)
    while books.refill() | trades.refill():
        n, books.next, trades.next = merge(books.waiting, trades.waiting, clock, out)

        def text(i: int) -> str:
            at = int(out.origin[i])
            return books.text(at) if at >= 0 else trades.text(~at)

        yield Raw(out.rows[:n], out.kind[:n], out.status[:n], text)


@kernel
def merge(books: Any, trades: Any, clock: Any, out: Any) -> Any:
    """Merge two files (`Waiting`) into `out` (`Merged`) by time until one of them must be refilled.

    Returns (rows written, where the books go on, where the trades do). `clock` holds the latest time of each file,
    so that a row which goes back in time does not hold up the other file.
    """
    b, n_books, t, n_trades = books.at, books.n, trades.at, trades.n
    rows, kind, status, origin = out.rows, out.kind, out.status, out.origin
    n = 0
    while (b < n_books or books.ended) and (t < n_trades or trades.ended) and (b < n_books or t < n_trades):
        if b < n_books and books.status[b] == 0:
            clock[0] = max(clock[0], books.rows[b].ts)
        if t < n_trades and trades.status[t] == 0:
            clock[1] = max(clock[1], trades.rows[t].ts)
        if t < n_trades and (b >= n_books or clock[1] <= clock[0]):
            rows[n] = trades.rows[t]
            kind[n] = fold.PRINT
            status[n] = trades.status[t]
            origin[n] = -1 - t
            t += 1
        else:
            rows[n] = books.rows[b]
            kind[n] = fold.QUOTE
            status[n] = books.status[b]
            origin[n] = b
            b += 1
        n += 1
    return n, b, t


def _book_columns(
    header: Sequence[str], time_name: str, time: Column, instrument: Instrument
) -> list[Column]:
    columns = []
    for name in header:
        found = _LEVEL.fullmatch(name)
        if name == time_name:
            columns.append(time)
        elif found is None or int(found[3]) >= LEVELS:
            columns.append(Column(SKIP))
        elif found[2] == "px":
            target = word_of(f"{found[1]}_px", int(found[3]))
            columns.append(Column(LEVEL_PX, target, 1 / instrument.tick, Quarantine.ABSURD_PRICE))
        else:
            target = word_of(f"{found[1]}_sz", int(found[3]))
            columns.append(Column(LEVEL_SZ, target, 1 / instrument.lot, Quarantine.ABSURD_SIZE))
    return columns


def _depth(header: Sequence[str], side: str) -> int:
    """Number of levels from the best to the last that has a price column."""
    found = [_LEVEL.fullmatch(name) for name in header]
    return max((int(m[3]) + 1 for m in found if m and (m[1], m[2]) == (side, "px")), default=0)


def _trade_columns(
    header: Sequence[str], time_name: str, time: Column, instrument: Instrument
) -> list[Column]:
    columns = {
        time_name: time,
        "side": Column(WORD, SIDE),
        "px": Column(GRID, word_of("trade_px"), 1 / instrument.tick, Quarantine.ABSURD_PRICE),
        "qty": Column(GRID, word_of("trade_qty"), 1 / instrument.lot, Quarantine.ABSURD_SIZE),
    }
    return [columns.get(name, Column(SKIP)) for name in header]


def _sides(trades: Item, header: Sequence[str]) -> tuple[int, int]:
    """Which words mean that a buyer and that a seller took: judged by the words at the file's beginning."""
    at = header.index("side")
    lines = trades.head().decode("utf-8", "replace").split("\n")[1:-1]
    fields = [line.split(",") for line in lines]
    seen = [f[at].strip() for f in fields if len(f) == len(header)]
    best = max(SIDES, key=lambda words: sum(1 for side in seen if side in words))
    if seen and not any(side in best for side in seen):
        raise DataError(f"{trades.label}: column 'side' holds {seen[0]!r}; known are O/B, B/S, B/A, buy/sell")
    buy, sell = (next(text for text, sign in best.items() if sign == wanted) for wanted in (BUY, SELL))
    return word(buy), word(sell)
