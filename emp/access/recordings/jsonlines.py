"""JSON lines to rows of integers, in one compiled pass: the keys that are wanted, nothing else is looked at.

A key within an object is written with a dot (`data.s`). Words before the first brace of a line are `@0`, `@1`, … .
Lists are taken whole, as cells; what lies inside one that is not wanted is passed over.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings.lines import Lines
from emp.access.recordings.packing import Stream
from emp.access.recordings.scan import (
    CELL,
    HASH,
    LEVEL_PX,
    NO_PRICE,
    WORD,
    Column,
    columns_of,
    hashed,
    parse_field,
)
from emp.core.codes import Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import Array

_MALFORMED = int(Quarantine.MALFORMED)
_NL, _CR, _SPACE, _TAB = 10, 13, 32, 9
_QUOTE, _BACKSLASH, _COLON, _COMMA, _N, _N2 = (ord(c) for c in '"\\:,nN')
_OPEN, _CLOSE, _LIST, _LIST_END = (ord(c) for c in "{}[]")
_FNV, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_DOT = np.uint64(ord("."))

MAX_DEPTH = 16
TABLE = 256
"""Places of the table of wanted keys; a power of two, well above the number of keys."""


class Keys(NamedTuple):
    """Wanted keys as an open-addressing table."""

    hashes: Array  # int64[TABLE]; 0 is a free place
    columns: Array  # int64[TABLE]
    kinds: Array
    targets: Array
    multipliers: Array
    faults: Array


def keys_of(header: Sequence[str], columns: dict[int, Column]) -> Keys:
    """Arrange the wanted keys of a file for `scan_json`."""
    places = sorted(columns)
    arranged = columns_of([columns[at] for at in places])
    hashes: Array = np.zeros(TABLE, np.int64)
    index: Array = np.zeros(TABLE, np.int64)
    for i, at in enumerate(places):
        key = hashed(header[at])
        place = key & (TABLE - 1)
        while hashes[place]:
            place = (place + 1) & (TABLE - 1)
        hashes[place], index[place] = key, i
    return Keys(hashes, index, *arranged)


class JsonLines(Lines):
    """Rows of integers from a stream of JSON lines."""

    def __init__(self, stream: Stream, header: Sequence[str], columns: dict[int, Column], label: str) -> None:
        super().__init__(stream, [], label, skip_header=False)
        self._keys = keys_of(header, columns)

    def scan_into(self, out: Array, row: int) -> Any:
        """Parse the lines that are whole."""
        return scan_json(self.buf, self.pos, self.end, self._keys, out, self.status, self.begin, row)


@kernel
def _find(keys: Any, value: Any) -> Any:
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
def _list_end(buf: Any, p: Any) -> Any:
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


@kernel
def _put(buf: Any, start: Any, end: Any, at: int, keys: Any, out: Any) -> int:
    """Write a value, buf[start:end], to its target; 0, or why it cannot be read."""
    kind, target = keys.kinds[at], keys.targets[at]
    fault = 0
    value: Any = 0
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
        p, value, fault = parse_field(buf, start, kind, keys.multipliers[at], keys.faults[at])
        if p != end and fault == 0:
            fault = _MALFORMED
    if target >= 0:
        out[target] = value
    return fault


@kernel
def _line(buf: Any, p: Any, keys: Any, stack: Any, out: Any) -> int:
    """Parse one line; 0, or why it cannot be read."""
    word = 0
    while buf[p] != _OPEN:  # words before the message
        if buf[p] == _NL:
            return _MALFORMED
        start = p
        while buf[p] != _SPACE and buf[p] != _TAB and buf[p] != _COMMA and buf[p] != _NL and buf[p] != _OPEN:
            p += 1
        if p > start:
            name = ((_FNV ^ np.uint64(64)) * _FNV_PRIME ^ np.uint64(48 + word)) * _FNV_PRIME
            at = _find(keys, name)
            if at >= 0:
                fault = _put(buf, start, p, at, keys, out)
                if fault != 0:
                    return fault
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
            return _MALFORMED
        if c == _CLOSE:
            p += 1
            if depth == 0:
                return fault
            depth -= 1
            continue
        if c != _QUOTE:
            if c != _COMMA and c != _SPACE and c != _TAB:
                return _MALFORMED
            p += 1
            continue
        p += 1
        key = stack[depth]
        while buf[p] != _QUOTE:
            if buf[p] == _NL:
                return _MALFORMED
            key = (key ^ np.uint64(buf[p])) * _FNV_PRIME
            p += 1
        p += 1
        while buf[p] == _COLON or buf[p] == _SPACE or buf[p] == _TAB:
            p += 1
        c = buf[p]
        if c == _OPEN:
            at = _find(keys, key)
            if at < 0 or keys.kinds[at] != CELL:
                depth += 1
                if depth == MAX_DEPTH:
                    return _MALFORMED
                stack[depth] = (key ^ _DOT) * _FNV_PRIME
                p += 1
                continue
            start, end = p, _list_end(buf, p)
            p = end
        elif c == _LIST:
            at = _find(keys, key)
            start, end = p, _list_end(buf, p)
            p = end
            if at >= 0 and keys.kinds[at] != CELL:
                at = -1
        elif c == _QUOTE:
            at = _find(keys, key)
            start = p + 1
            end = _string_end(buf, start)
            p = end + 1 if buf[end] == _QUOTE else end
        else:
            at = _find(keys, key)
            start = p
            while buf[p] != _COMMA and buf[p] != _CLOSE and buf[p] != _NL and buf[p] != _SPACE:
                p += 1
            end = p
        if buf[p] == _NL:
            return _MALFORMED
        if at >= 0:
            bad = _put(buf, start, end, at, keys, out)
            if fault == 0:
                fault = bad


@kernel
def scan_json(buf: Any, pos: int, end: int, keys: Any, out: Any, status: Any, begin: Any, row: int) -> Any:
    """As `scan.scan`, for JSON lines; out[row:] must be zero. Returns (where to go on, rows filled so far)."""
    stack = np.zeros(MAX_DEPTH, np.uint64)
    p = pos
    while row < len(out) and p < end:
        stop = p
        while buf[stop] != _NL:
            stop += 1
        if stop >= end:
            break
        first = p
        while buf[first] == _SPACE or buf[first] == _CR or buf[first] == _TAB:
            first += 1
        if first < stop:
            for c in range(len(keys.kinds)):
                if keys.kinds[c] == LEVEL_PX and keys.targets[c] >= 0:
                    out[row, keys.targets[c]] = NO_PRICE
            status[row] = _line(buf, first, keys, stack, out[row])
            begin[row] = p
            row += 1
        p = stop + 1
    return p, row


def paths_of(line: str) -> dict[str, Any]:
    """The keys of a line with their values, lists as they are; empty where it is no JSON object."""
    brace = line.find("{")
    if brace < 0:
        return {}
    try:
        message = json.loads(line[brace:])
    except (ValueError, RecursionError):
        return {}
    words = line[:brace].replace(",", " ").split()
    found: dict[str, Any] = {f"@{i}": word for i, word in enumerate(words)}

    def walk(prefix: str, value: Any) -> None:
        for key, inner in value.items():
            if isinstance(inner, dict):
                walk(f"{prefix}{key}.", inner)
            else:
                found[f"{prefix}{key}"] = inner

    walk("", message)
    return found


def value_of(line: str, path: str) -> str:
    """One key's value as text."""
    value = paths_of(line).get(path)
    return "" if value is None else str(value)
