"""Players of a match: fixed opponents and a small learnable policy, all acting through desks of their own.

A player sees the book of the decision's moment and what it has learned of its own orders; what it sends reaches the
venue after its feed latency, its compute time and the leg of the order. The learnable policy is linear in
dimensionless features of one side of the book and the same, mirrored, for the other: per side it says whether to
stand, how deep, and whether to cross.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, IOC, POST_ONLY, SELL, ahead_of, level_qty
from emp.sim.world.desk import FREE, RESTING, SENT, SLOTS, desk_cancel, desk_new, desk_replace

IDLE, LEARNED, MAKER, TIMED, IMMEDIATE, LEANING = range(6)
KINDS = ("idle", "learned", "naive maker", "time-weighted", "immediate", "imbalance rule")

FEATURES = ("one", "spread", "imbalance", "position", "momentum", "queue")
OUTPUTS = ("stand", "depth", "cross")
WEIGHTS = len(FEATURES) * len(OUTPUTS)

CLIP = 4.0
LEAN = 0.3
"""Imbalance beyond which the rule quotes one side only."""

SEAT = np.dtype(
    [
        ("kind", "i8"),
        ("side", "i8"),  # of an execution task: 1 buys, -1 sells
        ("parent", "i8"),  # lots of an execution task
        ("size", "i8"),  # lots of one order
        ("limit", "i8"),  # position that it does not exceed, lots
        ("deaf", "f8"),  # share of decisions that are lost: a stalled process or link
        ("weights", "f8", (WEIGHTS,)),
    ],
    align=True,
)

VIEW = np.dtype(
    [
        ("bid", "i8"),
        ("ask", "i8"),
        ("imbalance", "f8"),  # of the best quantities, -1 to 1
        ("spread", "f8"),  # ticks, over its own average
        ("momentum", "f8"),  # mid less its average, in average spreads
        ("usual", "f8"),  # average spread, ticks
        ("mean", "f8"),  # average mid, ticks
    ],
    align=True,
)


def seat(
    kind: int,
    *,
    weights: Array | None = None,
    size: int = 1,
    limit: int = 10,
    side: int = 1,
    parent: int = 0,
    deaf: float = 0.0,
) -> Array:
    """A SEAT record, shape (1,)."""
    one = np.zeros(1, SEAT)
    one["kind"], one["size"], one["limit"] = kind, size, limit
    one["side"], one["parent"], one["deaf"] = side, parent, deaf
    if weights is not None:
        one["weights"] = weights
    return one


def first_weights() -> Array:
    """Float64 (WEIGHTS,): a maker that joins both best prices and leans against its position; never crosses."""
    w = np.zeros((len(OUTPUTS), len(FEATURES)))
    w[0, 0], w[0, 3] = 0.5, -1.0
    w[2, 0] = -0.5
    return w.ravel()


@kernel
def look(b: Any, v: Any, keep: float) -> None:
    """Bring a VIEW up to the book, whose both sides have a price."""
    bid, ask = int(b[BEST]), int(b[BEST + 1])
    mid, spread = 0.5 * (bid + ask), float(ask - bid)
    if v.usual == 0.0:
        v.usual, v.mean = spread, mid
    v.bid, v.ask = bid, ask
    qb, qa = float(level_qty(b, BUY, bid)), float(level_qty(b, SELL, ask))
    v.imbalance = (qb - qa) / (qb + qa)
    v.spread = min(CLIP, spread / v.usual) - 1.0
    v.momentum = min(CLIP, max(-CLIP, (mid - v.mean) / v.usual))
    v.usual += (1.0 - keep) * (spread - v.usual)
    v.mean += (1.0 - keep) * (mid - v.mean)


@kernel
def _queue(world: Any, side: int) -> float:
    """Share of its level that stands before our order on a side; 1 where none rests."""
    b, d = world.flow.book, world.desk[0]
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state != FREE and o.state != SENT and o.side == side and o.handle != 0:
            total = level_qty(b, side, o.px)
            return ahead_of(b, o.handle) / total if total > 0 else 0.0
    return 1.0


@kernel
def _stand(world: Any, now: int, side: int, px: int, size: int) -> None:
    """Have one order of `size` lots at `px` on a side, or none where `size` is 0."""
    d = world.desk[0]
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE or o.side != side:
            continue
        if o.state == RESTING and size == 0:
            desk_cancel(world, now, slot)
        elif o.state == RESTING and o.px != px:
            desk_replace(world, now, slot, px, size)
        return
    if size > 0:
        desk_new(world, now, side, px, size, POST_ONLY)


@kernel
def _busy(world: Any, side: int) -> bool:
    """Whether an order of a side is out."""
    d = world.desk[0]
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state != FREE and o.side == side:
            return True
    return False


@kernel
def _learned(world: Any, me: Any, v: Any, now: int, x: Any) -> None:
    d, w, n = world.desk[0], me.weights, len(x)
    for side in range(2):
        sign = 1 - 2 * side
        x[0] = 1.0
        x[1] = v.spread
        x[2] = sign * v.imbalance
        x[3] = sign * d.seen_position / me.limit
        x[4] = sign * v.momentum
        x[5] = _queue(world, side)
        stand, depth, cross = 0.0, 0.0, 0.0
        for k in range(n):
            stand += w[k] * x[k]
            depth += w[n + k] * x[k]
            cross += w[2 * n + k] * x[k]
        room = sign * d.seen_position + me.size <= me.limit
        if cross > 0.0 and room and not _busy(world, side):
            desk_new(world, now, side, v.ask if side == BUY else v.bid, me.size, IOC)
            continue
        deep = int(min(CLIP, max(0.0, depth)) * v.usual)
        px = v.bid - deep if side == BUY else v.ask + deep
        _stand(world, now, side, px, me.size if stand > 0.0 and room else 0)


@kernel
def _join(world: Any, me: Any, v: Any, now: int, lean: float) -> None:
    """Join both best prices inside the position limit; with `lean` below 1 only the side that the book favours."""
    d = world.desk[0]
    for side in range(2):
        sign = 1 - 2 * side
        room = sign * d.seen_position + me.size <= me.limit
        fits = room and sign * v.imbalance > -lean
        _stand(world, now, side, v.bid if side == BUY else v.ask, me.size if fits else 0)


@kernel
def _execute(world: Any, me: Any, v: Any, now: int, share: float) -> None:
    """Take what the best price shows until `share` of the parent is done."""
    d = world.desk[0]
    gap = int(share * me.parent) - me.side * d.seen_position
    side = BUY if me.side > 0 else SELL
    if gap > 0 and not _busy(world, side):
        desk_new(world, now, side, v.ask if side == BUY else v.bid, gap, IOC)


@kernel
def decide(world: Any, me: Any, v: Any, now: int, done: float, x: Any) -> None:
    """Let the player of a SEAT act at `now` on a VIEW; `done` is the share of the episode behind it."""
    if me.kind == LEARNED:
        _learned(world, me, v, now, x)
    elif me.kind == MAKER:
        _join(world, me, v, now, 2.0)
    elif me.kind == LEANING:
        _join(world, me, v, now, LEAN)
    elif me.kind == TIMED:
        _execute(world, me, v, now, done)
    elif me.kind == IMMEDIATE:
        _execute(world, me, v, now, 1.0)
