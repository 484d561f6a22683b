"""Getting out: withdraw everything and close the position, as many times as it takes."""

from collections.abc import Callable

from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, NewOrder
from emp.execution.orders import OrderManager
from emp.execution.transitions import Order


def flatten(
    manager: OrderManager,
    instrument: str,
    *,
    bid: int,
    ask: int,
    through_ticks: int,
    next_id: Callable[[], str],
    ts: int,
    decision_seq: int,
) -> list[CancelOrder | NewOrder]:
    """Commands that take the instrument towards flat; call again after every report until `is_flat`.

    Every order that can still fill is withdrawn, and an immediate-or-cancel order closes the position as the
    unique fills make it, less what closing orders on their way will close: calling twice sends nothing twice.
    Closing orders accept a price `through_ticks` beyond the best one, `bid` and `ask` being the last known; where
    those are no book (both 0, locked, crossed) there is no price to close at, and only cancels come. A cancel that the
    venue goes on refusing is repeated at its pace.
    """
    orders = manager.open_orders(instrument)
    commands: list[CancelOrder | NewOrder] = [
        CancelOrder(
            cl_ord_id=next_id(),
            orig=order.command.cl_ord_id,
            instrument=instrument,
            ts=ts,
            reason=Reason.KILL_SWITCH,
        )
        for order in orders
        if not order.command.immediate and not _leaving(order) and order.may_cancel(ts)
    ]
    held = left_to_close(manager, instrument)
    side = -1 if held > 0 else 1
    if held and bid < ask:
        commands.append(
            NewOrder(
                cl_ord_id=next_id(),
                instrument=instrument,
                side=side,
                qty=abs(held),
                px=ask + through_ticks if side > 0 else _low(bid, through_ticks),
                immediate=True,
                ts=ts,
                reason=Reason.KILL_SWITCH,
                decision_seq=decision_seq,
            )
        )
    return commands


def _low(bid: int, through_ticks: int) -> int:
    """The lowest price of a sale; in a market above 0 it stays above it, as its venue takes no other."""
    return max(1, bid - through_ticks) if bid > 0 else bid - through_ticks


def left_to_close(manager: OrderManager, instrument: str) -> int:
    """Lots, signed, that are held and that no closing order on its way will close."""
    position = manager.position(instrument)
    side = -1 if position > 0 else 1
    on_their_way = sum(
        o.leaves for o in manager.open_orders(instrument) if o.command.immediate and o.command.side == side
    )
    return -side * max(0, abs(position) - on_their_way)


def _leaving(order: Order) -> bool:
    """Whether a cancel is on its way, or was and its outcome is being asked for."""
    return order.status is OrderStatus.PENDING_CANCEL or (
        order.status is OrderStatus.UNKNOWN and order.cancel is not None
    )


def is_flat(manager: OrderManager, instrument: str) -> bool:
    """Whether nothing is held and nothing can fill any more."""
    return manager.position(instrument) == 0 and not manager.open_orders(instrument)
