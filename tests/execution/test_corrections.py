"""Trades that a venue takes back or corrects change position and cash, once."""

import msgspec
import pytest

from emp.core.codes import OrderStatus, Reason, WorkingState
from emp.core.contracts import NewOrder, OrderUpdate
from emp.execution.orders import OrderManager

ORDER = NewOrder(
    cl_ord_id="a", instrument="X", side=-1, qty=10, px=100, immediate=False, ts=1, reason=Reason.POST_EDGE,
    decision_seq=1,
)  # fmt: skip
NEXT = iter(range(1_000))


def report(filled: int, price: int, status: OrderStatus, **more: object) -> OrderUpdate:
    return OrderUpdate(
        clOrdID="a", execID=f"E{next(NEXT)}", status=status, filled=filled, price=price, ts=2, instrument="X",
        side=-1, leaves=10 - filled, **more,
    )  # type: ignore[arg-type]  # fmt: skip


def sold(*fills: tuple[int, int]) -> OrderManager:
    """A manager that has sold to these cumulative quantities, at these prices."""
    manager = OrderManager(["X"])
    manager.sent(ORDER)
    for filled, price in fills:
        status = OrderStatus.FILLED if filled == 10 else OrderStatus.PARTIALLY_FILLED
        assert manager.apply(report(filled, price, status)).alarm is None
    return manager


def books(manager: OrderManager) -> tuple[int, float]:
    return manager.position("X"), float(manager.accounts["cash"][0])


def test_a_trade_taken_back_leaves_what_stands() -> None:
    manager = sold((4, 101), (6, 103))
    assert books(manager) == (-6, 4 * 101 + 2 * 103)
    bust = report(4, 100, OrderStatus.PARTIALLY_FILLED, correction=True, average=101.0)
    assert manager.apply(bust).changed
    assert books(manager) == (-4, 404)
    assert not manager.apply(bust).changed
    manager.apply(report(9, 104, OrderStatus.PARTIALLY_FILLED))
    assert books(manager) == (-9, 404 + 5 * 104)


def test_all_trades_taken_back_leave_nothing() -> None:
    manager = sold((4, 101))
    manager.apply(report(0, 100, OrderStatus.NEW, correction=True))
    assert books(manager) == (0, 0)
    order = manager.order("a")
    assert order is not None
    assert (order.status, order.leaves) == (OrderStatus.NEW, 10)


def test_a_corrected_price_changes_cash_alone() -> None:
    manager = sold((4, 101), (6, 103))
    manager.apply(report(6, 100, OrderStatus.PARTIALLY_FILLED, correction=True, average=100.5))
    assert books(manager) == (-6, 603)


@pytest.mark.parametrize(
    ("leaves", "status", "state"),
    [(0, "canceled", WorkingState.NONE), (3, "partially_filled", WorkingState.RESTING)],
)
def test_a_filled_order_of_which_a_part_is_taken_back_works_again_only_where_the_venue_says_so(
    leaves: int, status: str, state: WorkingState
) -> None:
    manager = sold((10, 101))
    bust = report(7, 100, OrderStatus.PARTIALLY_FILLED, correction=True, average=101.0)
    manager.apply(msgspec.structs.replace(bust, leaves=leaves))
    order = manager.order("a")
    assert order is not None
    assert order.status == status
    assert manager.working["state"][0] == state
    assert len(manager.open_orders()) == (leaves > 0)
    assert books(manager) == (-7, 707)


@pytest.mark.parametrize("filled", [-1, 11])
def test_a_correction_beyond_the_order_is_an_alarm(filled: int) -> None:
    manager = sold((4, 101))
    assert manager.apply(
        report(filled, 100, OrderStatus.PARTIALLY_FILLED, correction=True, average=1.0)
    ).alarm
    assert books(manager) == (-4, 404)


def test_a_correction_of_what_was_never_filled_is_an_alarm() -> None:
    manager = sold()
    assert manager.apply(report(4, 100, OrderStatus.PARTIALLY_FILLED, correction=True, average=1.0)).alarm
    assert books(manager) == (0, 0)
