"""The fields of a JSON line, found byte by byte: whatever the line is like.

A key within an object is written with a dot (`data.s`). Words before the first brace of a line are `@0`, `@1`, … .
Lists are taken whole, as cells; what lies inside one that is not wanted is passed over. How a line was written, all
of it but its values, is kept as a shape (`shapes.py`): lines that are written alike are then read faster.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings.scan import CELL, HASH, LEVEL_PX, NO_PRICE, WORD, parse_field
from emp.core.codes import Quarantine
from emp.core.numba.jit import inlined, kernel
from emp.core.records import Array

_MALFORMED = int(Quarantine.MALFORMED)
_NL, _SPACE, _TAB = 10, 32, 9
_QUOTE, _BACKSLASH, _COLON, _COMMA, _N, _N2 = (ord(c) for c in '"\\:,nN')
_OPEN, _CLOSE, _LIST, _LIST_END = (ord(c) for c in "{}[]")
_FNV, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_DOT = np.uint64(ord("."))
_U = np.uint64

MAX_DEPTH = 16

TABLE = 256
"""Places of the table of wanted keys; a power of two, well above the number of keys."""

MAX_SHAPES = 16
MAX_STEPS = 64
MAX_BYTES = 4096
"""Shapes of lines that are kept, values in one, and bytes between them."""

STRING, SCALAR, CELLS, TEXT, END = range(5)
"""What a value is: within quotes, bare, a list or object, a word before the message; or that none follows."""


class Keys(NamedTuple):
    """Wanted keys as an open-addressing table."""

    hashes: Array  # int64[TABLE]; 0 is a free place
    columns: Array  # int64[TABLE]
    kinds: Array
    targets: Array
    multipliers: Array
    faults: Array
    prices: Array  # targets that are NO_PRICE where a line lacks them


class Shapes(NamedTuple):
    """How lines are written: per shape its steps, each the bytes before a value and what the value is."""

    pool: Array  # uint8[MAX_SHAPES, MAX_BYTES + 64]: the bytes
    steps: Array  # int64[MAX_SHAPES, MAX_STEPS, 4]: place and number of the bytes, the value's kind, its column or -1
    hits: Array  # int64[MAX_SHAPES]: lines that were written so
    order: Array  # int64[MAX_SHAPES]: shapes, the most frequent first
    n: Array  # int64[1]: shapes known


def no_shapes() -> Shapes:
    """Nothing known yet."""
    return Shapes(
        np.zeros((MAX_SHAPES, MAX_BYTES + 64), np.uint8),
        np.zeros((MAX_SHAPES, MAX_STEPS, 4), np.int64),
        np.zeros(MAX_SHAPES, np.int64),
        np.arange(MAX_SHAPES),
        np.zeros(1, np.int64),
    )


@kernel
def _keep(buf: Any, after: int, start: int, kind: int, at: int, shapes: Any, step: int) -> int:
    """Keep the bytes buf[after:start] and the value that follows as the next step; returns the steps so far, -1 where
    there is no room."""
    shape = shapes.n[0]
    if step < 0 or shape == MAX_SHAPES or step == MAX_STEPS:
        return -1
    steps, pool = shapes.steps[shape], shapes.pool[shape]
    first = steps[step - 1, 0] + steps[step - 1, 1] if step > 0 else np.int64(0)
    if first + start - after > MAX_BYTES:
        return -1
    for i in range(start - after):
        pool[first + i] = buf[after + i]
    steps[step, 0] = first
    steps[step, 1] = start - after
    steps[step, 2] = kind
    steps[step, 3] = at
    return step + 1


@kernel
def find_key(keys: Any, value: Any) -> Any:
    """Index of a wanted key, or -1."""
    at = np.int64(value) & (TABLE - 1)
    while keys.hashes[at] != 0:
        if keys.hashes[at] == np.int64(value):
            return keys.columns[at]
        at = (at + 1) & (TABLE - 1)
    return -1


@kernel
def _string_end(buf: Any, p: Any) -> Any:
    """Place of the quote that ends the string whose first byte is at p, or of the newline where none does."""
    while buf[p] != _QUOTE and buf[p] != _NL:
        p += 2 if buf[p] == _BACKSLASH and buf[p + 1] != _NL else 1
    return p


@kernel
def list_end(buf: Any, p: Any) -> Any:
    """Place after the list or object that begins at p, or of the newline where it is cut off."""
    depth = 0
    while buf[p] != _NL:
        c = buf[p]
        if c == _QUOTE:
            p = _string_end(buf, p + 1)
            if buf[p] == _NL:
                return p
        elif c in (_LIST, _OPEN):
            depth += 1
        elif c in (_LIST_END, _CLOSE):
            depth -= 1
            if depth == 0:
                return p + 1
        p += 1
    return p


@inlined
def put_value(
    buf: Any, start: Any, end: Any, kind: int, target: Any, multiplier: float, fault: int, out: Any
) -> int:
    """Write a value, buf[start:end], to its target; 0, or why it cannot be read."""
    value: Any = 0
    status: Any = 0
    if kind == CELL:
        value = np.int64(start) << 32 | np.int64(end - start)
    elif kind == HASH:
        h = _FNV
        for i in range(start, end):
            h = (h ^ np.uint64(buf[i])) * _FNV_PRIME
        value = np.int64(h) if end > start else 0
    elif kind == WORD:
        shift = 56
        for i in range(start, min(end, start + 8)):
            value |= np.int64(buf[i]) << shift
            shift -= 8
    elif end == start or buf[start] == _N or buf[start] == _N2:  # nothing, null, nan
        value = NO_PRICE if kind == LEVEL_PX else 0
    else:
        p, value, status = parse_field(buf, start, kind, multiplier, fault)
        if p != end and status == 0:
            status = _MALFORMED
    if target >= 0:
        out[_U(target)] = value
    return status


@kernel
def _put(buf: Any, start: Any, end: Any, at: int, keys: Any, out: Any) -> int:
    kind, target = keys.kinds[at], keys.targets[at]
    return put_value(buf, start, end, kind, target, keys.multipliers[at], keys.faults[at], out)


@kernel
def read_line(buf: Any, p: Any, keys: Any, shapes: Any, stack: Any, out: Any) -> Any:
    """Parse one line, and keep its shape where it is whole: (0, or why it cannot be read; place after the message)."""
    word = 0
    after = p  # what stands from here on is no value
    step = 0
    while buf[p] != _OPEN:  # words before the message
        if buf[p] == _NL:
            return _MALFORMED, p
        start = p
        while buf[p] != _SPACE and buf[p] != _TAB and buf[p] != _COMMA and buf[p] != _NL and buf[p] != _OPEN:
            p += 1
        if p > start:
            name = ((_FNV ^ np.uint64(64)) * _FNV_PRIME ^ np.uint64(48 + word)) * _FNV_PRIME
            at = find_key(keys, name)
            if at >= 0:
                fault = _put(buf, start, p, at, keys, out)
                if fault != 0:
                    return fault, p
            step = _keep(buf, after, start, TEXT, at, shapes, step)
            after = p
            word += 1
        if buf[p] != _OPEN and buf[p] != _NL:
            p += 1
    depth = 0
    stack[0] = _FNV
    fault = 0
    p += 1
    while True:
        c = buf[p]
        if c == _NL:
            return _MALFORMED, p
        if c == _CLOSE:
            p += 1
            if depth == 0:
                if fault == 0 and _keep(buf, after, p, END, -1, shapes, step) > 0:
                    shapes.n[0] += 1
                return fault, p
            depth -= 1
            continue
        if c != _QUOTE:
            if c != _COMMA and c != _SPACE and c != _TAB:
                return _MALFORMED, p
            p += 1
            continue
        p += 1
        key = stack[depth]
        while buf[p] != _QUOTE:
            if buf[p] == _NL:
                return _MALFORMED, p
            key = (key ^ np.uint64(buf[p])) * _FNV_PRIME
            p += 1
        p += 1
        while buf[p] == _COLON or buf[p] == _SPACE or buf[p] == _TAB:
            p += 1
        at = find_key(keys, key)
        c = buf[p]
        start = p
        if c == _OPEN and (at < 0 or keys.kinds[at] != CELL):
            depth += 1
            if depth == MAX_DEPTH:
                return _MALFORMED, p
            stack[depth] = (key ^ _DOT) * _FNV_PRIME
            p += 1
            continue
        if c in (_OPEN, _LIST):
            kind = CELLS
            end = list_end(buf, p)
            p = end
            if at >= 0 and keys.kinds[at] != CELL:
                at = -1
        elif c == _QUOTE:
            kind = STRING
            start = p + 1
            end = _string_end(buf, start)
            p = end + 1 if buf[end] == _QUOTE else end
        else:
            kind = SCALAR
            while buf[p] != _COMMA and buf[p] != _CLOSE and buf[p] != _NL and buf[p] != _SPACE:
                p += 1
            end = p
        if buf[p] == _NL:
            return _MALFORMED, p
        if at >= 0:
            bad = _put(buf, start, end, at, keys, out)
            if fault == 0:
                fault = bad
        step = _keep(buf, after, start, kind, at, shapes, step)
        after = end
