"""What a venue shows of a simulated market: books that can be believed, as every other door hands them on.

A market whose one side has run empty shows no book; trades of that time come with the next good one, as they do in a
feed of messages. See `emp.core.book`.
"""

from collections import Counter
from typing import Any

import numpy as np

from emp.core.book import ACCEPTED, JUDGE, judge, same_book
from emp.core.codes import EventFlag, Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import EVENT, Array

TRADE, VISIBLE = int(EventFlag.TRADE), int(EventFlag.VISIBLE)
STOP = int(EventFlag.HALT) | int(EventFlag.RESUME)


@kernel
def screen(rows: Any, state: Any, last: Any, waiting: Any, reasons: Any) -> int:
    """Judge EVENT rows in place and close the ranks, their numbers too; return how many are left at the front.

    A halt or a resume is shown whatever the book.

    Args:
        rows: EVENT[n].
        state: JUDGE[1].
        last: EVENT[1], the last row shown; its book tells whether the next one is VISIBLE.
        waiting: EVENT[1], whose trade fields hold what was traded since.
        reasons: int64[reasons of codes.Quarantine], counted up.
    """
    shown = 0
    for k in range(rows.size):
        row = rows[k]
        code = judge(row, state[0], row.ts)
        if row.flags & TRADE:
            add_trade(waiting[0], row)
        if code != ACCEPTED and row.flags & STOP == 0:
            reasons[code] += 1
            continue
        held = waiting[0]
        if held.trade_qty != 0:
            row.trade_px, row.trade_qty = held.trade_px, held.trade_qty
            row.trade_qty_last = held.trade_qty_last
            row.flags |= TRADE
            held.trade_px, held.trade_qty, held.trade_qty_last = 0, 0, 0
        if same_book(row, last[0]):
            row.flags &= ~np.uint32(VISIBLE)
        else:
            row.flags |= VISIBLE
        row.seq = last[0].seq + 1
        last[0] = row
        rows[shown] = row
        shown += 1
    return shown


@kernel
def add_trade(held: Any, row: Any) -> None:
    """Add a row's trade to those that wait: signed lots in all, the last price, and the lots done at it."""
    same = held.trade_qty != 0 and held.trade_px == row.trade_px
    held.trade_qty_last = held.trade_qty_last + row.trade_qty_last if same else row.trade_qty_last
    held.trade_px = row.trade_px
    held.trade_qty += row.trade_qty


class Screen:
    """Screens the rows of one simulated market."""

    def __init__(self) -> None:
        self._state = np.zeros(1, JUDGE)
        self._last = np.zeros(1, EVENT)
        self._waiting = np.zeros(1, EVENT)
        self._reasons = np.zeros(len(Quarantine), np.int64)

    def show(self, rows: Array) -> tuple[Array, Counter[Quarantine]]:
        """The rows that may be shown, and how many were kept back by reason; `rows` is written over."""
        self._reasons[:] = 0
        n = screen(rows, self._state, self._last, self._waiting, self._reasons)
        kept = Counter({Quarantine(int(r)): int(self._reasons[r]) for r in np.flatnonzero(self._reasons)})
        return rows[:n], kept
