"""Zero-intelligence flow: Poisson limit orders, market orders and cancels, blind to the book.

Smith, Farmer, Gillemot and Krishnamurthy, "Statistical theory of the continuous double auction"
(Quantitative Finance 3, 2003). It is the null model: a strategy must not be judged on it, because nobody in
it knows anything, so a resting order suffers no adverse selection.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.rng import exponential_table, one_of, table_index, uniform
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    LIVE,
    LO,
    MARKET,
    MASK,
    ORDER_WORDS,
    ORDERS,
    OWN_LIVE,
    OWNER,
    PX,
    QTY,
    SELL,
    SIDE,
    cancel,
    u,
)
from emp.sim.book.matching import submit
from emp.sim.flow.params import FLOW, ZI
from emp.sim.flow.state import DELETE, TRADE, note, pass_time, place


def zi_params(
    limit_hz: float = 60.0,
    market_hz: float = 8.0,
    cancel_hz: float = 0.5,
    band: int = 12,
    max_qty: int = 4,
) -> Array:
    """Return ZI parameters (shape (1,)); the defaults give a liquid book one to two ticks wide."""
    p = np.zeros(1, FLOW)
    p["model"] = ZI
    p["limit_hz"], p["market_hz"], p["cancel_hz"] = limit_hz, market_hz, cancel_hz
    p["band"], p["max_qty"] = band, max_qty
    p["exp"] = exponential_table()
    p["start_spread"], p["start_qty"] = 1, 5
    return p


@kernel
def zi_gap(flow: Any) -> None:
    """Draw the time of the next event."""
    b, p = flow.book, flow.params[0]
    live = b[u(LIVE)] - b[u(OWN_LIVE)]
    rate = p.limit_hz + p.market_hz + p.cancel_hz * live
    pass_time(flow.state[0], int(p.exp[table_index(flow.rng)] * 1e9 / rate) + 1)


@kernel
def _random_order(b: Any, s: Any, r: Any) -> int:
    """Handle of a uniformly drawn order of the anonymous market, 0 after many misses."""
    start = int(b[u(ORDERS)])
    n = (s.high - start) // ORDER_WORDS + 1
    for _ in range(256):
        h = start + ORDER_WORDS * one_of(n, r)
        if ((int(b[u(h + QTY)]) - 1) >> 31) | int(b[u(h + OWNER)]) == 0:
            return h
    return 0


@kernel
def zi_apply(flow: Any) -> None:
    """Apply one event."""
    b, s, p, r = flow.book, flow.state[0], flow.params[0], flow.rng
    live = b[u(LIVE)] - b[u(OWN_LIVE)]
    v = uniform(r) * (p.limit_hz + p.market_hz + p.cancel_hz * live)
    w = uniform(r)
    side = SELL if w >= 0.5 else BUY
    w = (w - 0.5 * side) * 2.0  # the rest of the draw is still uniform
    qty = 1 + int(uniform(r) * p.max_qty)
    lo = int(b[u(LO)])
    hi = lo + b[u(MASK)]
    opposite = int(b[u(BEST + 1 - side)])
    none = hi if side == BUY else lo
    if v < p.limit_hz:
        if opposite == none:
            opposite = s.ref + 1 - 2 * side
        k = 1 + int(w * p.band)
        place(flow, side, opposite - k + 2 * side * k, qty)
    elif v < p.limit_hz + p.market_hz:
        if opposite == none:
            s.skipped += 1
            return
        submit(b, flow.fills, side, 0, qty, MARKET, 0, 0)
        note(s, TRADE, 1 - side, opposite, qty, 0)
    else:
        h = _random_order(b, s, r)
        if h == 0:
            s.skipped += 1
            return
        at = int(b[u(h + PX)])
        whose = int(b[u(h + SIDE)])
        note(s, DELETE, whose, at, cancel(b, h), h)
