"""Databento market-by-order (MBO): the book is rebuilt from its orders.

Records up to one with F_LAST are one event of the exchange.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.dbn import MBO, PRICE_UNIT, RTYPE_MBO, DbnFile
from emp.access.recordings.orders import (
    ASK,
    BID,
    OrderBook,
    add_order,
    clear,
    find_order,
    show,
    take,
)
from emp.access.recordings.packing import Progress
from emp.access.recordings.reader import BATCH, Raw, as_words, blank
from emp.access.recordings.scan import OFF_GRID
from emp.core.book import MAX_TICKS
from emp.core.codes import Quarantine
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import Array

F_LAST = 128
F_SNAPSHOT = 32

_ADD, _CANCEL, _MODIFY, _CLEAR, _TRADE, _FILL, _NONE = (ord(c) for c in "ACMRTFN")
_SIDE_BID, _SIDE_ASK = ord("B"), ord("A")
_MALFORMED = int(Quarantine.MALFORMED)
_UNKNOWN_ORDER = int(Quarantine.UNKNOWN_ORDER)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)
_OTHER = int(Quarantine.OTHER_INSTRUMENT)

TRADED = np.dtype(
    [("qty", "i8"), ("px", "i8"), ("last", "i8"), ("cross", "i8"), ("snapshot", "i8")], align=True
)
"""What the records of the current event have traded so far; `snapshot` is 1 while a snapshot is loading."""


@kernel
def rebuild(  # noqa: PLR0913
    records: Any,
    ours: Any,
    ticks: float,
    lots: float,
    rows: Any,
    kind: Any,
    status: Any,
    traded: Any,
    book: Any,
    levels: Any,
    table: Any,
) -> None:
    """Carry the book through MBO records and write book and trades of whole events into EVENT rows.

    `ours` marks the records of the instrument; others of it are quarantined.
    """
    for i in range(len(records)):
        record = records[i]
        row = rows[i]
        if record.rtype == RTYPE_MBO and not ours[i]:
            row.ts = record.ts_event
            row.ts_recv = record.ts_recv
            kind[i] = fold.PART
            status[i] = _OTHER
            continue
        snapshot = record.flags & F_SNAPSHOT != 0
        row.ts = record.ts_recv if snapshot else record.ts_event
        row.ts_recv = record.ts_recv
        kind[i] = fold.PART
        if record.rtype != RTYPE_MBO:  # a note of the recorder; only its header means anything here
            row.ts = record.ts_event
            row.ts_recv = row.ts
            status[i] = 0
            continue
        status[i] = _apply(record, ticks, lots, traded, book, levels, table)
        if snapshot:
            traded.snapshot = 1
        elif record.flags & F_LAST != 0:
            kind[i] = _finish(record, row, ticks, traded)
            show(levels, book, row)


@kernel
def _finish(record: Any, row: Any, ticks: float, traded: Any) -> Any:
    """Write what the event traded; return the row's kind."""
    row.trade_px = traded.px
    row.trade_qty = traded.qty
    row.trade_qty_last = traded.last
    kind = fold.CHANGE
    if traded.snapshot == 1:
        kind = fold.GAP
    elif traded.qty != 0:
        kind = fold.CROSS if traded.cross == 1 else fold.TRADE
    elif record.action == _ADD:
        kind = fold.ADD
        row.trade_px = np.int64(np.floor(record.price * ticks + 0.5))
        row.trade_qty = 1 if record.side == _SIDE_BID else -1
        row.trade_qty_last = 0
    traded.qty, traded.px, traded.last, traded.cross, traded.snapshot = 0, 0, 0, 0, 0
    return kind


@kernel
def _apply(record: Any, ticks: float, lots: float, traded: Any, book: Any, levels: Any, table: Any) -> Any:
    """Apply one record; return its status."""
    action = record.action
    if action == _CLEAR:
        clear(book, table)
        return 0
    if action in (_FILL, _NONE):
        return 0  # what a fill takes away follows as cancel or modify
    steps = record.price * ticks
    px = np.int64(np.floor(steps + 0.5))
    if abs(steps - px) > OFF_GRID or abs(px) > MAX_TICKS:
        return _ABSURD_PRICE
    qty = np.int64(np.floor(np.int64(record.size) * lots + 0.5))
    if qty <= 0 and action != _CANCEL:
        return _ABSURD_SIZE
    if action == _TRADE:
        _trade(record.side, px, qty, traded)
        return 0
    if record.side not in (_SIDE_BID, _SIDE_ASK):
        return _MALFORMED
    side = BID if record.side == _SIDE_BID else ASK
    if action == _ADD:
        add_order(levels, book, table, record.order_id, side, px, qty)
        return 0
    at = find_order(table, record.order_id)
    if at < 0:
        return _UNKNOWN_ORDER
    if action == _CANCEL:
        take(levels, book, table, at, qty)
        return 0
    if action != _MODIFY:
        return _MALFORMED
    if table[at].px == px and table[at].side == side and qty < table[at].qty:
        take(levels, book, table, at, table[at].qty - qty)
    else:
        add_order(levels, book, table, record.order_id, side, px, qty)
    return 0


@kernel
def _trade(side: int, px: Any, qty: Any, traded: Any) -> None:
    """Add a trade to the event; `side` is the aggressor's, none in an auction (counted as bought)."""
    if side not in (_SIDE_BID, _SIDE_ASK):
        traded.cross = 1
    sign = -1 if side == _SIDE_ASK else 1
    if traded.qty == 0 or (px - traded.px) * sign > 0:
        traded.px = px
        traded.last = 0
    if px == traded.px:
        traded.last += qty
    traded.qty += sign * qty


class MboReader:
    """A DBN file of one instrument's MBO."""

    flags = 0
    sortable = False

    def __init__(self, file: DbnFile, instrument: Instrument) -> None:
        self.label = file.item.label
        self.stored_bytes = file.item.size
        self.gaps = 0
        self._file = file
        self._instrument = instrument
        self.first_ts_ns = file.first_ts_ns

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return "Databento MBO"

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the records, the last of each event with the rebuilt book."""
        rows, kind, status = blank(BATCH)
        traded: Array = np.zeros(1, TRADED)
        orders = OrderBook()
        ticks, lots = PRICE_UNIT / self._instrument.tick, 1 / self._instrument.lot
        for records, ours in self._file.records(MBO, progress):
            n = len(records)
            as_words(rows)[:n] = 0
            orders.reserve(n)
            rebuild(
                records,
                ours,
                ticks,
                lots,
                rows[:n],
                kind[:n],
                status[:n],
                traded[0],
                orders.book[0],
                orders.levels,
                orders.table,
            )
            yield Raw(rows[:n], kind[:n], status[:n], lambda i, r=records: _text(r[i]))  # type: ignore[misc]


def _text(record: Any) -> str:
    action, side = chr(record["action"]), chr(record["side"])
    return f"{action} {side} id {record['order_id']} price {record['price']} size {record['size']}"
