"""Time stamps as recordings spell them, to ns: the kernels, and how a column of them is recognised.

Read are epochs in s, ms, us and ns (with a fraction or an exponent), and civil times: `2024-03-06 10:00:00.123456`,
with `T` or `_` between, dots or slashes in the date, `20240306 100000123`, day or month first, AM/PM, a fraction after
a comma; followed by nothing, `Z`, ` UTC`, ` GMT`, `+01:00` or `GMT+0100`. A date and a time of day may stand in two
columns.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel

YMD, DMY, MDY = 0, 1, 2
"""Order of year, month and day."""

HAS_ZONE = 4
"""Added to the order: stamps carry their offset from UTC."""

INNER = 0x1E
"""What `dialect` puts in place of a delimiter inside quotes; in a stamp it is a comma before the fraction."""

_MINUS, _PLUS, _DOT, _ZERO, _COLON, _SLASH, _SPACE, _UNDER = (ord(c) for c in "-+.0:/ _")
_T, _D, _Z, _A, _P, _M, _U, _C, _G = (ord(c) for c in "TDZAPMUCG")
_MONTH_DAYS = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAY_NS = 86_400_000_000_000
_BAD = -(1 << 62)


@kernel
def _digits(buf: Any, p: Any) -> Any:
    """A run of digits: (end, value, how many); at most 18 are read."""
    start = p
    value: Any = 0
    d = np.int64(buf[p]) - _ZERO
    while 0 <= d <= 9 and p - start < 18:
        value = value * 10 + d
        p += 1
        d = np.int64(buf[p]) - _ZERO
    return p, value, p - start


@kernel
def date_ns(year: int, month: int, day: int) -> Any:
    """Ns from 1970-01-01 to a civil date (H. Hinnant, days_from_civil), or a large negative number."""
    if not 1970 <= year <= 2200 or not 1 <= month <= 12 or not 1 <= day <= _MONTH_DAYS[month - 1]:
        return _BAD
    if month == 2 and day == 29 and (year % 4 != 0 or (year % 100 == 0 and year % 400 != 0)):
        return _BAD
    y = year - (1 if month <= 2 else 0)
    era = y // 400
    yoe = y - era * 400
    doy = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    doe = yoe * 365 + yoe // 4 - yoe // 100 + doy
    return (era * 146097 + doe - 719468) * _DAY_NS


@kernel
def parse_date(buf: Any, p: Any, order: int) -> Any:
    """Parse a date at p: (end, ns of its midnight as if UTC, or a negative number)."""
    p, first, n = _digits(buf, p)
    if n == 8 and order == YMD:
        return p, date_ns(first // 10000, first // 100 % 100, first % 100)
    separator = buf[p]
    if separator != _MINUS and separator != _SLASH and separator != _DOT:
        return p, _BAD
    if n != 4 and (order == YMD or n < 1 or n > 2):
        return p, _BAD
    p, second, n2 = _digits(buf, p + 1)
    if n2 < 1 or n2 > 2 or buf[p] != separator:
        return p, _BAD
    p, third, n3 = _digits(buf, p + 1)
    if n == 4:
        return p, date_ns(first, second, third) if 1 <= n3 <= 2 else _BAD
    if n3 != 4:
        return p, _BAD
    if order == DMY:
        return p, date_ns(third, second, first)
    return p, date_ns(third, first, second)


@kernel
def parse_clock(buf: Any, p: Any) -> Any:
    """Parse a time of day at p: (end, ns after midnight, or a negative number)."""
    p, hour, n = _digits(buf, p)
    minute: Any = 0
    second: Any = 0
    nanos: Any = 0
    if n == 6 or n == 9:  # HHMMSS, HHMMSSmmm
        if n == 9:
            nanos = hour % 1000 * 1_000_000
            hour //= 1000
        second = hour % 100
        minute = hour // 100 % 100
        hour //= 10000
    elif 1 <= n <= 2 and buf[p] == _COLON:
        p, minute, n = _digits(buf, p + 1)
        if n != 2:
            return p, _BAD
        if buf[p] == _COLON:
            p, second, n = _digits(buf, p + 1)
            if n != 2:
                return p, _BAD
    else:
        return p, _BAD
    if nanos == 0 and (buf[p] == _DOT or buf[p] == INNER or buf[p] == _COLON):
        p += 1
        scale = 100_000_000
        d = np.int64(buf[p]) - _ZERO
        while 0 <= d <= 9:
            nanos += d * scale
            scale //= 10
            p += 1
            d = np.int64(buf[p]) - _ZERO
    q = p + 1 if buf[p] == _SPACE else p
    half = buf[q] & 0xDF  # upper case
    if (half in (_A, _P)) and buf[q + 1] & 0xDF == _M:
        if not 1 <= hour <= 12:
            return p, _BAD
        hour = hour % 12 + (12 if half == _P else 0)
        p = q + 2
    if hour > 23 or minute > 59 or second > 59:
        return p, _BAD
    return p, ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanos


@kernel
def parse_offset(buf: Any, p: Any) -> Any:
    """Parse what follows a time: (end, ns that the zone is ahead of UTC, whether there was any)."""
    q = p + 1 if buf[p] == _SPACE else p
    seen = False
    if buf[q] == _Z:
        return q + 1, 0, True
    if (buf[q] == _U and buf[q + 1] == _T and buf[q + 2] == _C) or (
        buf[q] == _G and buf[q + 1] == _M and buf[q + 2] == _T
    ):
        q += 3
        p = q
        seen = True
    sign = buf[q]
    if sign != _PLUS and sign != _MINUS:
        return p, 0, seen
    p, hours, n = _digits(buf, q + 1)
    minutes: Any = 0
    if n == 4:
        minutes = hours % 100
        hours //= 100
    elif n == 2 and buf[p] == _COLON:
        p, minutes, n = _digits(buf, p + 1)
    if hours > 15 or minutes > 59:
        return p, _BAD, True
    ahead = (hours * 60 + minutes) * 60_000_000_000
    return p, ahead if sign == _PLUS else -ahead, True


@kernel
def parse_stamp(buf: Any, p: Any, order: int) -> Any:
    """Parse a date and time at p: (end, ns), ns as if UTC where order lacks HAS_ZONE; negative where it is none."""
    p, day = parse_date(buf, p, order & 3)
    if day < 0:
        return p, -1
    if buf[p] not in (_SPACE, _T, _D, _UNDER, _MINUS):
        return p, -1
    p, clock = parse_clock(buf, p + 1)
    if clock < 0:
        return p, -1
    p, ahead, zoned = parse_offset(buf, p)
    if ahead == _BAD or (order & HAS_ZONE != 0) != zoned:
        return p, -1
    return p, day + clock - ahead


@kernel
def epoch_ns(mantissa: int, exponent: int) -> Any:
    """mantissa * 10 ** exponent ns, cut to whole ns, or -1 out of range."""
    if mantissa < 0 or exponent < -18 or exponent > 18:
        return -1
    power: Any = 1
    for _ in range(abs(exponent)):
        power *= 10
    if exponent < 0:
        return mantissa // power
    if mantissa > 7_300_000_000_000_000_000 // power:
        return -1
    return mantissa * power


class Spelling(NamedTuple):
    """How the stamps of a column are written."""

    epoch: bool
    param: int  # of an epoch: ns per unit as a power of ten; else order, HAS_ZONE added where stamps carry an offset
    zoned: bool  # UTC by themselves

    @property
    def order(self) -> int:
        """Order of the date's parts."""
        return self.param & 3


UNITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}

_EPOCH = re.compile(r"\d{9,20}(\.\d*)?|\d(\.\d+)?[eE]\+?\d{1,2}")
_DATE = re.compile(r"(\d{4})([-/.])\d{1,2}\2\d{1,2}|(\d{1,2})([-/.])(\d{1,2})\4\d{4}|(19|20)\d{6}(?=\D|$)")
_ZONED = re.compile(r"[\d.](\s?(Z|UTC|GMT)|\s?(UTC|GMT)?[+-]\d{2}:?\d{2}|[+-]\d{2})$")


class AmbiguousDateError(Exception):
    """Day and month cannot be told apart."""


def spelling_of(samples: Sequence[str], *, date_only: bool = False) -> Spelling | None:
    """Recognise how stamps are written, by most of the samples; None where they are none.

    Raises:
        AmbiguousDateError: days and months of all samples could be either.
    """
    samples = [one.strip() for one in samples if one.strip()]
    if not samples:
        return None
    epochs = [one for one in samples if _EPOCH.fullmatch(one)]
    if 2 * len(epochs) > len(samples) and not date_only:
        return Spelling(True, _epoch_power([float(one) for one in epochs]), True)
    dates = [(one, found) for one in samples if (found := _DATE.match(one))]
    if 2 * len(dates) <= len(samples):
        return None
    zoned = 2 * sum(1 for one, _ in dates if _ZONED.search(one)) > len(dates) and not date_only
    order = _order([(int(found[3]), int(found[5]), found[4]) for _, found in dates if found[3]])
    return Spelling(False, order + (HAS_ZONE if zoned else 0), zoned)


def _epoch_power(values: list[float]) -> int:
    """The unit whose value lies between 1973 and 2200."""
    middle = sorted(values)[len(values) // 2]
    return next(power for power, top in ((9, 1e11), (6, 1e14), (3, 1e17), (0, np.inf)) if middle < top)


def _order(parts: list[tuple[int, int, str]]) -> int:
    if not parts:
        return YMD
    if any(first > 12 for first, _, _ in parts):
        return DMY
    if any(second > 12 for _, second, _ in parts):
        return MDY
    if all(separator == "." for _, _, separator in parts):
        return DMY  # nobody writes month.day.year
    raise AmbiguousDateError
