"""What the mid did after our fills, half a second and two seconds on: O(1) an event, and nothing to look up later.

    markout = s (mid a horizon after the fill - price) - fee    ticks per lot

The mid is the last one known when the horizon ends. A fill is dated by the event at which the account shows it.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array

SPANS_NS = (500_000_000, 2_000_000_000)
SPAN_NAMES = ("500ms", "2s")
ROOM = 64
"""Fills whose end may be waited for at once; of more, the oldest is judged early."""

MARKOUTS = np.dtype(
    [
        ("ts", "i8", (ROOM,)),  # ring of fills
        ("px", "f8", (ROOM,)),  # fee against us
        ("lots", "i8", (ROOM,)),  # signed
        ("filled", "i8"),  # fills so far
        ("judged", "i8", (len(SPANS_NS),)),  # of them, by horizon
        ("sum", "f8", (len(SPANS_NS),)),  # ticks times lots
        ("sum_lots", "i8", (len(SPANS_NS),)),
        ("mid", "f8"),  # of the last visible event
    ],
    align=True,
)


def new_markouts(n: int = 1) -> Array:
    """MARKOUTS[n]: no fill so far."""
    return np.zeros(n, MARKOUTS)


@kernel
def judge_fills(m: Any, ts: int, mid: float) -> None:
    """Judge the fills whose horizon has ended before `ts`, then take `mid` as the mid from here on."""
    for h in range(len(SPANS_NS)):
        while m.judged[h] < m.filled and m.ts[m.judged[h] % ROOM] + SPANS_NS[h] < ts:
            _judge(m, h)
    m.mid = mid


@kernel
def _judge(m: Any, h: int) -> None:
    k = m.judged[h] % ROOM
    m.sum[h] += m.lots[k] * (m.mid - m.px[k])
    m.sum_lots[h] += abs(m.lots[k])
    m.judged[h] += 1


@kernel
def keep_fill(m: Any, lots: int, px: float, ts: int) -> None:
    """Keep a fill of `lots` (signed) at `px`, the fee per lot added against us."""
    for h in range(len(SPANS_NS)):
        if m.filled - m.judged[h] >= ROOM:
            _judge(m, h)
    k = m.filled % ROOM
    m.ts[k], m.px[k], m.lots[k] = ts, px, lots
    m.filled += 1
