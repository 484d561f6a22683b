"""An order that is never sent, in the queue that an event shows: what stands ahead of it, and whether it is filled.

As at the paper venue (`emp.access.paper.fills`), on the cautious side: what stands ahead shrinks by trades at the
price, and by cancellations only when less is shown than stood ahead; a trade through the price, or an opposite quote
beyond it, fills.
"""

from typing import Any

from emp.core.codes import EventFlag
from emp.core.numba.jit import kernel

TRADE = int(EventFlag.TRADE)
TRADE_OR_AUCTION = TRADE | int(EventFlag.AUCTION)
NO_SIZE = int(EventFlag.NO_SIZE)

HIDDEN = 1 << 60
"""Lots ahead where nobody can know, as at the paper venue: no trade eats through them."""


@kernel
def shown_at(event: Any, side: int, px: int) -> int:
    """Lots shown at a price of a side; HIDDEN where the feed has no sizes."""
    if event.flags & NO_SIZE:
        return HIDDEN
    for i in range(event.n_bid if side > 0 else event.n_ask):
        if (event.bid_px[i] if side > 0 else event.ask_px[i]) == px:
            return int(event.bid_sz[i] if side > 0 else event.ask_sz[i])
    return 0


@kernel
def reached(order: Any, side: int, px: int, event: Any) -> bool:
    """Whether an event has filled an order of `side` at `px`; `order.ahead`, the lots ahead of it, is carried along."""
    opposite = event.ask_px[0] if side > 0 else event.bid_px[0]
    if (px - opposite) * side > 0:
        return True
    if event.flags & TRADE_OR_AUCTION == TRADE and event.trade_qty * side < 0:
        if (px - event.trade_px) * side > 0:
            return True
        if event.trade_px == px:
            order.ahead -= event.trade_qty_last
            if order.ahead < 0:
                return True
    touch = event.bid_px[0] if side > 0 else event.ask_px[0]
    if (px - touch) * side >= 0:
        order.ahead = min(order.ahead, shown_at(event, side, px))
    return False


@kernel
def lots_ahead(event: Any, side: int, px: int, told: int) -> int:
    """Lots that an order at `px` has ahead: all that is shown at better prices, and what is shown at its own.

    `told` is the venue's word on the queue at its own price, -1 where it gave none. It was true when it was given, and
    the queue ahead only shrinks: the smaller of it and what is shown now holds.
    """
    better, here, seen = 0, 0, False
    for i in range(event.n_bid if side > 0 else event.n_ask):
        at = event.bid_px[i] if side > 0 else event.ask_px[i]
        size = event.bid_sz[i] if side > 0 else event.ask_sz[i]
        if (at - px) * side > 0:
            better += size
        else:
            seen = True  # the price is not below what is shown
            if at == px:
                here = size
            break
    if told >= 0:
        here = min(here, told) if seen else told
    return int(better + here)
