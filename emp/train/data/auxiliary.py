"""What a model should also know: the next event, which queue empties first, a depth it was not shown (E.1.1).

The tasks shape the hidden state in training and leave nothing in the artifact.
"""

from typing import NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import DEPTH_FEATURES, HORIZON_EVENTS, Array
from emp.perception.normalise import CORE, INPUT_NAMES

NEXT_KINDS = 5
"""Next event: neither best price moves, bid up, bid down, ask up, ask down."""
STAYS, BID_UP, BID_DOWN, ASK_UP, ASK_DOWN = range(NEXT_KINDS)

DEPLETIONS = 3
"""Which best queue empties first within the longest event horizon: the bid's, neither, the ask's."""
BID_EMPTIES, NEITHER, ASK_EMPTIES = range(DEPLETIONS)

NONE = -1
AHEAD = HORIZON_EVENTS[-1]

DEPTH = slice(CORE, CORE + DEPTH_FEATURES)
HAS_DEPTH = INPUT_NAMES.index("has_depth")
STALE = INPUT_NAMES.index("stale")

OUTPUTS = NEXT_KINDS + 1 + DEPLETIONS + DEPTH_FEATURES
"""Outputs of the auxiliary head: next event, wait, depletion, depth."""

MIRRORED_NEXT = np.array([STAYS, ASK_DOWN, ASK_UP, BID_DOWN, BID_UP, NONE])  # the last serves NONE
MIRRORED_QUEUE = np.array([ASK_EMPTIES, NEITHER, BID_EMPTIES, NONE])


class Auxiliary(NamedTuple):
    """Labels of n events."""

    next_kind: Array  # int[n], NONE at the end of a segment
    wait: Array  # float32[n]: input `stale` of the next event, NaN at the end of a segment
    depletion: Array  # int[n], NONE where the segment ends before it is known


def auxiliary_labels(bid: Array, ask: Array, x: Array, segment: Array) -> Auxiliary:
    """Label every row by what follows it within its segment.

    Args:
        bid, ask: int64[n], ticks.
        x: float32[n, INPUTS].
        segment: int64[n].
    """
    n = len(bid)
    next_kind, wait = np.full(n, NONE, np.int8), np.full(n, np.nan, np.float32)
    if n > 1:
        joined = segment[1:] == segment[:-1]
        up, down = np.sign(np.diff(bid)), np.sign(np.diff(ask))
        kind = np.select(
            [up > 0, down < 0, up < 0, down > 0], [BID_UP, ASK_DOWN, BID_DOWN, ASK_UP], default=STAYS
        )
        next_kind[:-1] = np.where(joined, kind, NONE)
        wait[:-1] = np.where(joined, x[1:, STALE], np.nan)
    depletion = np.full(n, NONE, np.int8)
    label_depletion(bid, ask, segment, depletion)
    return Auxiliary(next_kind, wait, depletion)


@kernel
def label_depletion(bid: Array, ask: Array, segment: Array, out: Array) -> None:
    """Which best price steps back first within AHEAD events; `out` int8[n] comes in as NONE."""
    n = bid.size
    for t in range(n):
        for j in range(t + 1, min(t + AHEAD + 1, n)):
            if segment[j] != segment[t]:
                break
            if bid[j] < bid[t]:
                out[t] = BID_EMPTIES
                break
            if ask[j] > ask[t]:
                out[t] = ASK_EMPTIES
                break
            if j == t + AHEAD:
                out[t] = NEITHER


def mirrored(labels: Auxiliary) -> Auxiliary:
    """The same seen in the mirror, bid for ask."""
    return Auxiliary(MIRRORED_NEXT[labels.next_kind], labels.wait, MIRRORED_QUEUE[labels.depletion])
