"""Order-by-order recordings as MSG rows: LOBSTER, Databento MBO, and the TSLA exchange log.

Recordings are also read as EVENT rows by `emp.access.recordings`; a simulator needs the orders themselves.
Prices are ticks, quantities lots of one share or contract, times ns UTC, `handle` the recording's order id.
"""

import io
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import csv

from emp.access.recordings.container import Item
from emp.core.errors import DataError
from emp.core.records import LEVELS, Array
from emp.sim.book.book import BUY, SELL
from emp.sim.flow.state import ADD, DELETE, MSG, TRADE
from emp.sim.tape.mbo import read_mbo
from emp.sim.tape.orders import book_messages

_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_NEW_YORK = ZoneInfo("America/New_York")


class Recording(msgspec.Struct):
    """Messages in order, and the book that the recording itself shows after each, where it has one."""

    name: str
    tick: float
    msgs: Array  # MSG
    book: Array | None  # int64 (n, 4 * levels): ask px, ask size, bid px, bid size per level; px 0: empty
    ignored: Counter[
        str
    ]  # rows that are no message of the visible book, by kind; MBO: every row, by `Meaning`
    after: Array | None = None  # AFTER: what an order-by-order feed says of each order, event by event

    @property
    def levels(self) -> int:
        """Levels per side of the recorded book."""
        return 0 if self.book is None else self.book.shape[1] // 4


def load_recording(path: Path) -> Recording:
    """Read an order-by-order recording; the format is known from its name and its first bytes."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    item = Item(path)
    head = item.head()
    if head[:3] == b"DBN":
        return _databento(item)
    if b"order_id" in head[:200] and b"ts_et" in head[:200]:
        return _exchange_log(item)
    if "message" in item.name:
        return _lobster(item)
    raise DataError(
        f"{path}: not an order-by-order recording; give a LOBSTER message file, a Databento MBO file or an "
        "exchange log with order ids"
    )


def _bytes(item: Item) -> bytes:
    parts = []
    with item.open() as stream:
        while part := stream.read():
            parts.append(part)
    return b"".join(parts)


def _table(item: Item, header: bool) -> pa.Table:
    read = csv.ReadOptions(autogenerate_column_names=not header, use_threads=False)
    try:
        return csv.read_csv(io.BytesIO(_bytes(item)), read_options=read)
    except pa.ArrowInvalid as error:
        raise DataError(f"{item.label}: not a table of numbers: {str(error).splitlines()[0]}") from None


def _midnight_ns(item: Item) -> int:
    found = _DATE.search(item.name)
    if found is None:
        raise DataError(f"{item.label}: the name carries no date, and LOBSTER times count from midnight")
    day = datetime(*(int(x) for x in found.groups()), tzinfo=_NEW_YORK)  # type: ignore[misc,arg-type]
    return int(day.timestamp()) * 1_000_000_000


def _lobster(item: Item) -> Recording:
    table = _table(item, header=False)
    if table.num_columns < 6:
        raise DataError(f"{item.label}: a LOBSTER message file has 6 columns, this has {table.num_columns}")
    time, kind, order, size, px, direction = (table.column(i).to_numpy() for i in range(6))
    quoted = px[(kind <= TRADE) & (px > 0)]
    step = int(np.gcd.reduce(quoted)) if len(quoted) else 100
    tick = 100 if step % 100 == 0 else 1
    msgs = np.zeros(len(kind), MSG)
    msgs["ts"] = _midnight_ns(item) + np.round(time * 1e9).astype(np.int64)
    msgs["kind"] = kind
    msgs["side"] = np.where(direction > 0, BUY, SELL)
    msgs["px"] = px // tick
    msgs["qty"] = size
    msgs["handle"] = order
    book = _lobster_book(item, tick)
    if book is not None and len(book) != len(msgs):
        raise DataError(f"{item.label}: {len(msgs)} messages but {len(book)} books beside them")
    return Recording(item.name.split("_")[0], tick / 1e4, msgs, book, Counter())


def _lobster_book(item: Item, tick: int) -> Array | None:
    want = item.name.replace("message", "orderbook")
    other = next((s for s in item.siblings() if s.name == want), None)
    if other is None:
        return None
    table = _table(other, header=False)
    book = np.column_stack([table.column(i).to_numpy() for i in range(table.num_columns)]).astype(np.int64)
    book = book[:, : 4 * LEVELS]
    px = book[:, 0::2]
    empty = np.abs(px) >= 9_999_999_999
    book[:, 1::2][empty] = 0
    px[empty] = 0
    px //= tick
    return book


def _exchange_log(item: Item) -> Recording:
    """Orders as sent: limit orders may trade on arrival, so they are matched into messages of the book."""
    table = _table(item, header=True).to_pydict()
    tick = 0.01
    kinds = {"LIMIT_ORDER": ADD, "ORDER_CANCELLED": DELETE, "MARKET_ORDER": TRADE}
    ignored: Counter[str] = Counter()
    rows = []
    names = ("ts_et", "event", "order_id", "side", "px", "qty")
    for stamp, event, order, side, px, qty in zip(*(table[c] for c in names), strict=True):
        if event not in kinds:
            ignored[event] += 1
            continue
        rows.append((_new_york_ns(stamp), kinds[event], BUY if side == "B" else SELL, px, qty, order))
    msgs = np.zeros(len(rows), MSG)
    columns = list(zip(*rows, strict=True))
    for name, column in zip(("ts", "kind", "side"), columns, strict=False):
        msgs[name] = column
    msgs["px"] = np.round(np.nan_to_num(np.array(columns[3], float)) / tick).astype(np.int64)
    msgs["qty"] = np.array(columns[4], float).astype(np.int64)
    msgs["handle"] = columns[5]
    return Recording(item.name.split("_")[0], tick, book_messages(msgs), None, ignored)


def _new_york_ns(stamp: Any) -> int:
    at = stamp if isinstance(stamp, datetime) else datetime.fromisoformat(str(stamp))
    return int(at.replace(tzinfo=_NEW_YORK).timestamp()) * 1_000_000_000 + at.microsecond * 1000


def _databento(item: Item) -> Recording:
    made = read_mbo(item, _bytes(item))
    name = item.name.split("-")[0].upper()
    return Recording(name, made.tick, made.msgs, None, made.meaning, made.after)


def utc(ts_ns: int) -> str:
    """An ISO time for people."""
    return datetime.fromtimestamp(ts_ns / 1e9, UTC).isoformat()
