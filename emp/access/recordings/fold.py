"""From rows of a recording to events: time, hours and books are checked, the rows of one sweep become one.

A reader hands over batches of raw rows: EVENT rows with the book after the row, the time, and in the trade
fields what the row did; beside them per row a kind (below) and a status, 0 or the Quarantine reason that the
reader itself found. n_bid and n_ask tell how many levels were read; those at the end whose price is NO_PRICE are
not there. Each row ends as an event, merged into one, or quarantined; what a book is worth `emp.core.book` says.
"""

from typing import Any

import numpy as np

from emp.access.recordings.scan import NO_PRICE
from emp.core.book import JUDGE, copy_book, heard, judge, judge_trade, quotes_only, same_book, to_lots
from emp.core.codes import EventFlag, Quarantine, Session
from emp.core.numba.jit import kernel

# kinds of rows
QUOTE = 0  # the book, whole; the same again at the same instant is a duplicate
CHANGE = 1  # one change of the book
TRADE = 2  # an execution, with the book after it
PRINT = 3  # an execution without a book of its own
ADD = 4  # an order arrives: trade_px is its price, the sign of trade_qty its side; may end a sweep
CROSS = 5  # an auction's print, with the book
HALT = 6
RESUME = 7
NOTE = 8  # changes nothing
PART = 9  # belongs to the next row, carries nothing by itself
GAP = 10  # the book, whole, after a gap
UNSIGNED = 11  # as PRINT, without an aggressor: the price beside the book before it tells (Lee and Ready)

NO_TIME = -(1 << 62)

FOLD = np.dtype(
    [
        ("row", "i8"),  # rows seen, over all files
        ("last_ts", "i8"),  # of the last row in order; NO_TIME before the first
        ("judge", JUDGE),
        ("cursor", "i8"),  # row of the session table
        ("pending", "i8"),  # 1: held[0] waits for rows that may join it
        ("sweep", "i8"),  # kind of the pending event's row, where it can grow: TRADE or PRINT, else -1
        ("has_book", "i8"),  # 1: held[1] is a book
        ("merged", "i8"),
        ("sign", "i8"),  # of the last print
    ],
    align=True,
)
"""What the folding of rows carries from batch to batch, next to two held EVENT rows."""

_MALFORMED = int(Quarantine.MALFORMED)
_BACKWARDS = int(Quarantine.BACKWARDS)
_DUPLICATE = int(Quarantine.DUPLICATE)
_CLOSED_HOURS = int(Quarantine.CLOSED_HOURS)
_CLOSED = int(Session.CLOSED)
_F_VISIBLE = int(EventFlag.VISIBLE)
_F_TRADE = int(EventFlag.TRADE)
_F_AUCTION = int(EventFlag.AUCTION)
_F_HALT = int(EventFlag.HALT)
_F_RESUME = int(EventFlag.RESUME)
_F_GAP = int(EventFlag.GAP)


@kernel
def check_time(raw: Any, status: Any, state: Any) -> Any:
    """Mark rows whose time goes back; return (first, last) time in order, or (0, -1)."""
    low = 0
    high = -1
    for i in range(len(raw)):
        if status[i] != 0:
            continue
        ts = raw[i].ts
        if ts < state.last_ts:
            status[i] = _BACKWARDS
        else:
            state.last_ts = ts
            if high < low:
                low = ts
            high = ts
    return low, high


@kernel
def _present(px: Any, sz: Any, n: int) -> int:
    """Number of leading levels that have a price, or -1 where one follows that has none; unused levels become 0."""
    missing = 0
    for i in range(n):
        missing += px[i] == NO_PRICE
    if missing == 0:  # nearly always
        return n
    used = 0
    while used < n and px[used] != NO_PRICE:
        used += 1
    for i in range(used, n):
        if px[i] != NO_PRICE:
            return -1
        px[i] = 0
        sz[i] = 0
    return used


@kernel
def _judge_book(row: Any, judged: Any, no_size: bool) -> int:
    """Bring the row's levels and sizes into order; return 0 or the reason why this book cannot be used."""
    n_bid = _present(row.bid_px, row.bid_sz, row.n_bid)
    n_ask = _present(row.ask_px, row.ask_sz, row.n_ask)
    if n_bid < 0 or n_ask < 0:
        return _MALFORMED
    row.n_bid = n_bid
    row.n_ask = n_ask
    if no_size:
        quotes_only(row)
    else:
        judged.sub_lot += to_lots(row, 1, 1.0)
    return judge(row, judged, row.ts)


@kernel
def check_rows(raw: Any, kind: Any, status: Any, sessions: Any, state: Any, no_size: bool) -> None:
    """Mark rows outside trading hours and rows whose book or trade cannot be."""
    for i in range(len(raw)):
        if status[i] != 0:
            continue
        row = raw[i]
        while state.cursor + 1 < len(sessions) and sessions[state.cursor + 1].start <= row.ts:
            state.cursor += 1
        if sessions[state.cursor].session_id == _CLOSED:
            status[i] = _CLOSED_HOURS
            continue
        if kind[i] == PART:
            continue
        traded = kind[i] == TRADE or kind[i] == PRINT or kind[i] == UNSIGNED
        if traded:
            heard(row.trade_px, state.judge)
        if kind[i] != PRINT and kind[i] != UNSIGNED:
            status[i] = _judge_book(row, state.judge, no_size)
        if status[i] == 0 and traded:
            status[i] = judge_trade(row.trade_px, row.trade_qty, state.judge)


@kernel
def _joins(event: Any, row: Any, kind: int, sweep: int) -> bool:
    """Whether a row belongs to the sweep of the pending event (which is a TRADE or PRINT, or sweep is -1)."""
    if sweep < 0 or row.ts != event.ts:
        return False
    side = 1 if event.trade_qty > 0 else -1
    if kind == sweep:
        return bool(row.trade_qty * side > 0)
    if sweep == PRINT:
        return kind == QUOTE
    return bool(kind == ADD and row.trade_qty * side > 0 and (row.trade_px - event.trade_px) * side >= 0)


@kernel
def _grow(event: Any, row: Any, kind: int) -> Any:
    """Merge a row into the pending event; return what the event can still take (its `sweep`)."""
    event.seq = row.seq
    event.ts_recv = row.ts_recv
    if kind != PRINT:
        copy_book(event, row)
    if kind in (ADD, QUOTE):
        return -1
    side = 1 if row.trade_qty > 0 else -1
    event.trade_qty += row.trade_qty
    worse = (row.trade_px - event.trade_px) * side
    if worse > 0:
        event.trade_px = row.trade_px
        event.trade_qty_last = abs(row.trade_qty)
    elif worse == 0:
        event.trade_qty_last += abs(row.trade_qty)
    return kind


@kernel
def _begin(event: Any, row: Any, kind: int, book: Any, flags: int) -> Any:
    """Start an event from a row; return what it can take (its `sweep`)."""
    event.ts = row.ts
    event.seq = row.seq
    event.ts_recv = row.ts_recv
    event.instrument = 0
    event.flags = flags
    copy_book(event, book if kind == PRINT else row)
    event.trade_px = 0
    event.trade_qty = 0
    event.trade_qty_last = 0
    if kind in (TRADE, PRINT, CROSS):
        event.flags |= _F_TRADE
        event.trade_px = row.trade_px
        event.trade_qty = row.trade_qty
        event.trade_qty_last = row.trade_qty_last if row.trade_qty_last > 0 else abs(row.trade_qty)
    if kind == CROSS:
        event.flags |= _F_AUCTION
    elif kind == HALT:
        event.flags |= _F_HALT
    elif kind == RESUME:
        event.flags |= _F_RESUME
    elif kind == GAP:
        event.flags |= _F_GAP
    return kind if kind in (TRADE, PRINT) else -1


@kernel
def _sign_of(px: int, event: Any, last: int) -> int:
    """The aggressor of a trade by the book before it: above mid a buyer, below a seller, else as the last trade."""
    twice = event.bid_px[0] + event.ask_px[0]
    if event.n_bid > 0 and event.n_ask > 0 and 2 * px != twice:
        return 1 if 2 * px > twice else -1
    return last if last != 0 else 1


@kernel
def fold(raw: Any, kind: Any, status: Any, held: Any, state: Any, flags: int, out: Any) -> Any:
    """Merge rows into events; return how many of `out`, EVENT[len(raw) + 1], are complete.

    The event that may still grow waits in held[0]; held[1] is the last complete event, whose book
    tells whether the next one is VISIBLE. `flags` is set on every event.
    """
    n = 0  # complete events; out[n] is the pending one
    if state.pending == 1:
        out[0] = held[0]
    for i in range(len(raw)):
        state.row += 1
        if status[i] != 0:
            continue
        k = kind[i]
        if k == PART:
            state.merged += 1
            continue
        row = raw[i]
        row.seq = state.row
        if k == UNSIGNED:
            k = PRINT
            before = out[n] if state.pending == 1 else held[1]
            if _sign_of(row.trade_px, before, state.sign) < 0:
                row.trade_qty = -row.trade_qty
        if k == PRINT:
            state.sign = 1 if row.trade_qty > 0 else -1
        if state.pending == 1:
            event = out[n]
            if _joins(event, row, k, state.sweep):
                state.sweep = _grow(event, row, k)
                state.merged += 1
                continue
            if k == QUOTE and row.ts == event.ts and event.flags & _F_TRADE == 0 and same_book(event, row):
                status[i] = _DUPLICATE
                continue
            last = out[n - 1] if n > 0 else held[1]
            if state.has_book == 0 or not same_book(event, last):
                event.flags |= _F_VISIBLE
            state.has_book = 1
            n += 1
        book = out[n - 1] if n > 0 else held[1]
        state.sweep = _begin(out[n], row, k, book, flags)
        state.pending = 1
    if n > 0:
        held[1] = out[n - 1]
    if state.pending == 1:
        held[0] = out[n]
    return n
