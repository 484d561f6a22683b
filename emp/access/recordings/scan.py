"""The byte parser that all csv readers share: lines of text to rows of integers, in one compiled pass."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings.stamps import epoch_ns, parse_clock, parse_date, parse_stamp
from emp.core.codes import Quarantine
from emp.core.numba.bits import load_word, trailing_zeros
from emp.core.numba.jit import inlined, kernel
from emp.core.records import Array

SKIP = 0  # anything
INT = 1  # an integer, as it is
GRID = 2  # a decimal number on a grid: value * multiplier, rounded where it is within OFF_GRID of an integer
OPTIONAL = 3  # GRID, or nothing at all, which is 0
LEVEL_PX = 4  # GRID; nothing at all, or ABSENT, is NO_PRICE
LEVEL_SZ = 5  # a decimal number in lots: value * multiplier, rounded down; nothing at all is 0
EPOCH = 6  # a number of units of 10 ** multiplier ns, to ns
STAMP = 7  # date and time of `stamps`, the multiplier being its order, to ns
WORD = 8  # the first eight bytes of a word, as a big-endian integer
DATE = 9  # as STAMP, a date alone
CLOCK = 10  # a time of day, to ns after midnight
HASH = 11  # a word of any length, as its FNV-1a hash; nothing at all is 0
NEAR = 13  # as GRID, but to the nearest step, halves to the even one: trades between two ticks
TRADE_SZ = 14  # as LEVEL_SZ; what is more than nothing and less than a lot is SUB_LOT
CELL = 12  # a list in a cell: where it begins in the buffer, times 2 ** 32, plus its length

MAY_LACK = 8
"""Added to a STAMP's multiplier: an empty field is 0."""

OFF_GRID = 0.1
"""How far, in grid steps, a number may lie off the grid and still be taken for float dust."""

ABSENT = 9_999_999_999
"""LOBSTER's price of a level that does not exist, with either sign."""

LOT_DUST = 1e-6
"""How far, in lots, a size may lie below a whole number and still be it: float dust."""

NO_PRICE = -(1 << 62)
"""The price of a level that was looked for and is not there."""

SUB_LOT = -(1 << 61)
"""A trade of less than one lot."""

_MALFORMED = int(Quarantine.MALFORMED)
_COMMA, _NL, _CR, _MINUS, _PLUS, _DOT, _ZERO, _QUOTE = (ord(c) for c in ',\n\r-+.0"')
_LOWER_E, _UPPER_E = ord("e"), ord("E")
_MAX_DIGITS = 18
_NINE, _ONE_DIGIT, _WHOLE_WORD = np.uint64(9), np.uint64(1), 8
_MOST_STEPS = 1e17
_POW10 = 10.0 ** np.arange(-_MAX_DIGITS, _MAX_DIGITS + 1)
_FNV, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)

# eight bytes at a time, a byte of the word each
_U = np.uint64
_ZEROS, _ABOVE_NINE, _HIGH = _U(0x3030303030303030), _U(0x7676767676767676), _U(0x8080808080808080)
_PAIRS, _FOURS, _LOW = _U(0x00FF00FF00FF00FF), _U(0x0000FFFF0000FFFF), _U(0xFFFFFFFF)
_POWERS = np.array([10**k for k in range(9)], np.int64)

_NAN, _NULL, _NONE, _NA, _N_A = (
    int.from_bytes(bytes(ord(c) | 0x20 for c in name), "big") for name in ("nan", "null", "none", "na", "n/a")
)


class Column(NamedTuple):
    """How one csv column is read: its kind, where it goes, and on which grid it must lie."""

    kind: int
    target: int = -1  # index in the output row
    multiplier: float = 1.0  # grid steps per unit; of a time, how it is written
    fault: Quarantine = Quarantine.MALFORMED  # what a number off the grid is


class Columns(NamedTuple):
    """The columns of a file as arrays, one element a column: what `scan` takes."""

    kinds: Array  # int64
    targets: Array  # int64
    multipliers: Array  # float64
    faults: Array  # int64


def hashed(text: str) -> int:
    """The integer that a HASH column gives for `text`."""
    value = int(_FNV)
    for byte in text.encode():
        value = (value ^ byte) * int(_FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return (value - (1 << 64) if value >> 63 else value) if text else 0


def columns_of(columns: Sequence[Column]) -> Columns:
    """Arrange columns for `scan`."""
    return Columns(
        np.array([c.kind for c in columns], np.int64),
        np.array([c.target for c in columns], np.int64),
        np.array([c.multiplier for c in columns]),
        np.array([int(c.fault) for c in columns], np.int64),
    )


def word(text: str) -> int:
    """The integer that a WORD column gives for `text`."""
    return int.from_bytes(text.encode()[:8].ljust(8, b"\0"), "big", signed=True)


@inlined
def _digits(buf: Any, p: Any) -> Any:
    """The run of digits at p, at most eight: (their number, how many). Eight bytes from p on must be in buf."""
    x = load_word(buf, p) ^ _ZEROS  # digits become 0 to 9
    other = ((x + _ABOVE_NINE) | x) & _HIGH  # carries go up only: the lowest bit set marks what is no digit
    n = trailing_zeros(other) >> _U(3)
    if n == _U(0):
        return np.int64(0), np.int64(0)
    x <<= _U(64) - _U(8) * n
    x = (x * _U(10) + (x >> _U(8))) & _PAIRS
    x = (x * _U(100) + (x >> _U(16))) & _FOURS
    return np.int64((x * _U(10_000) + (x >> _U(32))) & _LOW), np.int64(n)


@kernel
def parse_number(buf: Any, p: Any) -> Any:
    """Parse [+-]digits[.digits][e[+-]digits] at p: (end, mantissa, exponent of ten, digits read)."""
    at = _U(p)
    ahead = _U(max(len(buf) - 8, 0))  # up to here, eight bytes can be looked at together
    negative = buf[at] == _MINUS
    if negative or buf[at] == _PLUS:
        at += _U(1)
    mantissa: Any = 0
    digits = 0
    n: Any = 8
    while n == 8 and at <= ahead:
        some, n = _digits(buf, at)
        mantissa = mantissa * _POWERS[n] + some
        digits += n
        at += _U(n)
    d = np.int64(buf[at]) - _ZERO
    while 0 <= d <= 9:
        mantissa = mantissa * 10 + d
        digits += 1
        at += _U(1)
        d = np.int64(buf[at]) - _ZERO
    exponent: Any = 0
    if buf[at] == _DOT:
        at += _U(1)
        n = 8
        while n == 8 and digits <= _MAX_DIGITS - 8 and at <= ahead:
            some, n = _digits(buf, at)
            mantissa = mantissa * _POWERS[n] + some
            digits += n
            exponent -= n
            at += _U(n)
        d = np.int64(buf[at]) - _ZERO
        while 0 <= d <= 9:
            if digits < _MAX_DIGITS:  # further digits are beyond what 64 bits hold, and beyond any grid
                mantissa = mantissa * 10 + d
                digits += 1
                exponent -= 1
            at += _U(1)
            d = np.int64(buf[at]) - _ZERO
    p = np.int64(at)
    if digits > 0 and (buf[at] == _LOWER_E or buf[at] == _UPPER_E):
        p, power = _exponent(buf, p + 1)
        exponent += power
    if negative:
        mantissa = -mantissa
    return p, mantissa, exponent, digits


@inlined
def power_of_ten(exponent: int) -> Any:
    """10 ** exponent, or NaN beyond what a number of 18 digits can need."""
    if not -_MAX_DIGITS <= exponent <= _MAX_DIGITS:
        return np.nan
    return _POW10[exponent + _MAX_DIGITS]


@kernel
def _exponent(buf: Any, p: Any) -> Any:
    negative = buf[p] == _MINUS
    if negative or buf[p] == _PLUS:
        p += 1
    power: Any = 0
    start = p
    d = np.int64(buf[p]) - _ZERO
    while 0 <= d <= 9 and p - start < 3:
        power = power * 10 + d
        p += 1
        d = np.int64(buf[p]) - _ZERO
    if p == start:
        power = 10_000  # no digits: out of every range, so refused
    return p, -power if negative else power


@kernel
def parse_field(buf: Any, p: Any, kind: int, multiplier: float, fault: int) -> Any:
    """Parse one field at p: (end, value, status)."""
    if kind in (SKIP, WORD):
        value: Any = 0
        shift = 56
        while buf[p] != _COMMA and buf[p] != _NL and buf[p] != _CR:
            if shift >= 0:
                value |= np.int64(buf[p]) << shift
                shift -= 8
            p += 1
        return p, value, 0
    if kind in (HASH, CELL):
        return _span(buf, p, kind)
    if kind in (STAMP, DATE, CLOCK):
        if kind == STAMP:
            if multiplier >= MAY_LACK and (buf[p] == _COMMA or buf[p] == _NL or buf[p] == _CR):
                return p, 0, 0
            p, value = parse_stamp(buf, p, int(multiplier) & 7)
        elif kind == DATE:
            p, value = parse_date(buf, p, int(multiplier) & 3)
        else:
            p, value = parse_clock(buf, p)
        return p, value, _MALFORMED if value < 0 else 0
    first = p
    p, mantissa, exponent, digits = parse_number(buf, p)
    if digits == 0:
        if kind in (GRID, INT, EPOCH, NEAR):
            return p, 0, _MALFORMED
        p = _nothing(buf, p) if p == first else p
        return p, NO_PRICE if kind == LEVEL_PX else 0, 0
    if digits > _MAX_DIGITS and (digits > _MAX_DIGITS + 1 or kind not in (EPOCH, INT) or mantissa < 0):
        return p, 0, _MALFORMED
    if kind == EPOCH:
        value = epoch_ns(mantissa, exponent + int(multiplier))
        return p, value, _MALFORMED if value < 0 else 0
    if kind == INT:
        if exponent < 0:  # a whole number with a fraction of zeros, as tables of floats write it
            whole = mantissa * power_of_ten(exponent)
            return p, np.int64(whole), 0 if whole == np.floor(whole) else _MALFORMED
        return p, mantissa, 0 if exponent == 0 else _MALFORMED
    if not -_MAX_DIGITS <= exponent <= _MAX_DIGITS:
        return p, 0, _MALFORMED
    value, bad = _on_grid(mantissa, _POW10[exponent + _MAX_DIGITS], multiplier, kind, fault)
    return p, value, bad


@kernel
def _span(buf: Any, p: Any, kind: int) -> Any:
    """A field as a whole, hashed or as its place: (end, value, 0)."""
    start = p
    value = _FNV
    while buf[p] != _COMMA and buf[p] != _NL and buf[p] != _CR:
        value = (value ^ np.uint64(buf[p])) * _FNV_PRIME
        p += 1
    if kind == CELL:
        return p, np.int64(start) << 32 | np.int64(p - start), 0
    return p, np.int64(value) if p > start else np.int64(0), 0


@kernel
def _nothing(buf: Any, p: Any) -> Any:
    """Past a word that says that there is no number: nan, null, None, NA, N/A, -; p itself where it says none."""
    q = p
    key = np.int64(0)
    while buf[q] != _COMMA and buf[q] != _NL and buf[q] != _CR and q - p < 5:
        key = key << 8 | np.int64(buf[q] | 0x20)
        q += 1
    if key in (_NAN, _NULL, _NONE, _NA, _N_A):
        return q
    return p


@kernel
def _on_grid(mantissa: Any, power: float, multiplier: float, kind: int, fault: int) -> Any:
    """mantissa * power in grid steps, or in whole lots: (integer, status)."""
    steps = mantissa * (multiplier * power)
    if kind in (LEVEL_SZ, TRADE_SZ):
        if kind == TRADE_SZ and LOT_DUST <= steps < 1.0 - LOT_DUST:
            return SUB_LOT, 0
        if abs(steps) > _MOST_STEPS:
            return 0, fault
        return np.int64(np.floor(steps + LOT_DUST)), 0
    if kind == LEVEL_PX and (mantissa == ABSENT or mantissa == -ABSENT):
        return NO_PRICE, 0
    value = np.int64(np.rint(steps) if kind == NEAR else np.floor(steps + 0.5))
    if (kind != NEAR and abs(steps - value) > OFF_GRID) or abs(steps) > _MOST_STEPS:
        return 0, fault
    return value, 0


@kernel
def scan(buf: Any, pos: int, end: int, columns: Any, out: Any, status: Any, begin: Any, row: int) -> Any:
    """Parse whole lines of buf[pos:end] into out[row:], one integer per column (`Columns`) at its target.

    buf[end] must be a newline: it stops every loop. status[row] is 0 or the first fault (Quarantine),
    begin[row] the line's place in buf. Blank lines are no rows. Returns (where to go on, rows filled so far).
    """
    kinds, targets = columns.kinds, columns.targets
    multipliers, faults = columns.multipliers, columns.faults
    last = len(kinds) - 1
    one = np.uint64(1)
    ahead = np.uint64(max(len(buf) - 8, 0))
    p = np.uint64(pos)
    stop = np.uint64(end)
    while row < len(out) and p < stop:
        line = p
        fault = 0
        for c in range(last + 1):
            kind = kinds[c]
            start = p
            value: Any = 0
            bad = 0
            plain: Any = False
            if INT <= kind <= LEVEL_SZ and p <= ahead:
                # a plain number, the usual case, is read right here; whatever it is not goes to parse_field
                if buf[p] == _MINUS:
                    p += one
                first = p
                value, n = _digits(buf, p)
                digits = n
                p += _U(n)
                if n == _WHOLE_WORD:
                    d = np.int64(buf[p]) - _ZERO
                    while np.uint64(d) <= _NINE:
                        value = value * 10 + d
                        digits += 1
                        p += one
                        d = np.int64(buf[p]) - _ZERO
                places = 0
                if buf[p] == _DOT and kind != INT and p - first >= _ONE_DIGIT:
                    p += one
                    n = 8
                    while n == _WHOLE_WORD and digits <= _MAX_DIGITS - 8 and p <= ahead:
                        some, n = _digits(buf, p)
                        value = value * _POWERS[n] + some
                        places += n
                        digits += n
                        p += _U(n)
                    d = np.int64(buf[p]) - _ZERO
                    while np.uint64(d) <= _NINE and digits < _MAX_DIGITS:
                        value = value * 10 + d
                        places += 1
                        digits += 1
                        p += one
                        d = np.int64(buf[p]) - _ZERO
                plain = buf[p] == (_COMMA if c < last else _NL) and 1 <= digits <= _MAX_DIGITS
            if plain:
                if first != start:
                    value = -value
                if kind != INT:
                    power = _POW10[_MAX_DIGITS - places]
                    value, bad = _on_grid(value, power, multipliers[c], kind, faults[c])
            else:
                at, value, bad = parse_field(buf, np.int64(start), kind, multipliers[c], faults[c])
                p = np.uint64(at)
            if bad != 0 and fault == 0:
                fault = bad
            if targets[c] >= 0:
                out[row, targets[c]] = value
            if c == last or buf[p] != _COMMA:
                if buf[p] == _CR:
                    p += one
                if c != last or buf[p] != _NL:
                    fault = _MALFORMED
                break
            p += one
        while buf[p] != _NL:
            p += one
        if p >= stop:
            p = line
            break
        p += one
        if p - line > _ONE_DIGIT and not (buf[line] == _CR and buf[line + one] == _NL):
            status[row] = fault
            begin[row] = line
            row += 1
    return np.int64(p), row
