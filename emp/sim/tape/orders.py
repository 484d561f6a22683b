"""Turn a log of orders as sent into messages of the book they make, by matching them."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import LIMIT, MARKET, N_FILLS, TAG, alive, cancel, clear_trade, new_book, new_fills
from emp.sim.book.matching import submit
from emp.sim.flow.state import ADD, DELETE, MSG, TRADE

STRANGER = 2  # every order has an owner, so that every fill is logged


@kernel
def _match(b: Any, fills: Any, msgs: Any, dense: Any, handles: Any, out: Any) -> int:
    n = 0
    for i in range(len(msgs)):
        m = msgs[i]
        clear_trade(b)
        k = dense[i]
        if m.kind == DELETE:
            h = handles[k]
            if alive(b, h) and b[h + TAG] == k:
                out[n] = m
                out[n].qty = cancel(b, h)
                n += 1
            continue
        kind = MARKET if m.kind == TRADE else LIMIT
        h = submit(b, fills, m.side, m.px, m.qty, kind, STRANGER, k)
        handles[k] = h
        left = m.qty
        for j in range(b[N_FILLS]):
            f = fills[j]
            left -= f.qty
            out[n].ts = m.ts
            out[n].kind = TRADE
            out[n].side = 1 - m.side
            out[n].px = f.px
            out[n].qty = f.qty
            out[n].handle = f.maker_tag + 1
            n += 1
        if h != 0:
            out[n] = m
            out[n].kind = ADD
            out[n].qty = left
            out[n].handle = k + 1
            n += 1
    for i in range(n):
        if out[i].kind == DELETE:
            out[i].handle = -out[i].handle
    return n


def book_messages(orders: Array) -> Array:
    """Match orders as sent (MSG rows: ADD a limit order, TRADE a market order, DELETE a cancel)."""
    low = int(orders["px"][orders["px"] > 0].min())
    high = int(orders["px"].max())
    ticks = 1 << int(np.ceil(np.log2(high - low + 64)))
    ids, dense = np.unique(orders["handle"], return_inverse=True)
    b = new_book((low + high) // 2 - ticks // 2, ticks, len(ids) + 1, stp=0)
    out = np.zeros(8 * len(orders) + 1000, MSG)
    n = _match(b, new_fills(), orders, dense, np.zeros(len(ids), np.int64), out)
    made = out[:n]
    cancels = made["handle"] < 0
    made["handle"][cancels] = np.searchsorted(ids, -made["handle"][cancels]) + 1
    return made
