"""LOB-Bench's impact response: how far the mid has gone some events after each kind of event at the touch."""

from collections.abc import Sequence

import numpy as np

from emp.core.records import Array
from emp.sim.facts.scores import UNIT, Stretch
from emp.sim.flow.state import ADD, DELETE, REDUCE, TRADE

LAGS = np.floor(10 ** (np.arange(3, 24) / 10)).astype(np.int64)
"""1 to 199 events; 3 is among them twice, as in the package, and counts twice."""

CLASSES = ("MO_0", "MO_1", "LO_0", "LO_1", "CA_0", "CA_1")
"""Market orders, limit orders and cancels, that left the best prices where they were (0) or moved one (1)."""

MERGE_NS = 1_000
"""Executions at one price this close together are of one market order."""


def touch_events(s: Stretch) -> tuple[Array, Array, Array]:
    """Class (index of CLASSES), sign and mid (price units, rounded toward zero) of each event at the touch, int64[n].

    An event is signed +1 where it pushes the price up: a bid that arrives, an ask that goes or is taken.
    """
    touch = s.book[:, :4]
    changed = np.append(True, (touch[1:] != touch[:-1]).any(1))[: len(touch)]
    kept = (touch != 0).all(1) & changed & np.isin(s.kind, (ADD, REDUCE, DELETE, TRADE))
    kept &= np.abs(s.direction) == 1
    touch, kind, ts, px = touch[kept], s.kind[kept], s.ts[kept], s.px[kept]
    side = s.direction[kept]
    best = touch[:, 0::2]
    moved = np.append(True, (best[1:] != best[:-1]).any(1))[: len(best)]
    base = np.select([kind == TRADE, kind == ADD], [0, 2], 4)
    same = (np.diff(ts) <= MERGE_NS) & (kind[1:] == TRADE) & (side[1:] == side[:-1]) & (px[1:] == px[:-1])
    last = np.append(~same, True)[: len(kind)]
    mid = np.trunc(best.sum(1) / 2).astype(np.int64)
    sign = np.where(kind == ADD, side, -side)
    return (base + moved)[last], sign[last], mid[last]


def responses(sequences: Sequence[Stretch]) -> Array:
    """Mean signed move of the mid in ticks from before an event, float64[CLASSES, LAGS]; NaN without any event.

    R(l) = mean of sign_i (mid_{i+l-1} - mid_{i-1}), in events at the touch, never across sequences.
    """
    total, count = np.zeros((2, len(CLASSES), len(LAGS)))
    for s in sequences:
        kind, sign, mid = touch_events(s)
        for k, lag in enumerate(LAGS):
            if len(mid) <= lag:
                continue
            move = sign[1 : len(mid) - lag + 1] * (mid[lag:] - mid[:-lag])
            of = kind[1 : len(mid) - lag + 1]
            total[:, k] += np.bincount(of, move, len(CLASSES))
            count[:, k] += np.bincount(of, minlength=len(CLASSES))
    with np.errstate(invalid="ignore"):
        out: Array = total / count / UNIT
    return out


def differences(real: Array, made: Array) -> Array:
    """Sum over lags (the last axis) of absolute differences of two responses, ticks."""
    out: Array = np.abs(real - made).sum(-1)
    return out
