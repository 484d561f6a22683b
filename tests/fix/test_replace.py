"""35=G between our client and our venue: consent, refusals, fills before and after, in both dialects."""

import pytest

from emp.access.fix.dialect import CTRADER, MOCK, Dialect
from emp.core.codes import OrderStatus
from emp.core.contracts import OrderUpdate
from emp.execution.orders import OrderManager
from emp.sim.venues.fix.venue import FixVenue
from tests.fix.desk import EURUSD
from tests.fix.markets import Toy
from tests.fix.test_quickfix import Desk, until
from tests.fix.test_venue import SYMBOLS, together
from tests.kit.listener import Listener
from tests.kit.orders import cancel_order, cleared, new_order, query_order, replace_order


@pytest.mark.parametrize("dialect", [MOCK, CTRADER])
def test_an_order_is_replaced_refused_filled_and_withdrawn(dialect: Dialect) -> None:
    toy = Toy([EURUSD], pause_s=3600.0)  # fills come when the test says so
    manager = OrderManager(["EURUSD"])
    heard: dict[str, OrderUpdate] = {}

    async def work(stand: FixVenue, access: Listener, desk: Desk) -> None:
        def take(update: OrderUpdate) -> None:
            heard[update.clOrdID] = update
            assert manager.apply(update).alarm is None

        access.on_report(take)

        async def tell(command: object, name: str) -> OrderUpdate:
            heard.clear()
            manager.sent(command)  # type: ignore[arg-type]
            access.send(cleared(command))  # type: ignore[arg-type]
            await until(lambda: name in heard)
            return heard[name]

        await tell(new_order("A", 1, 5, 108_600), "A")
        moved = await tell(replace_order("B", "A", 1, 4, 108_601), "B")
        assert (moved.replacement, moved.status, moved.leaves) == ("B", OrderStatus.NEW, 4)
        toy._fill("B", 2)
        await until(lambda: heard["B"].filled == 2)
        smaller = await tell(replace_order("C", "B", 1, 3, 108_601), "C")
        assert (smaller.replacement, smaller.status, smaller.filled, smaller.leaves) == (
            "C",
            OrderStatus.PARTIALLY_FILLED,
            2,
            1,
        )
        late = await tell(replace_order("D", "C", 1, 2, 108_601), "D")
        assert (late.status, late.replacement) == (OrderStatus.REJECTED, "")
        asked = await tell(query_order("C"), "C")
        assert (asked.status, asked.filled) == (OrderStatus.PARTIALLY_FILLED, 2)
        [order] = manager.open_orders()
        assert (order.command.cl_ord_id, order.leaves, order.replacement) == ("C", 1, None)
        [works] = await access.open_orders()
        assert (works.clOrdID, works.leaves) == ("C", 1)
        await tell(cancel_order("F", "C"), "C")
        assert manager.open_orders() == []
        assert manager.position("EURUSD") == 2

    symbols = {"symbols": SYMBOLS} if dialect is CTRADER else {}
    together(toy, work, dialect, client=symbols, venue=symbols)
