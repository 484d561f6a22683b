"""What the engine does about an order of which it was told something impossible."""

from pathlib import Path

import pytest

from emp.core.codes import OrderStatus
from emp.core.contracts import OrderUpdate, QueryOrder
from tests.kit.models import engine
from tests.kit.orders import new_order


@pytest.mark.parametrize("immediate", [True, False])
def test_an_order_that_was_overfilled_is_asked_for_at_once(tmp_path: Path, immediate: bool) -> None:
    trader = engine(tmp_path)
    trader.sent(new_order("TESTRUN0-00000001", 1, 2, 100, instrument="GOOG", immediate=immediate))
    overfill = OrderUpdate(
        clOrdID="TESTRUN0-00000001", execID="e1", status=OrderStatus.FILLED, filled=100_002, price=100, ts=5
    )
    output = trader.on_report(overfill)
    assert trader.halted
    assert output.commands[0] == QueryOrder(cl_ord_id="TESTRUN0-00000001", instrument="GOOG", ts=5)
