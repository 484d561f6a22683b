"""A simulated market as an order-by-order recording: every message with the ten best levels after it.

A flow says of a trade only how much an order took. A recording names each resting order that was executed, so a second
market, one event behind the first, shows the queue that the order met.
"""

from collections import Counter
from typing import Any

import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import LEVELS, Array
from emp.sim.book.book import (
    BEST,
    BUY,
    HEAD,
    LO,
    MASK,
    NEXT,
    ORDER_WORDS,
    ORDERS,
    QTY,
    SELL,
    TRADE_QTY,
    level_of,
    level_qty,
    next_level,
    u,
)
from emp.sim.flow.state import ADD, DELETE, MSG, TRADE, write_message
from emp.sim.tape.recording import Recording
from emp.sim.world.market import Market, flow_event

TICK = 0.01
"""Currency per tick of a simulated market that names no instrument."""


@kernel
def _write_side(b: Any, side: int, px: int, less: int, out: Any) -> None:
    """Write LEVELS levels of a side from price `px` on, the first smaller by `less`; a level not there is 0, 0."""
    end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
    at = 0 if side == SELL else 2
    for level in range(LEVELS):
        there = px != end
        out[4 * level + at] = px if there else 0
        out[4 * level + at + 1] = level_qty(b, side, px) - less if there else 0
        less = 0
        if there:
            px = next_level(b, side, px)


@kernel
def _write_book(b: Any, out: Any) -> None:
    _write_side(b, SELL, int(b[BEST + SELL]), 0, out)
    _write_side(b, BUY, int(b[BEST + BUY]), 0, out)


@kernel
def _name(b: Any, ids: Any, h: int, fresh: bool) -> int:
    """Number of the order in record `h`; `ids[0]` counts them. An order that is new, or was never named, gets one."""
    record = 1 + (h - int(b[ORDERS])) // ORDER_WORDS
    if fresh or ids[record] == 0:
        ids[0] += 1
        ids[record] = ids[0]
    return int(ids[record])


@kernel
def _write_executions(b: Any, side: int, qty: int, ts: int, ids: Any, msgs: Any, book: Any, n: int) -> int:
    """Write a row for each order of `side` that gives way to `qty` lots, with the book as it leaves it."""
    px = int(b[BEST + side])
    end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
    while qty > 0 and px != end:
        lv = level_of(b, side, px)
        gone = 0
        h = int(b[u(lv + HEAD)])
        while h != 0 and qty > 0:
            if n == len(msgs):
                return n
            take = min(qty, int(b[u(h + QTY)]))
            qty -= take
            gone += take
            whole = gone == b[u(lv + QTY)]
            first = next_level(b, side, px) if whole else px
            _write_side(b, side, first, 0 if whole else gone, book[n])
            _write_side(b, 1 - side, int(b[BEST + 1 - side]), 0, book[n])
            n = write_message(msgs, n, ts, TRADE, side, px, take, _name(b, ids, h, False))
            h = int(b[u(h + NEXT)])
        px = next_level(b, side, px)
    return n


@kernel
def _print(ahead: Any, behind: Any, ids: Any, msgs: Any, book: Any) -> None:
    """Run both markets, `behind` one event later, until all rows are written."""
    ahead, behind = borrowed(ahead), borrowed(behind)
    b, s = ahead.book, ahead.state[0]
    n = 0
    while n < len(msgs):
        skipped = s.skipped
        flow_event(ahead)
        traded = int(b[u(TRADE_QTY)])
        if traded != 0:
            maker = SELL if traded > 0 else BUY
            n = _write_executions(behind.book, maker, abs(traded), s.now, ids, msgs, book, n)
        did = s.skipped == skipped and s.qty != 0 and s.handle != 0 and n < len(msgs)
        if did and s.kind == ADD:
            _write_book(b, book[n])
            rests = int(b[u(s.handle + QTY)])
            n = write_message(msgs, n, s.now, ADD, s.side, s.px, rests, _name(b, ids, s.handle, True))
        elif did and s.kind == DELETE:
            _write_book(b, book[n])
            order = _name(b, ids, s.handle, False)
            n = write_message(msgs, n, s.now, DELETE, s.side, s.px, s.qty, order)
        flow_event(behind)


def printed(market: Market, rows: int, name: str) -> Recording:
    """Let a market run until it has given `rows` messages, and return them with the ten-level book after each.

    One row per resting order added, deleted or executed, numbered in order of appearance; an order that takes from
    several has a row for each, at one time. The last event's rows beyond `rows` are cut off, so the market itself may
    stand after them.
    """
    msgs, book = np.zeros(rows, MSG), np.zeros((rows, 4 * LEVELS), np.int64)
    records = (len(market.book) - int(market.book[ORDERS])) // ORDER_WORDS
    ids: Array = np.zeros(records + 1, np.int64)
    _print(market.flow, market.clone().flow, ids, msgs, book)
    return Recording(name, TICK, msgs, book, Counter())
