"""From a mapping and a file's columns to the parser's columns and the layout of slots."""

import re
from datetime import date
from typing import NamedTuple

import numpy as np

from emp.access.recordings import slots
from emp.access.recordings.container import Item
from emp.access.recordings.mapping import Columns, Mapping, Names, names_of
from emp.access.recordings.scan import (
    CELL,
    CLOCK,
    DATE,
    EPOCH,
    GRID,
    HASH,
    INT,
    LEVEL_PX,
    LEVEL_SZ,
    MAY_LACK,
    NEAR,
    OPTIONAL,
    STAMP,
    TRADE_SZ,
    WORD,
    Column,
    hashed,
)
from emp.access.recordings.slots import Layout
from emp.access.recordings.stamps import (
    DMY,
    MDY,
    UNITS,
    AmbiguousDateError,
    Spelling,
    spelling_of,
)
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import LEVELS, Array
from emp.core.sessions import DAY_NS

_ZONES = {"et": "America/New_York", "ny": "America/New_York", "ct": "America/Chicago", "cn": "Asia/Shanghai"}
_ORDERS = {"dmy": DMY, "mdy": MDY}
_PRICE, _SIZE = Quarantine.ABSURD_PRICE, Quarantine.ABSURD_SIZE


class Plan(NamedTuple):
    """How a file is read."""

    columns: dict[int, Column]  # by place in the file
    layout: Layout
    zone: str  # of stamps without an offset
    midnight: int  # added to every time: of files whose times count from midnight; as if UTC
    flags: int  # EventFlag of every event
    symbol: int  # place of the symbol's column, or -1
    side: int  # place of the aggressor's column, or -1


def make_plan(
    mapping: Mapping, columns: Columns, samples: list[list[str]], item: Item, instrument: Instrument
) -> Plan:
    """Work out how a file is read; `samples` are the fields of its first rows.

    Raises:
        DataError: the time cannot be read, or not told for sure.
    """
    found: dict[int, Column] = {}
    ticks, lots = mapping.price_unit / instrument.tick, mapping.size_unit / instrument.lot

    def put(names: Names, column: Column) -> bool:
        at = columns.find(names) if names else -1
        if at >= 0:
            found.setdefault(at, column)
        return at >= 0

    zone, midnight = _time(mapping, columns, samples, item, found)
    if mapping.received:
        at = columns.find(mapping.received)
        if at >= 0 and at not in found:
            spelled = _spelling(item, mapping, columns, samples, mapping.received, "")
            found[at] = _time_column(spelled, slots.RECV)
        elif at >= 0:
            put(mapping.received, Column(HASH, -1))
    symbol = columns.find(mapping.symbol) if mapping.symbol else -1
    if symbol >= 0:
        found.setdefault(symbol, Column(HASH, slots.SYMBOL))
    bids, asks, sized, cells = _levels(mapping, columns, ticks, lots, found)
    kinds = mapping.kinds
    if kinds:
        put(kinds.column, Column(HASH, slots.KIND))
    if mapping.level:
        put(mapping.level.side, Column(WORD, slots.SIDE))
        put(mapping.level.price, Column(GRID, slots.PX, ticks, _PRICE))
        put(mapping.level.size, Column(LEVEL_SZ, slots.SZ, lots, _SIZE))
    if mapping.snapshot:
        put(mapping.snapshot.column, Column(HASH, slots.SNAPSHOT))
    if mapping.changes:
        put(mapping.changes, Column(CELL, slots.CHANGES))
    ids = 0
    if mapping.sequence:
        ids = 1
        put(mapping.sequence.last, Column(INT, slots.LAST))
        if put(mapping.sequence.first, Column(INT, slots.FIRST)):
            ids = 2
            if put(mapping.sequence.previous, Column(INT, slots.PREVIOUS)):
                ids = 3
    side, at_side, has_ids = _trade(mapping, columns, ticks, lots, found)
    grouped = bool(mapping.group) and put(mapping.group, Column(INT, slots.GROUP))
    if mapping.book and mapping.book.venue:
        put(mapping.book.venue, Column(HASH, slots.VENUE))
    rows = slots.BOOK
    if kinds:
        rows = slots.KINDS
    elif mapping.level:
        rows = slots.LEVEL
    elif not mapping.book:
        rows = slots.PRINTS
    flags = EventFlag(0)
    if mapping.book and not cells:
        if max(bids, asks) <= 1:
            flags |= EventFlag.NO_DEPTH
        if not sized:
            flags |= EventFlag.NO_SIZE
    layout = Layout(
        rows=rows,
        bids=bids,
        asks=asks,
        cells=cells,
        ticks=ticks,
        lots=lots,
        carry=bool(mapping.book and mapping.book.carry),
        venues=bool(mapping.book and mapping.book.venue),
        trades=mapping.trade is not None and columns.find(mapping.trade.price) >= 0,
        volume=bool(mapping.volume),
        side=side,
        has_ids=has_ids,
        grouped=grouped,
        ids=ids,
        received=any(column.target == slots.RECV for column in found.values()),
        symbols=np.zeros(0, np.int64),
        book_words=_words(kinds.book if kinds else ()),
        snapshot_words=_words(kinds.snapshot if kinds else ()),
        update_words=_words(kinds.update if kinds else ()),
        trade_words=_words(kinds.trade if kinds else ()),
        whole_words=_words(mapping.snapshot.words if mapping.snapshot else ()),
        when_words=_words(mapping.trade_when.words if mapping.trade_when else ()),
        buys=np.zeros(0, np.int64),
        sells=np.zeros(0, np.int64),
        no_sides=np.zeros(0, np.int64),
    )
    return Plan(found, layout, zone, midnight, int(flags), symbol, at_side)


def _words(words: tuple[str, ...]) -> Array:
    """Hashes of words, in the spellings of case that tables of different libraries give them."""
    spelled = {form for word in words for form in (word, word.lower(), word.upper(), word.capitalize())}
    return np.array(sorted(hashed(form) for form in spelled), np.int64)


def _levels(
    mapping: Mapping, columns: Columns, ticks: float, lots: float, found: dict[int, Column]
) -> tuple[int, int, bool, bool]:
    """Columns of the book; returns levels per side, whether they have sizes, and whether they stand in cells."""
    book = mapping.book
    if book is None:
        return 0, 0, True, mapping.level is None and bool(mapping.changes)
    depth = []
    sized = True
    for side, px, sz, cell in (
        (book.bid, slots.BID_PX, slots.BID_SZ, slots.BIDS),
        (book.ask, slots.ASK_PX, slots.ASK_SZ, slots.ASKS),
    ):
        at = columns.find(side.cell) if side.cell else -1
        if at >= 0:
            found[at] = Column(CELL, cell)
            depth.append(-1)
            continue
        n = 0
        for i in range(LEVELS):
            price = columns.level(side.price, book.first, i)
            if price < 0:
                continue
            size = columns.level(side.size, book.first, i) if side.size else -1
            found[price] = Column(LEVEL_PX, px + i, ticks, _PRICE)
            if size >= 0:
                found[size] = Column(LEVEL_SZ, sz + i, lots, _SIZE)
            elif i == 0:
                sized = False
            n = i + 1
        depth.append(n)
    cells = depth[0] < 0 and depth[1] < 0
    return max(depth[0], 0), max(depth[1], 0), sized, cells


def _trade(
    mapping: Mapping, columns: Columns, ticks: float, lots: float, found: dict[int, Column]
) -> tuple[int, int, bool]:
    """Columns of the trade; returns how the aggressor is told, where, and whether trades have ids."""
    trade = mapping.trade
    if trade is None or columns.find(trade.price) < 0:
        return slots.BY_PRICE, -1, False
    beside = mapping.book is not None or mapping.kinds is not None  # rows without a trade leave it empty
    kind = LEVEL_PX if beside else (NEAR if not (trade.side or trade.maker or trade.orders) else GRID)
    found.setdefault(columns.find(trade.price), Column(kind, slots.PX, ticks, _PRICE))
    size = mapping.volume or trade.size
    if columns.find(size) >= 0:
        found.setdefault(columns.find(size), Column(TRADE_SZ, slots.SZ, lots, _SIZE))
    if mapping.trade_when:
        found.setdefault(columns.find(mapping.trade_when.column), Column(HASH, slots.WHEN))
    has_ids = bool(trade.id) and columns.find(trade.id) >= 0
    if has_ids:
        found.setdefault(columns.find(trade.id), Column(HASH, slots.ID))
    if trade.orders:
        for names, slot in zip(trade.orders, (slots.BUYER, slots.SELLER), strict=True):
            found.setdefault(columns.find(names), Column(OPTIONAL, slot))
        return slots.BY_ORDERS, -1, has_ids
    for names, how in ((trade.maker, slots.BY_MAKER), (trade.side, slots.BY_WORD)):
        at = columns.find(names) if names else -1
        if at >= 0:
            found.setdefault(at, Column(WORD, slots.SIDE))
            return how, at, has_ids
    return slots.BY_PRICE, -1, has_ids


def _time(
    mapping: Mapping, columns: Columns, samples: list[list[str]], item: Item, found: dict[int, Column]
) -> tuple[str, int]:
    """Columns of the time; returns the zone of stamps and the midnight to add."""
    when = mapping.when
    at = columns.find(when.column)
    if when.since == "midnight":
        found[at] = Column(EPOCH, slots.CLOCK, UNITS[when.unit or "ms"])
        return when.zone or "UTC", date_in_name(item)
    if when.date:
        day = columns.find(when.date)
        spelled = _spelling(item, mapping, columns, samples, when.date, when.order, date_only=True)
        found[day] = Column(DATE, slots.TS, spelled.order)
        found[at] = Column(CLOCK, slots.CLOCK)
        return when.zone or zone_of(columns.header[at]), 0
    if when.unit:
        found[at] = Column(EPOCH, slots.TS, UNITS[when.unit])
        return "UTC", 0
    spelled = _spelling(item, mapping, columns, samples, when.column, when.order)
    found[at] = _time_column(spelled, slots.TS)
    if mapping.kinds and not spelled.epoch:
        found[at] = found[at]._replace(multiplier=spelled.param + MAY_LACK)
    if spelled.zoned:
        return "UTC", 0
    return when.zone or zone_of(columns.header[at]), 0


def _time_column(spelled: Spelling, slot: int) -> Column:
    return Column(EPOCH if spelled.epoch else STAMP, slot, spelled.param)


def zone_of(name: str) -> str:
    """The zone that a column's ending tells (ts_et), else UTC."""
    return _ZONES.get(name.lower().rpartition("_")[2], "UTC")


def _spelling(
    item: Item,
    mapping: Mapping,
    columns: Columns,
    samples: list[list[str]],
    names: Names,
    order: str,
    *,
    date_only: bool = False,
) -> Spelling:
    at = columns.find(names)
    name = columns.header[at] if at >= 0 else names_of(names)[0]
    values = [row[at] for row in samples if len(row) > at]
    try:
        spelled = spelling_of(values, date_only=date_only)
    except AmbiguousDateError:
        if order:
            return Spelling(False, _ORDERS[order], False)
        raise DataError(
            f"{item.label}: column {name!r} holds dates like {values[0]!r}: day or month first cannot be told; "
            "say so with a mapping (time: {column: …, order: dmy or mdy})"
        ) from None
    if spelled is None:
        shown = repr(values[0]) if values else "nothing"
        raise DataError(
            f"{item.label}: column {name!r} holds {shown}, which is no time that is known (see docs)"
        )
    return spelled


_DATE = re.compile(r"(?<!\d)((?:19|20)\d{2})[-_.]?(\d{2})[-_.]?(\d{2})(?!\d)")


def date_in_name(item: Item) -> int:
    """Ns of the midnight of the date in a file's name, as if UTC."""
    for found in _DATE.finditer(item.name):
        try:
            return (date(int(found[1]), int(found[2]), int(found[3])) - date(1970, 1, 1)).days * DAY_NS
        except ValueError:
            continue
    raise DataError(
        f"{item.label}: the name carries no date, and its times count from midnight; name it like GOOG_2012-06-21_…"
    )
