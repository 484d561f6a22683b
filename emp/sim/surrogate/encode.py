"""The market at a decision as numbers, read from a simulated market and a surrogate alike.

Distances are in usual spreads (`unit` ticks times the level that wanders, `flow/qr.py`), quantities in `lots`.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, LO, MASK, PX, QTY, SELL, ahead_of, level_qty, next_level, u
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.flow.qr import imbalance
from emp.sim.world.desk import SLOTS
from emp.train.data.leaps import AT_LEVEL, AT_OWN, LEVEL, LEVELS, OWN

SCALE = np.dtype([("unit", "f8"), ("lots", "f8"), ("live", "f8"), ("duration", "f8")], align=True)
"""Of a market: its usual spread in ticks, lots at a best price, orders in the book, and seconds between decisions."""

FAR = 8.0
"""Where a price, a quantity or an order is missing, and the bound of displacements."""

LONG = 0.3
"""Weight of the logarithm of a long order's length."""

EMPTY_LOTS = 0.3
"""What counts as no lot of others at a price, in lots, under a logarithm."""


def scale_of(unit: float, lots: float, live: float, duration: float) -> Array:
    """SCALE, shape (1,)."""
    scale = np.zeros(1, SCALE)
    scale["unit"], scale["lots"], scale["live"], scale["duration"] = unit, lots, live, duration
    return scale


@kernel
def first_own(b: Any, d: Any, side: int) -> int:
    """Slot of our order of a side that rests at the best price, -1 where none does."""
    found = -1
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.handle == 0 or o.side != side:
            continue
        if found < 0 or (b[u(o.handle + PX)] - b[u(d.orders[found].handle + PX)]) * (1 - 2 * side) > 0:
            found = slot
    return found


@kernel
def _own_node(b: Any, d: Any, side: int, unit: float, lots: float, x: Any) -> int:
    at = AT_OWN + OWN * side
    slot = first_own(b, d, side)
    if slot < 0:
        for k in range(OWN):
            x[at + k] = 0.0
        return -1
    h = int(d.orders[slot].handle)
    px, leaves, ahead = int(b[u(h + PX)]), int(b[u(h + QTY)]), int(ahead_of(b, h))
    others = level_qty(b, side, px) - leaves
    x[at] = 1.0
    x[at + 1] = min(FAR, (b[u(BEST + side)] - px) * (1 - 2 * side) / unit)
    x[at + 2] = np.log1p(ahead / lots)
    x[at + 3] = np.log(leaves / lots)
    x[at + 4] = 1.0 if others == 0 else 0.0
    x[at + 5] = ahead / (others + 1.0)
    return slot


@kernel
def _level_nodes(b: Any, d: Any, side: int, own: int, unit: float, lots: float, x: Any) -> None:
    px = int(b[u(BEST + side)])
    end = int(b[u(LO)]) + (0 if side == BUY else int(b[u(MASK)]))
    before = px
    mine = int(d.orders[own].handle) if own >= 0 else 0
    for k in range(LEVELS):
        node = LEVELS - 1 - k if side == BUY else LEVELS + k
        at = AT_LEVEL + LEVEL * node
        gap, qty = FAR, EMPTY_LOTS
        if px != end:
            gap = min(FAR, abs(px - before) / unit)
            qty = float(level_qty(b, side, px))
            if mine != 0 and b[u(mine + PX)] == px:
                qty -= b[u(mine + QTY)]
            before = px
            px = next_level(b, side, px)
        x[at] = np.log1p(gap)
        x[at + 1] = np.log(max(EMPTY_LOTS, qty) / lots)
        x[at + 2] = 1.0 - 2.0 * side
        x[at + 3] = k / LEVELS


@kernel
def long_order(s: Any) -> float:
    """The long order at work as one number: its side, and how long it is still."""
    return float(s.split_sign * np.log1p(max(0, s.split_left)) * LONG)


@kernel
def displaced(s: Any, mid: float, k: int, unit: float) -> float:
    """How far the mid is from its k-th average, in usual spreads."""
    return float(min(FAR, max(-FAR, (mid - s.mid[k]) / unit)))


@kernel
def encode(world: Any, scale: Any, live: float, x: Any, slots: Any) -> None:
    """Write the input row `x`, float32[INPUTS], of a book with two sides, and the slots of our orders, int64[2].

    `live` is how many orders of others there are: a surrogate has fewer records than orders.
    """
    b, s, p, d = world.flow.book, world.flow.state[0], world.flow.params[0], world.desk[0]
    unit = scale.unit * s.level
    bid, ask = int(b[u(BEST)]), int(b[u(BEST + 1)])
    x[0] = np.log((ask - bid) / unit)
    x[1] = imbalance(level_qty(b, BUY, bid), level_qty(b, SELL, ask))
    x[2] = np.log(s.level)
    x[3] = np.log(live / scale.live)
    qr = p.model == QUEUE_REACTIVE
    x[4] = s.strange
    mid = 0.5 * (bid + ask)
    for k in range(4):
        x[5 + k] = displaced(s, mid, 3 + k, unit) if qr else 0.0
    x[9] = long_order(s) if qr else 0.0
    for k in range(3):
        x[10 + k] = s.own[1 + k]
    x[13] = 10.0 * s.burst[2]
    x[14] = 0.2 * (s.pace[3] - p.pace_start)
    x[15] = np.log(max(1e-6, s.speed)) if qr else 0.0
    for side in range(2):
        slots[side] = _own_node(b, d, side, unit, scale.lots, x)
        _level_nodes(b, d, side, slots[side], unit, scale.lots, x)
