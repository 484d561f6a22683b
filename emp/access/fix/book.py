"""Books kept from FIX market data: entries by id, by price or by position, and the EVENT row they make.

W replaces a book, X changes it; an entry is found again by its MDEntryID (278), by side and price, or by side
and position (290), as the venue's dialect says. Prices are ticks. Sizes are kept in the venue's own smallest
unit, summed per price, and shown in whole lots; what the book is then worth `emp.core.book` says.
"""

from typing import Any, Final

import numpy as np

from emp.core.book import (
    ACCEPTED,
    JUDGE,
    copy_book,
    heard,
    judge,
    judge_trade,
    quotes_only,
    same_book,
    to_lots,
)
from emp.core.codes import EventFlag, Quarantine
from emp.core.numba.jit import inlined, kernel
from emp.core.records import EVENT, LEVELS

ENTRIES = 4096
"""Entries a book can hold; one more makes it stale."""

SYMBOL = 32
"""Longest symbol, in bytes."""

REQUEST = 32
"""Longest beginning of the id of a market data request, in bytes."""

ASKS: Final = "emp"
"""How the id of every market data request of ours begins, whichever start of this program made it."""

OURS: Final = len(ASKS)

UNSIZED: Final = -1
"""Size of an entry that came without one."""

BY_ID, BY_PRICE, BY_POSITION = 0, 1, 2
"""How a venue names an entry again."""

BOOK = np.dtype(
    [
        ("symbol", "u1", (SYMBOL,)),
        ("symbol_len", "i8"),
        ("symbol_tag", "i8"),  # 55, or 48 where the venue names instruments by SecurityID
        ("seq_tag", "i8"),  # tag that carries the event's own number, 0: events are counted here
        ("asks", "u1", (REQUEST,)),  # how the ids of this start's market data requests begin
        ("asks_len", "i8"),
        ("asked", "i8"),  # number of the oldest request in force: what answers an earlier one is no answer
        ("aggressor_tag", "i8"),  # tag of a trade's aggressor, 1 buy 2 sell; 0: the quote rule tells
        ("keying", "i8"),  # BY_ID, BY_PRICE, BY_POSITION
        ("depth", "i8"),  # levels subscribed, 0: all; 1: no depth is known
        ("px_decimals", "i8"),  # a price is px_step * 10^-px_decimals per tick
        ("px_step", "i8"),
        ("sz_decimals", "i8"),  # a size is sz_step * 10^-sz_decimals per lot
        ("sz_step", "i8"),
        ("px_inverse", "f8"),  # 1 / px_step
        ("sz_inverse", "f8"),
        ("signed", "?"),  # prices may be zero or negative, as those of spreads between futures
        ("ahead_ns", "i8"),  # so far beyond SendingTime a stamp of an entry is not believed; 0: it always is
        ("entry_time", "?"),  # the first entry's date and time (272, 273) stamp the event
        ("whole", "?"),  # a snapshot has been applied and nothing was missed since
        ("gap", "?"),  # the next event must carry GAP
        ("touched", "?"),
        ("n", "i8"),
        ("key", "i8", (ENTRIES,)),
        ("px", "i8", (ENTRIES,)),
        ("size", "i8", (ENTRIES,)),  # UNSIZED where the entry came without one
        ("side", "i1", (ENTRIES,)),  # 0 bid, 1 ask
        ("named", "i8", (2 * ENTRIES,)),  # names met in the snapshot that is being read, by hash
        ("named_in", "i8", (2 * ENTRIES,)),  # the snapshot in which each place was taken
        ("snapshot", "i8"),  # number of the one that is being read
        ("seq", "i8"),  # of the last event
        ("trade_px", "i8"),
        ("trade_qty", "i8"),
        ("trade_last", "i8"),
        ("last", EVENT),  # the last event, to tell whether the visible book changed
        ("judge", JUDGE),
        ("quarantined", "i8", (len(Quarantine),)),  # books and trades that made no event, by reason
    ],
    align=True,
)
"""One instrument's book and how to read it."""

OK, MALFORMED, OFF_TICK, OVERFLOW, UNKNOWN_SYMBOL, COUNT, NOT_WHOLE, UNKNOWN_ENTRY = 0, 1, 2, 3, 4, 5, 6, 7
UNAPPLIED, SUPERSEDED = 8, 9
"""What became of a message or of an entry.

UNKNOWN_ENTRY: a delete of what was never there, which changes nothing; UNAPPLIED: a change that the book does not fit;
SUPERSEDED: what an earlier request of ours asked for.
"""

_VISIBLE, _TRADE = int(EventFlag.VISIBLE), int(EventFlag.TRADE)
_GAP, _NO_DEPTH = int(EventFlag.GAP), int(EventFlag.NO_DEPTH)


@kernel
def trade(book: Any, px: int, size: int, aggressor: int) -> None:
    """Take a trade in; without an aggressor its side is told by the touch before it (quote rule)."""
    sign = aggressor
    if sign == 0:
        last = book.last
        middle = last.bid_px[0] + last.ask_px[0]
        sign = 1 if last.n_bid == 0 or last.n_ask == 0 or 2 * px >= middle else -1
    book.trade_last = book.trade_last + size if px == book.trade_px else size
    book.trade_px = px
    heard(px, book.judge)
    book.trade_qty += sign * size


@inlined
def _level(px: Any, sz: Any, n: int, entry_px: int, size: int, side: int) -> int:
    """Insert an entry into `n` sorted levels, best first, summing at one price; returns the new count."""
    at = 0
    while at < n and (px[at] > entry_px if side == 0 else px[at] < entry_px):
        at += 1
    if at < n and px[at] == entry_px:
        sz[at] += size
        return n
    if at >= LEVELS:
        return n
    for j in range(min(n, LEVELS - 1), at, -1):
        px[j] = px[j - 1]
        sz[j] = sz[j - 1]
    px[at] = entry_px
    sz[at] = size
    return min(n + 1, LEVELS)


@kernel
def show(book: Any, row: Any) -> None:
    """Write the best LEVELS of both sides into a row, and judge nothing."""
    for i in range(LEVELS):
        row.bid_px[i] = 0
        row.bid_sz[i] = 0
        row.ask_px[i] = 0
        row.ask_sz[i] = 0
    n_bid, n_ask = 0, 0
    unsized = False
    for i in range(book.n):
        size = book.size[i]
        if size == UNSIZED:
            unsized = True
            size = 0
        if book.side[i] == 0:
            n_bid = _level(row.bid_px, row.bid_sz, n_bid, book.px[i], size, 0)
        else:
            n_ask = _level(row.ask_px, row.ask_sz, n_ask, book.px[i], size, 1)
    row.n_bid = n_bid
    row.n_ask = n_ask
    row.flags = 0
    if unsized:
        quotes_only(row)
    else:
        book.judge.sub_lot += to_lots(row, book.sz_step, book.sz_inverse)


@kernel
def _take_trade(book: Any, row: Any) -> None:
    """Move the trades since the last event into the row, or count them where they cannot be."""
    row.trade_px, row.trade_qty, row.trade_qty_last = 0, 0, 0
    if book.trade_qty != 0:
        fault = judge_trade(book.trade_px, book.trade_qty, book.judge)
        if fault != ACCEPTED:
            book.quarantined[fault] += 1
        else:
            row.flags |= _TRADE
            row.trade_px = book.trade_px
            row.trade_qty = book.trade_qty
            row.trade_qty_last = book.trade_last
    book.trade_px = 0
    book.trade_qty = 0
    book.trade_last = 0


@kernel
def emit(book: Any, row: Any, instrument: int, ts: int, seq: int, ts_recv: int) -> bool:
    """Write the book's visible levels, and the trades since the last event, as one EVENT row.

    False where the book cannot be believed (`emp.core.book.judge`): it makes no event and is counted under its
    reason. The trades then wait for the next good book, so that no traded volume is lost, as do a gap that is
    to be told and the book that the next one is compared with.
    """
    show(book, row)
    fault = judge(row, book.judge, ts)
    if fault != ACCEPTED:
        book.quarantined[fault] += 1
        return False
    last = book.last
    if book.gap or not same_book(row, last):
        row.flags |= _VISIBLE
    if book.gap:
        row.flags |= _GAP
    if book.depth == 1:
        row.flags |= _NO_DEPTH
    _take_trade(book, row)
    book.seq = book.seq + 1 if seq < 0 else seq
    row.ts = ts
    row.seq = book.seq
    row.ts_recv = ts_recv
    row.instrument = instrument
    book.gap = False
    copy_book(last, row)
    return True
