"""Binance websocket lines, as collectors keep them, with REST snapshots in between.

A line is the message as it came, wrapped with its stream's name or not, after a local stamp or not. A second file of
the same stream goes on where the first ended. Depth messages are differences; a file of bookTicker messages alone is
a level-1 feed; partial depth (@depth5, 10, 20) is a whole book a line. `ts` is the local stamp, shared by all streams,
else the exchange's. `binance_feed` has what messages make of the book.
"""

from collections.abc import Iterator

import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.binance_feed import (
    ASK_SIZE,
    ASKS,
    AT,
    BID_SIZE,
    BIDS,
    FIRST,
    FROM_ID,
    LAST,
    MAKER,
    NAME,
    PARTIAL,
    PREVIOUS,
    PX,
    QTY,
    REST_ASKS,
    REST_BIDS,
    SENT,
    SNAPSHOT,
    STREAM,
    SYMBOL,
    TO_ID,
    TRADE_ID,
    TRADED,
    WIDTH,
    Feed,
    Rules,
)
from emp.access.recordings.container import Item
from emp.access.recordings.detect import Found
from emp.access.recordings.dialect import opened, text_of
from emp.access.recordings.jsonlines import JsonLines
from emp.access.recordings.packing import Progress
from emp.access.recordings.reader import BATCH, Raw, as_words, blank
from emp.access.recordings.scan import (
    CELL,
    EPOCH,
    GRID,
    HASH,
    INT,
    STAMP,
    Column,
    hashed,
)
from emp.access.recordings.stamps import spelling_of
from emp.access.recordings.whose import is_of, not_of
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array

_PATHS: dict[str, tuple[int, int]] = {
    "e": (HASH, NAME),
    "s": (HASH, SYMBOL),
    "E": (INT, SENT),
    "T": (INT, TRADED),
    "U": (INT, FIRST),
    "u": (INT, LAST),
    "pu": (INT, PREVIOUS),
    "b": (CELL, BIDS),
    "B": (CELL, BID_SIZE),
    "a": (CELL, ASKS),
    "A": (CELL, ASK_SIZE),
    "p": (GRID, PX),
    "q": (GRID, QTY),
    "m": (HASH, MAKER),
    "t": (INT, TRADE_ID),
    "f": (INT, FROM_ID),
    "l": (INT, TO_ID),
    "bids": (CELL, REST_BIDS),
    "asks": (CELL, REST_ASKS),
}

_STAMPS = ("@0", "local_timestamp", "ts_recv", "received", "recv_ts", "timestamp", "ts", "local_ts")


class BinanceReader:
    """A file of lines of one symbol, or of several of which one is ours."""

    sortable = False

    def __init__(self, item: Item, found: Found, instrument: Instrument) -> None:
        self.label = item.label
        self.stored_bytes = item.size
        self.gaps = 0
        self.previous: BinanceReader | None = None  # the file before it, in time
        self._feed: Feed | None = None  # as the last reading left it
        self._item = item
        self._found = found
        self._instrument = instrument
        self._header, self._columns = self._plan()
        text = text_of(item.head(1 << 20))[0].encode()
        depth = b"depth" in text or b'"U":' in text or b'"lastUpdateId"' in text
        whole = depth and not _has_differences(text)
        symbols = self._symbols(instrument)
        self._rules = Rules(
            1 / instrument.tick,
            1 / instrument.lot,
            np.array([hashed(name) for name in symbols], np.int64),
            np.array([hashed(name.lower()) for name in symbols], np.int64),
            not depth,
            whole,
        )
        self.flags = 0 if depth else int(EventFlag.NO_DEPTH)
        self.first_ts_ns = self._first_time()

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return "Binance lines, " + (
            "best prices" if self._rules.top_only else "books" if self._rules.partial else "differences"
        )

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the messages, each with the book after it."""
        before = self.previous._feed if self.previous is not None else None
        self._feed = feed_ = before or Feed()
        feed_.state["boundary"] = 1
        started = int(feed_.state["gaps"][0])
        rows, kind, status = blank(BATCH)
        table: Array = np.zeros((BATCH, WIDTH), np.int64)
        with opened(self._item, self._found.dialect, progress) as stream:
            lines = JsonLines(stream, self._header, self._columns, self.label)
            while n := lines.read(table):
                as_words(rows)[:n] = 0
                kind[:n] = fold.NOTE
                status[:n] = lines.status[:n]
                feed_.run(table[:n], lines.buf, self._rules, rows[:n], kind[:n], status[:n])
                yield Raw(rows[:n], kind[:n], status[:n], lines.text)
                table[:n] = 0
        self.gaps = int(feed_.state["gaps"][0]) - started

    def explain(self) -> str:
        """Why nothing of it could be used, where that is known."""
        if self._feed is not None and not self._feed.state["synced"][0]:
            return (
                "no snapshot fits its depth messages, which are differences: read it after the file that it goes on "
                "from, or keep a REST snapshot (depth?limit=1000) with the lines"
            )
        return ""

    def _plan(self) -> tuple[tuple[str, ...], dict[int, Column]]:
        ticks, lots = 1 / self._instrument.tick, 1 / self._instrument.lot
        header: list[str] = []
        columns: dict[int, Column] = {}

        def put(path: str, column: Column) -> None:
            columns[len(header)] = column
            header.append(path)

        for prefix in ("", "data."):
            for name, (kind, target) in _PATHS.items():
                multiplier, fault = 1.0, Quarantine.MALFORMED
                if kind == GRID:
                    price = target == PX
                    multiplier = ticks if price else lots
                    fault = Quarantine.ABSURD_PRICE if price else Quarantine.ABSURD_SIZE
                put(prefix + name, Column(kind, target, multiplier, fault))
        put("lastUpdateId", Column(INT, SNAPSHOT))
        put("data.lastUpdateId", Column(INT, PARTIAL))
        put("stream", Column(CELL, STREAM))
        for name in _STAMPS:
            at = self._found.columns.find(name)
            if at >= 0:
                spelled = spelling_of([row[at] for row in self._found.samples])
                if spelled is not None:
                    put(name, Column(EPOCH if spelled.epoch else STAMP, AT, spelled.param))
                    break
        return tuple(header), columns

    def _symbols(self, instrument: Instrument) -> list[str]:
        """The symbols that mean the instrument; refuse a file that names others only."""
        named: set[str] = set()
        header = ("s", "data.s", "stream")
        columns = {0: Column(HASH, 0), 1: Column(HASH, 0), 2: Column(HASH, 1)}
        seen: set[int] = set()
        table: Array = np.zeros((BATCH, 2), np.int64)
        from emp.access.recordings.jsonlines import paths_of

        with opened(self._item, self._found.dialect) as stream:
            lines = JsonLines(stream, header, columns, self.label)
            while n := lines.read(table):
                for slot in range(2):
                    values, first = np.unique(table[:n, slot], return_index=True)
                    for value, row in zip(values.tolist(), first.tolist(), strict=True):
                        if value == 0 or value in seen:
                            continue
                        seen.add(value)
                        paths = paths_of(lines.text(row, 1 << 24))
                        name = str(paths.get("data.s") or paths.get("s") or "")
                        named.add((name or str(paths.get("stream", "")).split("@")[0]).upper())
                if any(is_of(name, instrument) for name in named) or len(seen) > 1000:
                    break  # whose the others are is told line by line
                table[:n] = 0
        named.discard("")
        ours = sorted(name for name in named if is_of(name, instrument))
        if named and not ours:
            raise DataError(not_of(sorted(named), instrument, self.label))
        return ours

    def _first_time(self) -> int:
        table: Array = np.zeros((4096, WIDTH), np.int64)
        with opened(self._item, self._found.dialect) as stream:
            lines = JsonLines(stream, self._header, self._columns, self.label)
            n = lines.read(table)
            good = table[:n][lines.status[:n] == 0]
        if not len(good):
            raise DataError(f"{self.label}: none of the first {n} lines can be read as a Binance message")
        stamps = np.where(
            good[:, AT] != 0,
            good[:, AT],
            1_000_000 * np.where(good[:, SENT] != 0, good[:, SENT], good[:, TRADED]),
        )
        stamps = stamps[stamps != 0]
        if not len(stamps):
            raise DataError(
                f"{self.label}: its lines have neither a local stamp in front nor an exchange time (E): a recording "
                "without time cannot be replayed"
            )
        return int(stamps[0])


def _has_differences(text: bytes) -> bool:
    """Whether depth messages are differences: streams say so; unwrapped, their lengths vary."""
    if b'"stream"' in text:
        return any(part[:1] not in b"0123456789" for part in text.split(b"@depth")[1:] if part)
    return b'"U":' in text
