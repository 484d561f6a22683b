"""The test of calibration: sums true to their definition, a bet that is fair whatever the signs, and the verdict."""

import math

import numpy as np
import pytest

from emp.core.records import HORIZONS, Array
from emp.engine.contender import SAID, Contender
from emp.engine.monitor import CALIBRATION, ECE_LIMIT, Lineup, Monitor
from emp.governance.gates import read_gates
from emp.model.scoring import BINS, CLASSES, FORECASTERS, SEEN, ece, excess, new_scoring, score_all
from emp.observe.sequential import bet, log_evidence, new_process
from tests.engine.test_monitor import GOOG, LIMITS, follow, kinds, market, named


def test_the_limit_is_that_of_the_gates() -> None:
    assert read_gates().gates.ece_max == ECE_LIMIT


def test_confidence_hits_and_brier_are_those_of_the_definition() -> None:
    """At the first horizon every fourth event is kept and the next one is its outcome."""
    n, rng = 401, np.random.default_rng(3)
    seen = np.zeros(n, SEEN)
    mid = np.cumsum(rng.integers(-1, 2, n)) + 1_000
    seen["bid"], seen["ask"], seen["sigma_ticks"] = mid, mid + 2, 0.0
    seen["ts"] = np.arange(n) * 10**9
    p = rng.dirichlet((1, 1, 1), (n, FORECASTERS, HORIZONS)).astype("f4")
    seen["p"] = p
    scoring = new_scoring(np.full((1, HORIZONS), 0.25), 0.5)
    score_all(scoring[0], seen)
    kept = np.arange(0, n - 1, 4)
    came = 1 + np.sign(mid[kept + 1] - mid[kept])  # a tick is half the spread: beyond the threshold
    said = p[kept, 0, 0].astype(float)
    hit = np.eye(CLASSES)[came]
    assert scoring["outcomes"][0, 0] == len(kept)
    assert scoring["brier"][0, 0] == pytest.approx(np.square(said - hit).mean(axis=1).sum(), rel=1e-6)
    sure, right = said.max(axis=1), said.argmax(axis=1) == came
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    error = sum(abs(right[place == b].sum() - sure[place == b].sum()) for b in range(BINS)) / len(kept)
    assert float(ece(scoring["top"][0, 0])) == pytest.approx(error, rel=1e-6)
    assert scoring["top"][0, 0, :, 0].sum() == len(kept)


def sums(rng: np.random.Generator, error: float) -> Array:
    """Sums of 64 outcomes at each horizon of a model whose confidence is off by `error` in two bins, either way."""
    top = np.zeros((HORIZONS, BINS, 3))
    for b, (sure, share) in {7: (0.5, 0.5 - error), 10: (0.7, 0.7 + error)}.items():
        n = 32
        top[:, b, 0], top[:, b, 1] = n, n * sure
        top[:, b, 2] = rng.binomial(n, share, HORIZONS)
    return top


def most(rng: np.random.Generator, error: float, looks: int) -> float:
    """The most evidence at any look."""
    total, highest = np.zeros((HORIZONS, BINS, 3)), -math.inf
    process = new_process(HORIZONS)
    for _ in range(looks):
        now = sums(rng, error)
        if total.any():
            for h, x in enumerate(excess(total, now, ECE_LIMIT)):
                bet(process[h], float(x))
        total += now
        e = np.mean([math.exp(log_evidence(one)) for one in process])
        highest = max(highest, math.log(e) if e > 0.0 else -math.inf)
    return highest


def test_an_error_at_the_limit_is_rarely_found_and_one_beyond_it_is() -> None:
    rng = np.random.default_rng(9)
    false = sum(most(rng, ECE_LIMIT, 150) >= math.log(20.0) for _ in range(60))
    assert false <= 9  # of 60 at 5 %: the 99.9 % point
    assert all(most(rng, 0.16, 150) >= math.log(200.0) for _ in range(5))
    assert max(most(rng, 0.0, 150) for _ in range(5)) < 0.0


def sure(said: Array, share: float) -> Array:
    """SAID[n] that moves a share of the probability of the other classes to the likeliest."""
    out = said.copy()
    p = out["f"]["p"].astype(float)
    top = p.argmax(axis=2)[..., None]
    moved = p * (1.0 - share)
    np.put_along_axis(moved, top, np.take_along_axis(p, top, 2) * (1.0 - share) + share, 2)
    out["f"]["p"] = moved
    return out


def test_a_model_that_is_too_sure_fails_by_its_calibration_and_one_that_is_not_does_not() -> None:
    day = market(40_000)
    said = Contender(named("mine"), [GOOG], LIMITS).forecast(day)
    assert said.dtype == SAID
    calm = Monitor([GOOG], LIMITS, Lineup(named("mine")))
    assert "failed" not in kinds(follow(calm, day, said))
    assert calm.evidence()[CALIBRATION] < 1.0
    wrong = Monitor([GOOG], LIMITS, Lineup(named("mine")))
    failed = kinds(follow(wrong, day, sure(said, 0.35)))["failed"]
    assert wrong.evidence()[CALIBRATION] >= 200.0
    assert failed.data["gate"] == CALIBRATION
