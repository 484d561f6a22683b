"""What the engine does about an order of which it was told something impossible."""

from pathlib import Path

import msgspec
import pytest

from emp.core.codes import OrderStatus
from emp.core.contracts import OrderUpdate, QueryOrder
from tests.kit.models import engine
from tests.kit.orders import cancel_order, cleared, new_order


@pytest.mark.parametrize("immediate", [True, False])
def test_an_order_that_was_overfilled_is_asked_for_at_once(tmp_path: Path, immediate: bool) -> None:
    trader = engine(tmp_path)
    trader.sent(cleared(new_order("TESTRUN0-00000001", 1, 2, 100, instrument="GOOG", immediate=immediate)))
    overfill = OrderUpdate(
        clOrdID="TESTRUN0-00000001", execID="e1", status=OrderStatus.FILLED, filled=100_002, price=100, ts=5
    )
    output = trader.on_report(overfill)
    assert trader.halted
    assert output.commands[0] == QueryOrder(cl_ord_id="TESTRUN0-00000001", instrument="GOOG", ts=5)


def test_an_order_whose_cancel_is_refused_again_is_asked_for(tmp_path: Path) -> None:
    """Its end may have been lost on its way: else it would be withdrawn, in vain, for ever."""
    trader, name = engine(tmp_path), "TESTRUN0-00000001"
    trader.sent(cleared(new_order(name, 1, 2, 100, instrument="GOOG")))
    rests = OrderUpdate(clOrdID=name, execID="e1", status=OrderStatus.NEW, filled=0, price=0, ts=1)
    trader.on_report(rests)
    asked = []
    for n in (2, 3, 4):
        cancel = cancel_order(f"TESTRUN0-{n:08d}", name, instrument="GOOG", ts=n)
        trader.sent(cancel)
        refused = OrderUpdate(
            clOrdID=cancel.cl_ord_id, execID=f"r{n}", status=OrderStatus.REJECTED, filled=0, price=0, ts=n
        )
        asked.append(trader.on_report(refused).commands)
        if n == 3:
            trader.on_report(msgspec.structs.replace(rests, execID="e2", ts=n))
    query = QueryOrder(cl_ord_id=name, instrument="GOOG", ts=3)
    assert asked == [[], [query], [msgspec.structs.replace(query, ts=4)]]
