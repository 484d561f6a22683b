"""Limit orders that may take, in front of a market whose resting orders never do: they go in as one leg after another.

A day order that crosses what was shown last goes in as an immediate order, and what that leaves as a resting one; where
the market has moved against it meanwhile, the resting one is refused and another immediate one follows. To the client
it is one order throughout.
"""

from typing import Final

import msgspec

from emp.core.codes import OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate
from emp.core.records import Array
from emp.sim.venues.fix.feed import Told

LEGS: Final = 8
"""Legs of one order; a market that runs away from it so often has the rest refused."""

_ENDED = (OrderStatus.CANCELED, OrderStatus.EXPIRED)


def crosses(order: NewOrder, row: Array | None) -> bool:
    """Whether a limit order would take from the book that this EVENT row shows."""
    if row is None:
        return False
    if order.side > 0:
        return bool(row["n_ask"] > 0 and order.px >= row["ask_px"][0])
    return bool(row["n_bid"] > 0 and order.px <= row["bid_px"][0])


def leg(told: Told, row: Array | None, *, again: bool = False) -> NewOrder:
    """What of an order goes to the market now; `again`: after a leg that has ended, and in the other way."""
    order = told.order
    if again:
        told.legs += 1
        told.market_id = f"{order.cl_ord_id}~{told.legs}"
    told.taking = told.takes and (not told.taking if again else crosses(order, row))
    return msgspec.structs.replace(
        order,
        cl_ord_id=told.market_id,
        qty=order.qty - told.before,
        immediate=order.immediate or told.taking,
    )


def over(told: Told, update: OrderUpdate) -> bool:
    """Whether a report ends a leg while the order goes on; what the leg has filled is then of the past."""
    missed = update.status is OrderStatus.REJECTED and "post-only" in update.text
    return told.legs < LEGS and (missed or (told.taking and update.status in _ENDED))


def whole(told: Told, update: OrderUpdate, *, goes_on: bool) -> OrderUpdate | None:
    """A report on a leg as one on the order; None where it tells the client nothing."""
    filled = told.before + update.filled
    status = update.status
    if goes_on or status is OrderStatus.NEW:
        if filled == told.filled and told.status is not OrderStatus.PENDING_NEW:
            return None
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.NEW
    elif (
        status is OrderStatus.REJECTED and told.status is not OrderStatus.PENDING_NEW
    ):  # it was accepted before
        status = OrderStatus.CANCELED
    leaves = 0 if status.terminal else told.order.qty - filled
    return msgspec.structs.replace(update, status=status, filled=filled, leaves=leaves)


def told_again(told: Told, update: OrderUpdate) -> OrderUpdate:
    """The state of a working order as the client knows it, as an answer to a question."""
    status = OrderStatus.PARTIALLY_FILLED if told.filled else OrderStatus.NEW
    return msgspec.structs.replace(
        update, status=status, filled=told.filled, leaves=told.order.qty - told.filled
    )
