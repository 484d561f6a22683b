"""Rows of integers from a stream of csv lines."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emp.access.recordings.container import Item
from emp.access.recordings.dialect import Dialect, opened
from emp.access.recordings.packing import Stream
from emp.access.recordings.scan import Column, columns_of, scan
from emp.access.recordings.stamps import INNER
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.records import Array

MAX_LINE = 1 << 24

LOOK_AHEAD = 64
"""Bytes behind the last one read that a parser may look at together with those before."""

_LOOK_BACK, _ENOUGH = 2048, 5
"""Bytes before a last line without newline, and lines in them, that tell how long its last field must be."""

_NL = ord("\n")
_MALFORMED = int(Quarantine.MALFORMED)


class Lines:
    """Rows of integers from a stream of csv lines, so many at a time."""

    def __init__(self, stream: Stream, columns: Sequence[Column], label: str, skip_header: bool) -> None:
        self._stream = stream
        self._label = label
        self.columns = columns_of(columns)
        self.buf: Array = np.zeros(1 << 20, np.uint8)
        self.pos = 0
        self.end = 0
        self.ended = False
        self._unended = False  # the last line had no newline
        self._before = b""  # what came before the buffer
        self.status: Array = np.zeros(0, np.uint8)
        self.begin: Array = np.zeros(0, np.int64)
        if skip_header:
            self._skip_line()

    def read(self, out: Array) -> int:
        """Fill rows of `out`, int64[limit, targets]; return how many, fewer than `limit` only at the end.

        `status[:n]` is then 0 or a Quarantine reason per row.
        """
        if len(self.status) < len(out):
            self.status = np.zeros(len(out), np.uint8)
            self.begin = np.zeros(len(out), np.int64)
        self._compact()
        row = 0
        while True:
            self.pos, row = self.scan_into(out, row)
            if row == len(out) or not self._fill():
                break
        if self._unended and self.pos == self.end and row:
            self._unended = False
            if not self.status[row - 1] and self._cut_short(int(self.begin[row - 1])):
                self.status[row - 1] = _MALFORMED
        return int(row)

    def _cut_short(self, begin: int) -> bool:
        """Whether the line that ends the file was cut off in a number: those of the lines before it are all longer."""
        before = (self._before + self.buf[max(0, begin - _LOOK_BACK) : begin].tobytes())[-_LOOK_BACK:]
        rows = [line.rstrip(b"\r").split(b",") for line in before.split(b"\n")[1:-1]]
        last = self.buf[begin : self.end].tobytes().strip().split(b",")
        usual = {len(row[-1]) for row in rows if len(row) == len(last)}
        return len(rows) >= _ENOUGH and len(usual) == 1 and len(last[-1]) < usual.pop()

    def scan_into(self, out: Array, row: int) -> Any:
        """Parse the lines that are whole into out[row:]; return (where to go on, rows filled so far)."""
        return scan(self.buf, self.pos, self.end, self.columns, out, self.status, self.begin, row)

    def unread(self, row: int) -> None:
        """Let the next `read` begin with this row of the last one."""
        self.pos = int(self.begin[row])

    def text(self, row: int, most: int = 200) -> str:
        """The line of a row of the last `read`, cut to `most` characters."""
        begin = int(self.begin[row])
        raw = self.buf[begin : begin + most].tobytes().split(b"\n", 1)[0]
        return raw.decode("utf-8", "replace").rstrip("\r").replace(chr(INNER), ",")

    def _skip_line(self) -> None:
        while True:
            found = np.flatnonzero(self.buf[self.pos : self.end] == _NL)
            if len(found):
                self.pos += int(found[0]) + 1
                return
            if not self._fill():
                self.pos = self.end
                return

    def _compact(self) -> None:
        self._before = self.buf[max(0, self.pos - _LOOK_BACK) : self.pos].tobytes() or self._before
        rest = self.end - self.pos
        self.buf[:rest] = self.buf[self.pos : self.end].copy()
        self.pos, self.end = 0, rest
        self.buf[rest] = _NL

    def _fill(self) -> bool:
        """Append the next bytes; at the end of the stream, once, the newline a last line may lack."""
        if self.ended:
            return False
        data = self._stream.read()
        if not data:
            self.ended = True
            if self.end == self.pos:
                return False
            data = b"\n"
            self._unended = True
        elif self.end - self.pos > MAX_LINE and _NL not in self.buf[self.pos : self.end]:
            raise DataError(
                f"{self._label}: a line is longer than {MAX_LINE} bytes; not a recording of lines"
            )
        need = self.end + len(data) + LOOK_AHEAD
        if need > len(self.buf):
            grown = np.zeros(max(need, 2 * len(self.buf)), np.uint8)
            grown[: self.end] = self.buf[: self.end]
            self.buf = grown
        self.buf[self.end : self.end + len(data)] = np.frombuffer(data, np.uint8)
        self.end += len(data)
        self.buf[self.end] = _NL
        return True


def read_all(
    item: Item, dialect: Dialect, columns: Sequence[Column], width: int, *, skip_header: bool
) -> tuple[Array, Array]:
    """A whole csv as int64[n, width], and per row 0 or a Quarantine reason."""
    parts: list[Array] = []
    faults: list[Array] = []
    with opened(item, dialect) as stream:
        lines = Lines(stream, columns, item.label, skip_header)
        while True:
            table: Array = np.zeros((1 << 15, width), np.int64)
            n = lines.read(table)
            if n == 0:
                break
            parts.append(table[:n])
            faults.append(lines.status[:n].copy())
    if not parts:
        return np.zeros((0, width), np.int64), np.zeros(0, np.uint8)
    return np.concatenate(parts), np.concatenate(faults)
