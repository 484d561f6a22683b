"""What a market is must not hang on where it is or on which of its sides is called the bid.

A market below zero (crude oil on 2020-04-20, spreads) is one like any other, and in the mirror a seller is a buyer.
"""

from typing import Any

import numba
import numpy as np
import pytest

import emp
from emp.core.records import LEVELS, Array

EVENTS = 20_000
PRICES = ("bid", "ask", "px", "resting_px")
OF_FORECASTS = ("p", "q", "mean", "sigma_ticks", "adverse_bid", "adverse_ask", "flow_bid", "flow_ask")


def maker(side: int) -> Any:
    """Joins the best price of a side, then that of the other, and follows them."""

    @numba.njit
    def rule(seen: Any, request: Any) -> None:
        wanted = side if seen.position == 0 else -side
        touch = seen.bid if wanted > 0 else seen.ask
        if seen.order_state == 0:
            emp.post(request, wanted, touch, 1)
        elif seen.order_state == 2 and seen.order_px != touch:
            emp.move(request, touch, 1)

    return rule


def taker(side: int) -> Any:
    """Crosses back and forth."""

    @numba.njit
    def rule(seen: Any, request: Any) -> None:
        if seen.order_state == 0 and seen.seq % 64 == 0:
            emp.cross(request, side if side * seen.position <= 0 else -side, 1)

    return rule


@pytest.fixture(scope="module")
def market() -> emp.MarketData:
    return emp.simulate("goog", "GC", events=EVENTS, seed=3)


def shifted(market: emp.MarketData, ticks: int) -> emp.MarketData:
    """The same market, every price of it so many ticks higher."""
    events = market.events.copy()
    for side in ("bid", "ask"):
        used = np.arange(LEVELS) < events[f"n_{side}"][:, None]
        events[f"{side}_px"][used] += ticks
    events["trade_px"][events["trade_qty"] != 0] += ticks
    return emp.MarketData(market.instrument, events, market.counts, market.files)


def mirrored(market: emp.MarketData) -> emp.MarketData:
    """The same market with its prices turned around zero: its bids are asks, and who bought sells."""
    events, there = market.events.copy(), market.events
    for side, other in (("bid", "ask"), ("ask", "bid")):
        events[f"{side}_px"], events[f"{side}_sz"] = -there[f"{other}_px"], there[f"{other}_sz"]
        events[f"n_{side}"] = there[f"n_{other}"]
    for field in ("trade_px", "trade_qty"):
        events[field] = -there[field]
    return emp.MarketData(market.instrument, events, market.counts, market.files)


def rows(result: emp.Result) -> dict[str, Array]:
    table = result.frame()
    return {name: np.array(table.column(name).to_pylist()) for name in table.column_names}


def middle(market: emp.MarketData) -> int:
    return int(np.median(market.events["bid_px"][:, 0]))


@pytest.mark.parametrize("rule", [maker, taker], ids=["maker", "taker"])
@pytest.mark.parametrize("times", [1, 2], ids=["around zero", "below zero"])
def test_a_rule_does_the_same_and_earns_the_same(market: emp.MarketData, rule: Any, times: int) -> None:
    ticks = -times * middle(market)
    above, below = (emp.backtest(one, rule=rule(1)) for one in (market, shifted(market, ticks)))
    assert above.summary["fills"] > 50
    for name in ("actions", "fills", "pnl_ticks", "fees", "final_position"):
        assert below.summary[name] == pytest.approx(above.summary[name], abs=1e-6), name
    there, here = rows(above), rows(below)
    assert len(there["ts"]) == len(here["ts"])
    priced = np.isin(there["action_name"], ("post", "cross", "replace"))
    assert (here["action_name"] == there["action_name"]).all()
    assert (here["px"][priced] == there["px"][priced] + ticks).all()


@pytest.mark.parametrize("rule", [maker, taker], ids=["maker", "taker"])
def test_in_the_mirror_the_mirrored_rule_earns_the_same(market: emp.MarketData, rule: Any) -> None:
    here, there = emp.backtest(market, rule=rule(1)), emp.backtest(mirrored(market), rule=rule(-1))
    for name in ("actions", "fills", "pnl_ticks", "fees"):
        assert there.summary[name] == pytest.approx(here.summary[name], abs=1e-6), name
    assert there.summary["final_position"] == -here.summary["final_position"]


@pytest.mark.parametrize("times", [1, 2], ids=["around zero", "below zero"])
def test_what_is_believed_is_the_same(market: emp.MarketData, times: int) -> None:
    """Of the built-in rule: which half of a tick a move counts as hangs on the price, and with it what is decided."""
    ticks = -times * middle(market)
    above, below = (rows(emp.backtest(one)) for one in (market, shifted(market, ticks)))
    _, at, other = np.intersect1d(above["seq"], below["seq"], return_indices=True)
    assert len(at) > 0.95 * len(above["seq"])
    for name in OF_FORECASTS:
        assert np.array_equal(above[name][at], below[name][other]), name
    assert (below["action_name"] != "hold").sum() == pytest.approx(
        (above["action_name"] != "hold").sum(), rel=0.1
    )
