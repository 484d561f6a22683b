"""SGX books: a TimeStamp line, then a line of bid, size, ask, size per level; prices are index points * 100."""

from collections.abc import Iterator
from typing import Any

from emp.access.recordings import fold
from emp.access.recordings.container import Item
from emp.access.recordings.detect import Found
from emp.access.recordings.dialect import opened
from emp.access.recordings.lines import Lines
from emp.access.recordings.localtime import LocalClock
from emp.access.recordings.packing import Progress
from emp.access.recordings.reader import BATCH, Raw, as_words, blank, word_of
from emp.access.recordings.scan import LEVEL_PX, LEVEL_SZ, WORD, Column, parse_field, word
from emp.access.recordings.stamps import YMD, parse_stamp
from emp.core.codes import Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.numba.jit import kernel
from emp.core.records import LEVELS

ZONE = "Asia/Singapore"
PRICE_UNIT = 0.01

_MALFORMED = int(Quarantine.MALFORMED)
_COMMA, _NL, _CR = (ord(c) for c in ",\n\r")
_STAMP = word("TimeStam")
_TS = word_of("ts")
_N_LEVELS = word_of("n_bid")  # n_bid and n_ask, four bytes each
_BLOCK = tuple(word_of(field) for field in ("bid_px", "bid_sz", "ask_px", "ask_sz"))


@kernel
def scan_blocks(
    buf: Any,
    pos: int,
    end: int,
    ended: bool,
    multipliers: Any,
    faults: Any,
    out: Any,
    status: Any,
    begin: Any,
    row: int,
) -> Any:
    """As `scan.scan`, for rows of several lines: a block ends where the next TimeStamp line or the file does."""
    while row < len(out) and pos < end:
        p = pos
        level = -1
        fault = _MALFORMED  # until a TimeStamp line opens the block
        while p < end:
            if buf[p] == _NL or buf[p] == _CR:
                p += 1
                continue
            at, name, _ = parse_field(buf, p, WORD, 1.0, 0)
            if name == _STAMP:
                if level >= 0 or p > pos:
                    break
                at, value = parse_stamp(buf, at + 1, YMD)
                fault = _MALFORMED if value < 0 or buf[at - 1] == _NL else 0
                out[row, _TS] = value
                p = at
                level = 0
            elif level >= 0:
                p, bad = _level(buf, p, multipliers, faults, level, out[row])
                fault = bad if fault == 0 else fault
                level += 1
            while buf[p] != _NL:
                p += 1
                fault = _MALFORMED if fault == 0 and buf[p] != _NL and buf[p] != _CR else fault
            p += 1
        if p >= end and not ended:
            break
        levels = min(max(level, 0), LEVELS)
        out[row, _N_LEVELS] = levels | levels << 32
        status[row] = fault
        begin[row] = pos
        row += 1
        pos = p
    return pos, row


@kernel
def _level(buf: Any, p: int, multipliers: Any, faults: Any, level: int, out: Any) -> Any:
    """Parse one line of bid, size, ask, size; return (end, status)."""
    fault = 0
    for c in range(4):
        p, value, bad = parse_field(buf, p, LEVEL_SZ if c % 2 else LEVEL_PX, multipliers[c], faults[c])
        if fault == 0:
            fault = bad
        if level < LEVELS:
            out[_BLOCK[c] + level] = value
        if c < 3:
            if buf[p] != _COMMA:
                return p, _MALFORMED
            p += 1
    return p, fault


class Blocks(Lines):
    """Rows of blocks of lines."""

    def scan_into(self, out: Any, row: int) -> Any:
        """Parse the blocks that are whole."""
        return scan_blocks(
            self.buf,
            self.pos,
            self.end,
            self.ended,
            self.columns.multipliers,
            self.columns.faults,
            out,
            self.status,
            self.begin,
            row,
        )


class SgxReader:
    """A csv of 3-level books."""

    flags = 0
    gaps = 0
    sortable = False

    def __init__(self, item: Item, found: Found, instrument: Instrument) -> None:
        self.label = item.label
        self.stored_bytes = item.size
        self._item = item
        self._dialect = found.dialect
        price, size = PRICE_UNIT / instrument.tick, 1 / instrument.lot
        self._columns = [
            Column(LEVEL_PX, -1, price, Quarantine.ABSURD_PRICE),
            Column(LEVEL_SZ, -1, size, Quarantine.ABSURD_SIZE),
        ] * 2
        first = next(self.batches(lambda _: None), None)
        good = first.rows["ts"][first.status == 0] if first is not None else []
        if not len(good):
            raise DataError(f"{item.label}: no book can be read")
        self.first_ts_ns = int(good[0])

    def describe(self) -> str:
        """What it is read as, and what is assumed."""
        return f"SGX books, times in {ZONE}"

    def batches(self, progress: Progress) -> Iterator[Raw]:
        """Yield the books."""
        rows, kind, status = blank(BATCH)
        kind[:] = fold.QUOTE
        clock = LocalClock(ZONE)
        with opened(self._item, self._dialect, progress) as stream:
            blocks = Blocks(stream, self._columns, self.label, skip_header=True)
            while True:
                as_words(rows)[:] = 0
                n = blocks.read(as_words(rows))
                if n == 0:
                    return
                status[:n] = blocks.status[:n]
                clock.to_utc(rows["ts"][:n], status[:n] == 0)
                rows["ts_recv"] = rows["ts"]
                yield Raw(rows[:n], kind[:n], status[:n], blocks.text)
