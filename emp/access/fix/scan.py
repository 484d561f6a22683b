"""The compiled scan behind `frame.py`: finds a frame, splits its fields, reads its header."""

from typing import Any, Final

import numpy as np

from emp.access.fix.numeric import U, parse_int, parse_utc_ns
from emp.core.numba.jit import kernel

COMP_ID: Final = 64
"""Longest comp id that can be checked."""

MORE, FRAME = 0, 1
"""What `next_frame` found: nothing whole yet, or a frame."""

POSS_DUP, POSS_RESEND, BAD_FIELD, BAD_COMP_ID, NO_SEQ, NO_TIME, BAD_BEGIN = 1, 2, 4, 8, 16, 32, 64
EMPTY_FIELD, NO_COMP_ID, REPEATED = 128, 256, 512
"""Bits of a frame's `flags`: header facts, and what is wrong with it although its sum is right.

BAD_FIELD: a field has no number for a tag, or no `=`; EMPTY_FIELD: one has no value; REPEATED: 34 or 52 twice.
"""

_SOH, _EQ, _ZERO, _NINE = 1, 61, 48, 57
_SEEK, _HEAD, _BODY = 0, 1, 2
_LENGTH_DIGITS = 7

TAG, AT, END = 0, 1, 2
"""Columns of the field index: a value is `buf[AT:END]`; the tag is -1 where it is none, -tag without a value."""

# Slots of the scan state, an int64 vector.
START = 0  # first byte of the frame being scanned
POS = 1  # next byte to look at
PHASE = 2
BODY_END = 3  # where `10=` must stand
N = 4  # fields closed so far
OPEN_TAG = 5  # of the open field
VALUE = 6  # where the open field's value begins, -1 while in the tag
DATA_LEN = 7  # length announced for the data field that follows, -1 if none
LIMIT = 8  # longest frame accepted
BEGIN_LEN, SENDER_LEN, TARGET_LEN = 9, 10, 11  # lengths of the expected header values, 0: anything
SKIPPED = 12  # bytes that belong to no frame
BAD_LENGTH, BAD_CHECKSUM, TOO_LONG, FRAMES = 13, 14, 15, 16
BAD = 17  # bits 1: a field of this frame has no tag, 2: one has no value
SLOTS = 18

# Where the expected header values stand, upper case, in front of the bytes received.
BEGIN_AT, SENDER_AT, TARGET_AT = 0, 16, 16 + COMP_ID
DATA = 16 + 2 * COMP_ID
"""First byte of the buffer that holds received bytes."""

MAX_FRAME: Final = 4 << 20
"""Longest frame accepted, in bytes: whole books of thousands of entries take hundreds of KiB."""

MAX_DATA: Final = 65_536
"""Longest data field believed: a garbled one hides what follows it for so long at most."""

SCRATCH: Final = 16
"""Length of the vector in which a decoder notes where the fields of one entry stand."""

WIRE = np.dtype(
    [
        ("buf", "u1", (DATA + 2 * MAX_FRAME,)),
        ("fields", "i4", (MAX_FRAME // 2, 3)),
        ("s", "i8", (SLOTS,)),
        ("scratch", "i8", (SCRATCH,)),
    ],
    align=True,
)
"""Everything one connection's framer owns; pages that nothing was written to take no memory.

Kernels take its bytes and view them: arrays inside a record are passed on between compiled functions without
reference counting, which halves the time of a parse."""


@kernel
def _is_length(tag: int) -> bool:
    """Whether the tag announces the length of the data field that follows it (FIX 4.4)."""
    if tag == 95 or tag == 90 or tag == 93 or tag == 212 or tag == 445 or tag == 618 or tag == 621:
        return True
    return 348 <= tag <= 364 and tag % 2 == 0 and tag != 356


@kernel
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


@kernel
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
    while i < filled and w.buf[i] != _SOH:
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
    while j < filled and w.buf[j] != _SOH:
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


@kernel
def _fields(w: Any, filled: int) -> int:
    """Split the body as far as it has arrived: 0 more bytes needed, 1 whole, -1 the length is wrong."""
    end = w.s[BODY_END]
    limit = min(filled, end)
    i = w.s[POS]
    tag = w.s[OPEN_TAG]
    value = w.s[VALUE]
    n = w.s[N]
    data_len = w.s[DATA_LEN]
    while i < limit:
        if value < 0:
            if tag == 0 and w.buf[U(i)] == _ZERO:  # a tag has no leading zeros
                tag = -1
            while i < limit:
                c = w.buf[U(i)]
                i += 1
                if c == _EQ:
                    value = i
                    break
                if (
                    c == _SOH and tag == 0
                ):  # not even a byte: there is no room for as many of these as may come
                    return -1
                if c == _SOH:  # a field without "=": keep it, marked, so that the session can refuse it
                    w.s[BAD] |= 1
                    w.fields[U(n), TAG] = -1
                    w.fields[U(n), AT] = i - 1
                    w.fields[U(n), END] = i - 1
                    n += 1
                    tag = 0
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
                if w.buf[stop] == _SOH:
                    i = stop
        while i < limit and w.buf[U(i)] != _SOH:
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
    if value >= 0 or tag != 0 or w.buf[end - 1] != _SOH:
        return -1
    return 1 if filled >= end + 7 else 0


@kernel
def _same(w: Any, at: int, end: int, want: int, n: int) -> bool:
    """Whether `buf[at:end]` is the word of `n` bytes at `want`, upper and lower case alike."""
    if end - at != n:
        return False
    for i in range(n):
        c = w.buf[at + i]
        if 97 <= c <= 122:
            c -= 32
        if c != w.buf[want + i]:
            return False
    return True


@kernel
def _in_header(tag: int) -> bool:
    """Whether the tag belongs to the standard header of FIX 4.4, or to what later versions added to it.

    627 to 630 are its group of hops; 1128, 1129 and 1156 name the version of the application message.
    """
    if 115 <= tag <= 116 or 128 <= tag <= 129 or 142 <= tag <= 145 or 212 <= tag <= 213 or 627 <= tag <= 630:
        return True
    if tag == 34 or tag == 43 or tag == 49 or tag == 50 or tag == 52 or tag == 56 or tag == 57:
        return True
    if tag == 90 or tag == 91 or tag == 97 or tag == 122 or tag == 347 or tag == 369 or tag == 370:
        return True
    return tag == 1128 or tag == 1129 or tag == 1156


@kernel
def _header(w: Any) -> tuple[int, int, int, int]:
    """(type, sequence, flags, sending time) from the fields up to the first that belongs to the body."""
    kind, seq, sent = 0, -1, -1
    flags = 0
    sender = w.s[SENDER_LEN] == 0
    target = w.s[TARGET_LEN] == 0
    named = int(sender) + 2 * int(target)
    n = w.s[N]
    at = w.fields[0, AT]
    stop = w.fields[0, END]
    if stop - at <= 2:
        for i in range(at, stop):
            kind = kind << 8 | w.buf[i]
    for i in range(1, n):
        tag = w.fields[U(i), TAG]
        at = w.fields[U(i), AT]
        stop = w.fields[U(i), END]
        if tag == 34:
            if seq >= 0:
                flags |= REPEATED
            else:
                seq = parse_int(w, at, stop)
        elif tag == 52:
            if sent >= 0:
                flags |= REPEATED
            else:
                sent = parse_utc_ns(w, at, stop)
        elif tag == 49:
            named |= 1
            sender = sender or _same(w, at, stop, SENDER_AT, w.s[SENDER_LEN])
        elif tag == 56:
            named |= 2
            target = target or _same(w, at, stop, TARGET_AT, w.s[TARGET_LEN])
        elif tag == 43:
            flags |= POSS_DUP * (w.buf[at] == 89)
        elif tag == 97:
            flags |= POSS_RESEND * (w.buf[at] == 89)
        elif not _in_header(abs(tag)):  # negative: without a value, so as good as absent
            break
    if named != 3:
        flags |= NO_COMP_ID
    elif not (sender and target):
        flags |= BAD_COMP_ID
    if seq < 0:
        flags |= NO_SEQ
    if sent < 0:
        flags |= NO_TIME
    if w.s[BAD] & 1:
        flags |= BAD_FIELD
    if w.s[BAD] & 2:
        flags |= EMPTY_FIELD
    if w.s[BEGIN_LEN] > 0:
        stop = w.s[START] + 2
        while w.buf[stop] != _SOH:
            stop += 1
        if not _same(w, w.s[START] + 2, stop, BEGIN_AT, w.s[BEGIN_LEN]):
            flags |= BAD_BEGIN
    return kind, seq, flags, sent


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
            or w.buf[end + 6] != _SOH
            or w.fields[0, TAG] != 35
        ):
            w.s[BAD_LENGTH] += 1
            w.s[SKIPPED] += 1
            _restart(w, w.s[START] + 1)
            continue
        start = w.s[START]
        total = 0
        for c in w.buf[start:end]:  # over a view: without index checks it runs on vector units
            total += c
        if parse_int(w, end + 3, end + 6) != total % 256:
            w.s[BAD_CHECKSUM] += 1
            w.s[SKIPPED] += end + 7 - start
            _restart(w, end + 7)
            continue
        w.s[FRAMES] += 1
        kind, seq, flags, sent = _header(w)
        _restart(w, end + 7)
        return FRAME, start, end + 7, w.s[N], kind, seq, flags, sent


@kernel
def scan_bytes(wire: Any, filled: int, moved: int) -> tuple[int, int, int, int, int, int, int, int, int, int]:
    """`next_frame` over the bytes (uint8) of a WIRE; two more numbers, -1 and 0, say that nothing was decoded."""
    status, start, end, n, kind, seq, flags, sent = next_frame(wire.view(WIRE)[0], filled, moved)
    return status, start, end, n, kind, seq, flags, sent, -1, 0
