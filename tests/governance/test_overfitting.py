"""Figures of the papers, an independent count, and what noise shows."""

from itertools import combinations

import numpy as np
import pytest

from emp.governance.overfitting import best_of_none, deflated, deflated_sharpe, overfitting, sharpe


def test_the_example_of_the_paper() -> None:
    """N = 100 trials, five years of days, annual ratio 2.5, variance over trials 1/2, skewness -3, kurtosis 10."""
    threshold = best_of_none(100, 0.5 / 250)
    assert threshold == pytest.approx(0.1132, abs=5e-5)
    ratio = 2.5 / 250**0.5
    assert deflated_sharpe(ratio, 1250, -3.0, 10.0, threshold) == pytest.approx(0.9004, abs=5e-5)
    fewer = best_of_none(46, 0.5 / 250)
    assert deflated_sharpe(ratio, 1250, -3.0, 10.0, fewer) == pytest.approx(0.9505, abs=5e-4)


def test_one_trial_is_held_against_nought() -> None:
    assert best_of_none(1, 1.0) == 0.0
    assert deflated_sharpe(0.0, 100, 0.0, 3.0, 0.0) == 0.5


def test_the_expected_best_of_noise_is_what_it_is_said_to_be() -> None:
    rng = np.random.default_rng(1)
    for trials in (10, 100):
        found = rng.normal(size=(4_000, trials)).max(axis=1).mean()
        assert best_of_none(trials, 1.0) == pytest.approx(found, rel=0.03)


def by_hand(gains: np.ndarray) -> float:  # type: ignore[type-arg]
    """The same share, counted one by one from the definition."""
    blocks, trials = gains.shape
    worse, ways = 0, 0
    for half in combinations(range(blocks), blocks // 2):
        inside = gains[list(half)]
        outside = gains[[k for k in range(blocks) if k not in half]]
        best = max(range(trials), key=lambda k: sharpe(inside[:, k]))
        rank = 1 + sum(sharpe(outside[:, k]) < sharpe(outside[:, best]) for k in range(trials))
        worse += rank / (trials + 1) <= 0.5
        ways += 1
    return worse / ways


def test_it_is_the_share_of_the_definition() -> None:
    rng = np.random.default_rng(2)
    for trials in (2, 3, 6):
        gains = rng.normal(size=(8, trials))
        assert overfitting(gains) == pytest.approx(by_hand(gains))


def test_a_case_worked_by_hand() -> None:
    """Trial 0 is good on the first two of four blocks and bad on the others; trial 1 is even. Of the six halves {0, 1}
    picks trial 0, which is worse on the rest, and {2, 3} picks trial 1, which is worse on the rest; the four mixed ones
    pick trial 1, which is better on the rest too.
    """
    gains = np.array([[5.0, 1.0], [5.1, 1.2], [-5.0, 1.1], [-5.1, 1.3]])
    assert overfitting(gains) == pytest.approx(2.0 / 6.0)
    assert by_hand(gains) == pytest.approx(2.0 / 6.0)


def test_a_model_beside_its_twin_is_no_worse_for_it() -> None:
    rng = np.random.default_rng(5)
    gains = np.column_stack([rng.normal(2.0, 1.0, 24), rng.normal(0.0, 1.0, 24)])
    assert overfitting(gains) == 0.0
    assert overfitting(gains[:, [0, 0, 1]]) == 0.0


def test_the_best_of_noise_rarely_passes_and_skill_does() -> None:
    rng = np.random.default_rng(3)
    passed, chance = 0, []
    for _ in range(200):
        gains = rng.normal(size=(64, 20))
        order = np.argsort([-sharpe(gains[:, k]) for k in range(20)])
        best, *rest = (gains[:, k] for k in order)
        passed += deflated(best, rest, 20) >= 0.95
        chance.append(overfitting(gains[:, :6]))
    assert passed <= 19  # of 200 at 5 %: the 99.9 % point; without deflation nearly all pass
    assert np.mean(chance) == pytest.approx(0.5, abs=0.07)
    gains[:, 0] += 1.0
    assert deflated(gains[:, 0], [gains[:, k] for k in range(1, 20)], 20) > 0.99
    assert overfitting(gains) < 0.01


def test_more_trials_ask_for_more() -> None:
    rng = np.random.default_rng(4)
    gains = rng.normal(0.3, 1.0, size=(64, 5))
    found = [deflated(gains[:, 0], [gains[:, k] for k in range(1, 5)], n) for n in (5, 50, 5_000)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0]


def test_gains_that_are_all_alike_are_no_skill() -> None:
    assert deflated(np.zeros(20), [np.zeros(20)], 2) == 0.0
