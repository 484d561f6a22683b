"""Seeds are averaged, differences are paired, and a verdict needs the interval and every seed."""

import numpy as np
import pytest

from emp.core.records import Array
from emp.train.judge.compare import BETTER, LEVEL, WORSE, figures, versus
from emp.train.judge.metrics import Outcome, Prediction, Sums, balanced_decision, block_sums, intervals

ROWS, BLOCKS = 6_000, 60


def sums_of(strength: float, noise: int = 0) -> Sums:
    """A forecast that knows `strength` of the truth, over blocks that differ much more than forecasts do."""
    truth = np.random.default_rng(0)
    signal = truth.normal(0.0, 1.5, ROWS)
    quiet = np.repeat(truth.uniform(0.0, 3.0, BLOCKS), ROWS // BLOCKS)
    label = _draw(_p(signal, quiet), truth)
    p = _p(strength * signal + 0.05 * np.random.default_rng(noise).normal(size=ROWS), quiet)
    prior = np.bincount(label, minlength=3) / ROWS
    missing = np.full((ROWS, 3), np.nan)
    said = Prediction(p, missing, missing[:, 0], balanced_decision(p, prior))
    outcome = Outcome(label, label - 1.0, prior, np.zeros(3))
    return block_sums(said, outcome, np.repeat(np.arange(BLOCKS), ROWS // BLOCKS))


def _p(signal: Array, quiet: Array) -> Array:
    weights = np.exp(np.stack([-signal, quiet, signal], axis=1))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _draw(p: Array, rng: np.random.Generator) -> Array:
    return np.asarray((rng.random((len(p), 1)) > p.cumsum(axis=1)).sum(axis=1))


def test_a_figure_of_seeds_is_their_mean_with_its_spread() -> None:
    seeds = [sums_of(0.8, k) for k in range(3)]
    one = [figures([s], 0) for s in seeds]
    found = figures(seeds, 0)
    assert found["seeds"] == 3
    assert found["brier"] == pytest.approx(np.mean([f["brier"] for f in one]), abs=1e-6)
    assert found["spread"]["brier"] == pytest.approx(np.std([f["brier"] for f in one], ddof=1), abs=1e-6)
    assert one[0]["spread"]["brier"] is None
    assert one[0]["ci"]["brier"] == pytest.approx(intervals(seeds[0], 0)["brier"], abs=1e-6)
    low, high = found["ci"]["brier"]
    assert low < found["brier"] < high


def test_the_paired_interval_sees_what_two_intervals_cannot() -> None:
    base, close = sums_of(0.8), sums_of(0.9)
    apart = figures([base], 0)["ci"]["log_loss"], figures([close], 0)["ci"]["log_loss"]
    assert apart[0][0] < apart[1][1]  # the intervals of the two overlap
    found = versus([close], [base], 0)
    assert found["log_loss"]["verdict"] == found["brier"]["verdict"] == BETTER
    assert found["log_loss"]["ci"][1] < 0.0
    assert versus([base], [close], 0)["log_loss"]["verdict"] == WORSE


def test_no_verdict_without_a_difference_or_where_a_seed_disagrees() -> None:
    base = [sums_of(0.8)]
    same = versus(base, base, 0)
    assert {measure["verdict"] for measure in same.values()} == {LEVEL}
    assert same["f1_macro"]["difference"] == 0.0
    mixed = versus([sums_of(1.0), sums_of(1.0, 1), sums_of(0.77)], base, 0)
    assert mixed["log_loss"]["ci"][1] < 0.0
    assert mixed["log_loss"]["verdict"] == LEVEL
