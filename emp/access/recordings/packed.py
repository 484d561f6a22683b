"""Formats that are columns already (Databento MBP and BBO, Parquet, hftbacktest's arrays), brought into slots."""

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.access.recordings import dbn, slots
from emp.access.recordings.container import Item
from emp.access.recordings.detect import Format, Found
from emp.access.recordings.mapping import Columns, Mapping, fits, shipped
from emp.access.recordings.packing import Progress
from emp.access.recordings.plan import Plan, make_plan
from emp.access.recordings.reader import BATCH, Raw
from emp.access.recordings.scan import (
    CELL,
    CLOCK,
    DATE,
    EPOCH,
    HASH,
    INT,
    LEVEL_PX,
    LEVEL_SZ,
    LOT_DUST,
    NO_PRICE,
    OFF_GRID,
    STAMP,
    WORD,
    Column,
    hashed,
    word,
)
from emp.access.recordings.table import NOTHING, Assembler, assembled
from emp.access.recordings.whose import is_of, not_of
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array

_MALFORMED = int(Quarantine.MALFORMED)


def grid(values: Array, multiplier: float, out: Array, status: Array, fault: int) -> None:
    """Numbers to whole grid steps; those off the grid get `fault`, those that are not there NO_PRICE."""
    steps: Array = np.array(values, np.float64) * multiplier
    missing: Array = ~np.isfinite(steps)
    steps[missing] = 0.0
    whole: Array = np.floor(steps + 0.5)
    bad: Array = ((np.abs(steps - whole) > OFF_GRID) | (np.abs(steps) > 1e17)) & ~missing
    out[:] = np.where(missing, NO_PRICE, np.where(bad, 0, whole)).astype(np.int64)
    status[bad & (status == 0)] = fault


def sizes(values: Array, multiplier: float, out: Array, status: Array) -> None:
    """Sizes to whole lots, rounded down; what is not there is 0."""
    lots: Array = np.nan_to_num(
        np.asarray(values, np.float64) * multiplier, nan=0.0, posinf=1e18, neginf=-1e18
    )
    bad = np.abs(lots) > 1e17
    out[:] = np.where(bad, 0, np.floor(lots + LOT_DUST)).astype(np.int64)
    status[bad & (status == 0)] = int(Quarantine.ABSURD_SIZE)


class SlotBatches:
    """Rows of slots that come in batches, as `table.Rows`."""

    buf = NOTHING

    def __init__(self, batches: Iterator[tuple[Array, Array, Callable[[int], str]]]) -> None:
        self._batches = batches
        self.status: Array = np.zeros(0, np.uint8)
        self._table: Array = np.zeros((0, slots.SLOTS), np.int64)
        self._all_status = self.status
        self._at = self._begin = 0
        self._text: Callable[[int], str] = str

    def read(self, out: Array) -> int:
        """Fill rows of `out`."""
        if self._at == len(self._table):
            batch = next(self._batches, None)
            if batch is None:
                return 0
            self._table, self._all_status, self._text = batch
            self._at = 0
        self._begin = self._at
        n = min(len(out), len(self._table) - self._at)
        out[:n] = self._table[self._at : self._at + n]
        self.status = self._all_status[self._at : self._at + n]
        self._at += n
        return n

    def unread(self, row: int) -> None:
        """Let the next `read` begin with this row of the last one."""
        self._at = self._begin + row

    def text(self, row: int, most: int = 200) -> str:
        """A row as read."""
        return self._text(self._begin + row)[:most]


class PackedReader:
    """A recording whose slots come from `_tables`."""

    sortable = False

    def __init__(self, item: Item, plan: Plan, first_ts_ns: int) -> None:
        self.label = item.label
        self.stored_bytes = item.size
        self.flags = plan.flags
        self.gaps = 0
        self.plan = plan
        self.first_ts_ns = first_ts_ns

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return type(self).__name__.removesuffix("Reader")

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield decoded rows."""
        assembler = Assembler(self.plan.layout)
        yield from assembled(SlotBatches(self._tables(progress)), self.plan, assembler)
        self.gaps = assembler.gaps

    def _tables(self, progress: Progress) -> Iterator[tuple[Array, Array, Callable[[int], str]]]:
        raise NotImplementedError


def plain_layout(**changes: Any) -> slots.Layout:
    """A layout of whole books, changed in the fields that are named."""
    none: Array = np.zeros(0, np.int64)
    base = slots.Layout(
        rows=slots.BOOK,
        bids=0,
        asks=0,
        cells=False,
        ticks=1.0,
        lots=1.0,
        carry=False,
        venues=False,
        trades=False,
        volume=False,
        side=slots.BY_PRICE,
        has_ids=False,
        grouped=False,
        ids=0,
        received=False,
        symbols=none,
        book_words=none,
        snapshot_words=none,
        update_words=none,
        trade_words=none,
        whole_words=none,
        when_words=none,
        buys=none,
        sells=none,
        no_sides=none,
    )
    return base._replace(**changes)


class MbpReader(PackedReader):
    """Databento mbp-1, mbp-10, tbbo and bbo."""

    def __init__(self, file: dbn.DbnFile, instrument: Instrument) -> None:
        depth = 10 if 10 in file.rtypes else 1
        self._file = file
        self._ticks, self._lots = dbn.PRICE_UNIT / instrument.tick, 1 / instrument.lot
        layout = plain_layout(
            bids=depth,
            asks=depth,
            trades=not file.rtypes & set(dbn.RTYPE_BBO),
            side=slots.BY_WORD,
            grouped=not file.rtypes & set(dbn.RTYPE_BBO),
            received=True,
            when_words=np.array([ord("T")], np.int64),
            buys=np.array([ord("B")], np.int64),
            sells=np.array([ord("A")], np.int64),
            no_sides=np.array([ord("N")], np.int64),
        )
        flags = 0 if depth > 1 else int(EventFlag.NO_DEPTH)
        super().__init__(file.item, Plan({}, layout, "UTC", 0, flags, -1, -1), file.first_ts_ns)

    def _tables(self, progress: Progress) -> Iterator[tuple[Array, Array, Callable[[int], str]]]:
        for records, ours in self._file.records(dbn.MBP, progress):
            market = np.isin(records["rtype"], (dbn.RTYPE_TRADE, *dbn.RTYPE_MBP, *dbn.RTYPE_BBO))
            table: Array = np.zeros((len(records), slots.SLOTS), np.int64)
            status: Array = np.zeros(len(records), np.uint8)
            bbo = np.isin(records["rtype"], dbn.RTYPE_BBO)
            table[:, slots.TS] = np.where(bbo, records["ts_recv"], records["ts_event"])
            table[:, slots.RECV] = records["ts_recv"]
            self._price(records["price"], table[:, slots.PX], np.zeros(len(records), np.uint8))
            table[:, slots.SZ] = np.floor(records["size"] * self._lots + LOT_DUST)
            table[:, slots.SIDE] = records["side"]
            table[:, slots.WHEN] = records["action"]
            table[:, slots.GROUP] = np.where(bbo, slots.F_LAST, records["flags"])
            for i in range(self.plan.layout.bids):
                level = records["levels"][:, i]
                for px, sz, at_px, at_sz in (
                    ("bid_px", "bid_sz", slots.BID_PX, slots.BID_SZ),
                    ("ask_px", "ask_sz", slots.ASK_PX, slots.ASK_SZ),
                ):
                    self._price(level[px], table[:, at_px + i], status)
                    table[:, at_sz + i] = np.floor(level[sz] * self._lots + LOT_DUST)
            status[market & ~ours] = Quarantine.OTHER_INSTRUMENT
            status[~market] = Quarantine.OTHER_INSTRUMENT  # notes of the recorder
            yield table, status, lambda i, r=records: str(r[i])  # type: ignore[misc]

    def _price(self, prices: Array, out: Array, status: Array) -> None:
        there = prices != dbn.NO_PRICE
        grid(np.where(there, prices, np.nan), self._ticks, out, status, int(Quarantine.ABSURD_PRICE))


class ParquetReader(PackedReader):
    """A Parquet file whose columns a mapping describes."""

    def __init__(self, item: Item, instrument: Instrument, own: tuple[Mapping, ...] = ()) -> None:
        self._item = item
        table = _read_parquet(item)
        columns = Columns(table.column_names)
        mapping = _mapping_of(columns, own, item)
        found = Found(Format.PARQUET, mapping=mapping, columns=columns, samples=_samples(table))
        self.mapping, self.found = mapping, found
        plan = make_plan(mapping, columns, found.samples, item, instrument)
        self._arrow = table
        self._symbol = plan.symbol
        self._ours = self._symbols(instrument)
        layout = plan.layout._replace(symbols=self._ours)
        if layout.cells:
            raise DataError(f"{item.label}: Parquet with lists in cells is not read; write a column a level")
        first = self._slots(table.slice(0, BATCH), plan)[0][:, slots.TS]
        if not len(first):
            raise DataError(f"{item.label}: the file holds no rows")
        super().__init__(
            item,
            plan._replace(layout=layout, zone="UTC" if _aware(table, plan) else plan.zone),
            int(first[0]),
        )
        self.sortable = layout.rows == slots.BOOK and not layout.carry

    def _symbols(self, instrument: Instrument) -> Array:
        if self._symbol < 0:
            return np.zeros(0, np.int64)
        names = [str(one) for one in self._arrow.column(self._symbol).unique().to_pylist() if one is not None]
        ours = [name for name in names if is_of(name, instrument)]
        if names and not ours:
            raise DataError(not_of(names, instrument, self._item.label))
        return np.array([hashed(name) for name in ours], np.int64)

    def _tables(self, progress: Progress) -> Iterator[tuple[Array, Array, Callable[[int], str]]]:
        progress(self.stored_bytes)
        for start in range(0, self._arrow.num_rows, BATCH):
            part = self._arrow.slice(start, BATCH)
            made, status = self._slots(part, self.plan)
            yield made, status, lambda i, p=part: str([str(v) for v in p.slice(i, 1).to_pylist()[0].values()])  # type: ignore[misc]

    def _slots(self, part: pa.Table, plan: Plan) -> tuple[Array, Array]:
        table: Array = np.zeros((part.num_rows, slots.SLOTS), np.int64)
        status: Array = np.zeros(part.num_rows, np.uint8)
        for at, column in plan.columns.items():
            if column.target >= 0:
                _fill(part.column(at), column, table[:, column.target], status)
        return table, status


def _read_parquet(item: Item) -> pa.Table:
    try:
        if item.member is None:
            with pq.ParquetFile(item.path) as file:
                return file.read()
        with item.open() as stream:
            data = b"".join(iter(stream.read, b""))
        return pq.read_table(io.BytesIO(data))
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{item.label}: the Parquet file cannot be read: {str(error).splitlines()[0]}"
        ) from error


def _mapping_of(columns: Columns, own: tuple[Mapping, ...], item: Item) -> Mapping:
    for group in (own, shipped()):
        ranked = sorted(
            ((fits(m, columns), m.name, m) for m in group if m.lines != "json" and not m.header), reverse=True
        )
        if ranked and ranked[0][0]:
            best = ranked[0][2]
            if best.refuse:
                raise DataError(f"{item.label}: {best.refuse}")
            return best
    raise DataError(
        f"{item.label}: Parquet with the columns {', '.join(columns.header[:12])}, which no known format has; describe "
        "them in a mapping file (--mapping, see docs/recordings.md)"
    )


def _samples(table: pa.Table) -> list[list[str]]:
    head = table.slice(0, 40)
    columns = [[_as_text(value) for value in column.to_pylist()] for column in head.columns]
    return [list(row) for row in zip(*columns, strict=True)] if columns else []


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat(sep=" ") if hasattr(value, "isoformat") else str(value)


def _aware(table: pa.Table, plan: Plan) -> bool:
    """Whether times are instants by themselves: Arrow stamps are kept in UTC, with a zone or without."""
    times = [at for at, column in plan.columns.items() if column.target == slots.TS]
    return (
        bool(times)
        and pa.types.is_timestamp(table.schema.field(times[0]).type)
        and (table.schema.field(times[0]).type.tz is not None)
    )


_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _fill(values: pa.ChunkedArray, column: Column, out: Array, status: Array) -> None:
    """Write an Arrow column into its slot."""
    kind = values.type
    missing = values.is_null().to_numpy(zero_copy_only=False) if values.null_count else None
    if column.kind in (HASH, WORD):
        to = hashed if column.kind == HASH else word
        texts = ["" if one is None else str(one) for one in values.to_pylist()]
        known = {text: to(text) for text in set(texts)}
        out[:] = [known[text] for text in texts]
        return
    if column.kind in (EPOCH, STAMP, DATE, CLOCK):
        if pa.types.is_timestamp(kind):
            out[:] = (
                values.cast(pa.int64()).to_numpy(zero_copy_only=False) * _UNIT_NS[kind.unit]
                if missing is None
                else 0
            )
        elif pa.types.is_integer(kind):
            out[:] = values.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64) * 10 ** int(
                column.multiplier
            )
        elif pa.types.is_floating(kind):
            out[:] = (values.fill_null(0).to_numpy(zero_copy_only=False) * 10.0**column.multiplier).astype(
                np.int64
            )
        else:
            _parse_texts(values, column, out, status)
        if missing is not None:
            status[missing] = _MALFORMED
        return
    if column.kind == CELL:
        return
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        if pa.types.is_decimal(kind):
            values = values.cast(pa.float64())
        else:
            _parse_texts(values, column, out, status)
            return
    numbers = values.to_numpy(zero_copy_only=False)
    if column.kind == INT:
        out[:] = (
            np.nan_to_num(np.asarray(numbers, np.float64)).astype(np.int64)
            if missing is not None
            else numbers
        )
    elif column.kind == LEVEL_SZ:
        sizes(numbers, column.multiplier, out, status)
    else:
        grid(numbers, column.multiplier, out, status, int(column.fault))
        if column.kind != LEVEL_PX:
            out[out == NO_PRICE] = 0


def _parse_texts(values: pa.ChunkedArray, column: Column, out: Array, status: Array) -> None:
    """Numbers and times that are kept as text go through the csv parser."""
    from emp.access.recordings.lines import Lines

    texts = [
        "" if one is None else str(one).replace("\n", " ").replace(",", " ") for one in values.to_pylist()
    ]

    class _Once:
        data = ("\n".join(text or " " for text in texts) + "\n").encode()

        def read(self) -> bytes:
            data, self.data = self.data, b""
            return data

    lines = Lines(_Once(), [column._replace(target=0)], "parquet", skip_header=False)
    parsed: Array = np.zeros((len(texts), 1), np.int64)
    n = lines.read(parsed)
    out[:n] = parsed[:n, 0]
    status[:n][(lines.status[:n] != 0) & (status[:n] == 0)] = lines.status[:n][
        (lines.status[:n] != 0) & (status[:n] == 0)
    ]


# hftbacktest's event array (docs of hftbacktest, "Data"): bits of `ev`
_HBT_KINDS = 0xFF
_HBT_DEPTH, _HBT_TRADE, _HBT_CLEAR, _HBT_SNAPSHOT, _HBT_BBO = 1, 2, 3, 4, 5
_HBT_BUY, _HBT_SELL = 1 << 29, 1 << 28
_HBT_EXCH = 1 << 31
_HBT_FIELDS = ("ev", "exch_ts", "local_ts", "px", "qty")


class HftbacktestReader(PackedReader):
    """hftbacktest's `.npz` or `.npy`: one event a level."""

    def __init__(self, item: Item, instrument: Instrument) -> None:
        data = _read_npz(item)
        names = data.dtype.names or ()
        if any(name not in names for name in _HBT_FIELDS):
            raise DataError(
                f"{item.label}: a NumPy file without hftbacktest's fields {', '.join(_HBT_FIELDS)}; "
                "write csv or Parquet and describe it in a mapping file"
            )
        kinds = data["ev"] & _HBT_KINDS
        if not np.isin(kinds, (_HBT_DEPTH, _HBT_SNAPSHOT, _HBT_BBO)).any():
            raise DataError(f"{item.label}: hftbacktest data without a depth event: it holds no book")
        known = np.isin(kinds, (_HBT_DEPTH, _HBT_TRADE, _HBT_SNAPSHOT, _HBT_BBO))
        self._data = data[data["ev"] != 0]  # rows of zeros pad an array
        self._ticks, self._lots = 1 / instrument.tick, 1 / instrument.lot
        layout = plain_layout(
            rows=slots.LEVEL,
            trades=True,
            side=slots.BY_WORD,
            received=True,
            whole_words=np.array([_HBT_SNAPSHOT], np.int64),
            trade_words=np.array([_HBT_TRADE], np.int64),
            buys=np.array([_BUY], np.int64),
            sells=np.array([_SELL], np.int64),
            no_sides=np.array([0], np.int64),
        )
        super().__init__(item, Plan({}, layout, "UTC", 0, 0, -1, -1), int(data["exch_ts"][known][0]))
        self._from_nothing = not (kinds == _HBT_SNAPSHOT).any()

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield decoded rows; data without a snapshot are built from an empty book, as hftbacktest does."""
        assembler = Assembler(self.plan.layout)
        assembler.state["synced"] = self._from_nothing
        yield from assembled(SlotBatches(self._tables(progress)), self.plan, assembler)
        self.gaps = assembler.gaps

    def _tables(self, progress: Progress) -> Iterator[tuple[Array, Array, Callable[[int], str]]]:
        progress(self.stored_bytes)
        for start in range(0, len(self._data), BATCH):
            part = self._data[start : start + BATCH]
            table: Array = np.zeros((len(part), slots.SLOTS), np.int64)
            status: Array = np.zeros(len(part), np.uint8)
            kinds = (part["ev"] & _HBT_KINDS).astype(np.int64)
            table[:, slots.KIND] = table[:, slots.SNAPSHOT] = kinds
            table[:, slots.TS], table[:, slots.RECV] = part["exch_ts"], part["local_ts"]
            buy, sell = part["ev"] & _HBT_BUY != 0, part["ev"] & _HBT_SELL != 0
            table[:, slots.SIDE] = np.where(buy, _BUY, np.where(sell, _SELL, 0))
            grid(part["px"], self._ticks, table[:, slots.PX], status, int(Quarantine.ABSURD_PRICE))
            sizes(part["qty"], self._lots, table[:, slots.SZ], status)
            status[~np.isin(kinds, (_HBT_DEPTH, _HBT_TRADE, _HBT_SNAPSHOT, _HBT_BBO))] = _MALFORMED
            yield table, status, lambda i, p=part: str(p[i])  # type: ignore[misc]


_BUY, _SELL = word("b"), word("s")  # of a level the bid and the ask, of a trade the aggressor


def _read_npz(item: Item) -> Array:
    with item.open() as stream:
        data = b"".join(iter(stream.read, b""))
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        return np.asarray(loaded["data" if "data" in loaded.files else loaded.files[0]])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{item.label}: the NumPy file cannot be read: {str(error).splitlines()[0]}"
        ) from error
