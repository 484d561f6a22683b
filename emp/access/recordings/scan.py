"""The byte parser that all csv readers share: lines of text to rows of integers, in one compiled pass."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.codes import Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import Array

SKIP = 0  # anything
INT = 1  # an integer, as it is
GRID = 2  # a decimal number on a grid: value * multiplier, rounded where it is within OFF_GRID of an integer
OPTIONAL = 3  # GRID, or nothing at all, which is 0
LEVEL_PX = 4  # GRID; nothing at all, or ABSENT, is NO_PRICE
LEVEL_SZ = 5  # a decimal number in lots: value * multiplier, rounded down; nothing at all is 0
SECONDS = 6  # decimal seconds, to ns
ISO = 7  # YYYY-MM-DD?HH:MM:SS[.fraction][Z], to ns as if it were UTC
WORD = 8  # the first eight bytes of a word, as a big-endian integer

OFF_GRID = 0.1
"""How far, in grid steps, a number may lie off the grid and still be taken for float dust."""

ABSENT = 9_999_999_999
"""LOBSTER's price of a level that does not exist, with either sign."""

LOT_DUST = 1e-6
"""How far, in lots, a size may lie below a whole number and still be it: float dust."""

NO_PRICE = -(1 << 62)
"""The price of a level that was looked for and is not there."""

_MALFORMED = int(Quarantine.MALFORMED)
_COMMA, _NL, _CR, _MINUS, _DOT, _ZERO, _COLON = (ord(c) for c in ",\n\r-.0:")
_LOWER_E, _UPPER_E, _UPPER_Z = ord("e"), ord("E"), ord("Z")
_MAX_DIGITS = 18
_NINE, _ONE_DIGIT, _DIGITS = np.uint64(9), np.uint64(1), np.uint64(_MAX_DIGITS)
_MOST_STEPS = 1e17
_POW10 = 10.0 ** np.arange(-_MAX_DIGITS, _MAX_DIGITS + 1)
_POW10_INT = 10 ** np.arange(_MAX_DIGITS + 1, dtype=np.int64)
_MONTH_DAYS = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAY_NS = 86_400_000_000_000


class Column(NamedTuple):
    """How one csv column is read: its kind, where it goes, and on which grid it must lie."""

    kind: int
    target: int = -1  # index in the output row
    multiplier: float = 1.0  # grid steps per unit
    fault: Quarantine = Quarantine.MALFORMED  # what a number off the grid is


class Columns(NamedTuple):
    """The columns of a file as arrays, one element a column: what `scan` takes."""

    kinds: Array  # int64
    targets: Array  # int64
    multipliers: Array  # float64
    faults: Array  # int64


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


@kernel
def parse_number(buf: Any, p: Any) -> Any:
    """Parse [-]digits[.digits][e[-]digits] at p: (end, mantissa, exponent of ten, digits read)."""
    negative = buf[p] == _MINUS
    if negative:
        p += 1
    mantissa: Any = 0
    digits = 0
    d = np.int64(buf[p]) - _ZERO
    while 0 <= d <= 9:
        mantissa = mantissa * 10 + d
        digits += 1
        p += 1
        d = np.int64(buf[p]) - _ZERO
    exponent = 0
    if buf[p] == _DOT:
        p += 1
        d = np.int64(buf[p]) - _ZERO
        while 0 <= d <= 9:
            if digits < _MAX_DIGITS:  # further digits are beyond what 64 bits hold, and beyond any grid
                mantissa = mantissa * 10 + d
                digits += 1
                exponent -= 1
            p += 1
            d = np.int64(buf[p]) - _ZERO
    if digits > 0 and (buf[p] == _LOWER_E or buf[p] == _UPPER_E):
        p, power = _exponent(buf, p + 1)
        exponent += power
    if negative:
        mantissa = -mantissa
    return p, mantissa, exponent, digits


@kernel
def power_of_ten(exponent: int) -> Any:
    """10 ** exponent, or NaN beyond what a number of 18 digits can need."""
    if not -_MAX_DIGITS <= exponent <= _MAX_DIGITS:
        return np.nan
    return _POW10[exponent + _MAX_DIGITS]


@kernel
def _exponent(buf: Any, p: Any) -> Any:
    negative = buf[p] == _MINUS
    if negative:
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
def _two(buf: Any, p: Any) -> Any:
    """Two digits at p, or a large negative number."""
    a = np.int64(buf[p]) - _ZERO
    if not 0 <= a <= 9:
        return -1000
    b = np.int64(buf[p + 1]) - _ZERO
    if not 0 <= b <= 9:
        return -1000
    return a * 10 + b


@kernel
def _date_ns(year: int, month: int, day: int) -> int:
    """Ns from 1970-01-01 to a civil date (H. Hinnant, days_from_civil)."""
    y = year - (1 if month <= 2 else 0)
    era = y // 400
    yoe = y - era * 400
    doy = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    doe = yoe * 365 + yoe // 4 - yoe // 100 + doy
    return (era * 146097 + doe - 719468) * _DAY_NS


@kernel
def parse_iso(buf: Any, p: Any) -> Any:
    """Parse a time stamp at p: (end, ns as if UTC); ns is -1 where it is none."""
    century = _two(buf, p)
    if century < 0:
        return p, -1
    rest = _two(buf, p + 2)
    if rest < 0 or buf[p + 4] != _MINUS:
        return p, -1
    month = _two(buf, p + 5)
    if not 1 <= month <= 12 or buf[p + 7] != _MINUS:
        return p, -1
    day = _two(buf, p + 8)
    year = century * 100 + rest
    if not 1 <= day <= _MONTH_DAYS[month - 1] or not 1970 <= year <= 2200:
        return p, -1
    if month == 2 and day == 29 and (year % 4 != 0 or (year % 100 == 0 and year % 400 != 0)):
        return p, -1
    p += 10
    if buf[p] == _NL:
        return p, -1
    hour = _two(buf, p + 1)
    if not 0 <= hour <= 23 or buf[p + 3] != _COLON:
        return p, -1
    minute = _two(buf, p + 4)
    if not 0 <= minute <= 59 or buf[p + 6] != _COLON:
        return p, -1
    second = _two(buf, p + 7)
    if not 0 <= second <= 59:
        return p, -1
    p += 9
    nanos: Any = 0
    if buf[p] == _DOT:
        p += 1
        scale = 100_000_000
        d = np.int64(buf[p]) - _ZERO
        while 0 <= d <= 9:
            nanos += d * scale
            scale //= 10
            p += 1
            d = np.int64(buf[p]) - _ZERO
    if buf[p] == _UPPER_Z:
        p += 1
    clock = ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanos
    return p, _date_ns(year, month, day) + clock


@kernel
def _seconds_ns(mantissa: int, exponent: int) -> Any:
    """Decimal seconds to ns, exact to the ninth digit, or -1 out of range."""
    if mantissa < 0 or exponent > 0 or exponent < -_MAX_DIGITS:
        return -1
    if exponent < -9:
        return mantissa // _POW10_INT[-9 - exponent]
    if mantissa > 1_000_000_000_000_000_000 // _POW10_INT[9 + exponent]:
        return -1
    return mantissa * _POW10_INT[9 + exponent]


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
    if kind == ISO:
        p, value = parse_iso(buf, p)
        return p, value, _MALFORMED if value < 0 else 0
    first = p
    p, mantissa, exponent, digits = parse_number(buf, p)
    if digits == 0:
        if p != first or kind in (GRID, INT, SECONDS):
            return p, 0, _MALFORMED
        return p, NO_PRICE if kind == LEVEL_PX else 0, 0
    if digits > _MAX_DIGITS:
        return p, 0, _MALFORMED
    if kind == SECONDS:
        value = _seconds_ns(mantissa, exponent)
        return p, value, _MALFORMED if value < 0 else 0
    if kind == INT:
        return p, mantissa, 0 if exponent == 0 else _MALFORMED
    if not -_MAX_DIGITS <= exponent <= _MAX_DIGITS:
        return p, 0, _MALFORMED
    value, bad = _on_grid(mantissa, _POW10[exponent + _MAX_DIGITS], multiplier, kind, fault)
    return p, value, bad


@kernel
def _on_grid(mantissa: Any, power: float, multiplier: float, kind: int, fault: int) -> Any:
    """mantissa * power in grid steps, or in whole lots: (integer, status)."""
    steps = mantissa * (multiplier * power)
    if kind == LEVEL_SZ:
        if abs(steps) > _MOST_STEPS:
            return 0, fault
        return np.int64(np.floor(steps + LOT_DUST)), 0
    if kind == LEVEL_PX and (mantissa == ABSENT or mantissa == -ABSENT):
        return NO_PRICE, 0
    value = np.int64(np.floor(steps + 0.5))
    if abs(steps - value) > OFF_GRID or abs(steps) > _MOST_STEPS:
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
            if INT <= kind <= LEVEL_SZ:
                # a whole number, the usual case, is read right here; whatever it is not goes to _field
                if buf[p] == _MINUS:
                    p += one
                first = p
                d = np.int64(buf[p]) - _ZERO
                while np.uint64(d) <= _NINE:
                    value = value * 10 + d
                    p += one
                    d = np.int64(buf[p]) - _ZERO
                plain = buf[p] == (_COMMA if c < last else _NL) and _ONE_DIGIT <= p - first <= _DIGITS
            if plain:
                if first != start:
                    value = -value
                if kind != INT:
                    value, bad = _on_grid(value, 1.0, multipliers[c], kind, faults[c])
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
