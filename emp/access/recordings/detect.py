"""Which format a file has, judged by its first bytes alone."""

import re
from enum import StrEnum
from typing import NamedTuple

from emp.access.recordings.container import Item
from emp.core.errors import DataError

LOOK_AT = 60
"""Lines that are looked at; most of them must be of the format, so that single bad rows do not hide it."""


class Format(StrEnum):
    """What a file can be."""

    LOBSTER_MESSAGE = "LOBSTER messages"
    LOBSTER_BOOK = "LOBSTER orderbook"
    TSLA_EVENTS = "exchange events"
    TSLA_BBO = "best bid and offer of exchange events"
    BOOK_CSV = "book csv"
    TRADES_CSV = "trades csv"
    QUOTES_CSV = "quote ticks"
    SGX_CSV = "SGX book csv"
    DATABENTO = "Databento DBN"
    BINANCE = "Binance raw lines"


class Found(NamedTuple):
    """A file's format and shape."""

    format: Format
    header: tuple[str, ...] = ()  # column names, where the file has them
    columns: int = 0  # of a file without header


_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?"
_MESSAGE = re.compile(r"\d{1,5}(?:\.\d*)?,[1-7],-?\d+,-?\d+,-?\d+,-?1(?:,[^,]*)?")
_BOOK = re.compile(rf"{_NUMBER}(?:,{_NUMBER})*")
_BINANCE = re.compile(r'\d{19} \{"')

_KNOWN = (
    "LOBSTER message/orderbook csv, book csv with bid_px_0…, trades csv, quote ticks csv with bid and ask, "
    "exchange events csv, SGX 3-level csv, Databento DBN, Binance raw lines"
)


def detect(item: Item) -> Found:
    """Return the format of an item; DataError where it is none that can be read."""
    head = item.head()
    if not head.strip():
        raise DataError(f"{item.label}: the file is empty")
    if head.startswith(b"DBN"):
        return Found(Format.DATABENTO)
    found = _by_header(head) or _by_rows(head)
    if found is None:
        first = head.split(b"\n", 1)[0][:60].decode("utf-8", "replace").strip()
        raise DataError(f"{item.label}: not a recording (it starts with {first!r}); readable are: {_KNOWN}")
    return found


def _by_header(head: bytes) -> Found | None:
    line = head.split(b"\n", 1)[0].strip().decode("utf-8", "replace").removeprefix("\ufeff")
    names = tuple(name.strip().strip('"') for name in line.split(","))
    have = set(names)
    if have >= {"event", "order_id", "side", "px", "qty", "fill_px"}:
        return Found(Format.TSLA_EVENTS, names)
    if have >= {"what", "px", "qty"}:
        return Found(Format.TSLA_BBO, names)
    if have >= {"bid_px_0", "bid_qty_0", "ask_px_0", "ask_qty_0"}:
        return Found(Format.BOOK_CSV, names)
    if have >= {"side", "px", "qty"}:
        return Found(Format.TRADES_CSV, names)
    if have >= {"Bid", "Bid_Quantity", "Ask", "Ask_Quantity"}:
        return Found(Format.SGX_CSV, names)
    if have >= {"bid", "ask"}:
        return Found(Format.QUOTES_CSV, names)
    return None


def _by_rows(head: bytes) -> Found | None:
    lines = head.decode("utf-8", "replace").split("\n")
    if len(lines) > 1:
        lines.pop()  # may be cut off
    lines = [line.rstrip("\r") for line in lines if line.strip()][:LOOK_AT]
    if _most(lines, _BINANCE.match):
        return Found(Format.BINANCE)
    if _most(lines, _MESSAGE.fullmatch):
        widths = [line.count(",") + 1 for line in lines if _MESSAGE.fullmatch(line)]
        return Found(Format.LOBSTER_MESSAGE, columns=max(widths, key=widths.count))
    if _most(lines, _BOOK.fullmatch):
        widths = [line.count(",") + 1 for line in lines]
        columns = max(widths, key=widths.count)
        if columns % 4 == 0:
            return Found(Format.LOBSTER_BOOK, columns=columns)
    return None


def _most(lines: list[str], test: object) -> bool:
    assert callable(test)
    return 2 * sum(1 for line in lines if test(line)) > len(lines)
