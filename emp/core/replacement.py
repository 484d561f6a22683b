"""When a replacement is in force, and what the order is from then on: one answer for orders, ledger, recovery."""

import msgspec

from emp.core.codes import OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate, Replace

SAYS_NOTHING = frozenset(
    {
        OrderStatus.REJECTED,
        OrderStatus.PENDING_NEW,
        OrderStatus.PENDING_CANCEL,
        OrderStatus.PENDING_REPLACE,
        OrderStatus.UNKNOWN,
    }
)
"""Statuses that an id has also where the venue has not consented to it."""


def consents(order: NewOrder, pending: Replace, update: OrderUpdate) -> bool:
    """Whether a report on the order says that its pending replacement is in force.

    It names the replacement; or it tells under the replacement's id what only an order can be; or, where the consent
    itself was lost on the way, it tells of fills that the replacement's quantity alone allows.
    """
    if update.replacement == pending.cl_ord_id:
        return True
    if update.status in SAYS_NOTHING:
        return False
    whole = update.status is OrderStatus.FILLED and update.filled == pending.qty != order.qty
    return whole or update.filled > order.qty or update.clOrdID == pending.cl_ord_id


def replaced(order: NewOrder, pending: Replace, update: OrderUpdate) -> NewOrder:
    """The order as its replacement makes it, under the id that it has at the venue from now on.

    What had filled counts towards the quantity; a venue that consents to less than that leaves what has filled.
    """
    named = pending.cl_ord_id in (update.clOrdID, update.replacement)
    return msgspec.structs.replace(
        order,
        cl_ord_id=update.clOrdID if named else order.cl_ord_id,
        qty=max(pending.qty, update.filled),
        px=pending.px,
        ts=pending.ts,
        reason=pending.reason,
        decision_seq=pending.decision_seq,
    )
