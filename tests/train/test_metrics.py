"""Scores against scikit-learn or a plain loop; intervals against the truth."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef, mean_pinball_loss

from emp.core.records import QUANTILES, Array
from emp.train.judge.metrics import (
    BINS,
    LEAST_P,
    Outcome,
    Prediction,
    balanced_decision,
    block_sums,
    intervals,
    reliability,
    scores,
    totals,
)


def sample(n: int, seed: int) -> tuple[Prediction, Outcome]:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([1.0, 2.0, 1.0], n)
    label = np.array([rng.choice(3, p=row) for row in p])
    y = rng.normal(0.0, 1.0, n) + (label - 1)
    q = np.sort(rng.normal(0.0, 1.0, (n, 3)), axis=1)
    prior = np.bincount(label, minlength=3) / n
    said = Prediction(p, q, rng.normal(size=n), balanced_decision(p, prior))
    return said, Outcome(label, y, prior, np.quantile(y, QUANTILES))


def score(said: Prediction, outcome: Outcome, block: Array | None = None) -> dict[str, float]:
    block = np.zeros(len(outcome.label), np.int64) if block is None else block
    return {name: float(v[0]) for name, v in scores(totals(block_sums(said, outcome, block))).items()}


@pytest.mark.parametrize("seed", range(3))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    said, outcome = sample(3_000, seed)
    found = score(said, outcome, np.arange(3_000) // 100)
    label = outcome.label
    assert found["f1_macro"] == pytest.approx(f1_score(label, said.decided, average="macro"))
    assert found["f1_argmax"] == pytest.approx(f1_score(label, said.p.argmax(1), average="macro"))
    assert found["mcc"] == pytest.approx(matthews_corrcoef(label, said.decided))
    brier = np.mean([np.square(said.p[:, c] - (label == c)) for c in range(3)])
    assert found["brier"] == pytest.approx(brier)
    by_prior = np.mean([np.square(outcome.prior[c] - (label == c)) for c in range(3)])
    assert found["brier_skill"] == pytest.approx(1.0 - brier / by_prior)
    losses = [mean_pinball_loss(outcome.delta_hat, said.q[:, i], alpha=t) for i, t in enumerate(QUANTILES)]
    assert found["pinball"] == pytest.approx(np.mean(losses))
    inside = (outcome.delta_hat >= said.q[:, 0]) & (outcome.delta_hat <= said.q[:, 2])
    assert found["coverage"] == pytest.approx(inside.mean())
    assert found["below_q50"] == pytest.approx((outcome.delta_hat <= said.q[:, 1]).mean())
    assert found["ic"] == pytest.approx(np.corrcoef(said.mean, outcome.delta_hat)[0, 1])


def slow_ece(p: Array, hit: Array, edges: Array) -> float:
    total = 0.0
    for low, high in pairwise(edges):
        inside = (p >= low) & (p < high)
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - hit[inside].mean())
    return total


def test_calibration_error_agrees_with_a_plain_loop() -> None:
    said, outcome = sample(2_000, 4)
    found = score(said, outcome)
    top, right = said.p.max(1), said.p.argmax(1) == outcome.label
    equal_width = np.linspace(0.0, 1.0 + 1e-9, BINS + 1)
    assert found["ece"] == pytest.approx(slow_ece(top, right, equal_width))
    inner = np.quantile(top, np.linspace(0, 1, BINS + 1)[1:-1])
    assert found["ece_mass"] == pytest.approx(slow_ece(top, right, np.array([0.0, *inner, 1.1])))
    each = [slow_ece(said.p[:, c], outcome.label == c, equal_width) for c in range(3)]
    assert found["ece_class"] == pytest.approx(np.mean(each))


def test_an_honest_forecast_is_calibrated_and_a_boastful_one_is_not() -> None:
    said, outcome = sample(20_000, 5)
    assert score(said, outcome)["ece"] < 0.02
    sharp = said.p**3 / (said.p**3).sum(1, keepdims=True)
    assert score(said._replace(p=sharp), outcome)["ece"] > 0.1


def test_naming_one_class_is_worth_nothing() -> None:
    said, outcome = sample(500, 6)
    found = score(said._replace(decided=np.ones(500, np.int64)), outcome)
    assert found["mcc"] == 0.0
    assert found["f1_macro"] < 0.3


def test_missing_quantiles_and_means_are_not_scored() -> None:
    said, outcome = sample(100, 7)
    found = score(said._replace(q=np.full((100, 3), np.nan), mean=np.full(100, np.nan)), outcome)
    assert np.isnan(found["pinball"])
    assert np.isnan(found["ic"])


def test_intervals_widen_where_neighbours_are_alike() -> None:
    said, outcome = sample(6_000, 8)
    alone = intervals(block_sums(said, outcome, np.arange(6_000) // 2), 0)["brier"]
    rng = np.random.default_rng(8)
    twins = np.repeat(rng.integers(0, 6_000, 60), 100)
    said = Prediction(*(a[twins] for a in said))
    outcome = outcome._replace(label=outcome.label[twins], delta_hat=outcome.delta_hat[twins])
    alike = intervals(block_sums(said, outcome, np.arange(6_000) // 100), 0)["brier"]
    assert alike[1] - alike[0] > 5 * (alone[1] - alone[0])
    assert alike == intervals(block_sums(said, outcome, np.arange(6_000) // 100), 0)["brier"]


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        label = (rng.random(600) < 0.3).astype(np.int64)
        said = Prediction(np.tile([0.7, 0.3, 0.0], (600, 1)), np.zeros((600, 3)), np.zeros(600), label)
        sums = block_sums(
            said, Outcome(label, np.zeros(600), np.ones(3) / 3, np.zeros(3)), np.arange(600) // 10
        )
        low, high = intervals(sums, seed)["brier"]
        inside += low <= 2 * 0.21 / 3 <= high
    assert inside >= 25


def test_reliability_counts_every_class_of_every_row_in_bins_of_equal_mass() -> None:
    said, outcome = sample(1_000, 9)
    points = reliability(block_sums(said, outcome, np.arange(1_000) // 20), 0)
    given, share, low, high, count = points.T
    assert len(points) == BINS
    assert set(count) == {200.0}
    assert np.average(share, weights=count) == pytest.approx(1 / 3)
    assert (np.diff(given) > 0).all()
    assert ((low <= share) & (share <= high)).all()
    by_hand = np.sort(said.p.ravel()).reshape(BINS, 200).mean(axis=1)
    np.testing.assert_allclose(given, by_hand, rtol=0.02)


def test_the_interval_of_reliability_holds_the_truth_and_is_of_blocks_not_rows() -> None:
    held, widths = [], []
    for seed in range(8):
        said, outcome = sample(1_500, seed)
        points = reliability(block_sums(said, outcome, np.arange(1_500) // 10), seed)
        held.append((points[:, 2] <= points[:, 0]) & (points[:, 0] <= points[:, 3]))
        again = np.repeat(np.arange(150), 10)  # every row ten times is no more evidence than once
        said = Prediction(*(a[again] for a in said))
        outcome = outcome._replace(label=outcome.label[again], delta_hat=outcome.delta_hat[again])
        two = (reliability(block_sums(said, outcome, b), seed) for b in (again, np.arange(1_500)))
        widths.append([np.mean(p[:, 3] - p[:, 2]) for p in two])
    assert np.mean(held) > 0.88
    of_blocks, of_rows = np.mean(widths, axis=0)
    assert of_blocks == pytest.approx(np.sqrt(10) * of_rows, rel=0.2)


def test_who_has_no_quantiles_has_no_coverage() -> None:
    said, outcome = sample(500, 0)
    missing = np.full((500, 3), np.nan)
    found = score(said._replace(q=missing, mean=missing[:, 0]), outcome)
    assert np.isnan([found["coverage"], found["below_q50"], found["pinball"], found["ic"]]).all()
    assert np.isfinite([found["brier"], found["log_loss"], found["f1_macro"]]).all()


def test_log_loss_is_of_the_class_that_came_and_bounded() -> None:
    said, outcome = sample(500, 1)
    expected = -np.log(said.p[np.arange(500), outcome.label]).mean()
    assert score(said, outcome)["log_loss"] == pytest.approx(expected)
    wrong = np.eye(3)[(outcome.label + 1) % 3]
    assert score(said._replace(p=wrong), outcome)["log_loss"] == pytest.approx(-np.log(LEAST_P))
