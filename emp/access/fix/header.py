"""The compiled reading of a frame's header: its type, its number, who speaks to whom, and what is wrong with it."""

from typing import Any

from emp.access.fix.numeric import U, parse_int, parse_utc_ns
from emp.access.fix.wire import (
    AT,
    BAD,
    BAD_BEGIN,
    BAD_COMP_ID,
    BAD_FIELD,
    BEGIN_AT,
    BEGIN_LEN,
    EMPTY_FIELD,
    END,
    NO_COMP_ID,
    NO_SEQ,
    NO_TIME,
    POSS_DUP,
    POSS_RESEND,
    REPEATED,
    SENDER_AT,
    SENDER_LEN,
    SOH,
    START,
    TAG,
    TARGET_AT,
    TARGET_LEN,
    N,
)
from emp.core.numba.jit import inlined, kernel


@inlined
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


@inlined
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
def read_header(w: Any) -> tuple[int, int, int, int]:
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
        while w.buf[stop] != SOH:
            stop += 1
        if not _same(w, w.s[START] + 2, stop, BEGIN_AT, w.s[BEGIN_LEN]):
            flags |= BAD_BEGIN
    return kind, seq, flags, sent
