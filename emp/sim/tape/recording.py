"""Order-by-order recordings as MSG rows: LOBSTER, Databento MBO, and the TSLA exchange log.

Recordings are also read as EVENT rows by `emp.access.recordings`; a simulator needs the orders themselves.
Prices are ticks, quantities lots of one share or contract, times ns UTC, `handle` the recording's order id.
"""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from emp.access.recordings.container import Item
from emp.access.recordings.detect import Format, Found, detect
from emp.access.recordings.exchange import EVENT_NAME, ORDER, PX, QTY, SIDE, TIME, event_columns
from emp.access.recordings.lines import read_all
from emp.access.recordings.lobster import MESSAGE_COLUMNS, midnight_ns, ticker_of
from emp.access.recordings.localtime import LocalClock
from emp.access.recordings.scan import ABSENT, INT, SKIP, Column, word
from emp.core.errors import DataError
from emp.core.records import LEVELS, Array
from emp.sim.book.book import BUY, SELL
from emp.sim.flow.state import ADD, DELETE, MSG, TRADE
from emp.sim.tape.mbo import read_mbo
from emp.sim.tape.orders import book_messages


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
    """Read an order-by-order recording; the format is known from its content."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    item = Item(path)
    try:
        found = detect(item)
    except DataError as error:
        raise DataError(f"{error}; {_WANTED}") from None
    if found.format is Format.DATABENTO:
        return _databento(item)
    if found.format is Format.TSLA_EVENTS:
        return _exchange_log(item, found)
    if found.format is Format.LOBSTER_MESSAGE:
        return _lobster(item, found)
    raise DataError(f"{path}: not an order-by-order recording; {_WANTED}")


_WANTED = "give a LOBSTER message file, a Databento MBO file or an exchange log with order ids"


def _bytes(item: Item) -> bytes:
    with item.open() as stream:
        return b"".join(iter(stream.read, b""))


def _lobster(item: Item, found: Found) -> Recording:
    extra = [Column(SKIP)] * (found.width - len(MESSAGE_COLUMNS))
    table, status = read_all(
        item, found.dialect, [*MESSAGE_COLUMNS, *extra], len(MESSAGE_COLUMNS), skip_header=False
    )
    _refuse_bad(item, status)
    time, kind, order, size, px, direction = table.T
    quoted = px[(kind <= TRADE) & (px > 0)]
    step = int(np.gcd.reduce(quoted)) if len(quoted) else 100
    tick = 100 if step % 100 == 0 else 1
    msgs = np.zeros(len(kind), MSG)
    msgs["ts"] = midnight_ns(item) + time
    msgs["kind"] = kind
    msgs["side"] = np.where(direction > 0, BUY, SELL)
    msgs["px"] = px // tick
    msgs["qty"] = size
    msgs["handle"] = order
    book = _lobster_book(item, tick)
    if book is not None and len(book) != len(msgs):
        raise DataError(f"{item.label}: {len(msgs)} messages but {len(book)} books beside them")
    return Recording(ticker_of(item) or item.name.split("_")[0], tick / 1e4, msgs, book, Counter())


def _lobster_book(item: Item, tick: int) -> Array | None:
    want = item.name.replace("message", "orderbook")
    other = next((s for s in item.siblings() if s.name == want), None)
    if other is None:
        return None
    found = detect(other)
    if found.format is not Format.LOBSTER_BOOK:
        raise DataError(f"{other.label}: holds {found.named}, not a LOBSTER orderbook")
    width = min(found.width, 4 * LEVELS)
    columns = [Column(INT, i) if i < width else Column(SKIP) for i in range(found.width)]
    book, status = read_all(other, found.dialect, columns, width, skip_header=False)
    _refuse_bad(other, status)
    px = book[:, 0::2]
    empty = np.abs(px) >= ABSENT
    book[:, 1::2][empty] = 0
    px[empty] = 0
    px //= tick
    return book


def _refuse_bad(item: Item, status: Array) -> None:
    """A simulator needs every order."""
    bad = np.flatnonzero(status)
    if len(bad):
        raise DataError(
            f"{item.label}: row {int(bad[0])} cannot be read: {len(bad)} of {len(status)} rows are bad"
        )


_NAMES = {word(name): name for name in ("CANCEL_ORDER", "ORDER_EXECUTED", "MODIFY_ORDER")}


def _exchange_log(item: Item, found: Found) -> Recording:
    """Orders as sent: limit orders may trade on arrival, so they are matched into messages of the book."""
    tick = 0.01
    columns, zone = event_columns(found, item, 1 / tick, 1.0)
    table, status = read_all(item, found.dialect, columns, 7, skip_header=True)
    _refuse_bad(item, status)
    ts = table[:, TIME].copy()
    LocalClock(zone).to_utc(ts, status == 0)
    kinds: Array = np.full(len(table), -1)
    for name, kind in (("LIMIT_ORDER", ADD), ("ORDER_CANCELLED", DELETE), ("MARKET_ORDER", TRADE)):
        kinds[table[:, EVENT_NAME] == word(name)] = kind
    events, counts = np.unique(table[kinds < 0, EVENT_NAME], return_counts=True)
    names = [_NAMES.get(int(one), "unknown") for one in events]
    ignored = Counter(dict(zip(names, counts.tolist(), strict=True)))
    used = kinds >= 0
    msgs = np.zeros(int(used.sum()), MSG)
    msgs["ts"], msgs["kind"] = ts[used], kinds[used]
    msgs["side"] = np.where(table[used, SIDE] == word("B"), BUY, SELL)
    msgs["px"], msgs["qty"], msgs["handle"] = table[used, PX], table[used, QTY], table[used, ORDER]
    return Recording(item.name.split("_")[0], tick, book_messages(msgs), None, ignored)


def _databento(item: Item) -> Recording:
    made = read_mbo(item, _bytes(item))
    name = item.name.split("-")[0].upper()
    return Recording(name, made.tick, made.msgs, None, made.meaning, made.after)


def utc(ts_ns: int) -> str:
    """An ISO time for people."""
    return datetime.fromtimestamp(ts_ns / 1e9, UTC).isoformat()
