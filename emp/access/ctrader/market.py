"""Market data straight from the receive buffer to EVENT rows: one compiled pass over the frames that arrived.

A frame is a 4-byte big-endian length and a ProtoMessage. `scan` walks over complete frames, applies spot and
depth events to the quote books, writes a row for each visible change, and stops at the first frame of another
kind, so that market data and everything else keep their order. The field numbers are those of ProtoMessage,
ProtoOASpotEvent, ProtoOADepthEvent and ProtoOADepthQuote; a test compares them with the typed messages.
Deletes of a depth event are applied before its additions.
"""

from typing import Any

import numpy as np

from emp.access.ctrader.quotes import (
    ABSURD_PRICE,
    ABSURD_SIZE,
    MAX_RAW,
    delete_quote,
    find_quote,
    put_quote,
    settle,
    ticks,
)
from emp.core.numba.jit import kernel
from emp.core.records import Array

SPOT_EVENT = 2131
DEPTH_EVENT = 2155

NEED, FRAME, OVERSIZE, MALFORMED, FULL, RESYNC = range(6)
"""Why `scan` stopped: bytes run out; a frame for the caller; a frame too long, or no message; `out` is full;
the book of `CURSOR.book` holds more quotes than it can."""

CURSOR = np.dtype(
    [
        ("lo", "i8"),  # first unread byte of the buffer
        ("hi", "i8"),  # end of what was received
        ("account", "i8"),  # ctidTraderAccountId; events of others are skipped
        ("limit", "i8"),  # longest frame accepted, bytes
        ("rows", "i8"),  # rows of `out` that are written
        ("frames", "i8"),  # frames read, of any kind
        ("skipped", "i8"),  # market data for symbols or accounts that are not ours
        ("troubled", "i8"),  # messages quarantined in this call
        ("frame_lo", "i8"),  # the ProtoMessage that FRAME speaks of
        ("frame_hi", "i8"),
        ("book", "i8"),
    ],
    align=True,
)


def new_cursor(account: int, limit: int) -> Array:
    """A cursor of one row for an account; frames longer than `limit` bytes are refused."""
    cursor = np.zeros(1, CURSOR)
    cursor["account"] = account
    cursor["limit"] = limit
    return cursor


@kernel
def varint(buf: Any, at: int, end: int) -> tuple[int, int]:
    """Read a varint as the bits of an int64; the position after it, or -1 where it is cut off or too long."""
    value: Any = np.int64(0)
    shift = 0
    while at < end and shift < 70:
        byte = np.int64(buf[at])
        at += 1
        if shift < 64:
            value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return value, -1


@kernel
def skip(buf: Any, wire: int, at: int, end: int) -> int:
    """Position after a value that is not read; -1 where it does not fit."""
    if wire == 0:
        return varint(buf, at, end)[1]
    if wire == 2:
        size, at = varint(buf, at, end)
        if at < 0 or size < 0 or size > end - at:
            return -1
        return at + size
    if wire == 1:
        at += 8
    elif wire == 5:
        at += 4
    else:
        return -1
    return at if at <= end else -1


@kernel
def envelope(buf: Any, lo: int, hi: int) -> tuple[int, int, int]:
    """Payload type, and where the payload lies; -1 as type where the bytes are no ProtoMessage."""
    kind, start, stop = -1, lo, lo
    at = lo
    while at < hi:
        tag, at = varint(buf, at, hi)
        if at < 0:
            return -1, 0, 0
        if tag == 8:
            kind, at = varint(buf, at, hi)
        elif tag == 18:
            size, at = varint(buf, at, hi)
            if at < 0 or size < 0 or size > hi - at:
                return -1, 0, 0
            start, stop = at, at + size
            at = stop
        else:
            at = skip(buf, tag & 7, at, hi)
        if at < 0:
            return -1, 0, 0
    return kind, start, stop


@kernel
def read_quote(book: Any, buf: Any, at: int, end: int) -> int:
    """Apply one ProtoOADepthQuote: 0, a Quarantine code, -1 where malformed, -2 where the book is full."""
    quote: Any = np.int64(0)
    size: Any = np.int64(-1)
    bid: Any = np.int64(0)
    ask: Any = np.int64(0)
    has_id = False
    while at < end:
        tag, at = varint(buf, at, end)
        if at < 0:
            return -1
        if tag == 8:
            quote, at = varint(buf, at, end)
            has_id = True
        elif tag == 24:
            size, at = varint(buf, at, end)
        elif tag == 32:
            bid, at = varint(buf, at, end)
        elif tag == 40:
            ask, at = varint(buf, at, end)
        else:
            at = skip(buf, tag & 7, at, end)
        if at < 0:
            return -1
    if not has_id or (bid == 0) == (ask == 0):
        return -1
    if size < 0 or size > MAX_RAW:
        return ABSURD_SIZE
    if size == 0:
        if find_quote(book, quote) >= 0:
            delete_quote(book, quote)
        return 0
    side = 1 if bid != 0 else -1
    px = ticks(book, bid if bid != 0 else ask)
    if px <= 0:
        return ABSURD_PRICE
    return 0 if put_quote(book, quote, side, px, size) else -2


@kernel
def read_deletes(book: Any, buf: Any, lo: int, hi: int) -> bool:
    """Apply `deletedQuotes`, packed or not; False where the bytes are malformed."""
    at = lo
    while at < hi:
        tag, at = varint(buf, at, hi)
        if at < 0:
            return False
        if tag == 40:
            quote, at = varint(buf, at, hi)
            if at < 0:
                return False
            delete_quote(book, quote)
        elif tag == 42:
            size, at = varint(buf, at, hi)
            if at < 0 or size < 0 or size > hi - at:
                return False
            stop = at + size
            while at < stop:
                quote, at = varint(buf, at, stop)
                if at < 0:
                    return False
                delete_quote(book, quote)
        else:
            at = skip(buf, tag & 7, at, hi)
            if at < 0:
                return False
    return True


@kernel
def read_news(book: Any, buf: Any, lo: int, hi: int) -> int:
    """Apply `newQuotes`: 0, the last Quarantine code, -1 where malformed, -2 where the book is full."""
    at, bad = lo, 0
    while at < hi:
        tag, at = varint(buf, at, hi)
        if at < 0:
            return -1
        if tag == 34:
            size, at = varint(buf, at, hi)
            if at < 0 or size < 0 or size > hi - at:
                return -1
            code = read_quote(book, buf, at, at + size)
            if code < 0:
                return code
            bad = code if code else bad
            at += size
        else:
            at = skip(buf, tag & 7, at, hi)
            if at < 0:
                return -1
    return bad


@kernel
def read_spot(book: Any, buf: Any, lo: int, hi: int) -> int:
    """Apply a spot event: quotes 1 (bid) and 2 (ask), a side that is absent stays. Codes as `read_news`."""
    at, bad = lo, 0
    while at < hi:
        tag, at = varint(buf, at, hi)
        if at < 0:
            return -1
        if tag in (32, 40):
            raw, at = varint(buf, at, hi)
            if at < 0:
                return -1
            px = ticks(book, raw)
            if px <= 0:
                bad = ABSURD_PRICE
            elif tag == 32:
                put_quote(book, 1, 1, px, 0)
            else:
                put_quote(book, 2, -1, px, 0)
        else:
            at = skip(buf, tag & 7, at, hi)
            if at < 0:
                return -1
    return bad


@kernel
def header(buf: Any, lo: int, hi: int) -> tuple[int, int, bool]:
    """Account and symbol of a market data event, and whether the bytes are well formed."""
    account: Any = np.int64(-1)
    symbol: Any = np.int64(-1)
    at = lo
    while at < hi and (account < 0 or symbol < 0):
        tag, at = varint(buf, at, hi)
        if at < 0:
            return 0, 0, False
        if tag == 16:
            account, at = varint(buf, at, hi)
        elif tag == 24:
            symbol, at = varint(buf, at, hi)
        else:
            at = skip(buf, tag & 7, at, hi)
        if at < 0:
            return 0, 0, False
    return account, symbol, account >= 0 and symbol >= 0


@kernel
def market_event(buf: Any, kind: int, lo: int, hi: int, now: int, cur: Any, books: Any, out: Any) -> int:
    """Apply one spot or depth event; NEED where it is done, else MALFORMED or RESYNC."""
    account, symbol, sound = header(buf, lo, hi)
    if not sound:
        return MALFORMED
    which = -1
    for i in range(books.shape[0]):
        if books[i].symbol == symbol:
            which = i
    if which < 0 or account != cur.account or books[which].depth != (kind == DEPTH_EVENT):
        cur.skipped += 1
        return NEED
    book = books[which]
    if kind == DEPTH_EVENT:
        bad = read_news(book, buf, lo, hi) if read_deletes(book, buf, lo, hi) else -1
    else:
        bad = read_spot(book, buf, lo, hi)
    if bad == -1:
        return MALFORMED
    if bad == -2:
        cur.book = which
        return RESYNC
    if settle(book, out[cur.rows], now, bad):
        cur.rows += 1
    elif book.bad:
        cur.troubled += 1
    return NEED


@kernel
def scan(buf: Any, cursor: Any, books: Any, out: Any, now: int) -> int:
    """Walk over frames in `buf[lo:hi]` (uint8) until a reason to stop; see the codes above.

    `cursor` is a CURSOR array of one row, `books` QUOTE_BOOK rows, `out` EVENT rows, `now` the receive stamp
    in ns UTC. Rows are written from `cursor.rows` on, which moves.
    """
    cur = cursor[0]
    cur.troubled = 0
    while cur.hi - cur.lo >= 4:
        at = cur.lo
        size = np.int64(0)
        for i in range(4):
            size = size << 8 | np.int64(buf[at + i])
        if size > cur.limit:
            return OVERSIZE
        stop = at + 4 + size
        if stop > cur.hi:
            return NEED
        if cur.rows >= out.shape[0]:
            return FULL
        kind, start, end = envelope(buf, at + 4, stop)
        if kind < 0:
            return MALFORMED
        cur.lo = stop
        cur.frames += 1
        if kind in (SPOT_EVENT, DEPTH_EVENT):
            code = market_event(buf, kind, start, end, now, cur, books, out)
            if code != NEED:
                return code
        else:
            cur.frame_lo = at + 4
            cur.frame_hi = stop
            return FRAME
    return NEED
