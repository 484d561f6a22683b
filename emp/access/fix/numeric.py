"""Numbers and times of FIX, from bytes to integers, without a float in between.

The bytes are `w.buf` of a WIRE record (`scan.py`): a record passes between compiled functions as one pointer, an
array as seven values.
"""

from typing import Any, Final

import numpy as np

from emp.core.numba.bits import load_word, trailing_zeros
from emp.core.numba.jit import inlined, kernel

BAD: Final = -(2**62)
"""What a parser returns for text that is no number of its kind."""

OFF_GRID: Final = -(2**62) + 1
"""What `parse_scaled` returns for a number that the scale cannot hold exactly."""

U = np.uint64
"""Type of an index that compiled code need not check for being negative; worth a third in the byte loops."""

_POINT, _MINUS, _NIL = 46, 45, 48
_ZERO, _LAST, _TEN, _ONE = U(48), U(9), U(10), U(1)
_ROOM = U(100_000_000_000_000_000)
_MAX_DIGITS = 17
_DAY_NS = 86_400_000_000_000

# Eight bytes at a time, a byte of the word each.
_ONES, _HIGH = U(0x0101010101010101), U(0x8080808080808080)
_ZEROS, _TO_HIGH = U(0x3030303030303030), U(0x7676767676767676)
_PAIRS, _FOURS, _LOW = U(0x00FF00FF00FF00FF), U(0x0000FFFF0000FFFF), U(0xFFFFFFFF)
_HUNDRED, _TEN_THOUSAND, _EIGHT, _WORD = U(100), U(10_000), U(8), U(64)
_SHORT: Final = 8
_SAFE: Final = 9  # eight digits and nine more are within _MAX_DIGITS
_POWERS = np.array([10**k for k in range(_SAFE + 1)], np.uint64)


@inlined
def find_byte(word: Any, byte: Any) -> Any:
    """Index of the first byte of a word that equals `byte` (uint64), 8 where none does."""
    x = word ^ (_ONES * byte)
    return trailing_zeros((x - _ONES) & ~x & _HIGH) >> U(3)


@inlined
def _plain(x: Any) -> bool:
    """Whether all bytes of a word are 0 to 9."""
    return ((x + _TO_HIGH) | x) & _HIGH == U(0)


@inlined
def _eight(x: Any) -> Any:
    """The number whose eight decimal digits are the bytes of a word, the first lowest; halves are joined thrice."""
    x = (x * _TEN + (x >> _EIGHT)) & _PAIRS
    x = (x * _HUNDRED + (x >> U(16))) & _FOURS
    return (x * _TEN_THOUSAND + (x >> U(32))) & _LOW


@inlined
def _number(x: Any, n: Any) -> int:
    """The number whose digits are the last `n` bytes of a word, 1 to 8; -1 where one is none."""
    behind = _WORD - _EIGHT * n
    x = (x >> behind) << behind
    number: Any = np.int64(_eight(x))
    return number if _plain(x) else -1


@inlined
def leading_digits(word: Any, n: Any) -> Any:
    """(whether the first `n` bytes of a word are all digits, the number they write); `n` is 1 to 8."""
    x = (word ^ _ZEROS) << (_WORD - _EIGHT * U(n))
    return _plain(x), _eight(x)


@kernel
def _digits(w: Any, at: int, end: int, value: Any) -> tuple[Any, Any]:
    """Read digits on from `value`; returns (first index that is no digit, value so far)."""
    i = U(at)
    stop = U(end)
    while i < stop:
        digit = U(w.buf[i]) - _ZERO  # anything but a digit wraps to a large number
        if digit > _LAST:
            break
        value = value * _TEN + digit
        i += _ONE
    return np.int64(i), value


@inlined
def parse_int(w: Any, at: int, end: int) -> int:
    """Non-negative integer in `w.buf[at:end]`, at most 17 digits; -1 if it is none."""
    size = end - at
    if size <= 0 or size > _MAX_DIGITS:
        return -1
    last = load_word(w.buf, U(end - _SHORT)) ^ _ZEROS  # in front of the bytes received there are others
    if size <= _SHORT:
        return _number(last, U(size))
    if size <= 2 * _SHORT:
        first = _number(load_word(w.buf, U(end - 2 * _SHORT)) ^ _ZEROS, U(size - _SHORT))
        rest = _number(last, U(_SHORT))
        return -1 if first < 0 or rest < 0 else first * 100_000_000 + rest
    i, value = _digits(w, at, end, U(0))
    number: Any = np.int64(value)
    return number if i == end else -1


@inlined
def _short_decimal(w: Any, end: int, size: int) -> tuple[Any, Any, Any]:
    """(whether these at most eight bytes are digits and at most one point, the digits' number, digits behind it)."""
    word = load_word(w.buf, U(end - _SHORT)) >> (_WORD - _EIGHT * U(size))
    point = find_byte(word, U(_POINT))
    if point >= U(size):
        plain, number = leading_digits(word, size)
        return plain, number, 0
    if size == 1:
        return False, U(0), 0
    before = (_ONE << (_EIGHT * point)) - _ONE
    plain, number = leading_digits((word & before) | ((word >> _EIGHT) & ~before), size - 1)
    return plain, number, size - 1 - np.int64(point)


@inlined
def _decimal(w: Any, at: int, end: int, decimals: int) -> tuple[Any, Any]:
    """(number >= 0 as an integer count of 10^-decimals, cut; where the cut digits begin), or (-1, end)."""
    size = end - at
    if size <= 0 or size > _MAX_DIGITS + 1:
        return -1, end
    if size <= _SHORT:
        plain, number, seen = _short_decimal(w, end, size)
        if plain and 0 <= decimals - seen <= _SAFE:
            return np.int64(number * _POWERS[U(decimals - seen)]), end
    i, value = _digits(w, at, end, U(0))
    seen = 0
    if i < end:
        first = i + 1
        if w.buf[U(i)] != _POINT or end - at == 1:
            return -1, end
        last = min(end, first + decimals)
        i, value = _digits(w, first, last, value)
        if i != last:
            return -1, end
        seen = i - first
    while seen < decimals:
        if value > _ROOM:
            return -1, end
        value *= _TEN
        seen += 1
    return np.int64(value), i


@inlined
def parse_floor(w: Any, at: int, end: int, decimals: int) -> int:
    """Decimal number >= 0 as an integer count of 10^-decimals, cut; -1 if it is none, or beyond 17 digits."""
    value, rest = _decimal(w, at, end, decimals)
    if rest < end and _digits(w, rest, end, U(0))[0] != end:
        return -1
    return value


@inlined
def parse_scaled(w: Any, at: int, end: int, decimals: int) -> int:
    """Decimal number in `w.buf[at:end]` as an integer count of 10^-decimals.

    BAD if it is no number (or beyond 17 digits), OFF_GRID if digits beyond `decimals` are not zero.
    """
    negative = at < end and w.buf[U(at)] == _MINUS
    value, rest = _decimal(w, at + negative, end, decimals)
    if value < 0:
        return BAD
    if rest < end:
        stop, digits = _digits(w, rest, end, U(0))
        if stop != end:
            return BAD
        if digits > U(0):
            return OFF_GRID
    return -value if negative else value


@inlined
def _two(w: Any, at: int) -> int:
    """Two digits, or a large negative number."""
    tens = w.buf[at] - _NIL
    ones = w.buf[at + 1] - _NIL
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -1_000_000
    return tens * 10 + ones


@kernel
def parse_time_ns(w: Any, at: int, end: int) -> int:
    """`HH:MM:SS[.f…]` as ns of the day, up to 12 decimals (cut to ns); -1 if it is none."""
    if end - at < 8 or w.buf[at + 2] != 58 or w.buf[at + 5] != 58:
        return -1
    hour = _two(w, at)
    minute = _two(w, at + 3)
    second = _two(w, at + 6)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 60:
        return -1
    fraction = 0
    if end - at > 8:
        digits = end - at - 9
        if w.buf[at + 8] != _POINT or digits < 1 or digits > 12:
            return -1
        for i in range(at + 9, end):
            digit = w.buf[i] - _NIL
            if digit < 0 or digit > 9:
                return -1
            fraction = fraction * 10 + digit
        for _ in range(digits, 9):
            fraction *= 10
        for _ in range(9, digits):
            fraction //= 10
    return ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + fraction


@kernel
def parse_date_ns(w: Any, at: int, end: int) -> int:
    """`YYYYMMDD` as ns since the epoch; -1 if it is none.

    The day count is Hinnant's days_from_civil ("chrono-compatible low-level date algorithms").
    """
    if end - at != 8:
        return -1
    year = _two(w, at) * 100 + _two(w, at + 2)
    month = _two(w, at + 4)
    day = _two(w, at + 6)
    if year < 1970 or year > 2261 or month < 1 or month > 12 or day < 1 or day > 31:
        return -1
    if month <= 2:
        year -= 1
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days * _DAY_NS


@kernel
def parse_utc_ns(w: Any, at: int, end: int) -> int:
    """`YYYYMMDD-HH:MM:SS[.f…]` as ns since the epoch, UTC; -1 if it is none."""
    if end - at < 17 or w.buf[at + 8] != _MINUS:
        return -1
    date = parse_date_ns(w, at, at + 8)
    time = parse_time_ns(w, at + 9, end)
    if date < 0 or time < 0:
        return -1
    return date + time
