"""What others have traded on the account is told with its price: a stop that was reached, an order by hand."""

from collections.abc import Sequence

import pytest

from emp.access.ctrader.access import CTraderAccess
from emp.access.ctrader.enums import OrderType, TradeSide, VenueOrderStatus
from emp.access.ctrader.flows import LOOK_BACK_MS
from emp.access.ctrader.messages import ProtoOAOrderListReq, ProtoOAOrderListRes
from emp.access.ctrader.others import ask_others
from emp.access.ctrader.parts import ProtoOAOrder, ProtoOATradeData
from emp.access.port import OthersTrade, TellsOthers
from emp.core.errors import VenueError
from tests.ctrader.ctrader_rig import EURUSD, QUICK, Link, credentials

MS = 1_000_000
DAY_MS = 24 * 3_600_000
NOW = 1_700_000_000_000 * MS


def others(link: Link, since: int = 0) -> Sequence[OthersTrade] | VenueError:
    said: list[Sequence[OthersTrade] | VenueError] = []
    link.session.others(since, lambda name: name.startswith("R-"), said.append)
    link.pump()
    (answer,) = said
    return answer


def told(link: Link, since: int = 0) -> list[tuple[int, float]]:
    answer = others(link, since)
    assert not isinstance(answer, VenueError)
    return [(one.qty, one.px) for one in answer]


def stopped_out(link: Link) -> None:
    """Four lots are bought, and stopped out at two prices."""
    link.market.show("EURUSD", [(110_000, 50)], [(110_002, 50)])
    link.order("R-1", qty=4)
    link.session.stops.protect("EURUSD", 1, 109_500)
    link.pump()
    link.market.show("EURUSD", [(109_498, 3), (109_490, 50)], [(109_503, 50)])
    link.pump()


def test_a_stop_that_was_reached_is_told_at_its_average_price() -> None:
    link = Link()
    assert told(link) == []
    stopped_out(link)
    assert told(link) == [(-4, pytest.approx((3 * 109_498 + 109_490) / 4))]


def test_only_what_was_executed_from_then_on_is_told() -> None:
    link = Link()
    stopped_out(link)
    (one,) = list(others(link))  # type: ignore[arg-type]
    assert told(link, one.ts) == told(link)
    assert told(link, one.ts + MS) == []


def test_a_lost_connection_is_an_error_and_no_answer() -> None:
    link = Link()
    link.session.disconnected("gone")
    assert isinstance(others(link), VenueError)


def order(
    number: int, ts_ms: int, *, name: str | None = None, lots: int = 1, symbol: int = 1
) -> ProtoOAOrder:
    volume = lots * round(EURUSD.lot * 100)
    return ProtoOAOrder(
        order_id=number,
        trade_data=ProtoOATradeData(symbol_id=symbol, volume=max(1, volume), trade_side=TradeSide.BUY),
        order_type=OrderType.MARKET,
        order_status=VenueOrderStatus.ORDER_STATUS_FILLED,
        execution_price=1.1,
        executed_volume=volume,
        utc_last_update_timestamp=ts_ms,
        client_order_id=name,
    )


def paged(orders: Sequence[ProtoOAOrder], since: int, size: int = 2) -> tuple[list[OthersTrade], int]:
    """What is found where a page has so many orders, newest first; and how often was asked."""
    flow = ask_others(7, Link().session.terms, since, NOW, lambda name: name.startswith("R-"))
    question, asked = next(flow), 0
    while True:
        asked += 1
        assert isinstance(question, ProtoOAOrderListReq)
        first, last = question.from_timestamp, question.to_timestamp
        assert first is not None
        assert last is not None
        assert last - first <= 7 * DAY_MS
        fit = [o for o in orders if first <= (o.utc_last_update_timestamp or 0) <= last]
        fit.sort(key=lambda o: o.utc_last_update_timestamp or 0, reverse=True)
        page = ProtoOAOrderListRes(
            ctid_trader_account_id=7, has_more=len(fit) > size, order=tuple(fit[:size])
        )
        try:
            question = flow.send(page)
        except StopIteration as end:
            return end.value, asked


def test_every_page_is_read_and_ours_and_other_symbols_are_left_out() -> None:
    now_ms = NOW // MS
    orders = [order(n, now_ms - 1_000 * n, lots=n) for n in range(1, 8)]
    orders += [
        order(20, now_ms - 10, name="R-1"),
        order(21, now_ms - 11, symbol=99),
        order(22, now_ms, lots=0),
    ]
    found, asked = paged(orders, NOW - DAY_MS * MS)
    assert [one.qty for one in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [one.order for one in found] == [f"ctrader:{n}" for n in range(1, 8)]
    assert asked > 3
    found, _ = paged(orders, NOW - 3_500 * MS)
    assert [one.qty for one in found] == [1, 2, 3]


def test_no_longer_span_is_asked_for_than_the_venue_allows() -> None:
    now_ms = NOW // MS
    found, _ = paged([order(1, now_ms - LOOK_BACK_MS + DAY_MS), order(2, now_ms - 9 * DAY_MS)], 0)
    assert [one.order for one in found] == ["ctrader:1"]


def test_the_access_tells_others() -> None:
    assert isinstance(CTraderAccess(QUICK, credentials(), host="127.0.0.1"), TellsOthers)
