"""What a rule can ask for, in one call each; they work in Python and inside a function that numba compiles.

One order is at work at a time. While one rests (`seen.order_state == 2`) it can be moved or cancelled; while one is
on its way nothing can be asked for; a request that does not fit is the same as none.
"""

from typing import Any

from numba.extending import register_jitable

from emp.core.codes import Action

HOLD, CROSS, POST, CANCEL = int(Action.HOLD), int(Action.CROSS), int(Action.POST), int(Action.CANCEL)
REPLACE = int(Action.REPLACE)

NO_PRICE = -(1 << 62)
"""What stands for a price that is no whole number of ticks, a price in money, say; the engine refuses it."""


@register_jitable
def _whole(n: float) -> int:
    """A number of lots; 0, which the engine refuses, where it is not whole."""
    whole = int(n)
    return whole if whole == n else 0


@register_jitable
def _price(px: float) -> int:
    """A price in ticks; NO_PRICE where it is not whole."""
    whole = int(px)
    return whole if whole == px else NO_PRICE


@register_jitable
def post(request: Any, side: int, px: int, qty: int) -> None:
    """Rest `qty` lots at `px` ticks, to buy (side 1) or to sell (-1). Post-only: refused where it would take."""
    request.action, request.side, request.px, request.qty = POST, side, _price(px), _whole(qty)


@register_jitable
def cross(request: Any, side: int, qty: int) -> None:
    """Take `qty` lots at the opposite best price, what cannot be had there is cancelled."""
    request.action, request.side, request.qty = CROSS, side, _whole(qty)


@register_jitable
def move(request: Any, px: int, qty: int) -> None:
    """Move the order that rests to `px` ticks and `qty` lots; fewer lots at its price keep its place in the queue."""
    request.action, request.px, request.qty = REPLACE, _price(px), _whole(qty)


@register_jitable
def cancel(request: Any) -> None:
    """Withdraw the order that rests."""
    request.action = CANCEL
