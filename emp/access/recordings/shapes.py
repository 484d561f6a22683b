"""JSON lines that are written like one before: the bytes between the values are compared, not read.

A stream's messages differ in their values alone. So a line is first laid against the shapes of earlier ones, 8 bytes at
a time, and its values are found by the byte that ends them. Whatever fits no shape to the last byte, or holds a value
that cannot be read, goes to `jsonscan.read_line`, which also decides what is wrong with it: both ways give the same.
"""

from typing import Any

import numpy as np

from emp.access.recordings.jsonscan import (
    CELLS,
    END,
    MAX_DEPTH,
    SCALAR,
    STRING,
    put_value,
    read_line,
)
from emp.access.recordings.scan import NO_PRICE
from emp.core.codes import Quarantine
from emp.core.numba.bits import any_of, equal_bytes, load_word, trailing_zeros
from emp.core.numba.jit import inlined, kernel

_MALFORMED = int(Quarantine.MALFORMED)
_U = np.uint64
_NONE, _ONE, _EIGHT, _ALL = _U(0), _U(1), _U(8), _U(0xFFFFFFFFFFFFFFFF)
_NL, _CR, _SPACE, _TAB = 10, 13, 32, 9
_QUOTE, _BACKSLASH, _COLON, _COMMA = (ord(c) for c in '"\\:,')
_OPEN, _CLOSE, _LIST, _LIST_END = (ord(c) for c in "{}[]")


@inlined
def _same(buf: Any, p: Any, pool: Any, at: Any, n: Any) -> bool:
    """Whether n bytes are the same in both."""
    i = _NONE
    while i + _EIGHT <= n:
        if load_word(buf, p + i) != load_word(pool, at + i):
            return False
        i += _EIGHT
    if i == n:
        return True
    different = load_word(buf, p + i) ^ load_word(pool, at + i)
    return bool(different << (_U(64) - _EIGHT * (n - i)) == _NONE)


@inlined
def _until(buf: Any, p: Any, a: int, b: int, c: int, d: int, e: int) -> Any:
    """Place of the first byte from p on that is one of these, one of which is a newline."""
    found = any_of(buf, p, a, b, c, d, e)
    while found == _NONE:
        p += _U(16)
        found = any_of(buf, p, a, b, c, d, e)
    return p + trailing_zeros(found)


@inlined
def _parity(x: Any) -> Any:
    """Each bit: whether the bits up to and with it are odd in number."""
    x ^= x << _U(1)
    x ^= x << _U(2)
    x ^= x << _U(4)
    x ^= x << _U(8)
    x ^= x << _U(16)
    return x ^ (x << _U(32))


@kernel
def _list_end(buf: Any, p: Any) -> Any:
    """Place after the list or object that begins at p; p itself where it is cut off, or a backslash stands in it."""
    depth = 0
    inside = _NONE  # all bits set where a block begins within a string
    at = p
    while True:
        strings = _parity(equal_bytes(buf, at, _QUOTE)) ^ inside
        opens = (equal_bytes(buf, at, _LIST) | equal_bytes(buf, at, _OPEN)) & ~strings
        both = opens | ((equal_bytes(buf, at, _LIST_END) | equal_bytes(buf, at, _CLOSE)) & ~strings)
        stops = equal_bytes(buf, at, _BACKSLASH) | equal_bytes(buf, at, _NL)
        both &= (stops & (~stops + _ONE)) - _ONE  # before the first of them; all where there is none
        while both != _NONE:
            bit = both & (~both + _ONE)
            depth += 1 if opens & bit != _NONE else -1
            if depth == 0:
                return at + trailing_zeros(bit) + _ONE
            both ^= bit
        if stops != _NONE:
            return p
        inside = _ALL if strings >> _U(63) != _NONE else _NONE
        at += _U(64)


@inlined
def _value_end(buf: Any, p: Any, kind: int, wanted: bool) -> Any:
    """Place where the value at p ends; p where it is not what the shape says, or must be read byte by byte."""
    first = buf[p]
    if kind == STRING:
        end = _until(buf, p, _QUOTE, _BACKSLASH, _NL, _NL, _NL)
        return end if buf[end] == _QUOTE else p
    if kind == SCALAR:
        if first in (_QUOTE, _LIST, _OPEN, _COLON, _TAB):
            return p
        return _until(buf, p, _COMMA, _CLOSE, _NL, _SPACE, _NL)
    if kind == CELLS:
        return _list_end(buf, p) if first == _LIST or (first == _OPEN and wanted) else p
    return _until(buf, p, _SPACE, _TAB, _COMMA, _NL, _OPEN)


@inlined
def _fits(buf: Any, p: Any, pool: Any, steps: Any, keys: Any, out: Any) -> Any:
    """Read the line at p by a shape's bytes and steps: the place after it, or 0 where it is not written so.

    What was written to the row until then, the next reading of the line writes again: it begins with the same bytes.
    """
    kinds, targets, multipliers, faults = keys.kinds, keys.targets, keys.multipliers, keys.faults
    step = _NONE
    while True:
        n, what, column = _U(steps[step, 1]), steps[step, 2], steps[step, 3]
        if not _same(buf, p, pool, _U(steps[step, 0]), n):
            return _NONE
        p += n
        if what == END:
            return p
        end = _value_end(buf, p, what, column >= 0)
        if end == p and (what != STRING or buf[p] != _QUOTE):
            return _NONE
        if column >= 0:
            c = _U(column)
            kind, target, multiplier, fault = kinds[c], targets[c], multipliers[c], faults[c]
            if put_value(buf, np.int64(p), np.int64(end), kind, target, multiplier, fault, out) != 0:
                return _NONE
        p = end
        step += _ONE


@kernel
def _by_shape(buf: Any, p: Any, shapes: Any, keys: Any, out: Any) -> Any:
    """Read the line at p by the shapes that are known, the most frequent first: the place after it, or 0."""
    order, hits = shapes.order, shapes.hits
    for i in range(shapes.n[0]):
        shape = order[i]
        end = _fits(buf, p, shapes.pool[shape], shapes.steps[shape], keys, out)
        if end != _NONE:
            hits[shape] += 1
            if i > 0 and hits[shape] > hits[order[i - 1]]:
                order[i], order[i - 1] = order[i - 1], shape
            return end
    return _NONE


@kernel
def scan_json(
    buf: Any, pos: int, end: int, keys: Any, shapes: Any, out: Any, status: Any, begin: Any, row: int
) -> Any:
    """As `scan.scan`, for JSON lines. Returns (where to go on, rows filled so far).

    `lines.LOOK_AHEAD` bytes must lie in `buf` behind `end`.
    """
    stack = np.zeros(MAX_DEPTH, np.uint64)
    p = _U(pos)
    stop = _U(end)
    while row < len(out) and p < stop:
        first = p
        while buf[first] == _SPACE or buf[first] == _CR or buf[first] == _TAB:
            first += _ONE
        if buf[first] == _NL:
            if first >= stop:
                break
            p = first + _ONE
            continue
        for target in keys.prices:
            out[row, target] = NO_PRICE
        after = _by_shape(buf, first, shapes, keys, out[row])
        line_end = _until(buf, after if after != _NONE else first, _NL, _NL, _NL, _NL, _NL)
        if line_end >= stop:
            break  # whole, it will say all of what was written to the row, and more
        status[row] = 0
        if after == _NONE:
            status[row], at = read_line(buf, np.int64(first), keys, shapes, stack, out[row])
            after = _U(at)
        while after < line_end and buf[after] != _OPEN:
            after += _ONE
        if after < line_end and status[row] == 0:
            status[row] = _MALFORMED  # a second message in the line: one of the two would be lost
        begin[row] = p
        row += 1
        p = line_end + _ONE
    return np.int64(p), row
