"""Ticks, lots and times as the text that FIX wants, and back; exact, without floats."""

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from emp.access.fix.message import readable
from emp.core.errors import DataError
from emp.core.instrument import Instrument

_SECOND_NS = 1_000_000_000


class Scale:
    """How one instrument's ticks and lots read on the wire."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.px_decimals, self.px_step = _decimals(instrument.tick, instrument.name, "tick")
        self.lot_decimals, self.lot_step = _decimals(instrument.lot, instrument.name, "lot")
        self._px_unit, self._px_text = 10**self.px_decimals, b"%%d.%%0%dd" % self.px_decimals
        self._lot_unit, self._lot_text = 10**self.lot_decimals, b"%%d.%%0%dd" % self.lot_decimals
        self._tick = Decimal(repr(instrument.tick))
        self._lot = Decimal(repr(instrument.lot))

    def px(self, ticks: int) -> bytes:
        """A price as text, with the decimals of the tick."""
        if ticks < 0:
            return b"-" + self.px(-ticks)
        value = ticks * self.px_step
        return self._px_text % divmod(value, self._px_unit) if self.px_decimals else b"%d" % value

    def qty(self, lots: int) -> bytes:
        """A quantity as text, in units of the instrument."""
        value = lots * self.lot_step
        return self._lot_text % divmod(value, self._lot_unit) if self.lot_decimals else b"%d" % value

    def ticks(self, text: bytes | None) -> int:
        """A price in ticks, rounded to the nearest (an average may lie between two); 0 where absent.

        Like `lots` and `average` it raises FieldError where the text is no number or too large to be one of ours.
        """
        return int(_bounded(number(text), self._tick).to_integral_value(ROUND_HALF_EVEN))

    def lots(self, text: bytes | None) -> int:
        """A quantity in lots, 0 where absent; FieldError where it is no whole number of them."""
        count = _bounded(number(text), self._lot)
        if count != count.to_integral_value():
            name, lot = self.instrument.name, self.instrument.lot
            raise FieldError(f"{name}: {readable(text or b'')} is no multiple of the lot of {lot:g}")
        return int(count)

    def average(self, text: bytes | None) -> float:
        """A price in ticks, not rounded; 0 where absent."""
        return float(_bounded(number(text), self._tick))


def _decimals(size: float, name: str, what: str) -> tuple[int, int]:
    """A positive step as (decimals, multiple of 10^-decimals): 0.00005 is (5, 5), 1000 is (0, 1000)."""
    _, digits, exponent = Decimal(repr(size)).normalize().as_tuple()
    mantissa = int("".join(map(str, digits)))
    if not isinstance(exponent, int) or mantissa <= 0 or exponent < -9:
        raise DataError(f"{name}: a {what} of {size} cannot be written in FIX; give it at most 9 decimals")
    return (-exponent, mantissa) if exponent < 0 else (0, mantissa * 10**exponent)


class FieldError(DataError):
    """A field of a message does not hold what its tag demands; the message cannot be used."""


_NUMBER = re.compile(rb"-?(?=\.?[0-9])[0-9]{0,18}\.?[0-9]{0,30}")
_LARGEST = 2**53


def number(text: bytes | None) -> Decimal | None:
    """A FIX number: digits with at most one point and a sign, at most 18 digits before the point and 30 behind.

    None where absent; FieldError for anything else, as exponents, commas, NaN, infinity, `+` and blanks.
    """
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise FieldError(f"{readable(text[:40])!r} is no number")
    return Decimal(text.decode("ascii"))


def _bounded(value: Decimal | None, unit: Decimal) -> Decimal:
    """How many units a value is, 0 for None; FieldError beyond what a float holds exactly."""
    if value is None:
        return Decimal(0)
    count = value / unit
    if abs(count) > _LARGEST:
        raise FieldError(f"{value} is beyond any price or quantity")
    return count


class Stamp:
    """UTC timestamps as text; the whole second is kept, because most stamps share it."""

    def __init__(self, digits: int = 3) -> None:
        self.digits = digits
        self._cut = 10 ** (9 - digits)
        self._second = -1
        self._text = b""

    def __call__(self, ns: int) -> bytes:
        """`YYYYMMDD-HH:MM:SS.fff` of ns since the epoch, with `digits` decimals."""
        second, rest = divmod(ns, _SECOND_NS)
        if second != self._second:
            self._second = second
            whole = datetime.fromtimestamp(second, UTC).strftime("%Y%m%d-%H:%M:%S")
            self._text = f"{whole}.%0{self.digits}d".encode()
        return self._text % (rest // self._cut)


def utc_ns(text: bytes | None) -> int:
    """ns since the epoch of a UTCTimestamp, -1 where it is none. Not for the hot path."""
    if text is None or _TIMESTAMP.fullmatch(text) is None:
        return -1
    try:
        whole = datetime.strptime(text[:17].decode("ascii"), "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return -1
    return int(whole.timestamp()) * _SECOND_NS + int(text[18:27].ljust(9, b"0"))


_TIMESTAMP = re.compile(rb"[0-9]{8}-[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,12})?")
