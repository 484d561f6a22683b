"""The tail of a live run's journal: batches of events and rows that no Parquet part holds yet, in one file.

It begins with the layout of its records, so that another release can read it, and a mark of what the parts held when
it was begun. Each batch has its events and its rows together, and a CRC.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import JournalError
from emp.core.layout import brought_to, describe, described, without
from emp.core.records import DECISION, EVENT, Array
from emp.journal.files import refuse_dangling

Layout = np.dtype[Any]

_UNIT = struct.Struct("<4sIIqqI")  # magic, events, rows, first event, first row, CRC of what follows
_MAGIC = b"TAIL"
TAIL = "tail.bin"
_HEAD = struct.Struct("<4sII")  # magic, bytes of the layouts, their CRC
_LAYOUTS = b"LAYO"
_SINCE = frozenset(
    {
        "gain",
        "worth_level",
        "worth_slope",
        "worth_error",
        "earned_lots",
        "barred",
        "may_cross",
        "room",
        "interval",
        "carry_buy",
        "carry_sell",
        "fill_level",
        "fill_slope",
        "fill_behind",
    }
)  # whatever DECISION has gained
_UNDESCRIBED = (without(DECISION, _SINCE), without(DECISION, _SINCE | {"left_bid", "left_ask"}))
"""Layouts of rows in tails that do not say which: they were written before tails did."""


class Unit(NamedTuple):
    """A batch in the tail."""

    first: int
    events: Array
    first_row: int
    rows: Array


def pack_unit(unit: Unit) -> bytes:
    """A batch as the bytes of the tail."""
    events, rows = unit.events.tobytes(), unit.rows.tobytes()
    crc = zlib.crc32(rows, zlib.crc32(events))
    head = _UNIT.pack(_MAGIC, len(unit.events), len(unit.rows), unit.first, unit.first_row, crc)
    return head + events + rows


def pack_mark(events: int, rows: int) -> bytes:
    """What a tail begins with: the layouts of its records, and what the parts held when it was begun."""
    return layout_head(EVENT, DECISION) + _UNIT.pack(_MAGIC, 0, 0, events, rows, zlib.crc32(b""))


def layout_head(event: Layout, decision: Layout) -> bytes:
    """The layouts of events and rows, as a tail begins with them."""
    words = json.dumps({"event": describe(event), "decision": describe(decision)}).encode()
    return _HEAD.pack(_LAYOUTS, len(words), zlib.crc32(words)) + words


def read_tail(path: Path) -> list[Unit]:
    """The whole units of a tail, the mark first; a torn end is left out; empty where there is no tail.

    Raises JournalError where it cannot be read, or holds records of another release that cannot be brought to ours.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        refuse_dangling(path)
        return []
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}") from error
    try:
        layouts, at = _layouts_of(data)
        found = max((parse_units(data, at, *layout)[0] for layout in layouts), key=len)
        return [to_ours(unit) for unit in found]
    except ValueError as error:
        raise JournalError(
            f"{path}: another release wrote it, and its records cannot be read ({error}): move it away to go on"
            " without the last minute of the journal"
        ) from error


def _layouts_of(data: bytes) -> tuple[list[tuple[Layout, Layout]], int]:
    """Layouts of events and rows that a tail may have, and where its units begin."""
    if data[: len(_LAYOUTS)] != _LAYOUTS:
        return [(EVENT, rows) for rows in _UNDESCRIBED], 0
    if len(data) < _HEAD.size:
        return [(EVENT, DECISION)], len(data)
    _, size, crc = _HEAD.unpack_from(data)
    words = data[_HEAD.size : _HEAD.size + size]
    if len(words) < size or zlib.crc32(words) != crc:
        return [(EVENT, DECISION)], len(data)  # torn before its first unit
    told = json.loads(words)
    return [(described(told["event"]), described(told["decision"]))], _HEAD.size + size


def parse_units(data: bytes, at: int, event: Layout, decision: Layout) -> tuple[list[Unit], int]:
    """The whole units of a tail from byte `at` on, and where the first that is torn, or not written yet, begins."""
    found: list[Unit] = []
    while at + _UNIT.size <= len(data):
        magic, n, m, first, first_row, crc = _UNIT.unpack_from(data, at)
        start = at + _UNIT.size
        middle, end = start + n * event.itemsize, start + n * event.itemsize + m * decision.itemsize
        if magic != _MAGIC or end > len(data) or zlib.crc32(data[start:end]) != crc:
            break
        events = np.frombuffer(data, event, n, start)
        found.append(Unit(first, events, first_row, np.frombuffer(data, decision, m, middle)))
        at = end
    return found, at


class TailHead(NamedTuple):
    """How a tail begins."""

    data: bytes  # as it stands in the file: another one tells that the tail was begun again
    event: Layout
    decision: Layout
    events: int  # that the parts held when it was begun
    rows: int


def read_head(data: bytes) -> TailHead | None:
    """The head of a tail from its first bytes; None where it is not whole, or was written before tails said what they
    are laid out as.
    """
    if data[: len(_LAYOUTS)] != _LAYOUTS or len(data) < _HEAD.size:
        return None
    end = _HEAD.size + _HEAD.unpack_from(data)[1] + _UNIT.size
    if len(data) < end:
        return None
    (layout, *_), at = _layouts_of(data)
    marks, _ = parse_units(data[:end], at, *layout)
    return TailHead(data[:end], *layout, marks[0].first, marks[0].first_row) if marks else None


HEAD_BYTES = 1 << 16
"""Within which a head ends."""


def to_ours(unit: Unit) -> Unit:
    """A unit with the records of this release; ValueError where that cannot be."""
    return unit._replace(events=brought_to(unit.events, EVENT), rows=brought_to(unit.rows, DECISION))
