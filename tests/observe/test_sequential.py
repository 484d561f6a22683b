"""Evidence that holds under looking as often as one likes."""

import math

import numpy as np
import pytest

from emp.core.records import Array
from emp.observe.sequential import bet, log_evidence, mix, new_process


def highest(values: Array) -> float:
    """The most evidence at any look."""
    p = new_process()[0]
    most = -math.inf
    for x in values:
        bet(p, float(x))
        most = max(most, log_evidence(p))
    return most


@pytest.mark.parametrize("tail", ["normal", "heavy", "burst"])
def test_nothing_wrong_is_rarely_found_wrong_at_any_look(tail: str) -> None:
    rng = np.random.default_rng(5)
    days = rng.normal(size=(300, 400)) if tail == "normal" else rng.standard_t(2, size=(300, 400))
    if tail == "burst":
        days[:, 200:] *= 50.0
    false = sum(highest(day) >= math.log(20.0) for day in days)
    assert false <= 26  # of 300 at 5 %: the 99.9 % point


@pytest.mark.parametrize("begins", [0, 300])
def test_what_is_wrong_is_found_whenever_it_begins(begins: int) -> None:
    rng = np.random.default_rng(6)
    values = rng.normal(size=begins + 120)
    values[begins:] += 1.0
    assert highest(values[:begins]) < math.log(200.0)
    assert highest(values) >= math.log(200.0)


def test_a_value_of_any_size_says_the_same_and_nought_says_nothing() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(0.3, 1.0, 100)
    assert highest(1e6 * values) == pytest.approx(highest(values))
    sparse = np.zeros(1_000)
    sparse[::10] = values
    assert highest(sparse) == highest(values)


def test_one_value_however_large_proves_nothing() -> None:
    p = new_process()[0]
    for x in (*(-1.0, 1.0) * 20, 1e9):
        bet(p, x)
    assert log_evidence(p) < 0.0


def test_evidence_is_never_beyond_what_can_be_counted() -> None:
    mixed = np.zeros(2)
    for n in range(1, 400):
        mixed = mix(mixed, n, np.array([50.0, 0.5]))
    assert np.isfinite(mixed).all()
    assert mixed[0] > 1e100 > mixed[1]
