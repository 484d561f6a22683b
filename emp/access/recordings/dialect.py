"""How a csv is written (encoding, delimiter, decimal sign, quotes, padding), and its bytes in the one way readers know.

Readers see UTF-8, commas between fields, dots in numbers, no quotes and no padding. A delimiter inside quotes, and
a comma that is neither delimiter nor decimal sign, becomes `INNER`. A file that is written so already passes untouched.
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings.container import Item
from emp.access.recordings.packing import Progress, Stream
from emp.access.recordings.stamps import INNER
from emp.core.errors import DataError
from emp.core.numba.jit import kernel
from emp.core.records import Array

_COMMA, _NL, _CR, _QUOTE, _SPACE, _DOT = (ord(c) for c in ',\n\r" .')
_DELIMITERS = ",;\t|"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

LONG_LINE = 1 << 13
ENOUGH_LINES = 12
"""Longer lines are not looked at where so many others are."""

MOST_ABOVE = 20
"""Lines above a header that are looked at."""

_COMMENTS = ("#", "%", "//")
_TITLE = re.compile(r"[^,;\t|{}\[\]<>]*[^\W\d][^,;\t|{}\[\]<>]*")

LOOK_AT = 60
"""Lines of a file's beginning that are looked at."""


class Dialect(NamedTuple):
    """How a file's lines are written."""

    encoding: str = "utf-8"
    bom: int = 0  # bytes before the text: a byte order mark, comments and titles above the header
    delimiter: str = ","
    decimal_comma: bool = False
    rewrite: bool = False  # quotes or padding: bytes must be brought into order

    @property
    def plain(self) -> bool:
        """Whether readers can take the bytes as they are."""
        return self.delimiter == "," and not self.rewrite and not self.bom and self.encoding == "utf-8"


def text_of(head: bytes) -> tuple[str, str, int]:
    """A head as text, its encoding, and the length of its byte order mark."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return head[len(bom) :].decode(encoding, "replace"), encoding, len(bom)
    even, odd = head[0:64:2], head[1:64:2]
    for there, empty, encoding in ((even, odd, "utf-16-le"), (odd, even, "utf-16-be")):
        if len(head) >= 8 and 4 * empty.count(0) > 3 * len(empty) and 4 * there.count(0) < len(there):
            return head.decode(encoding, "replace"), encoding, 0
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # the end may be cut off in a character
        return head.decode("utf-8", "replace"), "utf-8", 0
    except UnicodeDecodeError:
        return head.decode("latin-1"), "latin-1", 0


def lines_of(text: str) -> list[str]:
    """The whole lines at a text's beginning that are not blank."""
    lines: list[str] = []
    at = 0
    while len(lines) < LOOK_AT:
        end = text.find("\n", at)
        if end < 0 and at:
            break  # may be cut off
        line = text[at : end if end >= 0 else len(text)]
        if line.strip():
            lines.append(line.rstrip("\r"))
        if end < 0:
            break
        at = end + 1
    return lines


def dialect_of(head: bytes) -> tuple[Dialect, list[list[str]]]:
    """How a file that begins like this is written, and the fields of its first lines."""
    text, encoding, bom = text_of(head)
    above = _above_header(text)
    if above:
        bom += len(text[:above].encode(encoding))
        text = text[above:]
    lines = _short(lines_of(text))
    delimiter = _delimiter(lines)
    rows = [_split(line, delimiter) for line in lines]
    decimal_comma = _decimal_comma(rows)
    rewrite = delimiter != "," or any(
        '"' in line or any(field != field.strip() for field in line.split(delimiter)) for line in lines
    )
    fields = [[field.strip().strip('"').strip() for field in row] for row in rows]
    if encoding == "latin-1":
        encoding = "utf-8"  # bytes beyond ASCII only stand in names
    return Dialect(encoding, bom, delimiter, decimal_comma, rewrite), fields


def _above_header(text: str) -> int:
    """Length of the comments and titles that a text begins with: words without a delimiter above a table of several
    columns."""
    at = 0
    for _ in range(MOST_ABOVE):
        end = text.find("\n", at)
        line = text[at:end].strip()
        if end < 0 or (line and not line.startswith(_COMMENTS) and not _TITLE.fullmatch(line)):
            break
        at = end + 1
    if not at:
        return 0
    rest = lines_of(text[at : at + (1 << 16)])
    return at if rest and len(_split(rest[0], _delimiter(rest))) > 2 else 0


def _short(lines: list[str]) -> list[str]:
    """The header and the lines of usual length, where there are enough: a whole book in cells says no more."""
    short = lines[:1] + [line for line in lines[1:] if len(line) <= LONG_LINE]
    return short if len(short) >= ENOUGH_LINES else lines


def _split(line: str, delimiter: str) -> list[str]:
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except (csv.Error, StopIteration):
        return line.split(delimiter)


def _delimiter(lines: list[str]) -> str:
    """The character that cuts most lines into equally many fields; a header that has another one than a comma tells."""
    if not lines:
        return ","
    best, best_score = ",", 0.0
    for candidate in _DELIMITERS:
        counts = Counter(len(_split(line, candidate)) for line in lines)
        width, n = counts.most_common(1)[0]
        if width < 2:
            continue
        score = n / len(lines) + (0.5 if candidate != "," and candidate in lines[0] else 0.0)
        if score > best_score:
            best, best_score = candidate, score
    return best


_NUMBER_COMMA = re.compile(r"[-+]?\d+,\d+")
_NUMBER_DOT = re.compile(r"[-+]?\d+\.\d+")


def _decimal_comma(rows: list[list[str]]) -> bool:
    fields = [field.strip().strip('"') for row in rows for field in row]
    with_comma = sum(1 for field in fields if _NUMBER_COMMA.fullmatch(field))
    return with_comma > sum(1 for field in fields if _NUMBER_DOT.fullmatch(field))


@contextmanager
def opened(item: Item, dialect: Dialect, progress: Progress = lambda _: None) -> Iterator[Stream]:
    """An item's bytes as readers know them."""
    with item.open(progress) as stream:
        yield stream if dialect.plain else Rewritten(stream, dialect, item.label)


class Rewritten:
    """A stream brought into the readers' own way of writing."""

    def __init__(self, stream: Stream, dialect: Dialect, label: str) -> None:
        self._stream = stream
        self._skip = dialect.bom
        self._label = label
        self._decoder = None
        if dialect.encoding != "utf-8":
            self._decoder = codecs.getincrementaldecoder(dialect.encoding)("replace")
        self._as_it_is = dialect.delimiter == "," and not dialect.rewrite  # but for the encoding
        self._delimiter = ord(dialect.delimiter)
        self._comma = _DOT if dialect.decimal_comma else INNER
        self._state: Array = np.array([0, 0, -1], np.int64)

    def read(self) -> bytes:
        """Return the next bytes, empty at the end."""
        while data := self._stream.read():
            if self._skip:
                cut = min(self._skip, len(data))
                data = data[cut:]
                self._skip -= cut
            if self._decoder is not None:
                data = self._decoder.decode(data).encode()
            if not data:
                continue
            if self._as_it_is:
                return data
            out: Array = np.empty(2 * len(data) + 64, np.uint8)
            n = rewrite(np.frombuffer(data, np.uint8), self._delimiter, self._comma, self._state, out)
            if self._state[1] > 1 << 20:
                raise DataError(
                    f"{self._label}: a quote that opens a field never closes; not a csv recording"
                )
            if n:
                return out[:n].tobytes()
        return b""


@kernel
def rewrite(data: Any, delimiter: int, comma: int, state: Any, out: Any) -> int:
    """Write `data` into `out` in the readers' way; returns the bytes written.

    `state` is carried from call to call: inside quotes, bytes since the quote opened, blanks held back (they are
    written once something other than the field's end follows).
    """
    n = 0
    quoted, since, blanks = state[0], state[1], state[2]
    at_start = state[2] < 0  # a field has begun and nothing of it was written
    if blanks < 0:
        blanks = 0
    for i in range(len(data)):
        c = data[i]
        if c == _QUOTE:
            quoted = 1 - quoted
            since = 0
            continue
        since += 1
        if quoted == 1:
            if c in (_NL, _CR):
                c = np.uint8(_SPACE)
            elif c == _COMMA:
                c = np.uint8(comma)
            elif c == delimiter:
                c = np.uint8(INNER)
        elif c == delimiter:
            out[n] = _COMMA
            n += 1
            blanks = 0
            at_start = True
            continue
        elif c in (_NL, _CR):
            out[n] = c
            n += 1
            blanks = 0
            at_start = True
            continue
        elif c == _COMMA:
            c = np.uint8(comma)
        if c == _SPACE:
            if not at_start:
                blanks += 1
            continue
        while blanks > 0 and n < len(out) - len(data) + i:
            out[n] = _SPACE
            n += 1
            blanks -= 1
        blanks = 0
        at_start = False
        out[n] = c
        n += 1
    state[0] = quoted
    state[1] = since if quoted == 1 else 0
    state[2] = -1 if at_start else blanks
    return n
