"""Metaorders worked child by child: in a flow that answers them, and in a replay of what the flow does without them.

The schedule is LOB-Impact's: the market moves by `every` events, then a child is sent, which is a step of its own, and
so on; after the last child the market goes on alone. A child takes what the opposite best price offers, at most its own
size, and never more: what is left of it is dropped.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    FILLED,
    IOC,
    LIMIT,
    LO,
    MARKET,
    MASK,
    ORDER_WORDS,
    ORDERS,
    QTY,
    SELL,
    SEQ,
    TRADE_PX,
    TRADE_QTY,
    cancel,
    clear_trade,
    level_of,
    slide,
    u,
)
from emp.sim.book.matching import submit
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import remember_ours
from emp.sim.flow.state import ADD, DELETE, TRADE
from emp.sim.world.desk import OWNER
from emp.sim.world.market import Market, flow_event

LOTS, EVENTS, EXECUTIONS, HIGH, LOW = 0, 1, 2, 3, 4
"""What `trade_day` adds up: lots executed, events, those that traded, highest and lowest price traded."""


class Follower(NamedTuple):
    """A book that is given another one's messages, whether they still fit it or not."""

    book: Array
    fills: Array
    handle: Array  # int64[records]: order of this book that stands for a record of the other, 0 for none
    stamp: Array  # int64[records]: its SEQ, since records are used again


def follower(market: Market) -> Follower:
    """A copy of a market's book in which every order stands for itself."""
    book = market.book.copy()
    first = int(book[ORDERS])
    handle = np.arange(first, len(book), ORDER_WORDS)
    live = book[handle + QTY] > 0
    return Follower(
        book, market.flow.fills.copy(), np.where(live, handle, 0), book[handle + SEQ].astype(np.int64)
    )


@kernel
def _mid(b: Any, before: float) -> float:
    """Mid of a book, the one before where a side is empty."""
    bid, ask, lo = int(b[u(BEST)]), int(b[u(BEST + 1)]), int(b[u(LO)])
    return before if bid == lo or ask == lo + int(b[u(MASK)]) else 0.5 * (bid + ask)


@kernel
def _send_child(b: Any, fills: Any, side: int, child: int) -> int:
    """Take at most `child` lots from the opposite best price; return the lots taken. TRADE_PX is their price."""
    clear_trade(b)
    other = 1 - side
    px = int(b[u(BEST + other)])
    if child == 0 or px == int(b[u(LO)]) + (int(b[u(MASK)]) if other == SELL else 0):
        return 0
    submit(b, fills, side, px, min(child, int(b[u(level_of(b, other, px))])), IOC, OWNER, 0)
    return int(b[u(FILLED)])


@kernel
def work_metaorder(flow: Any, every: int, child: int, side: int, mids: Any, lots: Any, px: Any) -> None:
    """Work len(lots) children in a flow that sees them; `mids` (steps,) gets the mid after each step.

    `lots` and `px` get what each child took and at which price, ticks.
    """
    flow = borrowed(flow)
    b, s, p = flow.book, flow.state[0], flow.params[0]
    mid, k = _mid(b, 0.0), 0
    for t in range(len(mids)):
        if k < len(lots) and t == (k + 1) * every + k:
            lots[k] = _send_child(b, flow.fills, side, child)
            px[k] = b[u(TRADE_PX)]
            if lots[k] > 0 and p.model == QUEUE_REACTIVE:
                remember_ours(s, p, side, lots[k])
            k += 1
        else:
            flow_event(flow)
        mid = _mid(b, mid)
        mids[t] = mid


@kernel
def _stands_for(f: Any, record: int) -> int:
    """The order of the follower that stands for a record of the book it follows; 0 where it is gone."""
    h = int(f.handle[u(record)])
    if h == 0 or f.book[u(h + QTY)] == 0 or f.book[u(h + SEQ)] != f.stamp[u(record)]:
        return 0
    return h


@kernel
def _follow(f: Any, s: Any, traded: bool, lo: int) -> None:
    """Apply to a follower the message that a flow has left in its state `s`; `traded` says whether it traded there."""
    b = f.book
    clear_trade(b)
    record = (s.handle - int(b[u(ORDERS)])) // ORDER_WORDS
    if s.kind == ADD and (s.handle != 0 or traded):
        h = submit(b, f.fills, s.side, s.px, s.qty, LIMIT, 0, 0)
        if s.handle != 0:
            f.handle[u(record)] = h
            f.stamp[u(record)] = b[u(h + SEQ)] if h != 0 else 0
    elif s.kind == TRADE and s.qty > 0:
        submit(b, f.fills, 1 - s.side, 0, s.qty, MARKET, 0, 0)
    elif s.kind == DELETE and s.qty > 0:
        h = _stands_for(f, record)
        if h != 0:
            cancel(b, h)
    if b[u(LO)] != lo and b[u(BEST)] > lo and b[u(BEST + 1)] < lo + b[u(MASK)]:
        slide(b, lo)


@kernel
def replay_metaorder(
    flow: Any, bought: Any, sold: Any, every: int, child: int, alone: Any, mids: Any, lots: Any, px: Any
) -> None:
    """Work the same metaorder on both sides against what the flow does alone, unchanged.

    `alone` (steps,) gets the flow's own mids; of the copies in which children buy and sell, `mids` (2, steps), `lots`
    and `px` (2, children).
    """
    flow, bought, sold = borrowed(flow), borrowed(bought), borrowed(sold)
    b, s = flow.book, flow.state[0]
    mid, up, down = _mid(b, 0.0), _mid(bought.book, 0.0), _mid(sold.book, 0.0)
    k = 0
    for t in range(len(alone)):
        if k < lots.shape[1] and t == (k + 1) * every + k:
            lots[0, k] = _send_child(bought.book, bought.fills, BUY, child)
            px[0, k] = bought.book[u(TRADE_PX)]
            lots[1, k] = _send_child(sold.book, sold.fills, SELL, child)
            px[1, k] = sold.book[u(TRADE_PX)]
            k += 1
        else:
            skipped = s.skipped
            flow_event(flow)
            if s.skipped == skipped:
                traded = b[u(TRADE_QTY)] != 0
                _follow(bought, s, traded, int(b[u(LO)]))
                _follow(sold, s, traded, int(b[u(LO)]))
        mid, up, down = _mid(b, mid), _mid(bought.book, up), _mid(sold.book, down)
        alone[t], mids[0, t], mids[1, t] = mid, up, down


@kernel
def trade_day(flow: Any, until_ns: int, seen: Any) -> None:
    """Let a market run while events are due; `seen` (5,) adds up what it trades (see LOTS)."""
    flow = borrowed(flow)
    b, s = flow.book, flow.state[0]
    while s.next <= until_ns:
        flow_event(flow)
        seen[EVENTS] += 1
        if b[u(TRADE_QTY)] != 0:
            seen[LOTS] += abs(int(b[u(TRADE_QTY)]))
            seen[EXECUTIONS] += 1
            seen[HIGH] = max(seen[HIGH], b[u(TRADE_PX)])
            seen[LOW] = min(seen[LOW], b[u(TRADE_PX)])
