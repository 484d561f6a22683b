"""What is wrong with a message that the framer found sound: its header, and the bodies of session messages."""

from typing import Final

from emp.access.fix.message import Message
from emp.access.fix.terms import (
    COMP_ID_WRONG,
    FORMAT_WRONG,
    ORDER_WRONG,
    OTHER,
    TAG_EMPTY,
    TAG_INVALID,
    TAG_MISSING,
    TAG_REPEATED,
    TIME_WRONG,
    TYPE_INVALID,
    Fault,
)
from emp.access.fix.wire import (
    BAD_BEGIN,
    BAD_COMP_ID,
    BAD_FIELD,
    NO_COMP_ID,
    NO_SEQ,
    NO_TIME,
    POSS_DUP,
    REPEATED,
)

LONGEST: Final = 262_144
MOST_FIELDS: Final = 4_096
"""Bounds of a message that is read field by field, so that none holds the loop up; books and lists have none."""

_UNBOUNDED = frozenset({"W", "X", "y"})

_REQUIRED = {"A": (98, 108), "1": (112,), "2": (7, 16), "3": (45,), "4": (36,)}
"""Body fields that session messages must carry."""

_NUMBERS = frozenset({7, 16, 36, 45, 108})


def header_fault(message: Message, *, timely: bool) -> Fault | None:
    """What is wrong with the header, None where nothing is; `timely` says whether SendingTime is near our clock."""
    flags = message.flags
    if flags & BAD_BEGIN:
        return Fault(OTHER, 8, "incorrect BeginString", end=True, silent=True)
    if message.kind not in _UNBOUNDED and (message.count > MOST_FIELDS or len(message.raw) > LONGEST):
        return Fault(OTHER, 0, f"longer than {LONGEST} bytes or {MOST_FIELDS} fields")
    if flags & NO_SEQ:
        return _no_number(message)
    if flags & NO_COMP_ID:
        return _absent(message, 49, 56)
    if flags & BAD_COMP_ID:
        return Fault(COMP_ID_WRONG, 0, "CompID problem", end=True)
    if flags & REPEATED:
        return Fault(TAG_REPEATED, 34 if _times(message, 34) > 1 else 52, "tag appears more than once")
    if flags & NO_TIME:
        fault = _absent(message, 52)
        return Fault(FORMAT_WRONG, 52, "SendingTime malformed") if fault.why == ORDER_WRONG else fault
    if not timely and not flags & POSS_DUP:
        return Fault(TIME_WRONG, 52, "SendingTime accuracy problem", end=True)
    return None


def _no_number(message: Message) -> Fault:
    """No MsgSeqNum in the header: behind the first body tag, or nowhere."""
    found = [value for tag, value in message.head(MOST_FIELDS) if tag == 34]
    if not found or not found[0].isdigit() or len(found[0]) > 17:
        return Fault(TAG_MISSING, 34, "MsgSeqNum missing", end=True, silent=True)
    message.seq = int(found[0])
    return Fault(ORDER_WRONG, 34, "tag specified out of required order")


def _absent(message: Message, *tags: int) -> Fault:
    """The first of some header fields that has no value, stands in the body, or is not there."""
    fields = message.head(MOST_FIELDS)
    found = {tag for tag, _ in fields}
    for tag in tags:
        if -tag in found:
            return Fault(TAG_EMPTY, tag, "tag without a value")
    missing = next((tag for tag in tags if tag not in found), 0)
    if missing:
        return Fault(TAG_MISSING, missing, "required tag missing")
    last = max(tags, key=lambda tag: next(i for i, (is_tag, _) in enumerate(fields) if is_tag == tag))
    return Fault(ORDER_WRONG, last, "tag specified out of required order")


def _times(message: Message, tag: int) -> int:
    return sum(found == tag for found, _ in message.head(MOST_FIELDS))


def body_fault(message: Message) -> Fault | None:
    """What is wrong with the rest of a message that has the expected number, None where nothing is.

    A field without a value counts as absent.
    """
    kind = message.kind
    if not 0 < len(kind) <= 8 or not (kind.isascii() and kind.isalnum()):
        return Fault(TYPE_INVALID, 0, "invalid MsgType")
    if message.flags & BAD_FIELD:
        return Fault(TAG_INVALID, 0, "invalid tag number")
    for tag in _REQUIRED.get(kind, ()):
        value = message.get(tag)
        if value is None:
            return Fault(TAG_MISSING, tag, "required tag missing")
        if tag in _NUMBERS and message.integer(tag) < 0:
            return Fault(FORMAT_WRONG, tag, "incorrect data format for value")
    return None
