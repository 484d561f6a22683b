"""An exchange's own events (orders, cancels, executions): the book is rebuilt, beginning with an empty one.

Columns ts, event, order_id, side, px, qty, fill_px. LIMIT_ORDER and MARKET_ORDER arrive; ORDER_EXECUTED follows
for every resting order they hit; CANCEL_ORDER asks and ORDER_CANCELLED answers. MODIFY_ORDER repeats the order
as it was, so its new size shows only when it is next hit or cancelled.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.container import Item
from emp.access.recordings.detect import Found
from emp.access.recordings.dialect import opened
from emp.access.recordings.lines import Lines
from emp.access.recordings.localtime import LocalClock
from emp.access.recordings.mapping import Columns
from emp.access.recordings.orders import (
    ASK,
    BID,
    OrderBook,
    add_order,
    find_order,
    show,
    sweep_away,
    take,
)
from emp.access.recordings.packing import Progress
from emp.access.recordings.plan import zone_of
from emp.access.recordings.reader import BATCH, Raw, as_words, blank, first_time
from emp.access.recordings.scan import INT, OPTIONAL, SKIP, STAMP, WORD, Column, word
from emp.core.book import MAX_LOTS
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import Array

TIME, EVENT_NAME, ORDER, SIDE, PX, QTY, FILL = range(7)

_LIMIT, _MARKET, _EXECUTED, _CANCELLED, _CANCEL, _MODIFY = (
    word(name)
    for name in (
        "LIMIT_ORDER",
        "MARKET_ORDER",
        "ORDER_EXECUTED",
        "ORDER_CANCELLED",
        "CANCEL_ORDER",
        "MODIFY_ORDER",
    )
)
_B, _S = word("B"), word("S")
_MALFORMED = int(Quarantine.MALFORMED)
_UNKNOWN_ORDER = int(Quarantine.UNKNOWN_ORDER)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)

TAKER = np.dtype([("key", "i8"), ("side", "i8"), ("px", "i8"), ("left", "i8")], align=True)
"""The limit order that is executing: `left` lots of it are still open."""


@kernel
def rebuild(
    events: Any, rows: Any, kind: Any, status: Any, taker: Any, book: Any, levels: Any, table: Any
) -> None:
    """Carry the book through exchange events, int64[n, 7], and write book and trade into EVENT rows."""
    for i in range(len(events)):
        row = rows[i]
        if status[i] == 0:
            kind[i], status[i] = _apply(events[i], row, taker, book, levels, table)
        show(levels, book, row)


@kernel
def _apply(e: Any, row: Any, taker: Any, book: Any, levels: Any, table: Any) -> Any:
    """Apply one event; return (kind, status)."""
    name = e[EVENT_NAME]
    if e[SIDE] != _B and e[SIDE] != _S:
        return fold.NOTE, _MALFORMED
    side = BID if e[SIDE] == _B else ASK
    if e[QTY] <= 0 or e[QTY] > MAX_LOTS:
        return fold.NOTE, _ABSURD_SIZE
    if name == _EXECUTED:
        return _execute(e, row, side, taker, book, levels, table)
    _rest(taker, book, levels, table)
    if name in (_MARKET, _CANCEL):
        return fold.PART, 0
    if name == _MODIFY:
        return fold.NOTE, 0
    if name == _CANCELLED:
        at = find_order(table, e[ORDER])
        if at < 0:
            return fold.NOTE, _UNKNOWN_ORDER
        take(levels, book, table, at, table[at].qty)
        return fold.CHANGE, 0
    if name != _LIMIT:
        return fold.NOTE, _MALFORMED
    if e[PX] <= 0:
        return fold.NOTE, _ABSURD_PRICE
    taker.key, taker.side, taker.px, taker.left = e[ORDER], side, e[PX], e[QTY]
    if _marketable(taker, book, levels):
        return fold.PART, 0
    row.trade_px = e[PX]
    row.trade_qty = e[QTY] if side == BID else -e[QTY]
    _rest(taker, book, levels, table)
    return fold.ADD, 0


@kernel
def _execute(e: Any, row: Any, side: int, taker: Any, book: Any, levels: Any, table: Any) -> Any:
    row.trade_px = e[FILL]
    row.trade_qty = -e[QTY] if side == BID else e[QTY]
    at = find_order(table, e[ORDER])
    if at < 0:
        return fold.NOTE, _UNKNOWN_ORDER
    take(levels, book, table, at, e[QTY])
    sweep_away(levels, book, side, e[FILL], False)  # it traded, so nothing on its side has a better price
    if taker.left > 0 and taker.side != side:
        taker.left -= min(taker.left, e[QTY])
        if not _marketable(taker, book, levels):
            _rest(taker, book, levels, table)
    return fold.TRADE, 0


@kernel
def _marketable(taker: Any, book: Any, levels: Any) -> bool:
    other = 1 - taker.side
    if book.n[other] == 0:
        return False
    best = levels[other, book.n[other] - 1].px
    return bool(best <= taker.px if taker.side == BID else best >= taker.px)


@kernel
def _rest(taker: Any, book: Any, levels: Any, table: Any) -> None:
    """What is left of the executing order rests."""
    if taker.left > 0:
        sweep_away(levels, book, 1 - taker.side, taker.px, True)
        add_order(levels, book, table, taker.key, taker.side, taker.px, taker.left)
    taker.left = 0


def event_columns(found: Found, item: Item, price: float, size: float) -> tuple[list[Column], str]:
    """The columns of an exchange's log, for rows of int64[7], and the zone of its stamps.

    `price` and `size` are ticks and lots per unit.
    """
    time = Columns(found.header).find(("ts_et", "ts_utc", "ts", "time", "timestamp"))
    if time < 0:
        raise DataError(
            f"{item.label}: no time column (ts_et, ts_utc or time) among {', '.join(found.header)}"
        )
    columns = {
        found.header[time]: Column(STAMP, TIME),
        "event": Column(WORD, EVENT_NAME),
        "order_id": Column(INT, ORDER),
        "side": Column(WORD, SIDE),
        "px": Column(OPTIONAL, PX, price, Quarantine.ABSURD_PRICE),
        "qty": Column(OPTIONAL, QTY, size, Quarantine.ABSURD_SIZE),
        "fill_px": Column(OPTIONAL, FILL, price, Quarantine.ABSURD_PRICE),
    }
    return [columns.get(name, Column(SKIP)) for name in found.header], zone_of(found.header[time])


class ExchangeEventsReader:
    """A csv of exchange events."""

    flags = 0
    gaps = 0
    sortable = False

    def __init__(self, item: Item, found: Found, instrument: Instrument) -> None:
        self.label = item.label
        self.stored_bytes = item.size
        self._item = item
        self._dialect = found.dialect
        self._columns, self._zone = event_columns(found, item, 1 / instrument.tick, 1 / instrument.lot)
        self.first_ts_ns = first_time(item, found.dialect, self._columns, self._zone)

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return f"exchange events, times in {self._zone}"

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the events with the rebuilt book."""
        rows, kind, status = blank(BATCH)
        events: Array = np.zeros((BATCH, 7), np.int64)
        taker: Array = np.zeros(1, TAKER)
        orders = OrderBook()
        clock = LocalClock(self._zone)
        with opened(self._item, self._dialect, progress) as stream:
            lines = Lines(stream, self._columns, self.label, skip_header=True)
            while n := lines.read(events):
                as_words(rows)[:] = 0
                status[:n] = lines.status[:n]
                rows["ts"][:n] = events[:n, TIME]
                clock.to_utc(rows["ts"][:n], status[:n] == 0)
                rows["ts_recv"] = rows["ts"]
                orders.reserve(n)
                rebuild(
                    events[:n],
                    rows[:n],
                    kind[:n],
                    status[:n],
                    taker[0],
                    orders.book[0],
                    orders.levels,
                    orders.table,
                )
                yield Raw(rows[:n], kind[:n], status[:n], lines.text)
