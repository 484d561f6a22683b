"""LOBSTER: a message file and, row for row, the order book after each message.

Format: the LOBSTER sample files' read-me. Messages are time (s after midnight New York), type, order id, size,
price (USD * 10^4) and direction, which is the side of the RESTING order; book rows are ask price, ask size, bid
price, bid size per level, +-9999999999 for a level that does not exist.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.container import Item
from emp.access.recordings.detect import Found
from emp.access.recordings.dialect import opened
from emp.access.recordings.lines import Lines
from emp.access.recordings.packing import Progress
from emp.access.recordings.reader import BATCH, Raw, as_words, blank, read_levels, word_of
from emp.access.recordings.scan import EPOCH, INT, LEVEL_PX, LEVEL_SZ, OFF_GRID, SKIP, Column
from emp.access.recordings.whose import refuse_unless
from emp.core.book import MAX_LOTS
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import LEVELS, Array
from emp.core.sessions import DAY_NS, local_ns_to_utc

ZONE = "America/New_York"
PRICE_UNIT = 1e-4

TIME, TYPE, ORDER, SIZE, PRICE, DIRECTION = range(6)
MESSAGE_COLUMNS = (
    Column(EPOCH, TIME, 9),
    Column(INT, TYPE),
    Column(INT, ORDER),
    Column(INT, SIZE),
    Column(INT, PRICE),
    Column(INT, DIRECTION),
)

_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_NOON_NS = DAY_NS // 2

_MALFORMED = int(Quarantine.MALFORMED)
_DUPLICATE = int(Quarantine.DUPLICATE)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)


def book_columns(levels: int, instrument: Instrument) -> list[Column]:
    """Columns of an orderbook file, straight into the fields of an EVENT row; levels beyond LEVELS skipped."""
    price = PRICE_UNIT / instrument.tick
    columns: list[Column] = []
    for level in range(levels):
        if level >= LEVELS:
            columns += [Column(SKIP)] * 4
            continue
        for side in ("ask", "bid"):
            columns.append(Column(LEVEL_PX, word_of(f"{side}_px", level), price, Quarantine.ABSURD_PRICE))
            size = Column(LEVEL_SZ, word_of(f"{side}_sz", level), 1 / instrument.lot, Quarantine.ABSURD_SIZE)
            columns.append(size)
    return columns


_TICKER = re.compile(r"([A-Za-z][A-Za-z.]{0,9})_\d{4}-\d{2}-\d{2}_")


def ticker_of(item: Item) -> str:
    """The ticker that LOBSTER puts in front of a file's name."""
    found = _TICKER.match(item.name)
    return found[1] if found else ""


def midnight_ns(item: Item) -> int:
    """UTC ns of the midnight that the file's times count from; the date stands in its name."""
    found = _DATE.search(item.name)
    try:
        day = date(*(int(part) for part in found.groups())) if found else None
    except ValueError:
        day = None
    if day is None:
        raise DataError(
            f"{item.label}: the name carries no date, and LOBSTER times count from midnight; "
            "name it like GOOG_2012-06-21_message.csv"
        )
    local = (day - date(1970, 1, 1)).days * DAY_NS
    return local_ns_to_utc(ZONE, local + _NOON_NS) - _NOON_NS


@kernel
def decode(
    messages: Any, midnight: int, ticks: float, lots: float, previous: Any, rows: Any, kind: Any, status: Any
) -> None:
    """Write what the messages did into the EVENT rows that hold their books.

    `messages` is int64[n, 6]; `ticks` and `lots` are ticks and lots per unit; `previous` is the message before
    the first one and is set to the last one.
    """
    for i in range(len(messages)):
        row = rows[i]
        m = messages[i]
        row.ts = midnight + m[TIME]
        row.ts_recv = row.ts
        if status[i] == 0:
            kind[i], status[i] = _act(m, ticks, lots, previous, row)
        previous[:] = m


@kernel
def _act(m: Any, ticks: float, lots: float, previous: Any, row: Any) -> Any:
    """Set the trade fields of a row from its message; return (kind, status)."""
    action = m[TYPE]
    if not 0 <= m[TIME] < 86_400_000_000_000 or not 1 <= action <= 7:
        return fold.NOTE, _MALFORMED
    if action == 7:
        if m[PRICE] == -1:
            return fold.HALT, 0
        return (fold.RESUME if m[PRICE] == 1 else fold.NOTE), 0
    if m[DIRECTION] != 1 and m[DIRECTION] != -1:
        return fold.NOTE, _MALFORMED
    size = m[SIZE] * lots
    qty = np.int64(np.floor(size + 0.5))
    if qty <= 0 or qty > MAX_LOTS or abs(size - qty) > OFF_GRID:
        return fold.NOTE, _ABSURD_SIZE
    px = m[PRICE] * ticks
    row.trade_px = np.int64(np.floor(px + 0.5))
    if action == 5:
        # a hidden order may rest between two ticks: the aggressor is taken to have paid the worse one
        row.trade_px = np.int64(np.ceil(px - OFF_GRID) if m[DIRECTION] < 0 else np.floor(px + OFF_GRID))
    elif abs(px - row.trade_px) > OFF_GRID:
        return fold.NOTE, _ABSURD_PRICE
    if row.trade_px <= 0:
        return fold.NOTE, _ABSURD_PRICE
    if action in (1, 3) and _same(m, previous):
        return fold.NOTE, _DUPLICATE  # an order can arrive or be deleted only once
    row.trade_qty = qty * m[DIRECTION]
    if action == 1:
        return fold.ADD, 0
    if action <= 3:
        return fold.CHANGE, 0
    row.trade_qty = -row.trade_qty  # the aggressor's side, not the resting order's
    return (fold.CROSS if action == 6 else fold.TRADE), 0


@kernel
def _same(a: Any, b: Any) -> bool:
    for i in range(len(a)):  # noqa: SIM110  a kernel's loop
        if a[i] != b[i]:
            return False
    return True


class LobsterReader:
    """A message file with its orderbook file."""

    flags = 0
    gaps = 0
    sortable = False

    def __init__(
        self,
        message: Item,
        found: Found,
        book: Item,
        book_found: Found,
        extra_columns: int,
        instrument: Instrument,
    ) -> None:
        refuse_unless(ticker_of(message), instrument, message.label)
        levels = book_found.width // 4
        self._dialects = found.dialect, book_found.dialect
        self.label = message.label
        self.stored_bytes = message.size + book.size
        self._message = message
        self._book = book
        self._message_columns = [*MESSAGE_COLUMNS, *[Column(SKIP)] * extra_columns]
        self._book_columns = book_columns(levels, instrument)
        self._levels = levels
        self._instrument = instrument
        self._midnight = midnight_ns(message)
        self.first_ts_ns = self._midnight

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return "LOBSTER messages and books, times in America/New_York"

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the rows of both files."""
        with (
            opened(self._message, self._dialects[0], progress) as m,
            opened(self._book, self._dialects[1], progress) as b,
        ):
            messages = Lines(m, self._message_columns, self._message.label, skip_header=False)
            books = Lines(b, self._book_columns, self._book.label, skip_header=False)
            yield from self._rows(messages, books)

    def _rows(self, messages: Lines, books: Lines) -> Iterator[Raw]:
        rows, kind, status = blank(BATCH)
        table: Array = np.zeros((BATCH, len(MESSAGE_COLUMNS)), np.int64)
        previous: Array = np.zeros(len(MESSAGE_COLUMNS), np.int64)
        ticks, lots = PRICE_UNIT / self._instrument.tick, 1 / self._instrument.lot
        done = 0
        while True:
            n = messages.read(table)
            as_words(rows)[:] = 0
            n_books = books.read(as_words(rows))
            if n != n_books:
                self._refuse_lengths(done + n, done + n_books)
            if n == 0:
                return
            read_levels(rows[:n], self._levels, self._levels)
            status[:n] = np.where(messages.status[:n], messages.status[:n], books.status[:n])
            decode(table[:n], self._midnight, ticks, lots, previous, rows[:n], kind[:n], status[:n])
            yield Raw(rows[:n], kind[:n], status[:n], lambda i: f"{messages.text(i)} | {books.text(i)}"[:200])
            done += n

    def _refuse_lengths(self, messages: int, books: int) -> None:
        short, other = (self._message, self._book) if messages < books else (self._book, self._message)
        raise DataError(
            f"{short.label}: ends after {min(messages, books)} rows but {other.name} goes on: "
            "it is cut off, or the two are not of one recording"
        )
