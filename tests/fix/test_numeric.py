"""Numbers of FIX, eight digits at a time: what a reference in plain Python makes of the same text, to the letter."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emp.access.fix.numeric import BAD, OFF_GRID, parse_floor, parse_int, parse_scaled
from emp.access.fix.wire import DATA
from emp.core.numba.jit import kernel

_WIRE = np.dtype([("buf", "u1", (DATA + 64,))])


@kernel
def _parse(raw: Any, at: int, end: int, decimals: int) -> tuple[int, int, int]:
    w = raw.view(_WIRE)[0]
    return parse_int(w, at, end), parse_floor(w, at, end, decimals), parse_scaled(w, at, end, decimals)


def _parsed(text: str, decimals: int, around: str = "7") -> tuple[int, int, int]:
    """What the kernels read, with other digits in front of the text and behind it."""
    raw = np.full(DATA + 64, ord(around), np.uint8)
    raw[DATA : DATA + len(text)] = np.frombuffer(text.encode("latin-1"), np.uint8)
    return _parse(raw, DATA, DATA + len(text), decimals)


def _reference(text: str, decimals: int) -> tuple[int, int, int]:
    whole = int(text) if re.fullmatch(r"[0-9]{1,17}", text) else -1
    return whole, _cut(text, decimals)[0], _exact(text, decimals)


def _cut(text: str, decimals: int) -> tuple[int, str]:
    """(the count of 10^-decimals, cut; the digits cut off), -1 where it is none or has too many digits."""
    if len(text) > 18 or text in ("", ".") or not re.fullmatch(r"[0-9]*\.?[0-9]*", text):
        return -1, ""
    left, _, right = text.partition(".")
    value = int(left + right[:decimals] or "0")
    for _ in range(decimals - len(right)):
        if value > 10**17:
            return -1, ""
        value *= 10
    return value, right[decimals:]


def _exact(text: str, decimals: int) -> int:
    negative = text.startswith("-")
    value, rest = _cut(text.removeprefix("-"), decimals)
    if value < 0:
        return BAD
    if rest.strip("0"):
        return OFF_GRID
    return -value if negative else value


_NUMBERS = st.from_regex(r"-?[0-9]{0,12}\.?[0-9]{0,9}", fullmatch=True)
_ODD = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=19)
_NEARLY = st.text("0123456789.-:/", max_size=19)


@settings(max_examples=600, deadline=None)
@given(text=st.one_of(_NUMBERS, _NEARLY, _ODD), decimals=st.integers(0, 12))
@example(text="1.08750", decimals=5)
@example(text="1.", decimals=0)
@example(text=".5", decimals=0)
@example(text=".", decimals=3)
@example(text="12345678", decimals=9)
@example(text="1234567890123456", decimals=0)
@example(text="12345678901234567", decimals=0)
@example(text="-0.00010", decimals=4)
@example(text="1..5", decimals=4)
@example(text="\xb01234567", decimals=0)
def test_a_number_is_what_its_digits_say(text: str, decimals: int) -> None:
    assert _parsed(text, decimals) == _reference(text, decimals)


@pytest.mark.parametrize("around", ["0", "9", ".", "-", "\x01", "\xff"])
@pytest.mark.parametrize("size", range(1, 18))
def test_bytes_around_a_number_do_not_count(size: int, around: str) -> None:
    text = "98765432109876543"[:size]
    assert _parsed(text, 0, around)[0] == int(text)
    assert _parsed("x" + text[1:], 0, around)[0] == -1
