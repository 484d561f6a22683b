"""Lots, beliefs and outcomes against a ledger kept lot by lot, and what a gain is worth against least squares."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.account import apply_fill
from emp.core.codes import Action, Reason
from emp.core.records import ACCOUNT, DECISION
from emp.decision.kinds import KIND, QUESTIONS, kinds_of
from emp.decision.markouts import ROOM, SPANS_NS, judge_fills, keep_fill, new_markouts
from emp.decision.outcomes import drop_open_lots, new_lots, note_belief, per_lot, take_fills
from emp.decision.standing import (
    LEVEL,
    MEMORY,
    RHO,
    TRIPS,
    bet,
    learn_crossed,
    learn_missed,
    learn_trip,
    learn_worth,
    log_evidence,
    new_standing,
    worth,
)
from emp.decision.student import student_quantile
from emp.engine.value import LEAST, by_kind

FILLS = st.lists(
    st.tuples(
        st.sampled_from([-3, -2, -1, 1, 2, 3]), st.integers(90, 110), st.floats(-2, 2), st.floats(0, 3)
    ),
    min_size=1,
    max_size=60,
)


class Mean:
    """One position at its mean price, in plain Python: what `take_fills` must say."""

    def __init__(self) -> None:
        self.held, self.entry, self.belief, self.since = 0, 0.0, 0.0, 0.0
        self.trips: list[tuple[int, float, float]] = []
        self.trip = [0, 0.0, 0.0]
        self.brought = self.believed = self.held_ns = 0.0
        self.closed = 0

    def fill(self, lots: int, px: float, fee: float, belief: float, ts: int) -> bool:
        ended = False
        for _ in range(abs(lots)):
            side = 1 if lots > 0 else -1
            if self.held * side < 0:
                gone = -side * (px - self.entry) - fee
                self.brought, self.believed = self.brought + gone, self.believed + self.belief
                self.held_ns += ts - self.since
                self.closed += 1
                self.trip = [self.trip[0] + 1, self.trip[1] + gone, self.trip[2] + self.belief]
                self.held += side
                if self.held == 0:
                    self.trips.append((self.trip[0], self.trip[1], self.trip[2]))
                    self.trip, ended = [0, 0.0, 0.0], True
            else:
                had = abs(self.held)
                self.entry = (had * self.entry + px + side * fee) / (had + 1)
                self.belief = (had * self.belief + belief) / (had + 1)
                self.since = (had * self.since + ts) / (had + 1)
                self.held += side
        return ended


@settings(max_examples=60, deadline=None)
@given(FILLS)
def test_lots_bring_what_a_ledger_kept_lot_by_lot_says(fills: list[tuple[int, int, float, float]]) -> None:
    account, lots, standing, slow = np.zeros(1, ACCOUNT)[0], new_lots()[0], new_standing()[0], Mean()
    row = np.zeros(1, DECISION)[0]
    row["action"] = Action.POST
    row["bid"], row["ask"], row["bid_sz"], row["ask_sz"] = 99, 101, 30, 400
    for k, (qty, px, fee, gain) in enumerate(fills):
        row["gain"], row["px"], row["side"] = gain, px, 1 if qty > 0 else -1
        note_belief(lots, standing, row)
        gain = float(row["gain"])
        apply_fill(account, 1 if qty > 0 else -1, abs(qty), px, fee * abs(qty))
        assert take_fills(lots, account, k) == slow.fill(qty, px, fee, gain, k)
    assert lots["lots"] == slow.closed
    assert (lots["brought"], lots["believed"], lots["held_ns"]) == pytest.approx(
        (slow.brought, slow.believed, slow.held_ns), abs=1e-6
    )
    assert lots["trips"] == len(slow.trips)
    assert lots["trip_brought"] == pytest.approx(sum(t[1] for t in slow.trips), abs=1e-6)
    assert lots["missed2"] == pytest.approx(sum((t[1] - t[2]) ** 2 for t in slow.trips), abs=1e-5)
    for question in QUESTIONS:
        kinds = lots["kinds"][kinds_of(question)]
        for ours, name in (("closed", "lots"), ("believed", "believed"), ("brought", "brought")):
            assert kinds[ours].sum() == pytest.approx(float(lots[name]), abs=1e-6)
        for name in ("trip_lots", "trip_missed"):
            assert kinds[name].sum() == pytest.approx(float(lots[name]), abs=1e-6)
        assert (kinds["trips"] <= lots["trips"]).all()
        assert kinds["open"].sum() == pytest.approx(abs(int(lots["position"])), abs=1e-9)
        assert kinds["opened"].sum() == lots["lots"] + abs(lots["position"])
    if lots["position"] == 0:
        assert lots["brought"] == pytest.approx(float(account["cash"] - account["fees"]), abs=1e-6)


def test_what_is_only_considered_is_no_belief_of_the_order_at_work() -> None:
    lots, standing, row = new_lots()[0], new_standing()[0], np.zeros(1, DECISION)[0]
    row["action"], row["gain"] = Action.POST, 2.0
    note_belief(lots, standing, row)
    row["action"], row["reason_code"], row["gain"] = Action.HOLD, Reason.IN_FLIGHT, 9.0
    note_belief(lots, standing, row)
    assert lots["value"] == 2.0
    row["reason_code"], row["gain"] = Reason.KEEP_RESTING, 3.0
    standing["level"], standing["slope"], standing["error"] = -0.5, 2.0, 0.25
    note_belief(lots, standing, row)
    assert lots["value"] == -0.5 + 2.0 * 3.0 - 0.25, "as much as the rule counts it"


@pytest.mark.parametrize(("upper", "n", "quantile"), [
    (0.025, 1, 12.706), (0.025, 4, 2.7764), (0.025, 9, 2.2622), (0.025, 29, 2.0452), (0.025, 1000, 1.9623),
    (0.0005, 4, 8.6103), (0.0005, 9, 4.7809), (0.0005, 199, 3.3399), (0.0005, 201, 3.3397), (0.4, 3, 0.2767),
])  # fmt: skip
def test_student_quantiles_are_those_of_the_tables(upper: float, n: int, quantile: float) -> None:
    assert student_quantile(upper, n) == pytest.approx(quantile, rel=2e-4)


def test_intervals_of_all_kinds_of_a_question_hold_together() -> None:
    """Lots of seven kinds that bring what was expected: in 95 % of runs no interval leaves out zero."""
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        kinds = np.zeros(7, KIND)
        for k in range(7):
            lots = rng.integers(1, 4, 25).astype(float)
            missed = rng.normal(0, 2, 25) * lots
            kinds["opened"][k] = kinds["closed"][k] = kinds["trip_lots"][k] = lots.sum()
            kinds["trips"][k], kinds["lots2"][k] = 25, (lots**2).sum()
            kinds["trip_missed"][k], kinds["missed2"][k] = missed.sum(), (missed**2).sum()
            kinds["missed_lots"][k] = (missed * lots).sum()
        found = [one["missed_interval"] for one in by_kind(kinds, "abcdefg").values()]
        held += all(low <= 0.0 <= high for low, high in found)
    assert 180 <= held <= 199  # 95 % of 200, three standard deviations either side
    kinds["trips"][3] = LEAST - 1
    assert by_kind(kinds, "abcdefg")["d"]["missed_interval"] is None


def test_an_interval_per_lot_covers_what_trips_bring() -> None:
    rng, inside = np.random.default_rng(1), 0
    for _ in range(400):
        lots = rng.integers(1, 5, 40)
        brought = 0.7 * lots + rng.normal(0, 3, 40) * np.sqrt(lots)
        sums = brought.sum(), (brought**2).sum(), (brought * lots).sum(), lots.sum(), (lots**2).sum()
        mean, half = per_lot(*(float(s) for s in sums), trips=40)
        inside += abs(mean - 0.7) <= half
    assert 366 <= inside <= 393  # 95 % of 400, three standard deviations either side
    assert np.isnan(per_lot(3.0, 3.0, 3.0, 3.0, 3.0, 4)[1]), "four blocks are no interval"


def test_the_worth_of_a_gain_is_a_regression_that_begins_at_its_word() -> None:
    rng, standing = np.random.default_rng(2), new_standing()[0]
    gains, brought = rng.normal(2.0, 1.0, 300), np.zeros(300)
    for k in range(300):
        brought[k] = -1.0 + 0.5 * gains[k] + rng.normal(0, 2.0)
        if k < TRIPS:
            assert worth(standing, 1.7) == pytest.approx(1.7)
        learn_worth(standing, gains[k], brought[k])
    weight = (1.0 - 1.0 / MEMORY) ** np.arange(299, -1, -1)
    mean_x, mean_y = np.average(gains, weights=weight), np.average(brought, weights=weight)
    n = weight.sum()
    variance = np.average((brought - mean_y) ** 2, weights=weight) * n / (n - 1)
    sxx, sxy = (
        (weight * (gains - mean_x) ** 2).sum(),
        (weight * (gains - mean_x) * (brought - mean_y)).sum(),
    )
    slope = (sxy + variance) / (sxx + variance)
    assert standing["slope"] == pytest.approx(slope, rel=1e-4)
    assert worth(standing, 3.0) == pytest.approx(mean_y + slope * (3.0 - mean_x), rel=1e-3)
    assert standing["error"] == pytest.approx(np.sqrt(variance / n), rel=1e-4)


def test_a_gain_that_says_the_opposite_is_worth_the_mean_and_no_more() -> None:
    standing = new_standing()[0]
    for k in range(200):
        learn_worth(standing, float(k % 10), -float(k % 10))
    assert standing["slope"] == 0.0


def trip(brought: float, believed: float) -> Any:
    record = new_lots()[0]["last"]
    record["lots"], record["brought"], record["believed"] = 1.0, brought, believed
    return record


def test_evidence_is_the_mixture_of_its_formula() -> None:
    standing = new_standing()[0]
    for x in (1.0, -0.5, 2.0):
        bet(standing["earned"], x)
    s, v = 2.5, 5.25
    assert log_evidence(standing["earned"]) == pytest.approx(
        0.5 * np.log(RHO / (RHO + v)) + s * s / (2 * (RHO + v))
    )
    bet(standing["earned"], -9.0)
    assert log_evidence(standing["earned"]) == 0.0


def test_size_grows_with_what_trips_bring_and_ends_where_they_fall_short() -> None:
    rng, standing = np.random.default_rng(3), new_standing()[0]
    seen = [int(standing["lots"])]
    for _ in range(400):
        learn_trip(standing, trip(rng.normal(1.0, 2.0), 1.0), 5)
        seen.append(int(standing["lots"]))
    assert seen[0] == 1
    assert seen[-1] == 5
    stopped = new_standing()[0]
    for _ in range(400):
        learn_trip(stopped, trip(rng.normal(-0.5, 2.0), 1.0), 5)
    assert (stopped["lots"], stopped["stops"]) == (0, 1)
    for k in range(60):
        learn_worth(stopped, 1.0, 1.0 - 2.0 * (k % 2))
    for k in range(400):
        learn_missed(stopped, float(rng.normal(0.0, 1.0)))
        assert stopped["lots"] == 0 or k > 0
    earlier = int(stopped["lots"])
    for _ in range(200):
        learn_missed(stopped, float(rng.normal(0.6, 1.0)))
    assert (earlier, stopped["lots"]) == (0, 1)


def test_a_belief_that_is_right_is_stopped_as_seldom_as_the_level_says() -> None:
    """1,000 traders whose trips bring what was believed, skewed and heavy-tailed too, looked at after every trip."""
    rng, stops = np.random.default_rng(4), 0
    for k in range(1000):
        standing = new_standing()[0]
        heavy = rng.standard_t(4, 300) if k % 2 else rng.exponential(1.5, 300) - 1.5
        for x in heavy:
            learn_trip(standing, trip(0.4 + x, 0.4), 1)
        stops += int(standing["stops"] > 0)
    assert stops <= 18, "the 99 % bound of a binomial with the level"
    assert LEVEL == 0.01


def test_crossing_that_brings_nothing_is_let_as_seldom_as_the_level_says() -> None:
    """1,000 shadows, looked at after every trip; and one that brings something earns it, and loses it again."""
    rng, let = np.random.default_rng(7), 0
    for k in range(1000):
        standing = new_standing()[0]
        heavy = rng.standard_t(4, 300) if k % 2 else rng.exponential(1.5, 300) - 1.5
        ever = False
        for x in heavy:
            learn_crossed(standing, x)
            ever |= bool(standing["may_cross"])
        let += ever
    assert let <= 18, "the 99 % bound of a binomial with the level"
    standing = new_standing()[0]
    for _ in range(200):
        learn_crossed(standing, float(rng.normal(1.0, 2.0)))
    assert standing["may_cross"]
    for _ in range(400):
        learn_crossed(standing, float(rng.normal(-1.0, 2.0)))
    assert not standing["may_cross"]


def test_markouts_are_those_of_the_mid_in_force_when_the_horizon_ends() -> None:
    rng = np.random.default_rng(5)
    ts = np.cumsum(rng.integers(1, 400_000_000, 600))
    mid = 100.0 + np.cumsum(rng.normal(0, 1, 600))
    markouts, fills = new_markouts()[0], []
    for k in range(600):
        judge_fills(markouts, ts[k], mid[k])
        if k % 7 == 0:
            lots = int(rng.integers(1, 4)) * (1 if k % 2 else -1)
            keep_fill(markouts, lots, mid[k] + 0.25, ts[k])
            fills.append((lots, mid[k] + 0.25, ts[k]))
    for h, span in enumerate(SPANS_NS):
        known = [(lots, px, at) for lots, px, at in fills if at + span < ts[-1]]
        expected = sum(
            lots * (mid[np.searchsorted(ts, at + span, side="right") - 1] - px) for lots, px, at in known
        )
        assert markouts["sum"][h] == pytest.approx(expected)
        assert markouts["sum_lots"][h] == sum(abs(lots) for lots, _, _ in known)


def test_more_fills_than_there_is_room_for_are_judged_early_not_lost() -> None:
    markouts = new_markouts()[0]
    judge_fills(markouts, 1, 101.0)
    for _ in range(ROOM + 10):
        keep_fill(markouts, 1, 100.0, 1)
    assert markouts["sum_lots"].tolist() == [10, 10]
    assert markouts["sum"].tolist() == [10.0, 10.0]


def opened(record: Any) -> list[str]:
    """Kinds of which lots were opened, question by question."""
    return [
        name
        for question, names in QUESTIONS.items()
        for name, one in zip(names, record["kinds"][kinds_of(question)], strict=True)
        if one["opened"]
    ]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (
            {"action": Action.CROSS, "reason_code": Reason.CROSS_EDGE, "px": 104},
            ["cross_edge", "cross", "none, crossing"],
        ),
        ({"px": 100, "reason_code": Reason.POST_EDGE}, ["post_edge", "join", "10-99"]),
        ({"px": 101, "reason_code": Reason.POST_EDGE}, ["post_edge", "improve", "0"]),
        ({"px": 98, "queue_ahead": 1_000}, ["other", "behind", "1000-"]),
        ({"px": 104, "side": -1, "reason_code": Reason.OWN_RULE}, ["own_rule", "join", "1-9"]),
        ({"px": 105, "side": -1, "queue_ahead": 999}, ["other", "behind", "100-999"]),
        ({"action": Action.REPLACE, "reason_code": Reason.CHASE, "px": 100}, ["chase", "join", "10-99"]),
        (
            {"action": Action.REPLACE, "reason_code": Reason.MOVE_EDGE, "px": 102},
            ["move_edge", "improve", "0"],
        ),
        ({"px": 100, "bid_sz": 100}, ["other", "join", "100-999"]),
    ],
)
def test_a_lot_is_of_the_kind_of_the_order_that_opened_it(change: dict[str, int], kinds: list[str]) -> None:
    account, lots, standing, row = (
        np.zeros(1, ACCOUNT)[0],
        new_lots()[0],
        new_standing()[0],
        np.zeros(1, DECISION)[0],
    )
    given = {"action": Action.POST, "side": 1, "bid": 100, "ask": 104, "bid_sz": 99, "ask_sz": 9}
    for name, value in {**given, **change}.items():
        row[name] = value
    note_belief(lots, standing, row)
    row["action"], row["reason_code"], row["px"], row["bid"] = Action.HOLD, Reason.KEEP_RESTING, 1, 500
    note_belief(lots, standing, row)  # a kept order keeps its kind
    ts = 1_700_000_000_000_000_000  # 22:13 UTC
    apply_fill(account, int(row["side"]), 2, 100, 0.0)
    take_fills(lots, account, ts)
    assert opened(lots) == [*kinds, "22"]


def test_kinds_that_are_closed_together_bring_what_each_was_opened_at() -> None:
    account, lots, standing, row = (
        np.zeros(1, ACCOUNT)[0],
        new_lots()[0],
        new_standing()[0],
        np.zeros(1, DECISION)[0],
    )
    row["side"], row["bid"], row["ask"] = 1, 100, 104
    for action, reason, px in (
        (Action.POST, Reason.POST_EDGE, 100),
        (Action.CROSS, Reason.CROSS_EDGE, 104),
    ):
        row["action"], row["reason_code"], row["px"], row["gain"] = action, reason, px, 1.0
        note_belief(lots, standing, row)
        apply_fill(account, 1, 2, px, 0.5)
        take_fills(lots, account, 0)
    apply_fill(account, -1, 2, 106, 0.0)
    take_fills(lots, account, 1)
    actions = dict(zip(QUESTIONS["action"], lots["kinds"][kinds_of("action")], strict=True))
    assert (actions["join"]["closed"], actions["cross"]["closed"]) == (1.0, 1.0)
    assert (actions["join"]["brought"], actions["cross"]["brought"]) == pytest.approx((5.75, 1.75))
    drop_open_lots(lots)
    assert lots["kinds"]["open"].sum() == 0.0
