"""Quote ticks: time, bid, ask, and sizes where the source has them."""

from collections.abc import Iterator
from typing import NamedTuple

from emp.access.recordings import fold
from emp.access.recordings.container import Item, Progress
from emp.access.recordings.detect import Found
from emp.access.recordings.lines import Lines
from emp.access.recordings.reader import (
    BATCH,
    Raw,
    as_words,
    blank,
    first_time,
    local_to_utc,
    read_levels,
    time_column,
    word_of,
)
from emp.access.recordings.scan import LEVEL_PX, LEVEL_SZ, SKIP, Column
from emp.core.codes import EventFlag, Quarantine
from emp.core.instrument import Instrument


class SizeColumns(NamedTuple):
    """Names of the two size columns and the units of one."""

    bid: str
    ask: str
    units: float


SIZES = (
    SizeColumns("bid_vol_m", "ask_vol_m", 1e6),
    SizeColumns("bid_vol", "ask_vol", 1.0),
    SizeColumns("bid_sz", "ask_sz", 1.0),
    SizeColumns("bid_size", "ask_size", 1.0),
    SizeColumns("bid_qty", "ask_qty", 1.0),
)


class QuotesReader:
    """A csv of best bid and ask."""

    def __init__(self, item: Item, found: Found, instrument: Instrument) -> None:
        self.label = item.label
        self.stored_bytes = item.size
        self._item = item
        at, self._zone = time_column(found.header, item)
        sizes = next((s for s in SIZES if s.bid in found.header and s.ask in found.header), None)
        self.flags = int(EventFlag.NO_DEPTH | (EventFlag(0) if sizes else EventFlag.NO_SIZE))
        columns = {"bid": ("bid_px", 1 / instrument.tick), "ask": ("ask_px", 1 / instrument.tick)}
        if sizes:
            columns[sizes.bid] = ("bid_sz", sizes.units / instrument.lot)
            columns[sizes.ask] = ("ask_sz", sizes.units / instrument.lot)
        self._columns = [Column(SKIP) for _ in found.header]
        self._columns[found.header.index(at.name)] = at.column
        for name, (field, multiplier) in columns.items():
            price = field.endswith("px")
            kind, fault = (LEVEL_PX, Quarantine.ABSURD_PRICE) if price else (LEVEL_SZ, Quarantine.ABSURD_SIZE)
            self._columns[found.header.index(name)] = Column(kind, word_of(field), multiplier, fault)
        self.first_ts_ns = first_time(item, self._columns, self._zone)

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the quotes."""
        rows, kind, status = blank(BATCH)
        kind[:] = fold.QUOTE
        with self._item.open(progress) as stream:
            lines = Lines(stream, self._columns, self.label, skip_header=True)
            while True:
                as_words(rows)[:] = 0
                n = lines.read(as_words(rows))
                if n == 0:
                    return
                read_levels(rows[:n], 1, 1)
                status[:n] = lines.status[:n]
                local_to_utc(rows["ts"][:n], self._zone)
                rows["ts_recv"] = rows["ts"]
                yield Raw(rows[:n], kind[:n], status[:n], lines.text)
