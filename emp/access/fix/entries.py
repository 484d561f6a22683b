"""Entries of a book kept from FIX market data: how each is named, found again, written and forgotten.

An entry is found by its MDEntryID (278), by side and price, or by side and position (290), as the venue's dialect
says; where MDEntryID is the rule, one that comes without is found by side and price, if one alone stands there.
"""

from typing import Any, Final

import numpy as np

from emp.access.fix.book import (
    BY_ID,
    BY_POSITION,
    BY_PRICE,
    ENTRIES,
    MALFORMED,
    OK,
    OVERFLOW,
    UNAPPLIED,
    UNKNOWN_ENTRY,
    UNSIZED,
)
from emp.access.fix.numeric import BAD, parse_int
from emp.core.numba.jit import inlined, kernel

_NEW, _CHANGE, _DELETE = 48, 49, 50
_NOT_THERE: Final = -1
_UNCLEAR: Final = -2
"""In place of an entry's index: none is meant, or which one is meant cannot be told."""


@inlined
def entry_key(w: Any, at: int, end: int) -> int:
    """Number of an MDEntryID: its value where it is decimal digits, else its 64-bit FNV-1a hash, negative."""
    value = parse_int(w, at, end) if w.buf[at] != 48 or end - at == 1 else -1
    if value >= 0:
        return value
    digest = np.uint64(14695981039346656037)
    for i in range(at, end):
        digest = (digest ^ np.uint64(w.buf[i])) * np.uint64(1099511628211)
    hashed: Any = np.int64(digest >> np.uint64(1))
    return -hashed - 1


@kernel
def _find(book: Any, key: int, side: int) -> int:
    """Index of the entry, or -1; `side` is -1 where the key alone names it."""
    for i in range(book.n):
        if book.key[i] == key and (side < 0 or book.side[i] == side):
            return i
    return -1


@kernel
def _drop(book: Any, i: int) -> None:
    """Forget entry `i`; order within the store means nothing."""
    last = book.n - 1
    book.key[i] = book.key[last]
    book.px[i] = book.px[last]
    book.size[i] = book.size[last]
    book.side[i] = book.side[last]
    book.n = last


@inlined
def _put(book: Any, i: int, key: int, side: int, px: int, size: int) -> int:
    """Write entry `i`, or append one where `i` is -1; `size` is BAD where there is none."""
    if size == BAD:
        size = UNSIZED
    if i < 0:
        if book.n >= ENTRIES:
            return OVERFLOW
        i = book.n
        book.n += 1
    book.key[i] = key
    book.side[i] = side
    book.px[i] = px
    book.size[i] = size
    return OK


@kernel
def _shift_positions(book: Any, side: int, first: int, by: int) -> None:
    """Move the positions from `first` on, on one side, and forget what leaves the depth."""
    i = 0
    while i < book.n:
        if book.side[i] == side and book.key[i] >= first:
            book.key[i] += by
            if book.depth > 0 and book.key[i] > book.depth:
                _drop(book, i)
                continue
        i += 1


@kernel
def _only(book: Any, side: int, px: int, unnamed: bool) -> int:
    """Index of the one entry at a side and price, of those without a name where `unnamed`; _UNCLEAR for several."""
    found = _NOT_THERE
    for i in range(book.n):
        if book.side[i] == side and book.px[i] == px and (not unnamed or book.key[i] == BAD):
            if found != _NOT_THERE:
                return _UNCLEAR
            found = i
    return found


@kernel
def holds(book: Any, key: int) -> bool:
    """Whether an entry of that name is in the book."""
    return _find(book, key, -1) >= 0


@kernel
def in_order(book: Any) -> bool:
    """Whether the positions of each side are 1, 2, … without a hole, best price first.

    Forgets the names met in the last snapshot: their places are used to look.
    """
    book.snapshot += 1
    for i in range(book.n):
        key = book.key[i]
        if key < 1 or key > ENTRIES:
            return False
        at = book.side[i] * ENTRIES + key - 1
        if book.named_in[at] == book.snapshot:
            return False
        book.named_in[at] = book.snapshot
        book.named[at] = book.px[i]
    for i in range(book.n):
        if book.key[i] > 1:
            at = book.side[i] * ENTRIES + book.key[i] - 2  # the position before it
            if book.named_in[at] != book.snapshot:
                return False
            if book.named[at] < book.px[i] if book.side[i] == 0 else book.named[at] > book.px[i]:
                return False
    return True


@kernel
def _count(book: Any, side: int) -> int:
    """Entries on one side."""
    n = 0
    for i in range(book.n):
        n += book.side[i] == side
    return n


@kernel
def _rank(book: Any, side: int, px: int) -> int:
    """The position of a price on one side, where positions are not given; entries behind it move back."""
    rank = 1
    for i in range(book.n):
        if book.side[i] == side:
            if book.px[i] > px if side == 0 else book.px[i] < px:
                rank += 1
            else:
                book.key[i] += 1
    return rank


@inlined
def clear(book: Any) -> None:
    """Begin to read a snapshot."""
    book.n = 0
    book.snapshot += 1


@inlined
def _met(book: Any, name: int) -> bool:
    """Whether a name stood in this snapshot before; it is noted (open addressing, Fibonacci hashing)."""
    places = 2 * ENTRIES
    at = np.int64((np.uint64(name) * np.uint64(11400714819323198485)) >> np.uint64(32)) % places
    while book.named_in[at] == book.snapshot:
        if book.named[at] == name:
            return True
        at = (at + 1) % places
    book.named[at] = name
    book.named_in[at] = book.snapshot
    return False


@inlined
def place(book: Any, key: int, side: int, px: int, size: int) -> int:
    """Add one entry of a snapshot; `key` or `size` are BAD where absent."""
    if px == BAD:
        return MALFORMED
    if book.keying == BY_PRICE:
        key = px
    if key != BAD:
        if book.n >= ENTRIES:
            return OVERFLOW
        if _met(book, key if book.keying == BY_ID else 2 * key + side):  # two entries of one name
            return MALFORMED
    elif book.keying == BY_POSITION:
        key = _rank(book, side, px)
    return _put(book, -1, key, side, px, size)


@kernel
def _drop_entry(book: Any, i: int, key: int, side: int) -> int:
    """Delete entry `i` that was named by `key`, -1 where there is none."""
    if i >= 0:
        side = book.side[i]
        _drop(book, i)
    elif book.keying == BY_POSITION or (book.keying == BY_ID and _has_unnamed(book)):
        return UNAPPLIED
    if book.keying == BY_POSITION:
        _shift_positions(book, side, key + 1, -1)
    return OK if i >= 0 else UNKNOWN_ENTRY


@kernel
def _has_unnamed(book: Any) -> bool:
    """Whether the snapshot left an entry without a name."""
    for i in range(book.n):  # noqa: SIM110  a loop, because kernels compile no generators
        if book.key[i] == BAD:
            return True
    return False


@kernel
def _locate(book: Any, action: int, key: int, ref: int, side: int, px: int) -> int:
    """Index of the entry that an X means where entries are named by id, _NOT_THERE, or _UNCLEAR."""
    if key == BAD and ref == BAD:
        if side == BAD or px == BAD:
            return _UNCLEAR
        i = _only(book, side, px, action == _NEW)
        if action == _NEW:
            return _NOT_THERE if i == _NOT_THERE else _UNCLEAR
        return _UNCLEAR if i == _NOT_THERE else i
    i = _find(book, key if ref == BAD else ref, -1)
    if i < 0 and side != BAD and px != BAD and action != _NEW:
        i = _only(book, side, px, True)
    if ref != BAD and (i < 0 or (key != BAD and key != ref and holds(book, key))):
        return _UNCLEAR
    return i


@kernel
def change(book: Any, action: int, key: int, ref: int, side: int, px: int, size: int) -> int:
    """Apply one bid or ask entry of an X; `key`, `ref`, `side`, `px` or `size` are BAD where absent.

    `ref` is the name that a changed entry had before (MDEntryRefID); that of a new one says of which instrument it
    is, and no more. Entries that a snapshot did not name are found by side and price, and take the name that comes
    with the change.
    """
    if action != _NEW and action != _CHANGE and action != _DELETE:
        return MALFORMED
    if book.keying != BY_ID and side == BAD:
        return MALFORMED
    if book.keying != BY_ID or action == _NEW:
        ref = BAD
    if book.keying == BY_PRICE:
        key = px
    if book.keying == BY_ID:
        i = _locate(book, action, key, ref, side, px)
        if i == _UNCLEAR:
            return UNAPPLIED
        if key == BAD:
            key = ref if ref != BAD or i < 0 else book.key[i]
    elif key == BAD:
        return MALFORMED
    else:
        i = _find(book, key, side)
    if i >= 0 and side != BAD and book.side[i] != side:
        return UNAPPLIED
    if action == _DELETE or (book.keying == BY_PRICE and size == 0):
        return _drop_entry(book, i, key, side)
    if action == _CHANGE and i < 0 and book.keying != BY_PRICE:  # a price names its level, known or not
        return UNAPPLIED
    if action == _NEW and book.keying == BY_POSITION:
        if key < 1 or key > _count(book, side) + 1:
            return UNAPPLIED
        _shift_positions(book, side, key, 1)
        i = -1
    if i >= 0:
        side = book.side[i]
        px = book.px[i] if px == BAD else px
        size = book.size[i] if size == BAD else size
    if side == BAD or px == BAD:
        return MALFORMED
    return _put(book, i, key, side, px, size)
