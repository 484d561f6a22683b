"""Quote books: cTrader's quotes by id, and the EVENT rows they make.

Depth arrives as quotes with ids: `newQuotes` add or replace, `deletedQuotes` name ids only. Levels are the
quotes of one price added up. A delete of an id that the book does not hold is remembered for a while, so that
its late addition cannot leave a ghost behind. A symbol without depth is a book of two quotes: the best bid
and the best ask. What becomes of part lots, and which books are good, `emp.core.book` says.
"""

from typing import Any

import numpy as np

from emp.core.book import JUDGE, copy_book, judge, same_book, to_lots
from emp.core.codes import EventFlag, Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import EVENT, LEVELS, Array

QUOTES = 1024
"""Quotes that a book can hold; a venue that sends more makes the book start over."""

GHOSTS = 64
"""Deleted ids that were unknown and are remembered."""

QUOTE_BOOK = np.dtype(
    [
        ("symbol", "i8"),
        ("instrument", "i4"),
        ("depth", "?"),  # rows come from depth events; else from spot events
        ("gap", "?"),  # the next row is the first after a gap
        ("round_to", "i8"),  # last digit of the symbol's prices, in 1/100000
        ("tick", "i8"),  # 1/100000 per tick
        ("lot", "i8"),  # volume (0.01 units) per lot
        ("lot_inverse", "f8"),  # 1 / lot
        ("n", "i8"),
        ("id", "i8", (QUOTES,)),
        ("side", "i1", (QUOTES,)),  # +1 bid, -1 ask
        ("px", "i8", (QUOTES,)),  # ticks
        ("size", "i8", (QUOTES,)),  # 0.01 units
        ("ghost", "i8", (GHOSTS,)),
        ("n_ghost", "i8"),
        ("ghosts", "i8"),  # deletes of unknown ids, counted
        ("seq", "i8"),
        ("ts", "i8"),
        ("bad", "i8"),  # Quarantine of the last message; 0 where the book is good
        ("bad_since", "i8"),  # receive stamp since when the book has been bad; 0 where it is good
        ("messages", "i8"),
        ("merged", "i8"),  # messages that changed nothing visible
        ("quarantined", "i8", (len(Quarantine),)),
        ("last", EVENT),  # whose book is the one last emitted
        ("judge", JUDGE),
    ],
    align=True,
)
"""One symbol's quotes by id, and what was last shown of them."""

_VISIBLE = int(EventFlag.VISIBLE)
_GAP = int(EventFlag.GAP)
_SPOT_ONLY = int(EventFlag.NO_SIZE | EventFlag.NO_DEPTH)
ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)

MAX_RAW = 1 << 53  # no price (1/100000) or size (0.01 units) of a market reaches this


@kernel
def ticks(book: Any, raw: int) -> int:
    """A price of 1/100000 in ticks; -1 where it is off the instrument's grid or absurd."""
    if raw <= 0 or raw > MAX_RAW:
        return -1
    price = (raw + book.round_to // 2) // book.round_to * book.round_to
    return price // book.tick if price % book.tick == 0 else -1


@kernel
def find_quote(book: Any, quote: int) -> int:
    """Index of a quote id in the book, or -1."""
    for i in range(book.n):
        if book.id[i] == quote:
            return i
    return -1


@kernel
def delete_quote(book: Any, quote: int) -> None:
    """Take a quote out; an unknown id is remembered as a ghost."""
    i = find_quote(book, quote)
    if i < 0:
        book.ghost[book.n_ghost % GHOSTS] = quote
        book.n_ghost += 1
        book.ghosts += 1
        return
    last = book.n - 1
    book.id[i] = book.id[last]
    book.side[i] = book.side[last]
    book.px[i] = book.px[last]
    book.size[i] = book.size[last]
    book.n = last


@kernel
def was_deleted(book: Any, quote: int) -> bool:
    """Whether the id's delete came before it; the memory of it is used up."""
    for i in range(min(book.n_ghost, GHOSTS)):
        if book.ghost[i] == quote:
            book.ghost[i] = -1
            return True
    return False


@kernel
def put_quote(book: Any, quote: int, side: int, px: int, size: int) -> bool:
    """Add or replace a quote; False where the book is full."""
    i = find_quote(book, quote)
    if i < 0:
        if was_deleted(book, quote):
            return True
        if book.n >= QUOTES:
            return False
        i = book.n
        book.n += 1
        book.id[i] = quote
    book.side[i] = side
    book.px[i] = px
    book.size[i] = size
    return True


@kernel
def add_level(px: Any, sz: Any, n: int, side: int, price: int, size: int) -> int:
    """Put a quote into levels that are sorted best first; return how many levels there are."""
    at = n
    while at > 0 and side * (price - px[at - 1]) > 0:
        at -= 1
    if at > 0 and px[at - 1] == price:
        sz[at - 1] += size
        return n
    if at >= LEVELS:
        return n
    last = min(n, LEVELS - 1)
    for i in range(last, at, -1):
        px[i] = px[i - 1]
        sz[i] = sz[i - 1]
    px[at] = price
    sz[at] = size
    return last + 1


@kernel
def show(book: Any, row: Any) -> None:
    """Write the book's best levels into a row, in ticks and lots, and the flags that they call for."""
    row.n_bid = 0
    row.n_ask = 0
    for i in range(LEVELS):
        row.bid_px[i] = 0
        row.bid_sz[i] = 0
        row.ask_px[i] = 0
        row.ask_sz[i] = 0
    for i in range(book.n):
        if book.side[i] > 0:
            row.n_bid = add_level(row.bid_px, row.bid_sz, row.n_bid, 1, book.px[i], book.size[i])
        else:
            row.n_ask = add_level(row.ask_px, row.ask_sz, row.n_ask, -1, book.px[i], book.size[i])
    if book.depth:
        row.flags = 0
        book.judge.sub_lot += to_lots(row, book.lot, book.lot_inverse)
    else:
        row.flags = _SPOT_ONLY


@kernel
def settle(book: Any, row: Any, now: int, bad: int) -> bool:
    """Account for one message; True where it makes a row. `now` is the receive stamp, ns UTC."""
    book.messages += 1
    show(book, row)
    code = bad if bad else judge(row, book.judge, now)
    if code:
        book.quarantined[code] += 1
        book.bad = code
        if book.bad_since == 0:
            book.bad_since = now
        return False
    book.bad = 0
    book.bad_since = 0
    if not book.gap and same_book(book.last, row):
        book.merged += 1
        return False
    book.seq += 1
    book.ts = max(book.ts, now)
    row.ts = book.ts
    row.ts_recv = book.ts
    row.seq = book.seq
    row.instrument = book.instrument
    row.trade_px = 0
    row.trade_qty = 0
    row.trade_qty_last = 0
    row.flags |= _VISIBLE | (_GAP if book.gap else 0)
    book.gap = False
    copy_book(book.last, row)
    return True


def clear(books: Array, which: int) -> None:
    """Forget a book's quotes; its next row carries the GAP flag where rows went before."""
    book = books[which]
    book["n"] = 0
    book["n_ghost"] = 0
    book["bad"] = 0
    book["bad_since"] = 0
    book["gap"] = book["seq"] > 0
