"""Files that a mapping describes: csv and JSON lines, brought into slots and from there to EVENT rows."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np

from emp.access.recordings import slots
from emp.access.recordings.assemble import assemble, last_group
from emp.access.recordings.container import Item
from emp.access.recordings.detect import Found
from emp.access.recordings.dialect import opened
from emp.access.recordings.jsonlines import JsonLines
from emp.access.recordings.lines import Lines
from emp.access.recordings.localtime import LocalClock
from emp.access.recordings.losses import price_cause
from emp.access.recordings.orders import OrderBook
from emp.access.recordings.packing import Progress
from emp.access.recordings.plan import Plan, make_plan
from emp.access.recordings.reader import BATCH, Raw, as_words, blank
from emp.access.recordings.scan import HASH, NO_PRICE, SKIP, WORD, Column, hashed
from emp.access.recordings.whose import is_of, not_of
from emp.core.codes import AssetClass, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array

NOTHING: Array = np.zeros(1, np.uint8)


COARSE, FEW_PRICES = 1_000, 8
COARSE_EQUITY, ENOUGH_PRICES = 100, 20
"""Prices that are all multiples of so many ticks, where so many differ, are in another unit than the instrument's."""

_THOUSANDS = re.compile(r"\d[,' ]\d{3}[.,]\d")

MOST_LOOKED_AT = 1 << 20
"""Trades that are looked at to see what their ids stand for."""


class Rows(Protocol):
    """Where slots come from, so many rows at a time."""

    status: Array  # uint8, of the rows of the last `read`
    buf: Array  # uint8, what cells point into

    def read(self, out: Array) -> int:
        """Fill rows of `out`, int64[limit, SLOTS], which are zero; return how many, 0 at the end."""

    def unread(self, row: int) -> None:
        """Let the next `read` begin with this row of the last one."""

    def text(self, row: int, most: int = 200) -> str:
        """A row as read, cut to `most` characters."""


class Memory(NamedTuple):
    """What `assemble` remembers besides its state."""

    venues: Array
    seen: Array
    book: Any
    levels: Array


class Assembler:
    """Carries the books of one stream through its rows, over batches and files."""

    def __init__(self, layout: slots.Layout) -> None:
        self.layout = layout
        self.state: Array = np.zeros(1, slots.STATE)
        self._venues: Array = np.zeros(slots.MAX_VENUES, slots.VENUE_QUOTE)
        self._seen: Array = np.zeros(slots.SEEN, np.uint64)
        self._orders = OrderBook()

    @property
    def gaps(self) -> int:
        """Breaks of the stream so far."""
        return int(self.state["gaps"][0])

    def run(self, table: Array, buf: Array, rows: Array, kind: Array, status: Array) -> None:
        """Make EVENT rows of slots."""
        room = len(table) if self.layout.rows == slots.LEVEL else len(buf) // 4
        if self.layout.cells or self.layout.rows == slots.LEVEL:
            self._orders.reserve_levels(room)
        memory = Memory(self._venues, self._seen, self._orders.book[0], self._orders.levels)
        assemble(table, buf, self.layout, self.state[0], memory, rows, kind, status)


class TableReader:
    """A csv or JSON lines of one mapping."""

    sortable = True  # rows stand by themselves: swapped neighbours can be put in order

    def __init__(self, item: Item, found: Found, instrument: Instrument) -> None:
        self.label = item.label
        self.stored_bytes = item.size
        self.found = found
        self._item = item
        self._instrument = instrument
        assert found.mapping is not None
        self.mapping = found.mapping
        self.plan = make_plan(self.mapping, found.columns, found.samples, item, instrument)
        symbols = self._symbols(instrument)
        has_ids = self.plan.layout.has_ids and self._ids_are_unique()
        self.plan = self.plan._replace(layout=self.plan.layout._replace(symbols=symbols, has_ids=has_ids))
        self.flags = self.plan.flags
        stateful = self.plan.layout.rows in (slots.LEVEL, slots.KINDS) or self.plan.layout.carry
        self.sortable = not (stateful or self.plan.layout.venues or self.plan.layout.received)
        self.gaps = 0
        self.first_ts_ns = self._first_time()

    def set_sides(self, buys: list[int], sells: list[int], none: list[int]) -> None:
        """Which packed words mean that a buyer took, that a seller did, and that nobody says."""
        arrays = [np.array(sorted(words), np.int64) for words in (buys, sells, none)]
        layout = self.plan.layout._replace(buys=arrays[0], sells=arrays[1], no_sides=arrays[2])
        self.plan = self.plan._replace(layout=layout)

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return f"{self.mapping.name}, times in {self.plan.zone}"

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield decoded rows."""
        assembler = Assembler(self.plan.layout)
        with self.rows(progress) as source:
            yield from assembled(source, self.plan, assembler)
        self.gaps = assembler.gaps

    @contextmanager
    def rows(self, progress: Progress = lambda _: None, plan: Plan | None = None) -> Iterator[Rows]:
        """The file's rows as slots."""
        with opened(self._item, self.found.dialect, progress) as stream:
            columns = (plan or self.plan).columns
            if self.mapping.lines == "json":
                yield JsonLines(stream, self.found.columns.header, columns, self.label)
            else:
                width = self.found.width
                listed = [columns.get(i, Column(SKIP)) for i in range(width)]
                yield Lines(stream, listed, self.label, skip_header=not self.mapping.header)

    def words(self, at: int, kind: int) -> dict[int, str]:
        """The words of a column over the whole file: how the parser gives them, and as text."""
        plan = self.plan._replace(columns={at: Column(kind, 0)})
        found: dict[int, str] = {}
        table: Array = np.zeros((BATCH, 1), np.int64)
        with self.rows(plan=plan) as source:
            while n := source.read(table):
                values, first = np.unique(table[:n, 0], return_index=True)
                for value, row in zip(values.tolist(), first.tolist(), strict=True):
                    if value not in found and not source.status[row]:
                        found[value] = self._field(source.text(row, 1 << 20), at)
                table[:] = 0
                if len(found) > 10_000:
                    break
        return found

    def _field(self, text: str, at: int) -> str:
        if self.mapping.lines == "json":
            from emp.access.recordings.jsonlines import value_of

            return value_of(text, self.found.columns.header[at])
        fields = text.split(",")
        return fields[at].strip() if at < len(fields) else ""

    def _ids_are_unique(self) -> bool:
        """Whether a trade's id stands for one trade: an order's id, say, is shared by its fills."""
        wanted = (slots.ID, slots.TS, slots.PX, slots.SZ, slots.SIDE, slots.KIND)
        columns = {
            at: column._replace(target=wanted.index(column.target))
            for at, column in self.plan.columns.items()
            if column.target in wanted
        }
        words = self.plan.layout.trade_words
        table: Array = np.zeros((BATCH, len(wanted)), np.int64)
        parts: list[Array] = []
        looked_at = 0
        with self.rows(plan=self.plan._replace(columns=columns)) as source:
            while (n := source.read(table)) and looked_at < MOST_LOOKED_AT:
                looked_at += n
                good = table[:n][(source.status[:n] == 0) & (table[:n, 0] != 0)]
                if self.plan.layout.rows == slots.KINDS:
                    good = good[np.isin(good[:, 5], words)]
                trades = good.astype(np.uint64)
                content = trades[:, 0].copy()
                for column in trades.T[1:5]:
                    content = (content ^ column) * np.uint64(0x9E3779B97F4A7C15)
                    content ^= content >> np.uint64(29)
                parts.append(np.stack((trades[:, 0], content)))
                table[:n] = 0
        if not parts:
            return True
        ids, contents = np.concatenate(parts, axis=1)
        return len(np.unique(ids)) == len(np.unique(contents))

    def _symbols(self, instrument: Instrument) -> Array:
        """Hashes of the symbols that mean the instrument; refuse a file that has others only."""
        at = self.plan.symbol
        none: Array = np.zeros(0, np.int64)
        if at < 0:
            return none
        names = sorted({row[at] for row in self.found.samples if len(row) > at and row[at]})
        if names and all(is_of(name, instrument) for name in names):
            return np.array([hashed(name) for name in names], np.int64)
        found = {value: name for value, name in self.words(at, HASH).items() if name}
        ours = [value for value, name in found.items() if is_of(name, instrument)]
        if found and not ours:
            if all(name.isdigit() for name in found.values()):
                return none  # a vendor's own number says nothing
            raise DataError(not_of(sorted(found.values()), instrument, self.label))
        return np.array(ours, np.int64)

    def _first_time(self) -> int:
        """UTC ns of the first row that can be read."""
        table: Array = np.zeros((4096, slots.SLOTS), np.int64)
        with self.rows() as source:
            n = source.read(table)
            status = source.status[:n].copy()
            ts = table[:n, slots.TS] + table[:n, slots.CLOCK] + self.plan.midnight
            good = (status == 0) & (ts != 0)
            LocalClock(self.plan.zone).to_utc(ts, good)
            if not good.any():
                raise DataError(self._nothing(n, source.text, status))
            self._refuse_coarse(table[:n][good])
            return int(ts[good][0])

    def _refuse_coarse(self, rows: Array) -> None:
        """Refuse prices in another unit: cents for dollars, points for prices. All of them are whole multiples of many
        ticks then."""
        layout = self.plan.layout
        if layout.rows != slots.BOOK or layout.cells or self.mapping.price_unit != 1.0:
            return
        bids = rows[:, slots.BID_PX]
        bids = np.unique(bids[(bids != NO_PRICE) & (bids != 0)])
        coarse = int(np.gcd.reduce(bids)) if len(bids) >= FEW_PRICES else 1
        equity = self._instrument.asset_class is AssetClass.EQUITY and len(bids) >= ENOUGH_PRICES
        if coarse >= (COARSE_EQUITY if equity else COARSE):
            name, tick = self._instrument.name, self._instrument.tick
            raise DataError(
                f"{self.label}: prices are whole multiples of {coarse * tick:g}, and the tick of {name} is {tick:g}: "
                "are they written in another unit (price_unit of a mapping), or is its tick another (--catalogue)?"
            )

    def _nothing(self, n: int, text: Callable[[int], str], status: Array) -> str:
        if n == 0:
            return f"{self.label}: no row can be read"
        if _THOUSANDS.search(text(0)):
            return f"{self.label}: numbers have separators between thousands ({text(0)[:60]!r}): write them without"
        if 2 * int((status == Quarantine.ABSURD_PRICE).sum()) > n:
            return f"{self.label}: the first {n} rows {price_cause(self._instrument, [text(0), text(n - 1)])}"
        return f"{self.label}: none of the first {n} rows can be read; the first is {text(0)[:60]!r}"


def assembled(source: Rows, plan: Plan, assembler: Assembler) -> Iterator[Raw]:
    """Yield a source's rows as EVENT rows."""
    rows, kind, status = blank(BATCH)
    table: Array = np.zeros((BATCH, slots.SLOTS), np.int64)
    clock = LocalClock(plan.zone)
    grouped = plan.layout.rows == slots.LEVEL
    size = BATCH
    while n := source.read(table[:size]):
        if grouped and n == size:
            last = last_group(table[:n])
            if last > 0:
                source.unread(last)
                n = last
            elif size < 64 * BATCH:  # a whole book larger than the batch: read it in one
                size *= 2
                table = np.zeros((size, slots.SLOTS), np.int64)
                rows, kind, status = blank(size)
                source.unread(0)
                continue
        as_words(rows)[:n] = 0
        status[:n] = source.status[:n]
        kind[:n] = 0
        if plan.midnight:
            table[:n, slots.TS] = plan.midnight
        if plan.layout.rows == slots.KINDS:
            _borrow_times(table[:n, slots.TS])
        good = status[:n] == 0
        if plan.zone != "UTC":
            ts = table[:n, slots.TS] + table[:n, slots.CLOCK]
            clock.to_utc(ts, good)
            table[:n, slots.TS] = ts
            table[:n, slots.CLOCK] = 0
        assembler.run(table[:n], source.buf, rows[:n], kind[:n], status[:n])
        yield Raw(rows[:n], kind[:n], status[:n], source.text)
        table[:n] = 0


def _borrow_times(ts: Array) -> None:
    """Give messages without a time (a snapshot on subscribing) that of the next one, else of the one before."""
    missing = np.flatnonzero(ts == 0)
    if not len(missing) or len(missing) == len(ts):
        return
    there = np.flatnonzero(ts != 0)
    after = np.minimum(np.searchsorted(there, missing), len(there) - 1)
    ts[missing] = ts[there[after]]


def side_words(reader: TableReader) -> dict[int, str]:
    """The words of a reader's aggressor column, over the whole file."""
    return reader.words(reader.plan.side, WORD)
