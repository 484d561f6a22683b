"""What the public sees of a book: EVENT rows."""

from typing import Any

from emp.core.book import same_book
from emp.core.codes import EventFlag
from emp.core.numba.jit import kernel
from emp.core.records import LEVELS
from emp.sim.book.book import (
    BEST,
    BUY,
    LO,
    MASK,
    SELL,
    TRADE_LAST,
    TRADE_PX,
    TRADE_QTY,
    level_of,
    next_level,
    u,
)

VISIBLE = int(EventFlag.VISIBLE)
TRADE = int(EventFlag.TRADE)


@kernel
def _write_side(b: Any, side: int, px_out: Any, sz_out: Any) -> int:
    """Write up to LEVELS levels; return how many, and the sum of changes through px_out/sz_out."""
    px = int(b[u(BEST + side)])
    end = int(b[u(LO)]) + (0 if side == BUY else b[u(MASK)])
    n = 0
    while n < LEVELS and px != end:
        px_out[n] = px
        sz_out[n] = b[u(level_of(b, side, px))]
        n += 1
        px = next_level(b, side, px)
    for i in range(n, LEVELS):
        px_out[i] = 0
        sz_out[i] = 0
    return n


@kernel
def write_event(b: Any, row: Any, ts: int, seq: int, instrument: int) -> None:
    """Write the book and its last trade as one EVENT row; the VISIBLE flag is set by `mark_visible`."""
    row.ts = ts
    row.ts_recv = ts
    row.seq = seq
    row.instrument = instrument
    row.n_bid = _write_side(b, BUY, row.bid_px, row.bid_sz)
    row.n_ask = _write_side(b, SELL, row.ask_px, row.ask_sz)
    row.trade_px = b[TRADE_PX]
    row.trade_qty = b[TRADE_QTY]
    row.trade_qty_last = b[TRADE_LAST]
    row.flags = TRADE if b[TRADE_LAST] != 0 else 0


@kernel
def mark_visible(row: Any, before: Any) -> None:
    """Set VISIBLE on a row whose levels differ from the row before."""
    if not same_book(row, before):
        row.flags |= VISIBLE
