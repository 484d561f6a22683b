"""JSON lines to rows of integers, in one compiled pass: the keys that are wanted, nothing else is looked at."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from emp.access.recordings.jsonscan import TABLE, Keys, no_shapes
from emp.access.recordings.lines import Lines
from emp.access.recordings.packing import Stream
from emp.access.recordings.scan import LEVEL_PX, Column, columns_of, hashed
from emp.access.recordings.shapes import scan_json
from emp.core.records import Array


def keys_of(header: Sequence[str], columns: dict[int, Column]) -> Keys:
    """Arrange the wanted keys of a file for `scan_json`."""
    places = sorted(columns)
    arranged = columns_of([columns[at] for at in places])
    hashes: Array = np.zeros(TABLE, np.int64)
    index: Array = np.zeros(TABLE, np.int64)
    for i, at in enumerate(places):
        key = hashed(header[at])
        place = key & (TABLE - 1)
        while hashes[place]:
            place = (place + 1) & (TABLE - 1)
        hashes[place], index[place] = key, i
    prices = arranged.targets[(arranged.kinds == LEVEL_PX) & (arranged.targets >= 0)]
    return Keys(hashes, index, *arranged, prices)


class JsonLines(Lines):
    """Rows of integers from a stream of JSON lines."""

    def __init__(self, stream: Stream, header: Sequence[str], columns: dict[int, Column], label: str) -> None:
        super().__init__(stream, [], label, skip_header=False)
        self._keys = keys_of(header, columns)
        self._shapes = no_shapes()

    def scan_into(self, out: Array, row: int) -> Any:
        """Parse the lines that are whole."""
        return scan_json(
            self.buf, self.pos, self.end, self._keys, self._shapes, out, self.status, self.begin, row
        )


def paths_of(line: str) -> dict[str, Any]:
    """The keys of a line with their values, lists as they are; empty where it is no JSON object."""
    brace = line.find("{")
    if brace < 0:
        return {}
    try:
        message, end = json.JSONDecoder().raw_decode(line, brace)
    except (ValueError, RecursionError):
        return {}
    if line[end:].strip(" \t\r,]"):  # a comma, where the lines are those of a list
        return {}
    words = line[:brace].replace(",", " ").split()
    found: dict[str, Any] = {f"@{i}": word for i, word in enumerate(words)}

    def walk(prefix: str, value: Any) -> None:
        for key, inner in value.items():
            if isinstance(inner, dict):
                walk(f"{prefix}{key}.", inner)
            else:
                found[f"{prefix}{key}"] = inner

    walk("", message)
    return found


def value_of(line: str, path: str) -> str:
    """One key's value as text."""
    value = paths_of(line).get(path)
    return "" if value is None else str(value)
