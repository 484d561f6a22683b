"""What a flow model remembers between events, and the messages it leaves behind."""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.simd import aligned
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, LIMIT, LO, MASK, SELL, slide, u
from emp.sim.book.matching import submit
from emp.sim.flow.params import BURSTS, FEATURES, MEMORY, PACE_LOGS, RATES, SCALES, TYPES

ADD, REDUCE, DELETE, TRADE = 1, 2, 3, 4
"""Kinds of message, numbered as LOBSTER numbers them."""

HIDDEN, CROSS, HALT, CLEAR = 5, 6, 7, 9
"""Further kinds: a hidden execution, an order executed by an auction, a halt, an emptied book."""

RECENT = 1 << 12
"""How many events back an order can be found by its age."""

MSG = np.dtype(
    [
        ("ts", "i8"),
        ("kind", "i4"),
        ("side", "i4"),  # of the resting order: BUY or SELL
        ("px", "i8"),
        ("qty", "i8"),
        ("handle", "i8"),  # of the order, or an id of the recording
    ],
    align=True,
)
"""One message of an order-by-order feed."""


@kernel
def write_message(out: Any, n: int, ts: int, kind: int, side: int, px: int, qty: int, handle: int) -> int:
    """Write MSG row `n`; return how many there are now."""
    row = out[n]
    row.ts = ts
    row.kind = kind
    row.side = side
    row.px = px
    row.qty = qty
    row.handle = handle
    return n + 1


STATE = np.dtype(
    [
        # rows of MEMORY averages, worked at side by side: each begins at a cache line
        ("keep", "f8", (MEMORY,)),  # decays of the averages: the flow's, beside what they multiply
        ("gain", "f8", (MEMORY,)),  # 1 - keep
        # averages of the market's own trades: of signs per trade, then of sides per event
        ("own", "f8", (2 * MEMORY,)),
        (
            "memory",
            "f8",
            (FEATURES,),
        ),  # averages: all trade signs, limit sides, cancel sides, mid displacement
        ("outside", "f8", (MEMORY,)),  # decaying sums of the signed flow from outside
        ("mid", "f8", (MEMORY,)),  # averages of the mid, per event
        ("now", "i8"),  # ns, time of the last event
        ("next", "i8"),  # ns, time of the next event
        ("seq", "i8"),
        ("ref", "i8"),  # last mid price, rounded down
        ("high", "i8"),  # highest handle ever used, for drawing a random order
        ("skipped", "i8"),  # events that found nothing to do
        ("kind", "i4"),  # the last message
        ("side", "i4"),
        ("px", "i8"),
        ("qty", "i8"),
        ("handle", "i8"),
        ("type", "i8"),  # event type of the last message
        ("last", "i8"),  # what it was, of LASTS
        ("excite", "f8", (SCALES, TYPES)),  # Hawkes: excitation of each type's intensity, Hz
        ("total", "f8", (SCALES,)),  # sum of it over types
        ("split_sign", "f8"),  # of the long order at work: +1 buys
        ("split_left", "i8"),  # trades until it is done
        ("burst", "f8", (BURSTS,)),  # averages of how often market orders came, per event
        ("strange", "f8"),  # their power-law sum
        ("pace", "f8", (PACE_LOGS,)),  # averages of log gaps, per event
        ("pace_mean", "f8", (2,)),  # the predictions of the clock, as far as these averages tell
        ("rate", "f8", (RATES,)),  # log of the rate over its mean, a sum of parts
        ("speed", "f8"),  # the rate over its mean
        ("levels", "f8", (RATES,)),  # log of the usual distances over their mean, a sum of parts
        ("level", "f8"),  # the usual distances over their mean
        ("reach", "f8"),  # the usual distances of deeper orders over their mean
        ("rate_due", "i8"),  # ns, when the rate moves next
        ("load", "f8"),  # events per second, averaged over `LOAD_NS`
        ("scratch", "f8", (TYPES,)),
        ("recent", "i4", (RECENT,)),  # handle of the order that came at event `seq & (RECENT - 1)`
        ("stamp", "i4", (RECENT,)),  # and its stamp, since records are used again; -1: no order came
    ],
    align=True,
)
"""State of a flow model. All models share it; each uses what it needs."""


class FlowWorld(NamedTuple):
    """Everything that the kernels of a flow work on.

    A kernel that runs for long borrows it first (`emp.core.numba.borrow`). Records stand in arrays of one element,
    since an array is passed to compiled code several times faster than a NumPy record.
    """

    book: Array  # int32 words, see `sim.book.book`
    fills: Array  # FILL rows; the book's N_FILLS says how many
    state: Array  # STATE, shape (1,)
    params: Array  # LAW, shape (1,)
    rng: Array  # uint64 (1,), see `core.numba.rng`


LOAD_NS = 1e9


def new_state(now_ns: int, ref_px: int, seed_handle: int) -> Array:
    """Return a STATE row (shape (1,)) for a market that starts at `now_ns` around `ref_px`."""
    s = aligned(np.zeros(1, STATE))
    s["now"] = s["next"] = now_ns
    s["ref"] = ref_px
    s["high"] = seed_handle
    s["level"] = s["reach"] = 1.0
    s["split_sign"] = 1.0
    return s


@kernel
def recentre(b: Any, s: Any) -> None:
    """Keep the mid in the middle half of the book's window, and remember it."""
    lo = int(b[u(LO)])
    mask = int(b[u(MASK)])
    bid = int(b[u(BEST)])
    ask = int(b[u(BEST + 1)])
    if bid != lo and ask != lo + mask:
        s.ref = (bid + ask) >> 1
    at = s.ref - lo
    if at < (mask >> 2) or at > mask - (mask >> 2):
        slide(b, s.ref - (mask >> 1))


@kernel
def note(s: Any, kind: int, side: int, px: int, qty: int, handle: int) -> None:
    """Remember the message just applied."""
    s.kind = kind
    s.side = side
    s.px = px
    s.qty = qty
    s.handle = handle


@kernel
def place(flow: Any, side: int, px: int, qty: int) -> None:
    """Send the market's limit order; it may trade."""
    s = flow.state[0]
    h = submit(flow.book, flow.fills, side, px, qty, LIMIT, 0, 0)
    if h > s.high:
        s.high = h
    note(s, ADD, side, px, qty, h)


@kernel
def seed_ladder(flow: Any, levels: int, qty: int, orders: int, spread: int) -> None:
    """Fill an empty book with a ladder around the reference price."""
    flow = borrowed(flow)
    ref = flow.state[0].ref
    half = (spread + 1) // 2
    for k in range(levels):
        for _ in range(orders):
            place(flow, BUY, ref - half - k, qty)
            place(flow, SELL, ref + half + k, qty)


@kernel
def pass_time(s: Any, gap_ns: int) -> None:
    """Set the time of the next event and let the load average follow."""
    s.next = s.now + gap_ns
    if gap_ns < LOAD_NS:
        s.load += (1.0 - s.load * (gap_ns * 1e-9)) * min(1.0, (gap_ns + 1.0) / LOAD_NS)
    else:
        s.load = LOAD_NS / gap_ns  # nothing older is left in an average over `LOAD_NS`
