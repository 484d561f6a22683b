"""Levels in a cell: a list of [price, size], of objects that name them, or of [side, price, size]."""

from typing import Any

import numpy as np

from emp.access.recordings.orders import ASK, BID, set_level
from emp.access.recordings.scan import LOT_DUST, OFF_GRID, parse_number, power_of_ten
from emp.core.book import MAX_LOTS, MAX_TICKS
from emp.core.codes import Quarantine
from emp.core.numba.jit import inlined, kernel

_MALFORMED = int(Quarantine.MALFORMED)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)

_DIGIT0, _DIGIT9, _MINUS, _PLUS, _COLON, _DOT, _COMMA, _SPACE = (ord(c) for c in "09-+:., ")
_QUOTE1, _QUOTE2 = ord('"'), ord("'")
_OPEN1, _OPEN2, _CLOSE1, _CLOSE2 = (ord(c) for c in "[{]}")
_LOW_B, _LOW_A, _LOW_S, _LOW_O, _LOW_P, _LOW_Q, _LOW_V = (ord(c) for c in "basopqv")


@kernel
def side_of(packed: Any) -> int:
    """BID or ASK of a level's side word, by its first letter (bid, buy; ask, sell, offer), or -1."""
    first = (packed >> 56) & 0xFF | 0x20
    if first == _LOW_B:
        return BID
    return ASK if first in (_LOW_A, _LOW_S, _LOW_O) else -1


@inlined
def _usual_level(buf: Any, p: int, end: int) -> Any:
    """As `next_level`, where what follows is ["1.5","2"] or [1.5, 2] to the byte; else the place is 0."""
    while p + 1 < end and (buf[p] == _COMMA or buf[p] == _SPACE or buf[p] == _OPEN1) and buf[p + 1] == _OPEN1:
        p += 1
    nothing: Any = 0
    if p + 2 >= end or buf[p] != _OPEN1:
        return 0, nothing, nothing, nothing, nothing
    quoted = buf[p + 1] == _QUOTE1
    p += 2 if quoted else 1
    if not _DIGIT0 <= buf[p] <= _DIGIT9:
        return 0, nothing, nothing, nothing, nothing
    p, m0, e0, _ = parse_number(buf, p)
    if quoted and buf[p] == _QUOTE1:
        p += 1
    elif quoted:
        return 0, m0, e0, nothing, nothing
    if buf[p] != _COMMA:
        return 0, m0, e0, nothing, nothing
    p += 2 if buf[p + 1] == _SPACE else 1
    if quoted and buf[p] != _QUOTE1:
        return 0, m0, e0, nothing, nothing
    p += 1 if quoted else 0
    if not _DIGIT0 <= buf[p] <= _DIGIT9:
        return 0, m0, e0, nothing, nothing
    p, m1, e1, _ = parse_number(buf, p)
    if quoted and buf[p] == _QUOTE1:
        p += 1
    elif quoted:
        return 0, m0, e0, nothing, nothing
    if buf[p] != _CLOSE1 or p >= end:
        return 0, m0, e0, nothing, nothing
    return p + 1, m0, e0, m1, e1


@kernel
def next_level(buf: Any, p: int, end: int) -> Any:
    """The next [price, size] of a cell from p on: (place after it, first letter before the numbers, two numbers).

    Numbers are (mantissa, exponent) pairs; place is -1 where no level follows, -2 where one cannot be read.
    """
    after, m, e, size, places = _usual_level(buf, p, end)
    if after > 0:
        return after, np.uint8(0), m, e, size, places
    return any_level(buf, p, end)


@kernel
def any_level(buf: Any, p: int, end: int) -> Any:
    """`next_level`, byte by byte: names and sides among the numbers, objects instead of lists, and whatever else."""
    depth = 0
    found = 0
    size_first = False
    letter: Any = 0
    m0: Any = 0
    e0: Any = 0
    m1: Any = 0
    e1: Any = 0
    while p < end:
        c = buf[p]
        if c in (_OPEN1, _OPEN2):
            depth += 1
            found = 0
            size_first = False
            letter = 0
            p += 1
        elif c in (_CLOSE1, _CLOSE2):
            p += 1
            if found >= 2 and size_first:
                return p, letter, m1, e1, m0, e0
            if found >= 2:
                return p, letter, m0, e0, m1, e1
            if found == 1:
                return -2, letter, m0, e0, m1, e1
        elif c in (_QUOTE1, _QUOTE2):
            q = p + 1
            while q < end and buf[q] != c:
                q += 1
            if q + 1 < end and buf[q + 1] == _COLON:
                if p + 1 < q and found < 2:
                    name = buf[p + 1] | 0x20
                    if found == 0:
                        size_first = name in (
                            _LOW_A,
                            _LOW_S,
                            _LOW_Q,
                            _LOW_V,
                        )  # amount, size, quantity, volume
                    else:
                        size_first = size_first and name == _LOW_P
                p = q + 1  # a key
            else:
                p += 1
                if letter == 0 and p < q and buf[p] > _DIGIT9:
                    letter = buf[p]
                    p = q + 1
        elif _DIGIT0 <= c <= _DIGIT9 or c == _MINUS:
            p, mantissa, exponent, digits = parse_number(buf, p)
            if digits == 0:
                return -2, letter, m0, e0, m1, e1
            if buf[p] in (_QUOTE1, _QUOTE2):
                p += 1
            if found == 0:
                m0, e0 = mantissa, exponent
            elif found == 1:
                m1, e1 = mantissa, exponent
            found += 1
        elif letter == 0 and c > _DIGIT9 and depth > 0 and found == 0 and c != _COLON:
            letter = c
            while p < end and buf[p] > _DIGIT9:
                p += 1
        else:
            p += 1
    return -1, letter, m0, e0, m1, e1


@kernel
def apply_cell(buf: Any, cell: int, side: int, layout: Any, levels: Any, book: Any) -> int:
    """Set the levels of a cell on one side (-1: each names its own); 0, or why it cannot be read."""
    p = cell >> 32
    end = p + (cell & 0xFFFFFFFF)
    while p < end:
        p, letter, m0, e0, m1, e1 = next_level(buf, p, end)
        if p == -2:
            return _MALFORMED
        if p == -1:
            return 0
        at = side
        if at < 0:
            at = side_of(np.int64(letter) << 56)
            if at < 0:
                return _MALFORMED
        steps = m0 * (layout.ticks * power_of_ten(e0))
        px = np.int64(np.floor(steps + 0.5))
        if not abs(steps) <= MAX_TICKS or abs(steps - px) > OFF_GRID:
            return _ABSURD_PRICE
        lots = m1 * (layout.lots * power_of_ten(e1))
        if not 0 <= lots <= MAX_LOTS:
            return _ABSURD_SIZE
        set_level(levels, book, at, px, np.int64(np.floor(lots + LOT_DUST)))
    return 0
