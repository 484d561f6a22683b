"""Multipliers that nobody sets: held at the limit, none where nothing binds, the same in any unit."""

import numpy as np
import pytest

from emp.core.errors import UsageError
from emp.core.ids import generator
from emp.league.constraint import TOLERANCE, PidMultiplier
from emp.league.evolve import Budget, evolve


def settle(m: PidMultiplier, free: float, rounds: int = 400) -> tuple[float, float]:
    """Mean cost and multiplier at the end, of a plant that follows the multiplier with a lag, as a training does."""
    rng, costs, values, follows = generator(1, "plant"), [], [], 0.0
    for _ in range(rounds):
        follows += 0.2 * (-m.value - follows)
        costs.append(free * np.exp(follows) * (1 + 0.03 * rng.standard_normal()))
        values.append(m.update(costs[-1]))
    return float(np.mean(costs[-100:])), float(np.mean(values[-100:]))


@pytest.mark.parametrize("limit", [0.1, 30.0])
@pytest.mark.parametrize("excess", [1.5, 10.0])
def test_a_binding_constraint_is_held(limit: float, excess: float) -> None:
    m = PidMultiplier(limit)
    cost, value = settle(m, excess * limit)
    assert abs(cost / limit - 1) < TOLERANCE
    assert value == pytest.approx(np.log(excess), abs=0.15)


def test_no_multiplier_where_nothing_binds_and_a_negative_one_only_for_equality() -> None:
    assert settle(PidMultiplier(10.0), 6.0)[1] < 0.02  # a jump of the noise is answered, for a round
    cost, value = settle(PidMultiplier(10.0, equality=True), 6.0)
    assert value == pytest.approx(np.log(0.6), abs=0.15)
    assert abs(cost / 10 - 1) < TOLERANCE


def test_the_target_falls_to_the_limit_by_the_same_share_each_round() -> None:
    m = PidMultiplier(2.0, ease=4)
    seen = []
    for _ in range(6):
        m.update(32.0)
        seen.append(m.target)
    assert seen == pytest.approx([32, 16, 8, 4, 2, 2])
    assert m.error(3.0) == pytest.approx(0.5)
    below = PidMultiplier(2.0, ease=4)
    below.update(1.0)
    assert below.target == 2  # never above what is allowed


def test_units_do_not_matter() -> None:
    lots, thousands = PidMultiplier(40.0), PidMultiplier(0.04)
    for cost in (90.0, 60.0, 30.0, 55.0):
        assert lots.update(cost) == pytest.approx(thousands.update(cost / 1000), rel=1e-12)
    with pytest.raises(UsageError, match="more than 0"):
        PidMultiplier(0.0)


def test_a_training_ends_at_the_constrained_optimum_and_repeats_itself() -> None:
    """Maximise -(w - 3)^2 where the sum of squares is at most 3: the optimum is w = 1."""

    def judged(w, round_):
        luck = 0.05 * generator(round_, "luck").standard_normal()
        return -np.sum((w - 3) ** 2, axis=1) + luck, np.sum(w**2, axis=1)[:, None]

    def train():
        bound = PidMultiplier(3.0)
        return evolve(judged, np.zeros(3), Budget(rounds=300, pairs=8, step=0.3), 1, [bound]), bound

    found, bound = train()
    assert found.weights == pytest.approx(np.ones(3), abs=0.1)
    assert abs(found.curve[-75:, 1].mean() / 3 - 1) < TOLERANCE
    assert bound.value > 1
    assert np.array_equal(train()[0].curve, found.curve)
    free = evolve(judged, np.zeros(3), Budget(rounds=300, pairs=8, step=0.3), 1)
    assert free.weights == pytest.approx(3 * np.ones(3), abs=0.1)
