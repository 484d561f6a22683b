"""Which format a file has, judged by its first bytes; of LOBSTER and LEAN the name adds the date."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from emp.access.recordings.container import HEAD, Item
from emp.access.recordings.dialect import Dialect, dialect_of, lines_of, text_of
from emp.access.recordings.jsonlines import paths_of
from emp.access.recordings.mapping import Columns, Mapping, fits, shipped
from emp.core.errors import DataError

LONG_HEAD = 1 << 23
"""How far is read where a file's first lines are long."""


FEW_LINES = 100


class Format(StrEnum):
    """What a file can be."""

    LOBSTER_MESSAGE = "LOBSTER messages"
    LOBSTER_BOOK = "LOBSTER orderbook"
    TSLA_EVENTS = "exchange events"
    TSLA_BBO = "best bid and offer of exchange events"
    SGX_CSV = "SGX book csv"
    DATABENTO = "Databento DBN"
    BINANCE = "Binance raw lines"
    HFTBACKTEST = "hftbacktest npz"
    PARQUET = "Parquet"
    TABLE = "a table"  # described by a mapping


class Found(NamedTuple):
    """A file's format and shape."""

    format: Format
    header: tuple[str, ...] = ()  # column names, where the file has them
    width: int = 0  # columns
    dialect: Dialect = Dialect()
    mapping: Mapping | None = None
    columns: Columns = Columns(())
    samples: list[list[str]] = []  # noqa: RUF012  fields of the first rows

    @property
    def named(self) -> str:
        """The format's name for messages."""
        return self.mapping.name if self.mapping is not None else str(self.format)

    @property
    def role(self) -> str:
        """book, or trades alone."""
        return self.mapping.role if self.mapping is not None else "book"


_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_MESSAGE = re.compile(r"\d{1,5}(?:\.\d*)?,[1-7],-?\d+,-?\d+,-?\d+,-?1(?:,[^,]*)?")
_BOOK = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*")
_NAME = re.compile(r"[^\W\d]")


def detect(item: Item, own: Sequence[Mapping] = ()) -> Found:
    """Return the format of an item, `own` mappings first; DataError where it is none that can be read."""
    head = item.head()
    if not head.strip():
        raise DataError(f"{item.label}: the file is empty")
    if head.startswith(b"DBN") or item.stored_head(11)[8:11] == b"DBZ" or _is_fragment(head):
        return Found(Format.DATABENTO)
    if head.startswith(b"PAR1"):
        return Found(Format.PARQUET)
    if head.startswith((b"PK\x03\x04", b"\x93NUMPY")):
        return Found(Format.HFTBACKTEST)
    if head.count(b"\n") < FEW_LINES and len(head) == HEAD:
        head = item.head(LONG_HEAD)
    if 4 * head[:4096].count(0) > min(len(head), 4096) and not text_of(head)[1].startswith(
        ("utf-16", "utf-32")
    ):
        raise DataError(_unknown(item, head))
    found = _json(item, head, own) or _table(item, head, own)
    if found is None:
        raise DataError(_unknown(item, head))
    if found.mapping is not None and found.mapping.refuse:
        raise DataError(f"{item.label}: {found.mapping.refuse}")
    return found


def _unknown(item: Item, head: bytes) -> str:
    first = text_of(head)[0].split("\n", 1)[0][:60].strip()
    return (
        f"{item.label}: not a recording that is known (it starts with {first!r}); `emp formats` lists what is read, "
        "and a mapping file describes any other csv or JSON lines (--mapping, see docs/recordings.md)"
    )


def _shown(names: Sequence[str]) -> str:
    """Names of columns for a message: the first ones, of what can be printed."""
    return ", ".join("".join(c for c in name if c.isprintable())[:40] for name in names[:12])


_RECORD_WORDS = {160: 14, 0: 12, 1: 20, 10: 92, 0xC3: 20, 0xC4: 20}
"""Length of a Databento record in 4-byte words, by its type."""


def _is_fragment(head: bytes) -> bool:
    """Databento records without metadata: the first ones have the lengths of their types."""
    at = n = 0
    while at + 2 <= len(head) and n < 8:
        if _RECORD_WORDS.get(head[at + 1]) != head[at]:
            return False
        at += 4 * head[at]
        n += 1
    return n > 0


_BINANCE_KEYS = (
    {"stream"},
    {"e", "s", "U", "u"},
    {"e", "s", "p", "q", "m"},
    {"u", "s", "b", "B", "a", "A"},
    {"lastUpdateId", "bids", "asks"},
    {"U", "u", "b", "a"},
)


_ONE_JSON = re.compile(r'\s*(\[\s*)?\{\s*"[^"]*"\s*:')


def _json(item: Item, head: bytes, own: Sequence[Mapping]) -> Found | None:
    text, encoding, bom = text_of(head)
    lines = lines_of(text)
    rows = [paths for line in lines if (paths := paths_of(line))]
    if 2 * len(rows) <= len(lines):
        if _ONE_JSON.match(text):
            raise DataError(
                f"{item.label}: is one JSON document over the whole file; messages are read one a line "
                "(jq -c '.[]' or jq -c . writes them so)"
            )
        return None
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    dialect = Dialect(encoding, bom)
    columns = Columns(names)
    samples = [[str(row.get(name, "") or "") for name in names] for row in rows]
    chosen = _best([m for m in own if m.lines == "json"], columns, item, lines)
    if chosen is None:
        if any(keys <= set(row) for row in rows for keys in _BINANCE_KEYS):
            return Found(Format.BINANCE, names, len(names), dialect, None, columns, samples)
        chosen = _best([m for m in shipped() if m.lines == "json"], columns, item, lines)
    if chosen is None:
        raise DataError(
            f"{item.label}: JSON lines with the keys {_shown(names)}, which no known format has; describe them in a "
            "mapping file (--mapping, see docs/recordings.md)"
        )
    return Found(Format.TABLE, names, len(names), dialect, chosen, columns, samples)


def _table(item: Item, head: bytes, own: Sequence[Mapping]) -> Found | None:
    dialect, rows = dialect_of(head)
    if not rows:
        return None
    header = tuple(rows[0])
    lines = [",".join(row) for row in rows]
    have = set(header)
    if have >= {"event", "order_id", "side", "px", "qty", "fill_px"}:
        return Found(Format.TSLA_EVENTS, header, len(header), dialect)
    if have >= {"what", "px", "qty"}:
        return Found(Format.TSLA_BBO, header, len(header), dialect)
    if have >= {"Bid", "Bid_Quantity", "Ask", "Ask_Quantity"}:
        return Found(Format.SGX_CSV, header, len(header), dialect)
    named = _has_header(rows)
    candidates = (*own, *shipped())
    if named:
        width = _usual_width(rows[1:] or rows)
        header = (*header, *(f"#{i}" for i in range(len(header), width)))[
            :width
        ]  # rows may lack what ends the header
        columns = Columns(header)
        for group in (own, shipped()):
            chosen = _best([m for m in group if m.lines == "csv" and not m.header], columns, item, lines)
            if chosen is not None:
                return Found(Format.TABLE, header, len(header), dialect, chosen, columns, rows[1:])
        raise DataError(
            f"{item.label}: a table with the columns {_shown(header)}, which no known format has; describe "
            "them in a mapping file (--mapping, see docs/recordings.md)"
        )
    found = _lobster(lines, dialect)
    if found is not None:
        return found
    for mapping in candidates:
        if mapping.header and mapping.lines == "csv" and _of_name(mapping, item):
            pattern = re.compile(mapping.like)
            if _most(lines, pattern.fullmatch):
                width = max(len(mapping.header), max(set(map(len, rows)), key=list(map(len, rows)).count))
                header = mapping.header + tuple(f"#{i}" for i in range(len(mapping.header), width))
                width = max(set(map(len, rows)), key=list(map(len, rows)).count)
                return Found(
                    Format.TABLE, header[:width], width, dialect, mapping, Columns(header[:width]), rows
                )
    return _orderbook(lines, dialect)


def _usual_width(rows: list[list[str]]) -> int:
    widths = [len(row) for row in rows]
    return max(widths, key=widths.count)


def _best(mappings: Sequence[Mapping], columns: Columns, item: Item, lines: list[str]) -> Mapping | None:
    """The mapping that names most of a file's columns."""
    best: Mapping | None = None
    most = 0
    for mapping in mappings:
        if not _of_name(mapping, item):
            continue
        if mapping.like and not _most(lines, re.compile(mapping.like).fullmatch):
            continue
        score = fits(mapping, columns)
        if mapping.refuse and best is not None:
            continue
        if score > most or (best is not None and best.refuse and score):
            best, most = mapping, score
    return best


def _of_name(mapping: Mapping, item: Item) -> bool:
    return not mapping.file or re.search(mapping.file, item.name) is not None


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first line names columns: most of its fields hold letters and are no data."""
    named = sum(1 for field in rows[0] if _NAME.match(field.strip("<>@_ ")) and not _is_data(field))
    return 2 * named > len(rows[0])


def _is_data(field: str) -> bool:
    return (
        field.lower() in ("nan", "null", "none", "na")
        or re.fullmatch(r"[A-Z]{3}/[A-Z]{3}", field) is not None
    )


def _lobster(lines: list[str], dialect: Dialect) -> Found | None:
    if not _most(lines, _MESSAGE.fullmatch):
        return None
    widths = [line.count(",") + 1 for line in lines if _MESSAGE.fullmatch(line)]
    return Found(Format.LOBSTER_MESSAGE, width=max(widths, key=widths.count), dialect=dialect)


def _orderbook(lines: list[str], dialect: Dialect) -> Found | None:
    """A LOBSTER orderbook: nothing but numbers, four a level, ask above bid in its first level."""
    if not _most(lines, _BOOK.fullmatch):
        return None
    widths = [line.count(",") + 1 for line in lines]
    width = max(widths, key=widths.count)
    if width % 4 or not _most(lines, _plausible_book):
        return None
    return Found(Format.LOBSTER_BOOK, width=width, dialect=dialect)


def _plausible_book(line: str) -> bool:
    """Whether the four first numbers can be ask, size, bid, size of LOBSTER: whole, and ask above bid."""
    try:
        ask, ask_sz, bid, bid_sz = (float(field) for field in line.split(",")[:4])
    except ValueError:
        return False
    whole = all(value.is_integer() for value in (ask, ask_sz, bid, bid_sz))
    return whole and ask > bid and min(ask_sz, bid_sz) >= 0


def _most(lines: list[str], test: object) -> bool:
    assert callable(test)
    return 2 * sum(1 for line in lines if test(line)) > len(lines)
