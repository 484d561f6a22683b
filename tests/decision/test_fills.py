"""Chances of a fill: what is believed at first, what lessons make of it, and the virtual orders that they come from."""

from typing import Any

import numpy as np
import pytest

from emp.core.codes import EventFlag
from emp.core.ids import generator
from emp.core.records import EVENT, HORIZON_NS, Array
from emp.decision.estimates import forget_trades, new_estimates, see_trade, update_estimates
from emp.decision.fills import (
    AGES,
    FARTHEST,
    NEVER,
    behind_touch,
    chance,
    chance_error,
    last_age,
    learn,
    log_ratio,
    odds_weights,
)

SECOND = 1_000_000_000


def fresh() -> Any:
    return new_estimates()[0]["fills"]


def event(ts: int, bid: int = 1000, ask: int = 1002, trade: int = 0, px: int = 0, size: int = 10) -> Any:
    row = np.zeros(1, EVENT)[0]
    row["ts"], row["n_bid"], row["n_ask"] = ts, 1, 1
    row["bid_px"][0], row["ask_px"][0], row["bid_sz"][0], row["ask_sz"][0] = bid, ask, size, size
    row["trade_qty"], row["trade_qty_last"], row["trade_px"] = trade, abs(trade), px
    row["flags"] = EventFlag.VISIBLE | (EventFlag.TRADE if trade else 0)
    return row


def within(e: Any, events: int) -> float:
    """The chance that a bid which joins the touch is filled within so many events."""
    ns = events * e["elapsed_ns"]
    weights = odds_weights(e["fills"], e["elapsed_ns"], ns, traded=True, learned=True)
    return float(chance(*weights, log_ratio(e["volume_bid"], e["elapsed_ns"], 11.0, ns), 0.0))


def test_at_first_a_fill_is_as_likely_as_flow_over_queue_says() -> None:
    level, slope, behind = odds_weights(fresh(), 1e8, 2e9, traded=True, learned=True)
    assert (level, slope, behind) == (0.0, 1.0, 0.0)
    # 0.5 lots an event, 20 events: 10 lots into a queue of 99 and ours
    said = chance(level, slope, behind, log_ratio(0.5, 1e8, 100.0, 2e9), 0.0)
    assert said == pytest.approx(0.1 / 1.1)
    assert log_ratio(0.0, 1e8, 100.0, 2e9) == -FARTHEST


@pytest.mark.parametrize("gap_s", [0.2, 1.0, 60.0, 3_600.0])
def test_in_less_time_than_events_are_apart_a_fill_is_as_much_less_likely(gap_s: float) -> None:
    """What was learned over queues, a slope of next to nothing, says nothing of time."""
    fills, gap = fresh(), gap_s * SECOND
    fills["learned"]["weights"] = (-0.5, 0.05, 0.0)

    def said(ns: float) -> float:
        weights = odds_weights(fills, gap, ns, traded=True, learned=True)
        return float(chance(*weights, log_ratio(3.0, gap, 11.0, ns), 0.0))

    one = said(gap)
    assert one == pytest.approx(0.363, abs=0.01)
    for share in (0.5, 0.1, 1e-2):
        odds = one / (1.0 - one) * share
        assert said(share * gap) == pytest.approx(odds / (1.0 + odds), rel=1e-4)
    assert said(1.001 * gap) == pytest.approx(one, rel=0.01), "it goes on without a step"


def test_beyond_the_last_age_the_line_is_drawn_on_for_one_more() -> None:
    fills = fresh()
    fills["learned"]["weights"][:, 0] = np.arange(AGES)  # each age a step
    for age in range(AGES + 1):
        assert odds_weights(fills, 1.0, float(1 << (2 * age)), traded=True, learned=True) == (age, 1.0, 0.0)
    assert odds_weights(fills, 1.0, 2e9, traded=True, learned=True) == (AGES, 1.0, 0.0)


def test_where_nothing_trades_no_fill_is_hoped_for() -> None:
    for learned in (False, True):
        weights = odds_weights(fresh(), 1e8, 2e9, traded=False, learned=learned)
        assert weights[0] == NEVER
        assert chance(*weights, -FARTHEST, 0.0) == 0.0


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("log_r", [-8.0, 0.0, 8.0])
def test_a_lesson_goes_to_the_mode_of_what_was_known_and_came(log_r: float, filled: bool) -> None:
    one = fresh()["learned"][0]
    before, info = one["weights"].copy(), one["information"].copy()
    learn(one, log_r, 0.5, filled)
    x = np.array([1.0, log_r, 0.5])
    p = 1.0 / (1.0 + np.exp(-float(one["weights"] @ x)))
    assert info @ (one["weights"] - before) == pytest.approx(x * (filled - p), abs=1e-6)
    assert np.linalg.eigvalsh(one["information"]).min() > 0.9


def test_lessons_find_the_odds_that_are_there_and_say_how_sure_they_are() -> None:
    rng = generator(3, "odds")
    fills = fresh()
    one = fills["learned"][0]
    errors = []
    for n in range(4_000):
        log_r, behind = rng.normal(1.0, 1.5), max(0.0, rng.normal())
        true = 1.0 / (1.0 + np.exp(-(-1.5 + 0.4 * log_r - 0.8 * behind)))
        learn(one, log_r, behind, bool(rng.uniform() < true))
        if n in (0, 30, 3_999):
            errors.append(chance_error(fills, 0, 1.0, 0.5))
    assert errors[0] > errors[1] > errors[2] > 0.0
    for log_r, behind in ((-1.0, 0.0), (1.0, 0.0), (3.0, 1.0)):
        true = 1.0 / (1.0 + np.exp(-(-1.5 + 0.4 * log_r - 0.8 * behind)))
        said = chance(*one["weights"], log_r, behind)
        assert abs(said - true) < 4.0 * chance_error(fills, 0, log_r, behind)


def test_what_is_old_fades() -> None:
    one = fresh()["learned"][0]
    for k in range(6_000):
        learn(one, 0.0, 0.0, k < 3_000 and k % 2 == 0)
    assert chance(*one["weights"], 0.0, 0.0) < 0.05


def test_how_far_behind_the_touch_a_price_is() -> None:
    assert [behind_touch(event(0), 1, px) for px in (1001, 1000)] == [0.0, 0.0]
    assert behind_touch(event(0), 1, 998) == pytest.approx(np.log(2.0))
    assert behind_touch(event(0), -1, 1006) == pytest.approx(np.log(3.0))


def traded(events: list[Any]) -> Any:
    e = new_estimates()[0]
    for one in events:
        update_estimates(e, one)
    return e


def test_orders_that_nothing_reaches_teach_that_fills_are_rare() -> None:
    still = [event(k * SECOND // 10, size=10 + k % 3) for k in range(4_000)]
    e = traded(still)
    fills = e["fills"]
    assert fills["begun"] > 30
    assert (fills["orders"]["filled"] < 0).all()
    assert max(within(e, n) for n in (1, 4, 20, 64)) < 0.1


def test_orders_that_are_traded_through_teach_that_fills_are_sure() -> None:
    busy = []
    for k in range(4_000):
        sold = k % 2 == 0
        busy.append(event(k * SECOND // 10, trade=-50 if sold else 50, px=999 if sold else 1003))
    e = traded(busy)
    assert within(e, 20) > 0.95
    assert 0.3 < within(e, 1) < 0.7, "every other event reaches the bid"


def test_trades_that_change_nothing_visible_fill_too() -> None:
    e = new_estimates()[0]
    for k in range(4_000):
        update_estimates(e, event(k * SECOND // 10, size=10 + k % 3))
        for side in (-50, 50):
            see_trade(e, event(k * SECOND // 10 + 1, trade=side, px=999 if side < 0 else 1003))
    assert within(e, 20) > 0.95
    assert within(e, 1) > 0.9


def test_a_break_of_the_stream_ends_what_is_watched_and_teaches_nothing() -> None:
    e = traded([event(k * SECOND // 10) for k in range(60)])
    fills = e["fills"]
    assert (fills["orders"]["state"] != 0).any()
    before = fills["learned"].copy()
    forget_trades(e)
    assert (fills["orders"]["state"] == 0).all()
    assert (fills["learned"] == before).all()


def test_one_that_was_not_filled_goes_on_from_where_it_stands() -> None:
    """The market rises away from bids: what has rested is behind the touch."""
    e = new_estimates()[0]
    seen: list[Array] = []
    for k in range(3_000):
        step = k // 10
        update_estimates(e, event(k * SECOND // 10, 1000 + step, 1002 + step, size=10 + k % 3))
        seen.append(e["fills"]["orders"].copy())
    again = [o for orders in seen for o in orders if o["again"] and o["side"] > 0]
    assert any(o["behind"] > 0.0 for o in again)


def test_orders_are_watched_as_long_as_one_of_ours_may_rest() -> None:
    assert [last_age(ns) for ns in (0.0, 1e9)] == [3, 3]  # 64 events, of which 20 are the longest horizon
    assert last_age(HORIZON_NS[-1] / 1000) == 5  # 1,024 of the 1,000 events that come in two seconds
    assert last_age(1.0) == AGES - 1
