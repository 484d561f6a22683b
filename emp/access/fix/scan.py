"""The compiled scan behind `frame.py`: finds a frame and splits its fields."""

from typing import Any, Final

import numpy as np

from emp.access.fix.header import read_header
from emp.access.fix.numeric import U, find_byte, leading_digits, parse_int
from emp.access.fix.wire import (
    AT,
    BAD,
    BAD_CHECKSUM,
    BAD_LENGTH,
    BODY_END,
    DATA_LEN,
    END,
    FRAME,
    FRAMES,
    LIMIT,
    MAX_DATA,
    MORE,
    OPEN_TAG,
    PHASE,
    POS,
    SKIPPED,
    SOH,
    START,
    TAG,
    TOO_LONG,
    VALUE,
    WIRE,
    N,
)
from emp.core.numba.bits import equal_bytes, load_word, trailing_zeros
from emp.core.numba.jit import inlined, kernel

_EQ, _ZERO, _NINE = 61, 48, 57
_SEEK, _HEAD, _BODY = 0, 1, 2
_LENGTH_DIGITS: Final = 7


@inlined
def _is_length(tag: int) -> bool:
    """Whether the tag announces the length of the data field that follows it (FIX 4.4)."""
    if 90 <= tag <= 95:
        return tag == 90 or tag == 93 or tag == 95
    if 348 <= tag <= 364:
        return tag % 2 == 0 and tag != 356
    return tag == 212 or tag == 445 or tag == 618 or tag == 621


@inlined
def _is_data(tag: int) -> bool:
    """Whether the tag's value has an announced length and may hold any byte (FIX 4.4)."""
    if tag == 96 or tag == 91 or tag == 89 or tag == 213 or tag == 446 or tag == 619 or tag == 622:
        return True
    return 349 <= tag <= 365 and tag % 2 == 1 and tag != 357


@kernel
def _shift(w: Any, by: int) -> None:
    """The buffer's content has moved `by` bytes towards its beginning."""
    w.s[START] -= by
    w.s[POS] -= by
    if w.s[PHASE] == _BODY:
        w.s[BODY_END] -= by
        if w.s[VALUE] >= 0:
            w.s[VALUE] -= by
        for i in range(w.s[N]):
            w.fields[U(i), AT] -= by
            w.fields[U(i), END] -= by


@inlined
def _restart(w: Any, at: int) -> None:
    """Look for the next frame from `at` on."""
    w.s[START] = at
    w.s[POS] = at
    w.s[PHASE] = _SEEK


@kernel
def _seek(w: Any, filled: int) -> bool:
    """Move to the next `8=FIX`; False when it is not whole yet."""
    i = w.s[START]
    while i < filled:
        if w.buf[i] == 56:
            left = filled - i
            if (
                (left < 2 or w.buf[i + 1] == _EQ)
                and (left < 3 or w.buf[i + 2] == 70)
                and (left < 4 or w.buf[i + 3] == 73)
                and (left < 5 or w.buf[i + 4] == 88)
            ):
                break
        i += 1
    w.s[SKIPPED] += i - w.s[START]
    w.s[START] = i
    if filled - i < 5:
        return False
    w.s[PHASE] = _HEAD
    return True


@kernel
def _head(w: Any, filled: int) -> bool:
    """Read `8=…|9=…|`; False when it is not whole yet. A head that cannot be one restarts the search."""
    i = w.s[START] + 5
    while i < filled and w.buf[i] != SOH:
        if i - w.s[START] > 16:
            w.s[SKIPPED] += 1
            _restart(w, w.s[START] + 1)
            return True
        i += 1
    first = i + 3
    if (i + 1 < filled and w.buf[i + 1] != _NINE) or (i + 2 < filled and w.buf[i + 2] != _EQ):
        w.s[SKIPPED] += 1
        _restart(w, w.s[START] + 1)
        return True
    length = 0
    j = first
    while j < filled and w.buf[j] != SOH:
        digit = w.buf[j] - _ZERO
        if digit < 0 or digit > 9 or j - first >= _LENGTH_DIGITS:
            w.s[BAD_LENGTH] += 1
            w.s[SKIPPED] += 1
            _restart(w, w.s[START] + 1)
            return True
        length = length * 10 + digit
        j += 1
    if j >= filled:
        return False
    whole = j + 1 - w.s[START] + length + 7
    if j == first or length < 5 or whole > w.s[LIMIT]:
        w.s[TOO_LONG] += whole > w.s[LIMIT]
        w.s[BAD_LENGTH] += whole <= w.s[LIMIT]
        w.s[SKIPPED] += 1
        _restart(w, w.s[START] + 1)
        return True
    w.s[POS] = j + 1
    w.s[BODY_END] = j + 1 + length
    w.s[PHASE] = _BODY
    w.s[N] = 0
    w.s[OPEN_TAG] = 0
    w.s[VALUE] = -1
    w.s[DATA_LEN] = -1
    w.s[BAD] = 0
    return True


@inlined
def _plain_fields(w: Any, end: int) -> None:
    """Split the fields before `end` up to the first that is not plain; POS and N then say where that begins.

    Plain is a tag of at most seven digits and a value that is not empty, without an announced length: all that
    markets send. The ends of 64 bytes' fields are found at once, and none waits for the one before it. Bytes behind
    the frame may be looked at (behind the buffer stands the index of the fields), never counted.
    """
    begin = w.s[POS]
    n = w.s[N]
    at = begin
    plain: Any = True
    while plain and at < end:
        ends = equal_bytes(w.buf, U(at), np.uint8(SOH))
        while ends != U(0):
            stop = at + np.int64(trailing_zeros(ends))
            ends &= ends - U(1)
            word = load_word(w.buf, U(begin))
            size = np.int64(find_byte(word, U(_EQ)))
            digits, number = leading_digits(word, max(size, 1))
            tag: Any = np.int64(number)
            value = begin + size + 1
            plain = stop < end and digits and 0 < size < 8 and value < stop and w.buf[U(begin)] != _ZERO
            if not plain or 8 <= tag <= 10 or _is_length(tag):
                plain = False
                break
            w.fields[U(n), TAG] = tag
            w.fields[U(n), AT] = value
            w.fields[U(n), END] = stop
            n += 1
            begin = stop + 1
        at += 64
    w.s[POS] = begin
    w.s[N] = n


@kernel
def _fields(w: Any, filled: int) -> int:
    """Split the body as far as it has arrived: 0 more bytes needed, 1 whole, -1 the length is wrong."""
    end = w.s[BODY_END]
    if filled >= end + 7 and w.s[VALUE] < 0 and w.s[OPEN_TAG] == 0 and w.s[DATA_LEN] < 0:
        _plain_fields(w, end)
    limit = min(filled, end)
    i = w.s[POS]
    tag = w.s[OPEN_TAG]
    value = w.s[VALUE]
    n = w.s[N]
    data_len = w.s[DATA_LEN]
    while i < limit:
        if value < 0:
            while i < limit:
                c = w.buf[U(i)]
                i += 1
                if c == _EQ:
                    value = i
                    break
                if (
                    c == SOH and tag == 0
                ):  # not even a byte: there is no room for as many of these as may come
                    return -1
                if c == SOH:  # a field without "=": keep it, marked, so that the session can refuse it
                    w.s[BAD] |= 1
                    w.fields[U(n), TAG] = -1
                    w.fields[U(n), AT] = i - 1
                    w.fields[U(n), END] = i - 1
                    n += 1
                    tag = 0
                elif tag == 0 and c == _ZERO:  # a tag has no leading zeros
                    tag = -1
                elif _ZERO <= c <= _NINE and 0 <= tag < 100_000_000:
                    tag = tag * 10 + (c - _ZERO)
                else:
                    tag = -1
            if value < 0:
                break
            if 8 <= tag <= 10:
                return -1
        if data_len >= 0 and i == value and _is_data(tag):
            stop = value + data_len
            if stop < end:
                if stop >= limit:  # wait for the whole of it: its bytes may be anything
                    break
                if w.buf[stop] == SOH:
                    i = stop
        while i < limit and w.buf[U(i)] != SOH:
            i += 1
        if i >= limit:
            break
        if tag <= 0:
            tag = -1
            w.s[BAD] |= 1
        elif i == value:
            tag = -tag
            w.s[BAD] |= 2
        w.fields[U(n), TAG] = tag
        w.fields[U(n), AT] = value
        w.fields[U(n), END] = i
        n += 1
        data_len = parse_int(w, value, i) if _is_length(tag) else -1
        if data_len > MAX_DATA:
            data_len = -1
        i += 1
        tag = 0
        value = -1
    w.s[POS] = i
    w.s[OPEN_TAG] = tag
    w.s[VALUE] = value
    w.s[N] = n
    w.s[DATA_LEN] = data_len
    if limit < end:
        return 0
    if value >= 0 or tag != 0 or w.buf[end - 1] != SOH:
        return -1
    return 1 if filled >= end + 7 else 0


@inlined
def _sum(w: Any, start: int, end: int) -> int:
    """Sum of bytes modulo 256: in one byte, so that a vector register adds as many as it holds."""
    total = np.uint8(0)
    for i in range(U(start), U(end)):
        total = np.uint8(total + w.buf[i])
    return int(total)


@kernel
def next_frame(w: Any, filled: int, moved: int) -> tuple[int, int, int, int, int, int, int, int]:
    """Find the next whole, correct frame in `w.buf[:filled]`, `w` being a WIRE record.

    `moved` is how many bytes the content has moved left since the last call. Returns (status, start, end, n,
    type, seq, flags, sending_ns): status is FRAME or MORE; the frame is `buf[start:end]` and its fields after
    `9=` and before `10=` are `fields[:n]`, untouched until the next call; type is the MsgType's one or two
    characters as a big-endian number; seq and sending_ns are -1 where absent. After MORE, nothing before
    `start` is needed any more.
    """
    if moved > 0:
        _shift(w, moved)
    while True:
        if w.s[PHASE] == _SEEK and not _seek(w, filled):
            return MORE, w.s[START], 0, 0, 0, 0, 0, 0
        if w.s[PHASE] == _HEAD and not _head(w, filled):
            return MORE, w.s[START], 0, 0, 0, 0, 0, 0
        if w.s[PHASE] != _BODY:
            continue
        whole = _fields(w, filled)
        if whole == 0:
            return MORE, w.s[START], 0, 0, 0, 0, 0, 0
        end = w.s[BODY_END]
        if (
            whole < 0
            or w.buf[end] != 49
            or w.buf[end + 1] != _ZERO
            or w.buf[end + 2] != _EQ
            or w.buf[end + 6] != SOH
            or w.fields[0, TAG] != 35
        ):
            w.s[BAD_LENGTH] += 1
            w.s[SKIPPED] += 1
            _restart(w, w.s[START] + 1)
            continue
        start = w.s[START]
        if parse_int(w, end + 3, end + 6) != _sum(w, start, end):
            w.s[BAD_CHECKSUM] += 1
            w.s[SKIPPED] += end + 7 - start
            _restart(w, end + 7)
            continue
        w.s[FRAMES] += 1
        kind, seq, flags, sent = read_header(w)
        _restart(w, end + 7)
        return FRAME, start, end + 7, w.s[N], kind, seq, flags, sent


@kernel
def scan_bytes(wire: Any, filled: int, moved: int) -> tuple[int, int, int, int, int, int, int, int, int, int]:
    """`next_frame` over the bytes (uint8) of a WIRE; two more numbers, -1 and 0, say that nothing was decoded."""
    status, start, end, n, kind, seq, flags, sent = next_frame(wire.view(WIRE)[0], filled, moved)
    return status, start, end, n, kind, seq, flags, sent, -1, 0
