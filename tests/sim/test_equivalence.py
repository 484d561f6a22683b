"""Equivalence of two worlds: shown, refuted, or left open, and never by lack of evidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.league.rollouts import PATH
from emp.sim.surrogate.control import control_variate
from emp.sim.surrogate.equivalence import (
    DIFFERENT,
    EQUIVALENT,
    NEIGHBOURS,
    UNDECIDED,
    clusters_of,
    compare_alpha,
    compare_ranks,
    equivalence,
    judged,
    markouts,
    rank_correlation,
    wasserstein,
)

POLICIES = {"a": 1.0, "b": 2.0, "c": -3.0, "d": 5.0, "e": -8.0}
SIZES = dict.fromkeys(POLICIES, 1.0)


def world(episodes: int, seed: int, earns: float, noise: float = 1.0, lots: float = 2.0) -> np.ndarray:
    """Paths of a policy that buys and sells around `lots` lots a decision and earns `earns` ticks on each."""
    rng = np.random.default_rng(seed)
    path = np.zeros((episodes, 21), PATH)
    path["spread"] = 10.0
    path["mid"] = 1_000.0 + np.cumsum(rng.normal(0.0, 0.01, path.shape), axis=1)
    traded = rng.poisson(lots, (episodes, 20))
    step = np.where(rng.random((episodes, 20)) < 0.5, 1, -1) * traded
    path["position"][:, 1:] = np.cumsum(step, axis=1)
    path["lots"][:, 1:] = np.cumsum(traded, axis=1)
    path["maker_lots"] = path["lots"]
    cash = traded * (earns + rng.normal(0.0, noise, traded.shape)) - step * path["mid"][:, :-1]
    path["cash"][:, 1:] = np.cumsum(cash, axis=1)
    return path


def worlds(episodes: int, seed: int, shift: float = 0.0, **how: float) -> dict[str, np.ndarray]:
    return {n: world(episodes, seed + i, e + shift, **how) for i, (n, e) in enumerate(POLICIES.items())}


def test_a_world_is_equivalent_to_itself_with_other_luck() -> None:
    found = equivalence(worlds(2_000, 1), worlds(2_000, 100), SIZES)
    assert found.passed, found.verdict
    assert found.policies[3].alpha.truth == pytest.approx(5.0, abs=0.05)


@pytest.mark.parametrize(
    ("broken", "question"),
    [
        (worlds(2_000, 100, shift=0.5), "alpha"),
        (worlds(2_000, 100, lots=2.5), "turnover"),
        (worlds(2_000, 100, lots=2.5), "fills"),
        (worlds(2_000, 100, lots=3.5), "inventory"),
        (dict(zip(POLICIES, reversed(worlds(2_000, 100).values()), strict=True)), "ranks"),
    ],
)
def test_a_broken_world_is_refused(broken: dict[str, np.ndarray], question: str) -> None:
    found = equivalence(worlds(2_000, 1), broken, SIZES)
    assert found.verdict[question] == DIFFERENT
    assert not found.passed


def test_too_few_episodes_leave_it_open_and_refuse() -> None:
    found = equivalence(worlds(8, 1, noise=20.0), worlds(8, 100, noise=20.0), SIZES)
    assert found.verdict["alpha"] in (UNDECIDED, DIFFERENT)
    assert not found.passed


@pytest.mark.parametrize("episodes", [50, 100, 300])
def test_few_episodes_call_no_world_different_from_itself(episodes: int) -> None:
    found = [
        equivalence(worlds(episodes, 1 + 10 * k), worlds(episodes, 900 + 10 * k), SIZES) for k in range(5)
    ]
    answers = [
        getattr(p, name).verdict for one in found for p in one.policies for name in ("fills", "inventory")
    ]
    assert answers.count(DIFFERENT) <= 7, "the 99.5 % bound of 50 questions at 5 %"


def test_episodes_of_one_stretch_of_the_market_are_no_evidence_of_another() -> None:
    """A world that is wrong by the stretch, right on average over all: however many episodes begin in few of them."""
    drawn = np.random.default_rng(7).normal(0.0, 1.5, 5)
    stretch = (np.arange(4_000) % (5 * NEIGHBOURS)) // NEIGHBOURS
    other = worlds(4_000, 100)
    for path in other.values():
        path["cash"][:, 1:] += np.cumsum(np.diff(path["lots"], axis=1) * drawn[stretch][:, None], axis=1)
    alone = equivalence(worlds(4_000, 1), other, SIZES)
    assert DIFFERENT in {one.alpha.verdict for one in alone.policies}, "as if each were independent"
    found = equivalence(worlds(4_000, 1), other, SIZES, states=5 * NEIGHBOURS)
    assert {one.alpha.verdict for one in found.policies} == {UNDECIDED}
    with pytest.raises(ValueError, match="one stretch"):
        equivalence(worlds(50, 1), worlds(50, 100), SIZES, states=NEIGHBOURS)


def test_fewer_than_five_policies_prove_nothing() -> None:
    few = {name: path for name, path in worlds(50, 1).items() if name in "abcd"}
    with pytest.raises(ValueError, match="five policies"):
        equivalence(few, few, SIZES)


@given(st.floats(-10, 10), st.floats(0, 10), st.floats(0.01, 5))
def test_an_interval_is_equivalent_only_inside_the_margin(low: float, width: float, margin: float) -> None:
    verdict = judged(low, low + width, margin)
    inside, outside = -margin < low and low + width < margin, low + width <= -margin or low >= margin
    assert verdict == (EQUIVALENT if inside else DIFFERENT if outside else UNDECIDED)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30), st.integers(0, 6))
def test_a_distribution_that_is_moved_is_as_far_away_as_it_was_moved(x: list[int], by: int) -> None:
    one = np.array(x)
    assert wasserstein(one, one + by) == pytest.approx(by)
    assert wasserstein(one, np.concatenate([one, one])) == pytest.approx(0.0)


def test_a_markout_is_what_fills_are_worth_later() -> None:
    path = np.zeros((1, 5), PATH)
    path["mid"] = [[100.0, 101.0, 102.0, 103.0, 107.0]]
    path["position"] = [[0.0, 2.0, 2.0, 2.0, 2.0]]
    path["cash"] = [[0.0, -2 * 99.0, -2 * 99.0, -2 * 99.0, -2 * 99.0]]
    path["lots"] = path["position"]
    money, lots = markouts(path, 2)
    assert (money[0], lots[0]) == (2 * (103.0 - 99.0), 2.0)


def test_alpha_that_cannot_be_told_from_zero_has_a_margin_of_the_spread() -> None:
    alone = clusters_of(400)
    strong = compare_alpha(world(400, 1, 5.0), world(400, 2, 5.0), alone)
    weak = compare_alpha(world(400, 1, 0.0, noise=50.0), world(400, 2, 0.0, noise=50.0), alone)
    assert strong.margin == pytest.approx(0.05 * strong.truth)
    assert weak.margin == pytest.approx(0.05 * 5.0)


def test_ranks_are_spearmans() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 15.0])) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    same = list(worlds(500, 1).values())
    assert compare_ranks(same, list(worlds(500, 9).values()), clusters_of(500), rng).verdict == EQUIVALENT


def test_a_control_variate_is_unbiased_whatever_the_surrogate_says() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        truth = rng.normal(3.0, 1.0, 60)
        wrong = 50.0 - 2.0 * truth + rng.normal(0.0, 0.5, 60)
        many = 50.0 - 2.0 * rng.normal(3.0, 1.0, 5_000) + rng.normal(0.0, 0.5, 5_000)
        found.append(control_variate(truth, wrong, many))
    values = np.array([one.value for one in found])
    assert values.mean() == pytest.approx(3.0, abs=0.01)
    assert values.std() == pytest.approx(np.mean([one.error for one in found]), rel=0.15)
    assert np.mean([one.saving for one in found]) > 8


def test_a_control_variate_that_knows_nothing_saves_nothing() -> None:
    rng = np.random.default_rng(1)
    found = control_variate(*(rng.normal(0.0, 1.0, n) for n in (400, 400, 4_000)))
    assert found.saving == pytest.approx(1.0, abs=0.05)
    with pytest.raises(ValueError, match="no pairs"):
        control_variate(np.zeros(5), np.zeros(4), np.zeros(9))
