"""Market data messages (W, X) from a checked frame straight into books and EVENT rows."""

from typing import Any, Final

from emp.access.fix.book import (
    BOOK,
    BY_ID,
    BY_POSITION,
    COUNT,
    MALFORMED,
    NOT_WHOLE,
    OFF_TICK,
    OK,
    OURS,
    SUPERSEDED,
    UNAPPLIED,
    UNKNOWN_ENTRY,
    UNKNOWN_SYMBOL,
    emit,
    trade,
)
from emp.access.fix.entries import change, clear, entry_key, holds, in_order, place
from emp.access.fix.numeric import (
    BAD,
    OFF_GRID,
    U,
    parse_date_ns,
    parse_floor,
    parse_int,
    parse_scaled,
    parse_time_ns,
)
from emp.access.fix.scan import next_frame
from emp.access.fix.wire import AT, END, FRAME, SCRATCH, TAG, WIRE
from emp.core.numba.fastmath import divide
from emp.core.numba.jit import inlined, kernel
from emp.core.records import EVENT

SNAPSHOT: Final = 87
"""MsgType W as `next_frame` gives it."""

INCREMENTAL: Final = 88
"""MsgType X as `next_frame` gives it."""

_TYPE, _PX, _SIZE, _ID, _ACTION = 0, 1, 2, 9, 10  # tag - 269
_PLACE, _SYMBOL, _AGGRESSOR, _REF, _TWICE = 11, 12, 13, 14, 15
_EMPTY_FROM: Final = 32
"""In `_TWICE`, the bits of tags that came twice; from this bit on, those of tags without a value."""

_NAMES: Final = 1 << _ID | 1 << _ACTION | 1 << _PLACE | 1 << _SYMBOL | 1 << _REF
_ALL_TWICE: Final = (1 << _EMPTY_FROM) - 1
_NO_SYMBOL: Final = 1 << _SYMBOL | 1 << (_EMPTY_FROM + _SYMBOL)
_TOLD: Final = 1 << _TYPE | 1 << _PX
"""Bits of the fields of an entry: those that say which one it is, and those that say what a new one is."""

_BID, _ASK, _TRADE, _EMPTY = 48, 49, 50, 74
_NEW, _CHANGE, _DELETE = 48, 49, 50
_NOWHERE = -2


@kernel
def _book_of(w: Any, at: int, end: int, books: Any) -> int:
    """Index of the symbol's book, or -1."""
    size = end - at
    for b in range(len(books)):
        if books[b].symbol_len == size:
            i = 0
            while i < size and books[b].symbol[i] == w.buf[at + i]:
                i += 1
            if i == size:
                return b
    return -1


@inlined
def _ticks(w: Any, at: int, end: int, book: Any) -> int:
    """A price in ticks, BAD, or OFF_GRID."""
    px = parse_scaled(w, at, end, book.px_decimals)
    if px == BAD or px == OFF_GRID:  # noqa: SIM109  kernels compile no tuples of globals
        return px
    if px < 0:  # a spread can be negative; it is too rare to be fast
        return px // book.px_step if px % book.px_step == 0 else OFF_GRID
    ticks = divide(px, book.px_step, book.px_inverse)
    return ticks if ticks * book.px_step == px else OFF_GRID


@kernel
def _says_too_little(empty: int, action: int) -> bool:
    """Whether tags without a value leave open what an entry of an X says: a delete needs no more than its name."""
    if empty & _NAMES:
        return True
    return action != _DELETE and (empty & _TOLD != 0 or (action == _CHANGE and empty & 1 << _SIZE != 0))


@kernel
def _empty_bit(tag: int, symbol_tag: int) -> int:
    """The bit of a tag without a value in `_EMPTY_TAGS`, 0 where it is nothing of an entry that counts."""
    if 269 <= tag <= 279:
        return 1 << (tag - 269)
    if tag == 290:
        return 1 << _PLACE
    if tag == 280:
        return 1 << _REF
    return 1 << _SYMBOL if tag == symbol_tag else 0


@inlined
def _char(w: Any, slot: int) -> int:
    """The one character of a field of this entry, -1 where it has more."""
    i = U(w.scratch[slot])
    return w.buf[w.fields[i, AT]] if w.fields[i, END] - w.fields[i, AT] == 1 else -1


@inlined
def _take_trade(w: Any, book: Any, action: int, px: int, size: int) -> int:
    """Apply a trade; one that is changed or deleted later was told, and cannot be taken back."""
    if action != _NEW:
        return UNKNOWN_ENTRY
    if w.scratch[_PX] >= 0 and px == BAD:
        return MALFORMED
    aggressor = 0
    if w.scratch[_AGGRESSOR] >= 0:
        said = _char(w, _AGGRESSOR)
        aggressor = 1 if said == 49 else (-1 if said == 50 else 0)
    if px != BAD and size >= book.sz_step:
        trade(book, px, divide(size, book.sz_step, book.sz_inverse), aggressor)
    return OK


@inlined
def _apply(w: Any, kind: int, book: Any) -> int:
    """Apply one entry to its book; `w.scratch` holds the index of each of its fields, -1 where absent."""
    action, side = _NEW, 0
    px, size, key, ref = BAD, BAD, BAD, BAD
    if w.scratch[_TWICE] & _ALL_TWICE != 0:  # a field came twice: which of them counts is anybody's guess
        return MALFORMED
    if kind == INCREMENTAL:
        if w.scratch[_ACTION] < 0:
            return MALFORMED
        action = _char(w, _ACTION)
        if w.scratch[_TWICE] != 0 and _says_too_little(w.scratch[_TWICE] >> _EMPTY_FROM, action):
            return MALFORMED
    if w.scratch[_TYPE] >= 0:
        side = _char(w, _TYPE)
        if side < 0:
            return MALFORMED
    if w.scratch[_PX] >= 0:
        px = _ticks(w, w.fields[U(w.scratch[_PX]), AT], w.fields[U(w.scratch[_PX]), END], book)
    if w.scratch[_SIZE] >= 0:
        size = parse_floor(
            w, w.fields[U(w.scratch[_SIZE]), AT], w.fields[U(w.scratch[_SIZE]), END], book.sz_decimals
        )
        if size < 0:
            return MALFORMED
    if side <= _TRADE and (px == OFF_GRID or (BAD < px <= 0 and not book.signed)):
        return OFF_TICK
    if side == _TRADE:
        return _take_trade(w, book, action, px, size)
    if side == _EMPTY:
        book.n = 0
        return OK
    if side != 0 and side != _BID and side != _ASK:
        return OK
    if w.scratch[_PX] >= 0 and px == BAD:
        return MALFORMED
    if book.keying == BY_ID:
        if w.scratch[_ID] >= 0:
            key = entry_key(w, w.fields[U(w.scratch[_ID]), AT], w.fields[U(w.scratch[_ID]), END])
        if w.scratch[_REF] >= 0:
            ref = entry_key(w, w.fields[U(w.scratch[_REF]), AT], w.fields[U(w.scratch[_REF]), END])
    elif book.keying == BY_POSITION and w.scratch[_PLACE] >= 0:
        key = parse_int(w, w.fields[U(w.scratch[_PLACE]), AT], w.fields[U(w.scratch[_PLACE]), END])
        if key < 0:
            return MALFORMED
    if kind == SNAPSHOT:
        return MALFORMED if side == 0 else place(book, key, side - _BID, px, size)
    return change(book, action, key, ref, BAD if side == 0 else side - _BID, px, size)


@kernel
def _stamp(w: Any, first: int, n: int, sent: int, ahead_ns: int) -> int:
    """Date and time of the first entry that has both, else the sending time; that too where they lie more than
    `ahead_ns` behind it in time (0: anywhere): nothing that came later would be believed.
    """
    date, time = -1, -1
    for i in range(first, n):
        tag = w.fields[U(i), TAG]
        if tag == 272:
            date = parse_date_ns(w, w.fields[U(i), AT], w.fields[U(i), END])
        elif tag == 273:
            time = parse_time_ns(w, w.fields[U(i), AT], w.fields[U(i), END])
        if date >= 0 and time >= 0:
            stamp = date + time
            return sent if ahead_ns and stamp - sent > ahead_ns else stamp
    return sent


@inlined
def _breaks(result: int) -> bool:
    """Whether a result breaks a book; the others are only counted."""
    if result == UNKNOWN_SYMBOL or result == NOT_WHOLE:  # noqa: SIM109  kernels compile no tuples of globals
        return False
    return result != OK and result != UNKNOWN_ENTRY


@kernel
def _settle(w: Any, kind: int, book: int, books: Any) -> int:
    """Apply a finished entry to its book; returns what became of it."""
    if book == _NOWHERE:
        for b in range(len(books)):
            books[b].touched = True
            books[b].whole = False
        return MALFORMED
    if book < 0:
        return UNKNOWN_SYMBOL
    if not books[book].whole:
        return NOT_WHOLE
    books[book].touched = True
    result = _apply(w, kind, books[book])
    if _breaks(result):
        books[book].whole = False
    return result


@kernel
def _bearer(w: Any, book: int, books: Any) -> int:
    """The book of an entry of an X without a symbol, by the name it bears, else `book`, that of the entry before it.

    A new entry may name its instrument by an entry of it (280); of other entries the name says the instrument where
    nothing before them does. _NOWHERE where both could be meant.
    """
    fresh = w.scratch[_ACTION] >= 0 and _char(w, _ACTION) == _NEW
    slot = _REF if w.scratch[_REF] >= 0 else _ID
    if w.scratch[slot] < 0 or (fresh and slot == _ID):
        return book
    key = entry_key(w, w.fields[U(w.scratch[slot]), AT], w.fields[U(w.scratch[slot]), END])
    if book >= 0 and holds(books[book], key):
        return book
    found, bearers = _NOWHERE, 0
    for b in range(len(books)):
        if not books[b].whole and not fresh and book == _NOWHERE:
            return _NOWHERE
        if b != book and holds(books[b], key):
            found = b
            bearers += 1
    if bearers == 0:
        return book
    return found if bearers == 1 and (fresh or book == _NOWHERE) else _NOWHERE


@inlined
def _named(w: Any, kind: int, book: int, books: Any, by_name: bool) -> int:
    """The book that a finished entry is about: the one it names, else that of the entry before it.

    _NOWHERE where nothing names one, where it is named twice or by nothing, or where an entry of a snapshot names
    another than its message. `by_name`: the name of an entry may say it.
    """
    if w.scratch[_TWICE] & _NO_SYMBOL != 0:
        return _NOWHERE
    if w.scratch[_SYMBOL] < 0:
        return _bearer(w, book, books) if by_name else book
    here = _book_of(w, w.fields[U(w.scratch[_SYMBOL]), AT], w.fields[U(w.scratch[_SYMBOL]), END], books)
    return _NOWHERE if kind == SNAPSHOT and here != book else here


@inlined
def _worse(status: int, result: int) -> int:
    """The one of two results that says more: what breaks a book before what is only counted, else the first."""
    return result if status == OK or (_breaks(result) and not _breaks(status)) else status


@kernel
def _entries(w: Any, first: int, n: int, kind: int, book: int, books: Any) -> tuple[int, int]:
    """Apply the entries of a group; `book` is the message's own, -1 where each entry names its own.

    An entry that names no book is about that of the entry before it. Returns (entries seen, the worst status).
    """
    delimiter = w.fields[first, TAG]
    symbol_tag = books[0].symbol_tag
    aggressor_tag = books[0].aggressor_tag
    by_name = kind == INCREMENTAL and book == _NOWHERE and books[0].keying == BY_ID
    status = OK
    seen = 0
    met, twice = 0, 0  # bits of the tags of this entry
    i = first
    while i < n:
        tag = w.fields[U(i), TAG]
        if tag == delimiter:
            if seen > 0:
                w.scratch[_TWICE] = twice
                book = _named(w, kind, book, books, by_name)
                result = _settle(w, kind, book, books)
                status = _worse(status, result)
                if kind == SNAPSHOT and result != OK:  # it is broken: the rest is only counted
                    break
            seen += 1
            met, twice = 0, 0
            for j in range(SCRATCH):
                w.scratch[j] = -1
        if 269 <= tag <= 279:
            bit = 1 << (tag - 269)
            twice |= met & bit
            met |= bit
            w.scratch[tag - 269] = i
        elif tag == 290:
            twice |= met & 1 << _PLACE
            met |= 1 << _PLACE
            w.scratch[_PLACE] = i
        elif tag == 280:
            twice |= met & 1 << _REF
            met |= 1 << _REF
            w.scratch[_REF] = i
        elif tag == symbol_tag:
            twice |= met & 1 << _SYMBOL
            met |= 1 << _SYMBOL
            w.scratch[_SYMBOL] = i
        elif tag == aggressor_tag:
            w.scratch[_AGGRESSOR] = i
        elif tag < 0:
            twice |= _empty_bit(-tag, symbol_tag) << _EMPTY_FROM
        i += 1
    if i < n:
        while i < n:
            seen += w.fields[U(i), TAG] == delimiter
            i += 1
        return seen, status
    w.scratch[_TWICE] = twice
    result = _settle(w, kind, _named(w, kind, book, books, by_name), books)
    return seen, _worse(status, result)


@kernel
def _clears(w: Any, first: int, n: int) -> bool:
    """Whether a snapshot speaks of bids or offers: one of trades alone leaves the book as it is."""
    for i in range(first, n):
        if w.fields[U(i), TAG] == 269:
            side = w.buf[w.fields[U(i), AT]]
            if side == _BID or side == _ASK or side == _EMPTY:  # noqa: SIM109  kernels compile no such tuple
                return True
    return first == n


@kernel
def _superseded(w: Any, at: int, end: int, book: Any) -> bool:
    """Whether the id of a request is one of ours that is not in force any more, or of an earlier start of ours.

    An id that a venue made up is none of ours.
    """
    size = book.asks_len
    same = 0
    while same < size and at + same < end and w.buf[at + same] == book.asks[same]:
        same += 1
    if same < size:
        return same >= OURS
    number = parse_int(w, at + size, end)
    return 0 <= number < book.asked


@kernel
def _write(stamp: int, seq: int, now: int, status: int, books: Any, rows: Any) -> tuple[int, int]:
    """One EVENT row per touched book that is whole and good; what is not whole waits for a snapshot."""
    written = 0
    for b in range(len(books)):
        if books[b].touched and books[b].whole:
            if emit(books[b], rows[written], b, stamp, seq, now):
                written += 1
        elif books[b].touched:
            books[b].n = 0
            books[b].gap = True
            books[b].trade_qty = 0
    return written, status


@kernel
def decode(w: Any, n: int, kind: int, sent: int, now: int, books: Any, rows: Any) -> tuple[int, int]:
    """Apply a W or X to the books it names and write one EVENT row per book touched, where it can be believed.

    Returns (rows written, status). A message that cannot be trusted whole writes no row and leaves its books
    waiting for a snapshot (`whole` False, `gap` set); an entry that deletes what was never there is reported
    as UNKNOWN_ENTRY and changes nothing. `rows` must hold one row per book.
    """
    if len(books) == 0:
        return 0, OK
    head = 1
    book = _NOWHERE
    seq = -1
    while head < n and w.fields[U(head), TAG] != 268:
        tag = w.fields[U(head), TAG]
        if tag == books[0].symbol_tag:
            book = _book_of(w, w.fields[U(head), AT], w.fields[U(head), END], books)
            if book < 0 and kind == SNAPSHOT:
                return 0, UNKNOWN_SYMBOL
        elif tag == 262:
            if _superseded(w, w.fields[U(head), AT], w.fields[U(head), END], books[0]):
                return 0, SUPERSEDED
        elif tag == books[0].seq_tag:
            seq = parse_int(w, w.fields[U(head), AT], w.fields[U(head), END])
        head += 1
    for b in range(len(books)):
        books[b].touched = False
    first = min(head + 1, n)
    count = parse_int(w, w.fields[U(head), AT], w.fields[U(head), END]) if head < n else -1
    if kind == SNAPSHOT and book >= 0:
        books[book].touched = True
        if _clears(w, first, first if count == 0 else n):
            clear(books[book])
            books[book].whole = True
    if count < 0 or (kind == SNAPSHOT and book < 0):
        seen, status = 0, MALFORMED
    elif count == 0 or first == n:
        stray = first < n and (w.fields[first, TAG] == 269 or w.fields[first, TAG] == 279)
        seen, status = int(stray), OK
    else:
        seen, status = _entries(w, first, n, kind, book, books)
    if seen != count:
        status = COUNT if count >= 0 else MALFORMED
        for b in range(len(books)):  # what is missing of an X may be about any book
            books[b].touched = books[b].touched or kind == INCREMENTAL
            books[b].whole = books[b].whole and not books[b].touched
    if books[0].keying == BY_POSITION:
        for b in range(len(books)):
            if books[b].touched and books[b].whole and not in_order(books[b]):
                books[b].whole = False
                status = _worse(status, UNAPPLIED)
    stamp = _stamp(w, first, n, sent, books[0].ahead_ns) if books[0].entry_time else sent
    return _write(stamp, seq, now, status, books, rows)


@kernel
def scan_market(
    wire: Any, filled: int, moved: int, expected: int, now: int, raw_books: Any, raw_rows: Any
) -> tuple[int, int, int, int, int, int, int, int, int, int]:
    """`next_frame`, and `decode` in the same call where the frame is market data and plainly in order.

    Plainly in order: sequence number `expected`, nothing odd in the header. Returns the frame's eight numbers,
    then (rows, status) of `decode`; rows is -1 where nothing was decoded. `wire`, `raw_books` and `raw_rows`
    are the bytes (uint8) of a WIRE, of BOOK and of EVENT arrays: plain arrays enter compiled code in half the
    time.
    """
    w = wire.view(WIRE)[0]
    status, start, end, n, kind, seq, flags, sent = next_frame(w, filled, moved)
    if status != FRAME or flags != 0 or seq != expected or (kind != SNAPSHOT and kind != INCREMENTAL):
        return status, start, end, n, kind, seq, flags, sent, -1, OK
    written, result = decode(w, n, kind, sent, now, raw_books.view(BOOK), raw_rows.view(EVENT))
    return status, start, end, n, kind, seq, flags, sent, written, result


@kernel
def decode_bytes(
    wire: Any, n: int, kind: int, sent: int, now: int, raw_books: Any, raw_rows: Any
) -> tuple[int, int]:
    """`decode` of the frame that the framer of `wire` found last; arguments as for `scan_market`."""
    return decode(wire.view(WIRE)[0], n, kind, sent, now, raw_books.view(BOOK), raw_rows.view(EVENT))
