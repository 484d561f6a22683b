"""Labels against a slow, separate reading of their definition, and everything that may not be labelled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.records import HORIZON_EVENTS, HORIZON_NS, HORIZONS, Array
from emp.perception.targets import (
    DOWN,
    FLAT,
    NO_LABEL,
    UP,
    Targets,
    class_prior,
    classes,
    daily_priors,
    pos_weight,
    segments,
    targets,
    thresholds,
    unit_ticks,
)

MS = 1_000_000


def slow_targets(mid2: Array, ts: Array, unit: Array, segment: Array) -> Targets:
    """The definition, row by row, by search instead of by pointers."""
    n = len(ts)
    delta = np.full((n, HORIZONS), np.nan, np.float32)
    known = np.zeros((n, HORIZONS), np.int64)
    for t in range(n):
        mine = [k for k in range(t, n) if segment[k] == segment[t]]
        for h, steps in enumerate(HORIZON_EVENTS):
            if steps < len(mine):
                k = mine[steps]
                delta[t, h] = 0.5 * (mid2[k] - mid2[t]) / unit[t]
                known[t, h] = ts[k]
        for h, span in enumerate(HORIZON_NS, len(HORIZON_EVENTS)):
            inside = [k for k in mine if ts[k] <= ts[t] + span]
            later = [k for k in mine if ts[k] > ts[t] + span]
            if later:
                delta[t, h] = 0.5 * (mid2[inside[-1]] - mid2[t]) / unit[t]
                known[t, h] = ts[later[0]]
    return Targets(delta, known)


@given(st.integers(0, 2**32 - 1), st.integers(0, 120))
def test_targets_follow_their_definition(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    ts = np.cumsum(rng.choice([0, 1, 50 * MS, 100 * MS, 400 * MS, 3_000 * MS], n))
    mid2 = 20_000 + np.cumsum(rng.integers(-3, 4, n))
    unit = rng.uniform(1.0, 4.0, n)
    segment = np.cumsum(rng.random(n) < 0.05)
    expected, found = slow_targets(mid2, ts, unit, segment), targets(mid2, ts, unit, segment)
    np.testing.assert_array_equal(found.delta_hat, expected.delta_hat)
    np.testing.assert_array_equal(found.known_ns, expected.known_ns)


def test_a_label_is_anchored_at_the_current_mid_in_units_of_the_spread() -> None:
    n = 40
    mid2 = np.full(n, 200)
    mid2[21:] = 206
    found = targets(mid2, np.arange(n) * 50 * MS, np.full(n, 2.0), np.zeros(n, np.int64))
    assert found.delta_hat[20, 0] == 1.5  # three ticks, half of 206 - 200, over two
    assert found.delta_hat[1, 2] == 1.5
    assert found.delta_hat[0, 2] == 0.0
    assert found.delta_hat[19, 3] == 1.5  # 100 ms later, at row 21 exactly
    assert found.delta_hat[18, 3] == 0.0


def test_no_label_crosses_a_break_or_the_end() -> None:
    since_reset = np.concatenate([np.arange(1, 31), np.arange(1, 31)])
    segment = segments(since_reset)
    ts = np.arange(60) * 10 * MS
    found = targets(np.arange(60) * 2, ts, np.ones(60), segment)
    for h, steps in enumerate(HORIZON_EVENTS):
        have = ~np.isnan(found.delta_hat[:, h])
        assert have.sum() == 2 * (30 - steps)
        assert not have[30 - steps : 30].any()
        assert not have[60 - steps :].any()
    wall = ~np.isnan(found.delta_hat[:, len(HORIZON_EVENTS)])
    assert wall[:19].all()
    assert not wall[
        19:30
    ].any()  # row 29 is the last one, 100 ms after row 19: nothing shows that the stream went on
    assert not wall[49:].any()


def test_a_row_that_shares_its_time_with_the_end_of_the_horizon_still_counts() -> None:
    ts = np.array([0, 100, 100, 101]) * MS
    found = targets(np.array([0, 2, 4, 6]), ts, np.ones(4), np.zeros(4, np.int64))
    assert found.delta_hat[0, 3] == 2.0
    assert found.known_ns[0, 3] == 101 * MS


def test_unit_is_the_wider_of_spread_and_sigma() -> None:
    assert unit_ticks(np.array([1, 4]), np.array([6.0, 1.0]), 0.5).tolist() == [3.0, 4.0]


def test_threshold_leaves_a_third_flat_or_what_does_not_move() -> None:
    moves = np.linspace(-1.0, 1.0, 2001)
    still = np.where(np.arange(2001) % 2 == 0, 0.0, moves)
    found = thresholds(np.stack([moves, still], axis=1))
    assert found[0] == pytest.approx(1.0 / 3.0, abs=0.01)
    assert found[1] == 0.0
    prior = class_prior(classes(np.stack([moves, still], axis=1), found))
    assert prior[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3], abs=0.01)
    assert prior[1, FLAT] == pytest.approx(0.5, abs=0.01)


def test_threshold_counts_rows_by_their_weight() -> None:
    moves = np.array([[1.0], [2.0], [3.0]])
    assert thresholds(moves)[0] == 1.0
    assert thresholds(moves, np.array([1.0, 1.0, 10.0]))[0] == 3.0
    assert thresholds(np.full((2, 1), np.nan))[0] == 0.0


def test_classes_and_their_absence() -> None:
    found = classes(np.array([-2.0, -1.0, 0.0, 1.0, 1.5, np.nan]), np.array(1.0))
    assert found.tolist() == [DOWN, FLAT, FLAT, FLAT, UP, NO_LABEL]


def test_the_prior_of_a_day_knows_earlier_days_only() -> None:
    day = np.repeat([1, 2, 3], 100)
    ts = np.arange(300) * MS
    label = np.full((300, HORIZONS), UP, np.int8)
    label[100:200] = DOWN
    known = np.broadcast_to(ts[:, None] + MS, (300, HORIZONS)).copy()
    found = daily_priors(label, known, ts, day)
    assert found[1][0] == pytest.approx([1 / 3] * 3)
    assert found[2][0, UP] == pytest.approx(100 / 102)  # the last label of day 1 is known only on day 2
    assert found[3][0, DOWN] == pytest.approx(100 / 202)
    label[200:], label[99] = FLAT, FLAT
    again = daily_priors(label, known, ts, day)
    np.testing.assert_array_equal(again[2], found[2])


def test_pos_weight_makes_all_classes_count_alike() -> None:
    prior = np.array([[0.1, 0.8, 0.1]])
    assert (pos_weight(prior) * prior)[0] == pytest.approx([1 / 3] * 3)
