"""A book rebuilt from its orders or levels: price ladders with the best price last, and a table of orders.

Sides are 0 for bids and 1 for asks, prices ticks, quantities lots. Messages may leave orders behind that are
long gone (a recording of the ten best levels does not tell of cancels further out); such ghosts are swept away
as soon as the market trades or quotes through them, and what their orders do later is ignored.
"""

from typing import Any

import numpy as np

from emp.core.numba.bits import move_items
from emp.core.numba.jit import kernel
from emp.core.records import LEVELS, Array

BID, ASK = 0, 1

EMPTY = -(1 << 62)
"""Key of a free place in the table of orders."""

NEAR = 16
"""So many levels from the touch a price is looked for one by one; most changes are there."""

ORDER = np.dtype([("key", "i8"), ("px", "i8"), ("qty", "i8"), ("side", "i8"), ("stamp", "i8")], align=True)
"""A resting order; `stamp` is the ladder's clock when it came."""

LEVEL = np.dtype([("px", "i8"), ("sz", "i8"), ("stamp", "i8")], align=True)
"""A price level; `stamp` is the ladder's clock when it came into being."""

BOOK = np.dtype([("n", "i8", (2,)), ("clock", "i8"), ("orders", "i8")], align=True)
"""Levels in use per side, a counter of changes, and the number of orders in the table."""


class OrderBook:
    """Owns the arrays of one rebuilt book; they grow between batches only."""

    def __init__(self) -> None:
        self.book: Array = np.zeros(1, BOOK)
        self.levels: Array = np.zeros((2, 1024), LEVEL)
        self.table: Array = np.zeros(1 << 12, ORDER)
        self.table["key"] = EMPTY

    def reserve(self, rows: int) -> None:
        """Make room for so many more orders, each perhaps at a price of its own."""
        self.reserve_levels(rows)
        orders = int(self.book["orders"][0]) + rows
        if 2 * orders > len(self.table):
            table: Array = np.zeros(1 << (4 * orders).bit_length(), ORDER)
            table["key"] = EMPTY
            rehash(self.table, table)
            self.table = table

    def reserve_levels(self, rows: int) -> None:
        """Make room for so many more levels."""
        used = int(self.book["n"].max())
        if used + rows > self.levels.shape[1]:
            grown: Array = np.zeros((2, 2 * (used + rows)), LEVEL)
            grown[:, :used] = self.levels[:, :used]
            self.levels = grown


@kernel
def _slot(table: Any, key: int) -> Any:
    """Place of a key in the table, or the free place where it belongs (Fibonacci hashing, linear probing)."""
    mask = len(table) - 1
    at = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while table[at].key != key and table[at].key != EMPTY:
        at = (at + 1) & mask
    return at


@kernel
def rehash(old: Any, new: Any) -> None:
    """Copy all orders into an empty, larger table."""
    for i in range(len(old)):
        if old[i].key != EMPTY:
            at = _slot(new, old[i].key)
            new[at] = old[i]


@kernel
def find_order(table: Any, key: int) -> Any:
    """Place of an order in the table, or -1."""
    at = _slot(table, key)
    return at if table[at].key == key else -1


@kernel
def _forget(book: Any, table: Any, at: int) -> None:
    """Free a place, moving later ones of the same run back (Knuth, TAOCP 6.4, algorithm R)."""
    mask = len(table) - 1
    book.orders -= 1
    free = at
    j = at
    while True:
        j = (j + 1) & mask
        if table[j].key == EMPTY:
            break
        home = np.int64((np.uint64(table[j].key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
        if ((j - home) & mask) >= ((j - free) & mask):
            table[free] = table[j]
            free = j
    table[free].key = EMPTY


@kernel
def _place(levels: Any, book: Any, side: int, px: int) -> Any:
    """Index of the last level that is not better than px, or -1."""
    sign = 1 if side == BID else -1
    i = book.n[side] - 1
    near = max(i - NEAR, -1)
    while i > near and (levels[side, i].px - px) * sign > 0:
        i -= 1
    if i > near or i < 0:
        return i
    low: Any = 0  # far from the touch: halve, without a branch that cannot be foreseen
    n = i + 1
    while n > 1:
        half = n >> 1
        low += half if (levels[side, low + half].px - px) * sign <= 0 else 0
        n -= half
    return low if (levels[side, low].px - px) * sign <= 0 else low - 1


@kernel
def change_level(levels: Any, book: Any, side: int, px: Any, delta: Any) -> None:
    """Add lots to a level or take them away; levels appear and vanish."""
    i = _place(levels, book, side, px)
    if i >= 0 and levels[side, i].px == px:
        levels[side, i].sz += delta
        if levels[side, i].sz <= 0:
            _remove(levels, book, side, i)
    elif delta > 0:
        move_items(levels[side], i + 2, i + 1, book.n[side] - i - 1)
        levels[side, i + 1].px = px
        levels[side, i + 1].sz = delta
        levels[side, i + 1].stamp = book.clock
        book.n[side] += 1


@kernel
def set_level(levels: Any, book: Any, side: int, px: Any, sz: Any) -> None:
    """Set the lots of a level; 0 removes it."""
    i = _place(levels, book, side, px)
    if i >= 0 and levels[side, i].px == px:
        if sz > 0:
            levels[side, i].sz = sz
        else:
            _remove(levels, book, side, i)
    elif sz > 0:
        change_level(levels, book, side, px, sz)


@kernel
def _remove(levels: Any, book: Any, side: int, i: int) -> None:
    move_items(levels[side], i, i + 1, book.n[side] - i - 1)
    book.n[side] -= 1


@kernel
def sweep_away(levels: Any, book: Any, side: int, px: int, touching: bool) -> None:
    """Drop the levels better than px (and px itself where `touching`): the market is past them."""
    sign = 1 if side == BID else -1
    while book.n[side] > 0:
        ahead = (levels[side, book.n[side] - 1].px - px) * sign
        if ahead < 0 or (ahead == 0 and not touching):
            break
        book.n[side] -= 1


@kernel
def forget_beyond(levels: Any, book: Any, most: int) -> None:
    """Drop the levels beyond the `most` best of each side: nothing more will be told of them."""
    for side in range(2):
        extra = book.n[side] - most
        if extra > 0:
            move_items(levels[side], 0, extra, most)
            book.n[side] = most


@kernel
def add_order(levels: Any, book: Any, table: Any, key: int, side: int, px: Any, qty: Any) -> None:
    """Let an order rest; an order of the same key is replaced."""
    at = _slot(table, key)
    if table[at].key == key:
        take(levels, book, table, at, table[at].qty)
        at = _slot(table, key)
    book.clock += 1
    book.orders += 1
    table[at].key = key
    table[at].px = px
    table[at].qty = qty
    table[at].side = side
    table[at].stamp = book.clock
    change_level(levels, book, side, px, qty)


@kernel
def take(levels: Any, book: Any, table: Any, at: int, qty: Any) -> None:
    """Take lots from the order at a place of the table; with its last lot it is gone."""
    side, px, stamp = table[at].side, table[at].px, table[at].stamp
    qty = min(qty, table[at].qty)
    i = _place(levels, book, side, px)
    # a level younger than the order stands where the order's own level was swept away
    if i >= 0 and levels[side, i].px == px and levels[side, i].stamp <= stamp:
        change_level(levels, book, side, px, -qty)
    table[at].qty -= qty
    if table[at].qty == 0:
        _forget(book, table, at)


@kernel
def clear(book: Any, table: Any) -> None:
    """Empty the book."""
    book.n[BID] = 0
    book.n[ASK] = 0
    book.orders = 0
    for i in range(len(table)):
        table[i].key = EMPTY


@kernel
def show(levels: Any, book: Any, row: Any) -> None:
    """Write the best LEVELS of both sides into an EVENT row whose book is zero."""
    row.n_bid = min(LEVELS, book.n[BID])
    row.n_ask = min(LEVELS, book.n[ASK])
    for i in range(row.n_bid):
        level = levels[BID, book.n[BID] - 1 - i]
        row.bid_px[i] = level.px
        row.bid_sz[i] = level.sz
    for i in range(row.n_ask):
        level = levels[ASK, book.n[ASK] - 1 - i]
        row.ask_px[i] = level.px
        row.ask_sz[i] = level.sz
