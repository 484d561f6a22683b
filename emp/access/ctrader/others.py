"""What others have traded on the account: stops that the venue keeps, orders by hand, other programs (`flows.py`)."""

from collections.abc import Callable, Generator, Sequence

from emp.access.ctrader.enums import TradeSide
from emp.access.ctrader.flows import CLOCKS_APART_MS, LOOK_BACK_MS, MS, PAGES, expect
from emp.access.ctrader.messages import ProtoOAOrderListReq, ProtoOAOrderListRes
from emp.access.ctrader.orders import FOREIGN
from emp.access.ctrader.parts import ProtoOAOrder
from emp.access.ctrader.symbols import POINT, Terms
from emp.access.ctrader.wire import Message
from emp.access.port import OthersTrade


def ask_others(
    account: int, terms: Sequence[Terms], since: int, now: int, is_ours: Callable[[str], bool]
) -> Generator[Message, Message, list[OthersTrade]]:
    """Orders on our instruments that were executed from `since` on (ns) and carry no client order id that `is_ours`
    knows, newest first; each at its average price.
    """
    until = now // MS + CLOCKS_APART_MS
    first = max(since // MS, until - LOOK_BACK_MS)
    orders: dict[int, ProtoOAOrder] = {}
    for _ in range(PAGES):
        question = ProtoOAOrderListReq(
            ctid_trader_account_id=account, from_timestamp=first, to_timestamp=until
        )
        page = expect(ProtoOAOrderListRes, (yield question))
        orders |= {one.order_id: one for one in page.order}
        stamps = [o.utc_last_update_timestamp for o in page.order if o.utc_last_update_timestamp]
        if not (page.has_more and stamps):
            break
        until = min(stamps)
    by_symbol = {one.symbol_id: one for one in terms}
    found = [
        _trade(one, by_symbol[one.trade_data.symbol_id])
        for one in orders.values()
        if one.executed_volume
        and one.execution_price
        and one.trade_data.symbol_id in by_symbol
        and not is_ours(one.client_order_id or "")
    ]
    return sorted(found, key=lambda one: one.ts, reverse=True)


def _trade(order: ProtoOAOrder, terms: Terms) -> OthersTrade:
    side = 1 if order.trade_data.trade_side == TradeSide.BUY else -1
    return OthersTrade(
        instrument=terms.instrument.name,
        qty=side * terms.lots(order.executed_volume or 0),
        px=(order.execution_price or 0.0) * POINT / terms.tick_points,
        order=f"{FOREIGN}{order.order_id}",
        ts=(order.utc_last_update_timestamp or 0) * MS,
    )
