"""What Binance's messages make of a book: the compiled half of `binance`.

Depth messages are differences and only mean something on top of a snapshot, without a gap (Binance, "How to manage a
local order book correctly"): spot messages follow each other by U == u + 1, futures messages by pu == u. From a break
on, and until a snapshot fits, rows are UNKNOWN_ORDER, trades too. bookTicker messages carry update ids of the same
count, so the newer of the two tells the best prices. A trade counts once, whether it comes as @trade, as @aggTrade, or
both.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.recordings import fold
from emp.access.recordings.cells import apply_cell, next_level
from emp.access.recordings.orders import ASK, BID, LEVEL, OrderBook, set_level, show, sweep_away
from emp.access.recordings.scan import (
    LOT_DUST,
    OFF_GRID,
    hashed,
    parse_number,
    power_of_ten,
)
from emp.core.book import MAX_LOTS, MAX_TICKS
from emp.core.codes import Quarantine
from emp.core.numba.jit import kernel
from emp.core.records import Array

_MALFORMED = int(Quarantine.MALFORMED)
_UNKNOWN = int(Quarantine.UNKNOWN_ORDER)
_DUPLICATE = int(Quarantine.DUPLICATE)
_OTHER = int(Quarantine.OTHER_INSTRUMENT)
_ABSURD_PRICE = int(Quarantine.ABSURD_PRICE)
_ABSURD_SIZE = int(Quarantine.ABSURD_SIZE)

MAX_WAITING = 10_000
"""Depth messages kept for a snapshot that is still to come."""

MOST_OLD = 100
"""Depth messages in a row that the book has already, before it is believed that ids have begun anew: two collectors of
one stream are not so far apart."""

POOL = 1 << 17
"""Levels kept of them, at first."""

(
    AT,
    NAME,
    STREAM,
    SYMBOL,
    SENT,
    TRADED,
    FIRST,
    LAST,
    PREVIOUS,
    BIDS,
    BID_SIZE,
    ASKS,
    ASK_SIZE,
    PX,
    QTY,
    MAKER,
    TRADE_ID,
    FROM_ID,
    TO_ID,
    SNAPSHOT,
    PARTIAL,
    REST_BIDS,
    REST_ASKS,
    WIDTH,
) = range(24)

_DEPTH, _TRADE, _AGG, _TICKER = (hashed(name) for name in ("depthUpdate", "trade", "aggTrade", "bookTicker"))
_TRUE = hashed("true")
_AT_SIGN, _QUOTE, _ZERO = (ord(c) for c in '@"0')
_DIGITS = (ord("0"), ord("9"))
_D, _B, _T, _A = (ord(c) for c in "dbta")

WAITING = np.dtype([("U", "i8"), ("u", "i8"), ("pu", "i8"), ("first", "i8"), ("n", "i8")], align=True)
STATE = np.dtype(
    [
        ("synced", "i8"),
        ("gap", "i8"),  # the next book comes after a break
        ("gaps", "i8"),
        ("last", "i8"),  # u of the last depth message applied
        ("origin", "i8"),  # id of the snapshot that the book was made of
        ("old", "i8"),  # depth messages in a row that the book has already
        ("boundary", "i8"),  # a file has begun and no depth message of it was applied
        ("top", "i8", (5,)),  # u of the last bookTicker, bid, its size, ask, its size
        ("trade", "i8", (3,)),  # exchange time, sign and stamp of the trade that was the line before
        ("traded", "i8"),  # id of the last trade counted, and of the last one inside an aggregate
        ("aggregated", "i8"),
        ("waiting", "i8"),
        ("pooled", "i8"),
        ("stamp", "i8"),  # of the line before
        ("other", "i8"),  # last update id of another symbol in the file
    ],
    align=True,
)


class Rules(NamedTuple):
    """What a file is like."""

    ticks: float
    lots: float
    symbols: Array  # hashes of the symbols that mean the instrument
    lower: Array  # the same in lower case, as streams write them
    top_only: bool  # no depth in it: best prices alone
    partial: bool  # whole books alone: no differences


@kernel
def _stream_kind(buf: Any, cell: int) -> Any:
    """First letter of the stream's kind and whether a digit follows `depth`; and the symbol's hash."""
    p = cell >> 32
    end = p + (cell & 0xFFFFFFFF)
    h = np.uint64(0xCBF29CE484222325)
    while p < end and buf[p] != _AT_SIGN:
        h = (h ^ np.uint64(buf[p])) * np.uint64(0x100000001B3)
        p += 1
    letter = np.int64(buf[p + 1]) if p + 1 < end else 0
    digit = p + 6 < end and _ZERO <= buf[p + 6] <= _ZERO + 9
    return letter, digit, np.int64(h)


@kernel
def _number(buf: Any, cell: int, multiplier: float, whole: bool) -> Any:
    """A number of a cell in grid steps, rounded down where `whole`; -1 where it cannot be."""
    p, mantissa, exponent, digits = parse_number(buf, cell >> 32)
    if digits == 0 or p != (cell >> 32) + (cell & 0xFFFFFFFF):
        return -1
    steps = mantissa * (multiplier * power_of_ten(exponent))
    if not abs(steps) <= MAX_LOTS:
        return -1
    if whole:
        return np.int64(np.floor(steps + LOT_DUST))
    value = np.int64(np.floor(steps + 0.5))
    return value if abs(steps - value) <= OFF_GRID else -1


@kernel
def set_top(bid: int, bid_sz: int, ask: int, ask_sz: int, levels: Any, book: Any) -> None:
    """Make these the best prices: what is better is gone."""
    sweep_away(levels, book, BID, bid, False)
    set_level(levels, book, BID, bid, bid_sz)
    sweep_away(levels, book, ASK, ask, False)
    set_level(levels, book, ASK, ask, ask_sz)


@kernel
def _follows(first_id: int, last_id: int, previous: int, last: int, first: bool) -> bool:
    """Whether no update is missing before a message; the first one may begin inside the snapshot."""
    if first and first_id <= last + 1 <= last_id + 1:
        return True
    return bool(previous == last if previous > 0 else last + 1 == first_id)


@kernel
def _pool(buf: Any, cell: int, side: int, rules: Any, state: Any, pool: Any) -> int:
    """Keep the levels of a cell; 0, or why it cannot be read."""
    p = cell >> 32
    end = p + (cell & 0xFFFFFFFF)
    while p < end:
        p, _, m0, e0, m1, e1 = next_level(buf, p, end)
        if p == -2:
            return _MALFORMED
        if p == -1:
            return 0
        steps = m0 * (rules.ticks * power_of_ten(e0))
        lots = m1 * (rules.lots * power_of_ten(e1))
        px = np.int64(np.floor(steps + 0.5))
        if not abs(steps) <= MAX_TICKS or abs(steps - px) > OFF_GRID:
            return _ABSURD_PRICE
        if not 0 <= lots <= MAX_LOTS:
            return _ABSURD_SIZE
        if state.pooled == len(pool):
            return _UNKNOWN
        pool[state.pooled].px = px
        pool[state.pooled].sz = np.int64(np.floor(lots + LOT_DUST))
        pool[state.pooled].stamp = side
        state.pooled += 1
    return 0


@kernel
def _wait(t: Any, buf: Any, rules: Any, state: Any, waiting: Any, pool: Any) -> None:
    """Keep a depth message for a snapshot that is still to come."""
    if state.waiting == len(waiting):
        return
    first = state.pooled
    bad = _pool(buf, t[BIDS], BID, rules, state, pool)
    if bad == 0:
        bad = _pool(buf, t[ASKS], ASK, rules, state, pool)
    if bad != 0:
        state.pooled = first
        return
    message = waiting[state.waiting]
    message.U, message.u, message.pu = t[FIRST], t[LAST], t[PREVIOUS]
    message.first, message.n = first, state.pooled - first
    state.waiting += 1


@kernel
def _break(state: Any) -> None:
    if state.synced == 1:
        state.gaps += 1
    state.synced = 0
    state.gap = 1
    state.waiting = 0
    state.pooled = 0


@kernel
def _apply_top(state: Any, levels: Any, book: Any) -> None:
    if state.top[0] > state.last:
        set_top(state.top[1], state.top[2], state.top[3], state.top[4], levels, book)


@kernel
def _depth(t: Any, buf: Any, rules: Any, state: Any, memory: Any) -> Any:
    """A difference: (kind, status)."""
    waiting, pool, book, levels = memory
    if state.synced == 1 and t[LAST] <= state.last:
        state.old += 1
        if state.old <= MOST_OLD:
            return fold.PART, 0  # the snapshot has it
        _break(state)  # no copy is so far behind: the ids have begun anew
    state.old = 0
    if state.synced == 1 and not _follows(t[FIRST], t[LAST], t[PREVIOUS], state.last, state.last >= t[FIRST]):
        _break(state)
    state.boundary = 0
    if state.synced == 0:
        _wait(t, buf, rules, state, waiting, pool)
        return fold.NOTE, _UNKNOWN
    bad = apply_cell(buf, t[BIDS], BID, rules, levels, book)
    if bad == 0:
        bad = apply_cell(buf, t[ASKS], ASK, rules, levels, book)
    state.last = t[LAST]
    if bad != 0:
        _break(state)  # what it changed is not known
        return fold.NOTE, bad
    _apply_top(state, levels, book)
    return fold.CHANGE, 0


@kernel
def _snapshot(t: Any, buf: Any, rules: Any, state: Any, memory: Any) -> Any:
    """A REST snapshot: (kind, status)."""
    waiting, pool, book, levels = memory
    if state.synced == 1 and state.boundary == 0:
        if t[SNAPSHOT] >= state.origin:
            return fold.PART, 0
        _break(state)  # older than the book ever was: the ids have begun anew
    if state.other != 0 and state.waiting > 0:
        # several symbols in one file: a snapshot names none, its id tells whose it is
        mine = abs(t[SNAPSHOT] - waiting[state.waiting - 1].u)
        if abs(t[SNAPSHOT] - state.other) < mine:
            return fold.NOTE, _OTHER
    book.n[BID] = 0
    book.n[ASK] = 0
    bad = apply_cell(buf, t[REST_BIDS], BID, rules, levels, book)
    if bad == 0:
        bad = apply_cell(buf, t[REST_ASKS], ASK, rules, levels, book)
    if bad != 0:
        _break(state)
        return fold.NOTE, bad
    state.synced = 1
    state.boundary = 0
    state.last = t[SNAPSHOT]
    if t[SNAPSHOT] < state.origin:
        state.top[0] = 0  # of the count before
    state.origin = t[SNAPSHOT]
    state.old = 0
    first = True
    for i in range(state.waiting):
        message = waiting[i]
        if message.u <= t[SNAPSHOT]:
            continue
        if not _follows(message.U, message.u, message.pu, state.last, first):
            state.synced = 0
            return fold.NOTE, _UNKNOWN
        for j in range(message.first, message.first + message.n):
            set_level(levels, book, pool[j].stamp, pool[j].px, pool[j].sz)
        state.last = message.u
        first = False
    state.waiting = 0
    state.pooled = 0
    if not first:
        _apply_top(state, levels, book)
    state.gap = 0
    return fold.GAP, 0


@kernel
def _ticker(t: Any, buf: Any, rules: Any, state: Any, memory: Any) -> Any:
    """Best prices: (kind, status)."""
    book, levels = memory[2], memory[3]
    if state.synced == 0 and not rules.top_only:
        return fold.NOTE, _UNKNOWN
    if t[LAST] <= max(state.last, state.top[0]) and t[LAST] != 0:
        return fold.PART, 0  # the book is past it
    bid, ask = _number(buf, t[BIDS], rules.ticks, False), _number(buf, t[ASKS], rules.ticks, False)
    bid_sz, ask_sz = _number(buf, t[BID_SIZE], rules.lots, True), _number(buf, t[ASK_SIZE], rules.lots, True)
    if min(bid, ask) <= 0:
        return fold.NOTE, _ABSURD_PRICE
    if min(bid_sz, ask_sz) < 0:
        return fold.NOTE, _ABSURD_SIZE
    if rules.top_only:
        book.n[BID] = 0
        book.n[ASK] = 0
        state.synced = 1
    state.top[0], state.top[1], state.top[2], state.top[3], state.top[4] = t[LAST], bid, bid_sz, ask, ask_sz
    set_top(bid, bid_sz, ask, ask_sz, levels, book)
    return fold.CHANGE, 0


@kernel
def _print(t: Any, name: int, state: Any, row: Any, before: Any) -> Any:
    """A trade: (kind, status)."""
    if state.synced == 0:
        return fold.NOTE, _UNKNOWN
    if t[PX] <= 0:
        return fold.NOTE, _ABSURD_PRICE
    if t[QTY] <= 0:
        return fold.NOTE, _ABSURD_SIZE
    if name == _TRADE and t[TRADE_ID] != 0:
        if t[TRADE_ID] <= state.traded:
            return fold.NOTE, _DUPLICATE
        if t[TRADE_ID] <= state.aggregated:
            return fold.PART, 0
        state.traded = t[TRADE_ID]
    elif name == _AGG and t[TO_ID] != 0:
        if t[TO_ID] <= state.aggregated:
            return fold.NOTE, _DUPLICATE
        if t[FROM_ID] <= state.traded:
            return fold.PART, 0
        state.aggregated = t[TO_ID]
    sign = -1 if t[MAKER] == _TRUE else 1
    row.trade_px = t[PX]
    row.trade_qty = sign * t[QTY]
    if (
        before[0] == t[TRADED] and before[1] == sign and t[TRADED] != 0
    ):  # the same sweep: one instant at the exchange
        row.ts = before[2]
    state.trade[0], state.trade[1], state.trade[2] = t[TRADED], sign, row.ts
    return fold.PRINT, 0


@kernel
def _message(t: Any, buf: Any, rules: Any, state: Any, memory: Any, row: Any) -> Any:
    """What one line does: (kind, status)."""
    before = (state.trade[0], state.trade[1], state.trade[2])
    state.trade[0], state.trade[1], state.trade[2] = 0, 0, 0
    letter: Any = 0
    digit = False
    symbol: Any = 0
    if t[STREAM] != 0:
        letter, digit, symbol = _stream_kind(buf, t[STREAM])
    if t[SYMBOL] != 0 or symbol != 0:
        mine = False
        for i in range(len(rules.symbols)):
            mine = mine or (t[SYMBOL] == rules.symbols[i] if t[SYMBOL] != 0 else symbol == rules.lower[i])
        if not mine:
            if t[LAST] != 0:
                state.other = t[LAST]
            return fold.NOTE, _OTHER
    name = t[NAME]
    if t[SNAPSHOT] != 0 and not rules.partial:
        return _snapshot(t, buf, rules, state, memory)
    if t[PARTIAL] + t[SNAPSHOT] != 0 or (digit and letter == _D) or (rules.partial and name == _DEPTH):
        if not rules.partial:
            return fold.PART, 0  # the differences tell more
        book, levels = memory[2], memory[3]
        book.n[BID] = 0
        book.n[ASK] = 0
        bids, asks = (t[REST_BIDS], t[REST_ASKS]) if t[REST_BIDS] != 0 else (t[BIDS], t[ASKS])
        bad = apply_cell(buf, bids, BID, rules, levels, book)
        if bad == 0:
            bad = apply_cell(buf, asks, ASK, rules, levels, book)
        state.synced = 1 if bad == 0 else 0
        return (fold.CHANGE if bad == 0 else fold.NOTE), bad
    if name == _DEPTH or (name == 0 and letter == _D):
        return _depth(t, buf, rules, state, memory)
    if name in (_TRADE, _AGG) or (name == 0 and (letter in (_T, _A))):
        return _print(t, name if name != 0 else _TRADE, state, row, before)
    if name == _TICKER or (name == 0 and t[BIDS] != 0 and t[ASK_SIZE] != 0):
        if rules.partial and not rules.top_only:
            return fold.PART, 0  # its ids are of no use beside whole books
        return _ticker(t, buf, rules, state, memory)
    return fold.PART, 0  # another stream (klines, mark price): nothing of the book


@kernel
def feed(
    table: Any, buf: Any, rules: Any, state: Any, memory: Any, rows: Any, kind: Any, status: Any
) -> None:
    """Carry the book through lines, int64[n, WIDTH], and write it into EVENT rows, which must be zero."""
    for i in range(len(table)):
        t = table[i]
        row = rows[i]
        stamp = t[AT]
        if stamp == 0:
            stamp = 1_000_000 * (t[SENT] if t[SENT] != 0 else t[TRADED])
        row.ts = stamp if stamp != 0 else state.stamp
        row.ts_recv = row.ts
        if status[i] != 0:
            state.trade[0], state.trade[1], state.trade[2] = (
                0,
                0,
                0,
            )  # whether it changed the book, ids will tell
        else:
            kind[i], status[i] = _message(t, buf, rules, state, memory, row)
        if row.ts > state.stamp:
            state.stamp = row.ts
        show(memory[3], memory[2], row)


class Feed:
    """One symbol's book and how far it is in the count of updates."""

    def __init__(self) -> None:
        self.state: Array = np.zeros(1, STATE)
        self.orders = OrderBook()
        self.waiting: Array = np.zeros(MAX_WAITING, WAITING)
        self.pool: Array = np.zeros(POOL, LEVEL)

    def run(self, table: Array, buf: Array, rules: Rules, rows: Array, kind: Array, status: Array) -> None:
        """Make EVENT rows of lines."""
        self.orders.reserve_levels(len(buf) // 8)
        room = int(self.state["pooled"][0]) + len(buf) // 8
        if self.state["synced"][0] == 0 and room > len(self.pool):
            grown: Array = np.zeros(2 * room, LEVEL)
            grown[: len(self.pool)] = self.pool
            self.pool = grown
        memory = self.waiting, self.pool, self.orders.book[0], self.orders.levels
        feed(table, buf, rules, self.state[0], memory, rows, kind, status)
