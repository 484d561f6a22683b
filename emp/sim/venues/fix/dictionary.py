"""The rules that a strict venue holds messages to: which fields a type has, which it must have, and their formats.

Tags, types and values are those of FIX 4.4; of optional fields only those are listed that this venue knows.
"""

import re
from typing import Final, NamedTuple

from emp.access.fix.message import Message
from emp.access.fix.terms import (
    COUNT_WRONG,
    FORMAT_WRONG,
    ORDER_WRONG,
    TAG_EMPTY,
    TAG_INVALID,
    TAG_MISSING,
    TAG_NOT_OF_TYPE,
    TAG_REPEATED,
    VALUE_WRONG,
    Fault,
)
from emp.access.fix.text import FieldError, number, utc_ns
from emp.access.fix.wire import EMPTY_FIELD

HEADER: Final = frozenset(
    [
        34,
        35,
        43,
        49,
        50,
        52,
        56,
        57,
        90,
        91,
        97,
        115,
        116,
        122,
        128,
        129,
        142,
        143,
        144,
        145,
        212,
        213,
        347,
        369,
    ]
)
_LAST_TAG = 956  # of FIX 4.4
_PARTIES = (453, 447, 448, 452, 802, 523, 803)
_TEXT = (58, 354, 355)


class Rule(NamedTuple):
    """One message type: the fields it must have, and those it may have."""

    required: tuple[int, ...] = ()
    allowed: tuple[int, ...] = ()


_ORDER = (1, 11, 15, 22, 38, 40, 44, 48, 54, 55, 59, 60, 110, 167, 207, 528, 529, 581, *_PARTIES, *_TEXT)
RULES: Final = {
    "0": Rule((), (112,)),
    "1": Rule((112,)),
    "2": Rule((7, 16)),
    "3": Rule((45,), (371, 372, 373, *_TEXT)),
    "4": Rule((36,), (123,)),
    "5": Rule((), _TEXT),
    "A": Rule((98, 108), (95, 96, 141, 383, 464, 553, 554, 789)),
    "D": Rule(
        (11, 55, 54, 60, 40), (18, 21, 63, 64, 99, 111, 126, 168, 386, 336, 432, 494, 582, 583, 721, *_ORDER)
    ),
    "F": Rule((41, 11, 55, 54, 60), (37, *_ORDER)),
    "G": Rule((41, 11, 55, 54, 60, 40), (18, 21, 37, 99, *_ORDER)),
    "H": Rule((11, 55, 54), (1, 22, 37, 48, 790, *_PARTIES)),
    "V": Rule((262, 263, 264, 267, 146), (22, 48, 55, 265, 266, 269, 286, 336, 386, 546, 547)),
    "x": Rule((320, 559), (22, 48, 55, 263, 336, *_TEXT)),
    "AF": Rule((584, 585), (1, 22, 48, 54, 55, *_PARTIES)),
    "AN": Rule((710, 724, 1, 581, 715, 60), (22, 48, 55, 263, 573, 716, 717, 725, 726, *_PARTIES, *_TEXT)),
}

GROUPS: Final = {
    146: frozenset({55, 48, 22}),
    267: frozenset({269}),
    386: frozenset({336}),
    453: frozenset({448, 447, 452, 802, 523, 803}),
    802: frozenset({523, 803}),
}
"""Count of a repeating group and the fields of its entries; only what stands in one may repeat."""

_DELIMITERS = {146: 55, 267: 269, 386: 336, 453: 448, 802: 523}
_COUNTS = frozenset(GROUPS)
_INTEGERS = frozenset({7, 16, 36, 45, 95, 98, 108, 264, 265, 371, 373, 452, 559, 581, 585, 724}) | _COUNTS
_NUMBERS = frozenset({38, 44, 99, 110, 111})
_TIMES = frozenset({60, 126, 168})
_DATES = frozenset({64, 432, 715})
_BOOLEANS = frozenset({123, 141, 266, 464, 547})
_VALUES = {
    21: frozenset(b"123"),
    40: frozenset(b"12346789DEGIJKLMP"),
    54: frozenset(b"123456789ABCDEFG"),
    59: frozenset(b"01234567"),
    63: frozenset(b"0123456789"),
    263: frozenset(b"012"),
    269: frozenset(b"0123456789ABC"),
}
_DATE = re.compile(rb"[0-9]{8}")


def validate(message: Message) -> Fault | None:
    """What is wrong with a message by the rules of its type, None where nothing is or the type has none here."""
    rule = RULES.get(message.kind)
    if rule is None:
        return None
    return (
        _order_fault(message)
        or next((fault for tag, value in message.fields if (fault := _field_fault(rule, tag, value))), None)
        or _missing(message, rule)
        or _group_fault(message)
    )


def _order_fault(message: Message) -> Fault | None:
    """A header field behind a body field, or an empty one."""
    body = False
    for tag, value in message.fields:
        if message.flags & EMPTY_FIELD and not value:
            return Fault(TAG_EMPTY, abs(tag), "tag specified without a value")
        if tag not in HEADER:
            body = True
        elif body:
            return Fault(ORDER_WRONG, tag, "tag specified out of required order")
    return None


def _field_fault(rule: Rule, tag: int, value: bytes) -> Fault | None:
    """A field that is none of this type, or whose value is not of its kind."""
    if tag in HEADER:
        return None
    if not 0 < tag <= _LAST_TAG:
        return Fault(TAG_INVALID, max(tag, 0), "invalid tag number")
    if tag not in rule.required and tag not in rule.allowed:
        return Fault(TAG_NOT_OF_TYPE, tag, "tag not defined for this message type")
    if not _formed(tag, value):
        return Fault(FORMAT_WRONG, tag, "incorrect data format for value")
    if tag in _VALUES and value[0] not in _VALUES[tag]:
        return Fault(VALUE_WRONG, tag, "value is incorrect (out of range) for this tag")
    return None


def _formed(tag: int, value: bytes) -> bool:
    """Whether a value has the format of its tag's type."""
    if tag in _INTEGERS:
        return value.lstrip(b"-").isdigit()
    if tag in _NUMBERS:
        try:
            return number(value) is not None
        except FieldError:
            return False
    if tag in _TIMES:
        return utc_ns(value) >= 0
    if tag in _DATES:
        return _DATE.fullmatch(value) is not None
    if tag in _BOOLEANS:
        return value in (b"Y", b"N")
    return tag not in _VALUES or len(value) == 1


def _missing(message: Message, rule: Rule) -> Fault | None:
    for tag in rule.required:
        if message.get(tag) is None and not (tag == 55 and message.get(48) is not None):
            return Fault(TAG_MISSING, tag, "required tag missing")
    return None


def _group_fault(message: Message) -> Fault | None:
    """A group whose count is not that of its entries, or a field twice outside of one."""
    seen: set[int] = set()
    inside: frozenset[int] = frozenset()
    counts: dict[int, int] = {}
    for tag, value in message.fields:
        if tag in GROUPS:
            counts[tag] = counts.get(tag, 0) + int(value)
            inside |= GROUPS[tag]
        elif tag in inside:
            for count, delimiter in _DELIMITERS.items():
                if tag == delimiter and count in counts:
                    counts[count] -= 1
            continue
        if tag in seen and tag != 802:
            return Fault(TAG_REPEATED, tag, "tag appears more than once")
        seen.add(tag)
    wrong = next((count for count, left in counts.items() if left != 0), 0)
    return Fault(COUNT_WRONG, wrong, "incorrect NumInGroup count for repeating group") if wrong else None
