"""What trading costs here and now, estimated from the past only: trade flow, adverse selection, depth (D.2)."""

from typing import Any

import numpy as np

from emp.core.codes import EventFlag
from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_EVENTS, Array
from emp.decision.fills import FILLS, WEIGHTS, break_off, follow_orders, forget_fills, learn_fills

TRADE = int(EventFlag.TRADE)
TRADE_OR_AUCTION = TRADE | int(EventFlag.AUCTION)
NO_SIZE = int(EventFlag.NO_SIZE)

LOOKAHEAD = HORIZON_EVENTS[-1]
"""Visible events after a trade over which the drift against its maker is taken: the longest event horizon."""

SPAN = 2048
"""Events over which the estimates run: one training window."""

ESTIMATES = np.dtype(
    [
        ("events", "i8"),
        ("ts", "i8"),  # of the last visible event; 0 none since the stream broke
        ("elapsed_ns", "f8"),  # mean time between events
        ("volume_bid", "f8"),  # lots per event sold into the bid
        ("volume_ask", "f8"),
        ("adverse_bid", "f8"),  # ticks that the mid falls with and after a trade at the bid
        ("adverse_ask", "f8"),  # ticks that the mid rises with and after a trade at the ask
        ("hits_bid", "i8"),
        ("hits_ask", "i8"),
        ("depth", "f8"),  # lots: median size of the best level
        ("at", "i8"),  # place in the ring of the latest events
        ("mid2", "i8", (LOOKAHEAD,)),  # ring: bid + ask before the trade
        ("last_mid2", "i8"),  # bid + ask of the last visible event
        ("hit", "i4", (LOOKAHEAD,)),  # ring: +1 a trade at the ask, -1 at the bid, 0 none
        ("pending", "f8"),  # signed volume since the last visible event
        ("fills", FILLS),  # how likely an order at rest is filled
        ("asked_ns", "f8"),  # time to live that the chance of a fill was last asked for since; NaN none
        ("odds", "f8", (WEIGHTS,)),  # the weights that were the answer
    ],
    align=True,
)


def new_estimates(n: int = 1) -> Array:
    """Fresh estimates of `n` instruments."""
    estimates = np.zeros(n, ESTIMATES)
    forget_fills(estimates["fills"])
    estimates["asked_ns"] = np.nan
    return estimates


@kernel
def see_trade(e: Any, event: Any) -> None:
    """Note the volume of an event that changed nothing visible; the next visible event takes it up."""
    if event.flags & TRADE_OR_AUCTION == TRADE:
        e.pending += event.trade_qty
    follow_orders(e.fills, event)


@kernel
def forget_trades(e: Any) -> None:
    """After a break in the stream no drift may be measured across it."""
    break_off(e.fills)
    for i in range(LOOKAHEAD):
        e.hit[i] = 0
    e.pending = 0.0
    e.ts = 0


@kernel
def update_estimates(e: Any, event: Any) -> None:
    """Carry the estimates over one visible event.

    Adverse selection is the mean mid move against the maker from just before a trade at the touch until LOOKAHEAD
    events after it, the outcome that a fill of ours there would have had; it is known only once those have passed.
    The trade's own event counts: a sweep that empties the touch has moved the mid by the time its maker knows.
    """
    e.events += 1
    e.asked_ns = np.nan
    weight = 1.0 / min(float(e.events), float(SPAN))
    traded = e.pending
    if event.flags & TRADE_OR_AUCTION == TRADE:
        traded += event.trade_qty
    e.pending = 0.0
    e.volume_bid += weight * (max(-traded, 0.0) - e.volume_bid)
    e.volume_ask += weight * (max(traded, 0.0) - e.volume_ask)
    goes_on = e.ts > 0
    if goes_on:
        e.elapsed_ns += weight * (event.ts - e.ts - e.elapsed_ns)
    e.ts = event.ts

    mid2 = event.bid_px[0] + event.ask_px[0]
    at = e.at
    drift = 0.5 * (mid2 - e.mid2[at])
    if e.hit[at] < 0:
        e.hits_bid += 1
        e.adverse_bid += (-drift - e.adverse_bid) / min(float(e.hits_bid), float(SPAN))
    elif e.hit[at] > 0:
        e.hits_ask += 1
        e.adverse_ask += (drift - e.adverse_ask) / min(float(e.hits_ask), float(SPAN))
    e.mid2[at] = e.last_mid2 if goes_on else mid2
    e.last_mid2 = mid2
    e.hit[at] = 1 if traded > 0.0 else -1 if traded < 0.0 else 0
    e.at = at + 1 if at + 1 < LOOKAHEAD else 0

    if event.flags & NO_SIZE == 0:
        update_depth(e, 0.5 * (event.bid_sz[0] + event.ask_sz[0]), weight)
    learn_fills(e.fills, event, e.volume_bid, e.volume_ask, e.elapsed_ns)


@kernel
def update_depth(e: Any, size: float, weight: float) -> None:
    """Streaming median of the touch size: each value moves it by one relative step towards itself."""
    if e.events == 1:
        e.depth = size
    elif size > e.depth:
        e.depth *= 1.0 + weight
    elif size < e.depth:
        e.depth /= 1.0 + weight


@kernel
def flow_per_second(volume: float, elapsed_ns: float) -> float:
    """Lots per second from lots per event."""
    return volume / (elapsed_ns * 1e-9) if elapsed_ns > 0.0 else 0.0
