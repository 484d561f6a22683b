"""The decision rule against hand-worked examples and a slow separate calculation."""

from typing import Any

import numpy as np
import pytest

from emp.core.codes import Action, EventFlag, Reason, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import (
    ACCOUNT,
    DECISION,
    EVENT,
    FORECAST,
    HORIZON_NAMES,
    HORIZON_NS,
    INTERVAL_SIGMAS,
    WORKING,
)
from emp.decision.estimates import LOOKAHEAD, new_estimates, see_trade, update_estimates
from emp.decision.fills import NEVER
from emp.decision.queue import lots_ahead
from emp.decision.rule import (
    COSTS,
    Sought,
    ValueRule,
    Wait,
    best_post,
    decide_by_value,
    fill_probability,
    held_to_outcomes,
    resting_gain,
    slip_ticks,
)
from emp.decision.standing import new_standing, remember_action
from tests.kit.events import random_events

H_2S = HORIZON_NAMES.index("2s")


def book(bid: int = 1000, ask: int = 1004, bid_sz: int = 100, ask_sz: int = 100) -> Any:
    event = np.zeros(1, EVENT)[0]
    event["bid_px"][:3], event["ask_px"][:3] = (bid, bid - 1, bid - 2), (ask, ask + 1, ask + 2)
    event["bid_sz"][:3], event["ask_sz"][:3] = (bid_sz, 50, 50), (ask_sz, 50, 50)
    event["n_bid"] = event["n_ask"] = 3
    event["flags"], event["ts"] = EventFlag.VISIBLE, 10**18
    return event


def believe(mean: float, width: float = 2.44, horizon: int = H_2S) -> Any:
    forecast = np.zeros(1, FORECAST)[0]
    forecast["mean"][horizon] = mean
    forecast["interval"][horizon] = (mean - width / 2, mean + width / 2)
    return forecast


def costs(**changes: float) -> Any:
    record = np.zeros(1, COSTS)[0]
    values = {"taker_fee": 0.5, "maker_fee": 0.1, "max_order": 10, "max_position": 100, "depth_share": 0.1}
    for name, value in {**values, "k_sigma": 0.5, **changes}.items():
        record[name] = value
    return record


def estimates(**changes: float) -> Any:
    record = new_estimates()[0]
    for name, value in {"depth": 100.0, "elapsed_ns": 1e8, **changes}.items():
        record[name] = value
    return record


def standing(**changes: float) -> Any:
    """Crossing has been earned, unless it is said otherwise."""
    record = new_standing()[0]
    record["may_cross"] = True
    for name, value in changes.items():
        record[name] = value
    return record


def choose(
    event: Any, forecast: Any, e: Any, c: Any, position: int = 0, working: Any = None, st: Any = None
) -> Any:
    row, account = np.zeros(1, DECISION)[0], np.zeros(1, ACCOUNT)[0]
    account["position"] = position
    working = np.zeros(1, WORKING)[0] if working is None else working
    decide_by_value(
        ValueRule(np.array([c])),
        0,
        event,
        2.0,
        forecast,
        e,
        account,
        working,
        standing(lots=int(c["max_order"])) if st is None else st,
        row,
    )
    return row


def resting(side: int, px: int, age_ns: int = 0) -> Any:
    working = np.zeros(1, WORKING)[0]
    working["state"], working["side"], working["px"], working["leaves"] = WorkingState.RESTING, side, px, 5
    working["ts"], working["queue_ahead"] = 10**18 - age_ns, -1
    return working


@pytest.mark.parametrize("side", [1, -1])
def test_crossing_needs_more_than_half_spread_slip_and_fee(side: int) -> None:
    # unit = max(4, 0.5 * 2) = 4 ticks; cost = 2 (half spread) + 0 (slip of 10 in 100) + 0.5 = 2.5 ticks
    rich = choose(book(), believe(side * 0.65), estimates(), costs())
    assert Action(int(rich["action"])) is Action.CROSS
    assert Reason(int(rich["reason_code"])) is Reason.CROSS_EDGE
    assert rich["side"] == side
    assert rich["px"] == (1004 if side > 0 else 1000)
    assert rich["edge_ticks"] == pytest.approx(side * 2.6, rel=1e-6)
    assert rich["cost_to_take"] == pytest.approx(2.5)
    poor = choose(book(), believe(side * 0.60), estimates(), costs())  # 2.4 ticks of edge
    assert Action(int(poor["action"])) is Action.HOLD
    assert Reason(int(poor["reason_code"])) is Reason.NO_EDGE


def test_size_is_value_over_sigma_below_the_depth_cap() -> None:
    # value = 6 - 2.5 = 3.5 ticks, sigma = width * unit / 3.29 = 11.86 ticks -> share 0.295 of 100 lots
    c = costs(max_order=100, depth_share=1.0)
    row = choose(book(bid_sz=10_000, ask_sz=10_000), believe(1.5, width=9.753), estimates(depth=10_000.0), c)
    sigma = 9.753 * 4 / INTERVAL_SIGMAS
    assert row["qty"] == int(np.ceil(3.5 / sigma * 100))
    capped = choose(book(), believe(1.5), estimates(depth=40.0), costs(depth_share=0.1))
    assert capped["qty"] == 4
    none = choose(book(), believe(1.5), estimates(depth=5.0), costs(depth_share=0.1))
    assert Reason(int(none["reason_code"])) is Reason.TOO_SMALL


def test_a_taker_pays_for_reversion_and_a_maker_for_adverse_selection() -> None:
    sure = believe(0.65)
    assert choose(book(), sure, estimates(), costs())["action"] == Action.CROSS
    reverting = choose(book(), sure, estimates(adverse_ask=-1.0), costs())
    assert reverting["action"] == Action.HOLD
    assert reverting["cost_to_take"] == pytest.approx(3.5)
    quiet = believe(0.05)
    flow = {"volume_bid": 100.0, "volume_ask": 100.0}
    patient = choose(book(), quiet, estimates(**flow), costs())
    assert patient["action"] == Action.POST
    assert choose(book(), quiet, estimates(**flow, adverse_bid=5.0), costs())["action"] == Action.HOLD


def test_posting_prefers_the_offset_with_the_best_expected_value() -> None:
    # 2 s at 10 events/s with 8 lots each: 160 lots r; join: 160 / (160 + 110) * (0.2 + 2 - 0.1) = 1.244, improve:
    # 160 / (160 + 10) * 1.1 = 1.035
    row = choose(book(), believe(0.05), estimates(volume_bid=8.0), costs())
    assert row["action"] == Action.POST
    assert row["px"] == 1000
    crowded = choose(book(bid_sz=5000), believe(0.05), estimates(volume_bid=8.0), costs())
    assert crowded["px"] == 1001
    tight = choose(book(ask=1001), believe(0.4), estimates(volume_bid=4.0), costs())
    assert tight["px"] == 1000, "a spread of one tick leaves no room to improve"


def test_no_post_where_nothing_is_known_to_trade() -> None:
    assert choose(book(), believe(0.3), estimates(), costs())["action"] == Action.HOLD


def test_inventory_pressure_turns_the_trade() -> None:
    full = choose(book(), believe(0.65, width=4.876), estimates(), costs(), position=100)
    assert full["edge_ticks"] < 0
    assert full["reason_code"] in (Reason.INVENTORY, Reason.CROSS_EDGE)
    assert choose(book(), believe(0.65), estimates(), costs(), position=-100)["side"] == 1


def test_opening_by_crossing_is_to_be_earned() -> None:
    eager, flow = believe(2.0), estimates(volume_bid=0.05)
    assert choose(book(), eager, flow, costs())["action"] == Action.CROSS
    unproven = standing(may_cross=False)
    row = choose(book(), eager, flow, costs(), st=unproven)
    assert (row["action"], row["side"]) == (Action.POST, 1), "it rests where it would have crossed"
    row = choose(book(), eager, estimates(), costs(), st=unproven)
    assert (row["action"], row["reason_code"]) == (Action.HOLD, Reason.NO_EDGE)
    for held, action in ((-3, Action.CROSS), (3, Action.POST)):
        row = choose(book(), eager, flow, costs(), position=held, st=unproven)
        assert (row["action"], row["side"]) == (action, 1), "what is held may always be closed"


@kernel
def _best(event: Any, e: Any, c: Any, account: Any, st: Any, edge: float, wait: Wait, rival: float) -> Any:
    found = best_post(event, e, c, account, st, 1, edge, wait, Sought(1.0, 0, rival))
    touch, before = event.bid_px[0], event.bid_px[0] + 1
    at, at_before = resting_gain(event, e, c, 1, edge, touch), resting_gain(event, e, c, 1, edge, before)
    value = fill_probability(event, e, wait, 1, touch, float(event.bid_sz[0]), 1.0)
    value *= held_to_outcomes(c, st, account, 1, at)
    value_before = fill_probability(event, e, wait, 1, before, 0.0, 1.0)
    value_before *= held_to_outcomes(c, st, account, 1, at_before)
    return found, value, value_before


def test_the_better_price_is_the_one_of_more_value_though_no_chance_is_asked() -> None:
    rng = np.random.default_rng(7)
    account, losing = np.zeros(1, ACCOUNT)[0], 0
    for _ in range(500):
        event = book(bid_sz=int(rng.integers(1, 200)))
        e = estimates(volume_bid=float(rng.choice([0.0, 0.05, 4.0])), adverse_bid=float(rng.normal(0.0, 3.0)))
        st = standing(level=rng.normal(), slope=rng.choice([1.0, 0.2, -0.5]), error=abs(rng.normal()))
        wait = Wait(2e9, float(rng.normal()), float(rng.choice([1.0, 0.3, 0.0, -0.4])), 0.0)
        if e["volume_bid"] == 0.0:
            wait = Wait(2e9, NEVER, 0.0, 0.0)
        for rival in (-np.inf, -float(rng.exponential()), 0.0, float(rng.exponential())):
            edge = float(rng.normal(0.0, 2.0))
            (best, px, queue, _), value, before = _best(event, e, costs(), account, st, edge, wait, rival)
            true = max(value, before)
            assert (best > rival, best > 0.0) == (true > rival, true > 0.0)
            if true > rival:
                assert (px, queue) == ((1001, 0) if before > value else (1000, event["bid_sz"][0]))
            losing += best != true
    assert losing > 400, "most of these orders would lose, and nobody asked how likely"


def test_resting_orders_are_kept_moved_and_withdrawn() -> None:
    flow = estimates(volume_bid=4.0, volume_ask=4.0)
    learned = flow["fills"]["learned"]
    learned["weights"] = 0.0  # fills come as they will, wherever an order stands

    def outcome(px: int, mean: float = 0.3, age_ns: int = 0) -> tuple[Action, Reason]:
        row = choose(book(), believe(mean), flow, costs(), working=resting(1, px, age_ns))
        return Action(int(row["action"])), Reason(int(row["reason_code"]))

    assert outcome(1000) == (Action.HOLD, Reason.KEEP_RESTING)
    assert outcome(999) == (Action.HOLD, Reason.KEEP_RESTING)
    assert outcome(998) == (Action.HOLD, Reason.KEEP_RESTING), "it does not run after the touch"
    old = HORIZON_NS[2] + 1
    assert outcome(1000, age_ns=old) == (Action.HOLD, Reason.KEEP_RESTING), "it would be posted again there"
    assert outcome(999, age_ns=old) == (Action.HOLD, Reason.KEEP_RESTING), "it fills as surely there"
    learned["weights"] = 0.0, 1.0, 0.0  # the fewer lots are ahead, the likelier
    flow["asked_ns"] = np.nan  # as each event leaves it
    assert outcome(999, age_ns=old) == (Action.REPLACE, Reason.MOVE_EDGE)
    assert outcome(998, age_ns=old) == (Action.REPLACE, Reason.MOVE_EDGE)
    assert outcome(998, age_ns=old - 1) == (Action.HOLD, Reason.KEEP_RESTING)
    assert outcome(1000, mean=-2.0) == (Action.CANCEL, Reason.CANCEL_EDGE_GONE)
    assert outcome(998, mean=-2.0, age_ns=old) == (Action.CANCEL, Reason.CANCEL_EDGE_GONE)


def test_a_good_place_in_the_queue_outweighs_a_better_price() -> None:
    # 2 s at 10 events/s, 4 lots each: 80 lots. Behind 5,000 lots at the touch one tick of improvement pays, behind 5
    # that the venue has told of it does not: 80 / (80 + 10) is nearly 80 / (80 + 5), for a tick more.
    flow, old = estimates(volume_bid=4.0), HORIZON_NS[2] + 1
    crowded = book(bid_sz=5000)
    waiting = resting(1, 1000, old)
    moved = choose(crowded, believe(0.05), flow, costs(), working=waiting)
    assert (moved["action"], moved["reason_code"], moved["px"], moved["qty"]) == (
        Action.REPLACE,
        Reason.MOVE_EDGE,
        1001,
        5,
    )
    assert moved["queue_ahead"] == 5000
    waiting["queue_ahead"] = 5
    kept = choose(crowded, believe(0.05), flow, costs(), working=waiting)
    assert (kept["action"], kept["reason_code"], kept["queue_ahead"]) == (Action.HOLD, Reason.KEEP_RESTING, 5)


def test_lots_ahead_are_those_at_better_prices_and_at_most_those_told_at_our_own() -> None:
    assert [lots_ahead(book(), 1, px, -1) for px in (1001, 1000, 999, 998)] == [0, 100, 150, 200]
    assert [lots_ahead(book(), -1, px, -1) for px in (1003, 1004, 1005)] == [0, 100, 150]
    assert lots_ahead(book(), 1, 999, 20) == 120
    assert lots_ahead(book(), 1, 999, 2000) == 150, "what is shown now is less"
    assert lots_ahead(book(), 1, 990, 30) == 230, "below the deepest level only the venue knows"


@pytest.mark.parametrize("side", [1, -1])
def test_no_order_returns_to_a_price_withdrawn_from_until_one_has_stood_elsewhere(side: int) -> None:
    left, touch = ("left_bid", 1000) if side > 0 else ("left_ask", 1004)
    flow = estimates(volume_bid=8.0, volume_ask=8.0)
    before = choose(book(), believe(side * 0.05), flow, costs())
    assert (before["action"], before["px"]) == (Action.POST, touch)
    withdrawn = before.copy()
    withdrawn["action"], withdrawn["reason_code"] = Action.CANCEL, Reason.CANCEL_EDGE_GONE
    st = standing(lots=10)
    remember_action(st, withdrawn)
    assert st[left] == touch
    other = choose(book(), believe(side * 0.05), flow, costs(), st=st)
    assert (other["action"], other["px"]) == (Action.POST, touch + side), "a tick better it may stand"
    tight = book(bid=1000, ask=1001) if side > 0 else book(bid=1003, ask=1004)
    barred = choose(tight, believe(side * 0.4), flow, costs(), st=st)
    assert (barred["action"], barred["reason_code"]) == (Action.HOLD, Reason.WITHDRAWN)
    forced = withdrawn.copy()
    forced["reason_code"], forced["px"] = Reason.HALTED, 1
    for unsent in (forced, barred):
        remember_action(st, unsent)
        assert st[left] == touch
    remember_action(st, other)
    assert st[left] == 0


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("by", [-1000, -1004, -1002])
def test_a_price_of_zero_is_a_price(side: int, by: int) -> None:
    """A touch there is joined, left, and not returned to, as at any other price."""
    flow, left = estimates(volume_bid=8.0, volume_ask=8.0), "left_bid" if side > 0 else "left_ask"
    rows = []
    for move in (0, by):
        st, row = standing(lots=10), []
        for market in (
            book(1000 + move, 1004 + move),
            book(1000 + move, 1001 + move),
            book(1003 + move, 1004 + move),
        ):
            row.append(choose(market, believe(side * 0.4), flow, costs(), st=st.copy()))
            withdrawn = row[-1].copy()
            withdrawn["action"], withdrawn["reason_code"] = Action.CANCEL, Reason.CANCEL_EDGE_GONE
            remember_action(st, withdrawn)
            assert st[left] != 0
            row.append(choose(market, believe(side * 0.4), flow, costs(), st=st))
        rows.append(row)
    assert [(r["action"], r["reason_code"], r["px"] - by) for r in rows[1] if r["action"] != Action.HOLD] == [
        (r["action"], r["reason_code"], r["px"]) for r in rows[0] if r["action"] != Action.HOLD
    ]
    assert [r["reason_code"] for r in rows[1]] == [r["reason_code"] for r in rows[0]]


@pytest.mark.parametrize("state", [WorkingState.IN_FLIGHT, WorkingState.CANCELLING, WorkingState.UNKNOWN])
def test_nothing_is_sent_while_something_is_on_its_way(state: WorkingState) -> None:
    working = resting(1, 1000)
    working["state"] = state
    row = choose(book(), believe(2.0), estimates(), costs(), working=working)
    assert (row["action"], row["reason_code"]) == (Action.HOLD, Reason.IN_FLIGHT)


def test_slip_walks_the_visible_book() -> None:
    assert slip_ticks(book(), 1, 100.0) == 0.0
    assert slip_ticks(book(), 1, 150.0) == pytest.approx(50 / 150)
    assert slip_ticks(book(), -1, 200.0) == pytest.approx((50 + 2 * 50) / 200)
    assert slip_ticks(book(), 1, 400.0) == pytest.approx((50 + 2 * 250) / 400), (
        "beyond the book: its worst price"
    )


@pytest.mark.parametrize("seed", range(3))
def test_adverse_selection_and_flow_match_a_slow_calculation(seed: int) -> None:
    events = random_events(600, seed)
    e = new_estimates()[0]
    for event in events:
        (update_estimates if event["flags"] & EventFlag.VISIBLE else see_trade)(e, event)
    visible, pending, volume = [], 0.0, []
    for event in events:
        pending += float(event["trade_qty"])
        if event["flags"] & EventFlag.VISIBLE:
            visible.append((float(event["bid_px"][0] + event["ask_px"][0]) / 2, int(event["ts"])))
            volume.append(pending)
            pending = 0.0
    mids = np.array([m for m, _ in visible])
    before = np.concatenate([mids[:1], mids[:-1]])
    drift = mids[LOOKAHEAD:] - before[:-LOOKAHEAD]
    sold = np.array(volume[:-LOOKAHEAD]) < 0
    bought = np.array(volume[:-LOOKAHEAD]) > 0
    assert e["adverse_bid"] == pytest.approx(-drift[sold].mean(), rel=1e-9)
    assert e["adverse_ask"] == pytest.approx(drift[bought].mean(), rel=1e-9)
    assert e["volume_ask"] == pytest.approx(np.maximum(volume, 0).mean(), rel=1e-9)
    assert e["volume_bid"] == pytest.approx(np.maximum(-np.array(volume), 0).mean(), rel=1e-9)
