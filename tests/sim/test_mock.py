"""The built-in market through both of its faces."""

import asyncio
import math

import numpy as np
import pytest

from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate
from emp.core.errors import UsageError, VenueError
from emp.core.instrument import Instrument
from emp.sim.book.check import check_book
from emp.sim.world.mock import MockMarket
from tests.kit.instruments import currency_pair
from tests.kit.listener import Listener, Reports
from tests.kit.orders import cancel_order, new_order, query_order

NS = 1_000_000_000


@pytest.fixture
def eurusd() -> Instrument:
    return currency_pair(fees=(0.1, 0.3), session="london")


def new(n: int, side: int, px: int, qty: int, immediate: bool = False) -> NewOrder:
    return new_order(f"T-{n}", side, qty, px, immediate=immediate, seq=n)


def take(mock: MockMarket, n: int) -> np.ndarray:
    out = []
    for rows in mock.batches():
        out.append(rows.copy())
        if sum(map(len, out)) >= n:
            break
    return np.concatenate(out)


def test_source_yields_ordered_good_books(eurusd: Instrument) -> None:
    mock = MockMarket(eurusd, 3, start_ns=NS, n_events=5000, batch=256)
    rows = np.concatenate([r.copy() for r in mock.batches()])
    assert mock.counts.rows == 5000
    assert len(rows) == mock.counts.events == 5000 - sum(mock.counts.quarantined.values())
    assert (np.diff(rows["seq"]) == 1).all()
    assert (np.diff(rows["seq"]) > 0).all()
    assert (np.diff(rows["ts"]) > 0).all()
    two_sided = (rows["n_bid"] > 0) & (rows["n_ask"] > 0)
    assert two_sided.mean() > 0.97  # now and then this flow empties a side, as a thin market does
    assert (rows["bid_px"][two_sided, 0] < rows["ask_px"][two_sided, 0]).all()
    assert (np.diff(rows["bid_px"][rows["n_bid"] == 10], axis=1) < 0).all()
    assert (np.diff(rows["ask_px"][rows["n_ask"] == 10], axis=1) > 0).all()
    assert (rows["flags"] & EventFlag.VISIBLE > 0).mean() > 0.3
    assert (rows["flags"] & EventFlag.TRADE > 0).any()
    assert set(np.sign(rows["trade_qty"]).tolist()) == {-1, 0, 1}


def test_same_seed_same_market_whatever_the_batch(eurusd: Instrument) -> None:
    def run(seed: int, batch: int) -> bytes:
        mock = MockMarket(eurusd, seed, start_ns=NS, n_events=3000, batch=batch)
        return np.concatenate([r.copy() for r in mock.batches()]).tobytes()

    assert run(5, 1) == run(5, 500)
    assert run(5, 64) != run(6, 64)


def test_our_order_rests_in_the_queue_and_is_filled(eurusd: Instrument) -> None:
    mock = MockMarket(eurusd, 3, start_ns=NS)
    reports: list[OrderUpdate] = []
    mock.report_to(Reports(reports))
    row = take(mock, 50)[-1]
    bid = int(row["bid_px"][0])
    mock.take(new(1, 1, bid, 5))
    for _ in range(20000):
        take(mock, 1)
        if reports and reports[-1].status.terminal:
            break
    assert reports[0].status is OrderStatus.NEW
    assert reports[0].ts > row["ts"] + 150_000
    assert reports[0].queue_ahead >= 0
    fills = [r for r in reports if r.status in (OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED)]
    assert fills[-1].filled == 5
    assert fills[-1].leaves == 0
    assert all(r.maker and r.price == bid and r.queue_ahead >= 0 for r in fills)
    assert sum(r.fee for r in fills) == pytest.approx(0.5)
    assert mock.exchange.position == 5
    assert len({r.execID for r in reports}) == len(reports)
    check_book(mock.market.book)


def test_crossing_order_consumes_the_book(eurusd: Instrument) -> None:
    mock = MockMarket(eurusd, 3, start_ns=NS)
    reports: list[OrderUpdate] = []
    mock.report_to(Reports(reports))
    row = take(mock, 50)[-1]
    want = int(row["ask_sz"][0]) + 1
    mock.take(new(1, 1, int(row["ask_px"][1]), want, immediate=True))  # the first level is not enough
    seen = take(mock, 200)
    trades = seen[seen["trade_qty"] == want]
    assert len(trades) == 1
    assert int(trades[0]["ask_px"][0]) >= int(row["ask_px"][0])
    assert reports[-1].status is OrderStatus.FILLED
    assert not reports[-1].maker
    assert mock.exchange.fees == pytest.approx(0.3 * want)


def test_post_only_duplicate_cancel_and_query(eurusd: Instrument) -> None:
    mock = MockMarket(eurusd, 3, start_ns=NS)
    reports: list[OrderUpdate] = []
    mock.report_to(Reports(reports))
    row = take(mock, 50)[-1]
    mock.take(new(1, 1, int(row["ask_px"][0]) + 2, 1))
    mock.take(new(2, 1, int(row["bid_px"][0]) - 400, 1))
    take(mock, 100)
    mock.take(new(2, 1, int(row["bid_px"][0]) - 400, 1))
    mock.take(query_order("T-2"))
    mock.take(query_order("T-9"))
    for orig in ("T-2", "T-2", "T-7"):
        mock.take(cancel_order(f"C-{orig}", orig))
    take(mock, 100)
    told = [(r.clOrdID, r.status, r.text) for r in reports]
    assert told[0] == ("T-1", OrderStatus.REJECTED, "post-only order would have taken liquidity")
    assert [t[:2] for t in told[1:]] == [
        ("T-2", OrderStatus.NEW),
        ("T-2", OrderStatus.REJECTED),
        ("T-2", OrderStatus.NEW),
        ("T-9", OrderStatus.REJECTED),
        ("T-2", OrderStatus.CANCELED),
        ("C-T-2", OrderStatus.REJECTED),
        ("C-T-7", OrderStatus.REJECTED),
    ]


def test_access_follows_the_clock(eurusd: Instrument) -> None:
    async def scenario() -> tuple[int, list[OrderUpdate], int]:
        mock = Listener(MockMarket(eurusd, 3, start_ns=NS, speed=200.0))
        reports: list[OrderUpdate] = []
        mock.on_report(reports.append)
        await mock.connect([eurusd])
        n = 0
        async for rows in mock.events():
            if n == 0:
                mock.take(new(1, -1, int(rows["bid_px"][-1][0]) - 5, 1, immediate=True))
            n += len(rows)
            if n > 2000:
                await mock.close()
        assert await mock.open_orders() == []
        return n, reports, (await mock.positions())[0].qty

    n, reports, position = asyncio.run(scenario())
    assert n > 2000
    assert [r.status for r in reports] == [OrderStatus.NEW, OrderStatus.FILLED]
    assert position == -1


def test_a_market_has_a_past_that_is_told_at_once(eurusd: Instrument) -> None:
    """As many events as are wanted before the first moment passes; the same market as without, and the clock behind."""

    async def scenario(past: int) -> tuple[list[int], int, int]:
        market = MockMarket(eurusd, 3, start_ns=NS, speed=0.001)
        market.past = past
        mock = Listener(market)
        await mock.connect([eurusd])
        seen: list[int] = []
        visible = ahead = 0
        async for rows in mock.events():
            seen += rows["seq"].tolist()
            visible += int(((rows["flags"] & EventFlag.VISIBLE) != 0).sum())
            ahead = market._target() - int(rows["ts"][-1])
            if visible >= past:
                break
        await mock.close()
        return seen, visible, ahead

    seen, visible, ahead = asyncio.run(asyncio.wait_for(scenario(300), 60))
    assert 300 <= visible < 300 + 64
    assert seen == sorted(seen)
    assert 0 <= ahead < 1_000_000_000, "market time goes on from there, not from its beginning"


def test_access_without_waiting_ends_by_itself(eurusd: Instrument) -> None:
    async def scenario() -> int:
        mock = Listener(MockMarket(eurusd, 3, start_ns=NS, speed=math.inf, n_events=3000))
        await mock.connect([eurusd])
        seen = sum([len(rows) async for rows in mock.events()])
        return seen + sum(mock.counts.quarantined.values())

    assert asyncio.run(scenario()) == 3000


def test_bad_use_is_refused_in_one_line(eurusd: Instrument) -> None:
    with pytest.raises(UsageError, match="speed must be above 0"):
        MockMarket(eurusd, speed=0)
    with pytest.raises(UsageError, match="batch must be at least 1"):
        MockMarket(eurusd, batch=0)
    mock = MockMarket(eurusd)
    with pytest.raises(VenueError, match="serves EURUSD only"):
        asyncio.run(Listener(mock).connect([]))
    asyncio.run(mock.close())
    with pytest.raises(VenueError, match="closed"):
        mock.take(new(1, 1, 100_000, 1))
