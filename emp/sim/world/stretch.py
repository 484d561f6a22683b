"""A simulated market played from a recorded event to a horizon, as a venue of `emp.access.venue`.

The recorded event comes first, as it was; what follows is the flow's. It is over when its time is, or where asked, as
soon as everything that was at work is closed: judged by what is true at the venue, not by what has been told.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.venue import EVENT_CAME, NOTHING_LEFT, Kernels, register
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, LO, MASK, SELL, cancel, level_qty, next_level
from emp.sim.world.venue import (
    SLOTS,
    Reactive,
    reactive_advance,
    reactive_again,
    reactive_idle,
    reactive_report,
    reactive_send,
)

HORIZON = np.dtype(
    [
        ("until", "i8"),  # ns
        ("until_closed", "?"),  # end as soon as nothing is held and nothing is at work
        ("begun", "?"),  # the recorded event has come
        ("closed", "?"),  # it ended because everything was closed
    ],
    align=True,
)


class Stretch(NamedTuple):
    """A market that answers, from an event to a horizon."""

    market: Reactive
    first: Array  # EVENT[1], the recorded one
    horizon: Array  # HORIZON[1]


@kernel
def _closed(m: Any) -> bool:
    v = m.venue[0]
    return bool(v.position == 0 and v.resting == 0 and v.in_n == 0)


@kernel
def stretch_advance(m: Any, until_ns: int, event: Any) -> tuple[int, int]:
    """See `emp.access.venue.advance`."""
    h, market = m.horizon[0], m.market
    if not h.begun:
        h.begun = True
        event[0] = m.first[0]
        return EVENT_CAME, 0
    v = market.venue[0]
    h.closed = h.until_closed and _closed(market)
    following = market.flow.state[0].next
    if v.in_n > 0:
        following = min(following, market.arrivals[v.in_first])
    if h.closed or following > h.until:
        return NOTHING_LEFT, 0
    come, due = reactive_advance(market, until_ns, event)
    h.closed = h.until_closed and _closed(market)
    if h.closed:
        return NOTHING_LEFT, 0
    return come, due


@kernel
def stretch_report(m: Any, k: int, message: Any) -> None:
    """See `emp.access.venue.report`."""
    reactive_report(m.market, k, message)


@kernel
def stretch_send(m: Any, message: Any) -> bool:
    """See `emp.access.venue.send`."""
    return bool(reactive_send(m.market, message))


@kernel
def stretch_idle(m: Any) -> bool:
    """See `emp.access.venue.idle`."""
    return bool(reactive_idle(m.market))


@kernel
def stretch_again(m: Any) -> bool:
    """See `emp.access.venue.again`."""
    return bool(reactive_again(m.market))


register(Stretch, Kernels(stretch_advance, stretch_report, stretch_send, stretch_idle, stretch_again))


@kernel
def worth_closed(m: Reactive) -> float:
    """Ticks times lots: the cash, less fees, once our orders are withdrawn and what is held is sold to the book.

    Lots that the whole visible side does not take go at its last price.
    """
    b, v = m.flow.book, m.venue[0]
    for slot in range(SLOTS):
        o = m.orders[slot]
        if o.rests:
            cancel(b, o.handle)
            o.rests = False
            v.resting -= 1
    left = abs(v.position)
    side = BUY if v.position > 0 else SELL
    end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
    px, paid = int(b[BEST + side]), 0.0
    last = px if px != end else int(m.flow.state[0].ref)
    while left > 0 and px != end:
        take = min(left, level_qty(b, side, px))
        paid += float(take) * px
        left -= take
        last = px
        px = next_level(b, side, px)
    paid += float(left) * last
    sign = 1.0 if v.position > 0 else -1.0
    return float(v.cash + sign * paid - v.fees - abs(v.position) * v.taker_fee)
