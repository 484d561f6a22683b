"""LOBSTER messages without their orderbook file: the book is rebuilt from the orders.

Orders that rested before the first message are unknown, so the first minutes show a thinner book than there
was; messages about them are quarantined as UNKNOWN_ORDER and leave the book as it is. A file whose name ends in
_message_N tells only of the N best levels, so levels that fall out of these are forgotten: some of their orders
will be gone when the price returns, and no message says which.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from emp.access.recordings.container import Item
from emp.access.recordings.detect import Found
from emp.access.recordings.dialect import opened
from emp.access.recordings.lines import Lines
from emp.access.recordings.lobster import (
    DIRECTION,
    MESSAGE_COLUMNS,
    ORDER,
    PRICE_UNIT,
    TYPE,
    decode,
    midnight_ns,
    ticker_of,
)
from emp.access.recordings.orders import (
    ASK,
    BID,
    OrderBook,
    add_order,
    find_order,
    forget_beyond,
    show,
    sweep_away,
    take,
)
from emp.access.recordings.packing import Progress
from emp.access.recordings.reader import BATCH, Raw, as_words, blank
from emp.access.recordings.scan import SKIP, Column
from emp.access.recordings.whose import refuse_unless
from emp.core.codes import Quarantine
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import Array

WHOLE = 1 << 30
"""Depth of a file that tells of every level."""

_DEPTH = re.compile(r"_message_(\d+)(?!\d)")
_UNKNOWN_ORDER = int(Quarantine.UNKNOWN_ORDER)


@kernel
def rebuild(messages: Any, rows: Any, status: Any, depth: int, book: Any, levels: Any, table: Any) -> None:
    """Carry the book, of `depth` levels a side, through decoded messages and write it into their rows."""
    for i in range(len(messages)):
        if status[i] == 0:
            status[i] = _apply(messages[i], rows[i], book, levels, table)
            forget_beyond(levels, book, depth)
        show(levels, book, rows[i])


@kernel
def _apply(m: Any, row: Any, book: Any, levels: Any, table: Any) -> Any:
    action = m[TYPE]
    if action > 4:
        return 0
    side = BID if m[DIRECTION] > 0 else ASK
    qty = abs(row.trade_qty)
    if action == 1:
        # it rests, so nothing on the other side is at its price or better
        sweep_away(levels, book, 1 - side, row.trade_px, True)
        add_order(levels, book, table, m[ORDER], side, row.trade_px, qty)
        return 0
    if action == 4:
        # it trades, so nothing on its side has a better price
        sweep_away(levels, book, side, row.trade_px, False)
    at = find_order(table, m[ORDER])
    if at < 0:
        return _UNKNOWN_ORDER
    take(levels, book, table, at, table[at].qty if action == 3 else qty)
    return 0


class LobsterRebuildReader:
    """A message file alone."""

    flags = 0
    gaps = 0
    sortable = False

    def __init__(self, message: Item, found: Found, extra_columns: int, instrument: Instrument) -> None:
        refuse_unless(ticker_of(message), instrument, message.label)
        self._dialect = found.dialect
        self.label = message.label
        self.stored_bytes = message.size
        self._message = message
        named = _DEPTH.search(message.name)
        self._depth = int(named[1]) if named else WHOLE
        self._columns = [*MESSAGE_COLUMNS, *[Column(SKIP)] * extra_columns]
        self._instrument = instrument
        self._midnight = midnight_ns(message)
        self.first_ts_ns = self._midnight

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return "LOBSTER messages, book rebuilt, times in America/New_York"

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the rows with the rebuilt book."""
        rows, kind, status = blank(BATCH)
        table: Array = np.zeros((BATCH, len(MESSAGE_COLUMNS)), np.int64)
        previous: Array = np.zeros(len(MESSAGE_COLUMNS), np.int64)
        ticks, lots = PRICE_UNIT / self._instrument.tick, 1 / self._instrument.lot
        orders = OrderBook()
        with opened(self._message, self._dialect, progress) as stream:
            messages = Lines(stream, self._columns, self.label, skip_header=False)
            while n := messages.read(table):
                as_words(rows)[:] = 0
                status[:n] = messages.status[:n]
                decode(table[:n], self._midnight, ticks, lots, previous, rows[:n], kind[:n], status[:n])
                orders.reserve(n)
                rebuild(
                    table[:n],
                    rows[:n],
                    status[:n],
                    self._depth,
                    orders.book[0],
                    orders.levels,
                    orders.table,
                )
                yield Raw(rows[:n], kind[:n], status[:n], messages.text)
