"""Estimators against series whose answer is known, and the verdicts on zero-intelligence flow."""

import numpy as np
import pytest

from emp.sim.facts.distances import LEVELS, Sample, distance, distance_rows
from emp.sim.facts.facts import FACTS, MINIMUM, Row, tape_rows, widen
from emp.sim.flow.observe import OBS
from emp.sim.flow.zi import zi_params
from emp.sim.measure import estimators as est
from emp.sim.measure.metaorder import metaorder_impact
from emp.sim.measure.observe_market import Tape, observe_market
from emp.sim.measure.probe import fill_curve, probes_of_market
from emp.sim.world.market import Market

RNG = np.random.default_rng(3)


def book_of_mids(mid: np.ndarray, step_ns: int) -> np.ndarray:
    obs = np.zeros(len(mid), OBS)
    obs["ts"] = np.arange(len(mid)) * step_ns
    obs["bid"], obs["ask"] = np.round(mid) - 1, np.round(mid) + 1
    obs["bid_sz"] = obs["ask_sz"] = 10
    return obs


def test_acf_and_power_law() -> None:
    lags = np.arange(1, 200)
    assert est.power_law(lags, lags**-0.6) == pytest.approx(0.6, abs=0.02)
    x = np.zeros(50_000)
    noise = RNG.normal(size=50_000)
    for i in range(1, len(x)):
        x[i] = 0.8 * x[i - 1] + noise[i]
    assert est.acf(x, 5)[1:4] == pytest.approx([0.8, 0.64, 0.512], abs=0.03)


def test_tail_index_kurtosis_and_hurst() -> None:
    assert est.hill(RNG.pareto(3.0, 200_000) + 1, 0.01) == pytest.approx(3.0, abs=0.2)
    assert est.kurtosis(RNG.normal(size=200_000)) == pytest.approx(0.0, abs=0.1)
    assert est.kurtosis(RNG.laplace(size=200_000)) == pytest.approx(3.0, abs=0.4)
    assert est.dfa(RNG.normal(size=30_000)) == pytest.approx(0.5, abs=0.05)


def test_signature_of_a_random_walk_is_one_and_of_bounce_is_more() -> None:
    walk = 10_000 + np.cumsum(RNG.normal(size=60_000)) * 3
    assert est.signature(book_of_mids(walk, 10**9), 1.0, 100.0) == pytest.approx(1.0, abs=0.25)
    bounce = walk + RNG.normal(size=60_000) * 20
    assert est.signature(book_of_mids(bounce, 10**9), 1.0, 100.0) > 5


def test_branching_of_poisson_events_is_nothing() -> None:
    assert est.branching(np.cumsum(RNG.exponential(0.5, 50_000)), 60.0) < 0.1
    bursts = np.repeat(np.cumsum(RNG.exponential(20.0, 5_000)), 16)
    assert est.branching(bursts, 60.0) == pytest.approx(0.75, abs=0.05)


def sample(x: np.ndarray) -> Sample:
    return Sample(np.quantile(x, LEVELS), float(x.mean()), float(x.var()))


def test_distance_of_samples() -> None:
    a = RNG.normal(size=50_000)
    assert distance(sample(a), sample(a)) == 0.0
    assert distance(sample(a), sample(a + 2.0)) == pytest.approx(2.0 / np.sqrt(2.0), abs=0.05)


def test_bands_reach_to_recordings_but_not_where_they_are_fixed() -> None:
    assert widen(0.2, 0.4, [0.5]) == pytest.approx((0.2, 0.55))
    assert widen(0.2, 0.4, []) == (0.2, 0.4)
    assert widen(0.2, 0.4, [float("nan")]) == (0.2, 0.4)


@pytest.fixture(scope="module")
def zi() -> Tape:
    return observe_market(Market(zi_params(), 1, 50_000), 150_000, "zi")


def of(rows: list[Row], fact: int) -> list[Row]:
    return [r for r in rows if r.fact == fact]


def test_zero_intelligence_fails_where_it_should(zi: Tape) -> None:
    rows = tape_rows(zi, {})
    for fact in (2, 3, 4, 5, 8, 9):
        assert not all(r.passed for r in of(rows, fact)), fact
    assert not any(r.passed for r in of(rows, 9))
    assert all(r.passed for r in of(rows, 11))
    assert {f.number for f in FACTS} | {12, 17, 20} == set(range(1, 21))
    assert set(MINIMUM) == {1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 17, 18, 19}


def test_a_tape_is_near_itself_and_far_from_another(zi: Tape) -> None:
    again = observe_market(Market(zi_params(), 2, 50_000), 100_000, "again")
    other = observe_market(
        Market(zi_params(limit_hz=30.0, market_hz=2.0, band=40), 2, 50_000), 100_000, "other"
    )
    assert sum(r.passed for r in distance_rows(again, zi)) >= 9
    assert sum(r.passed for r in distance_rows(other, zi)) <= 4


def test_zero_intelligence_has_linear_lasting_impact() -> None:
    market = Market(zi_params(), 4, 50_000)
    market.run(2**62, 5_000)
    impact = metaorder_impact(market, 4, every=30, slices=(2, 4, 8, 16), runs=60)
    assert impact.exponent == pytest.approx(1.0, abs=0.2)
    assert impact.low < impact.exponent < impact.high
    assert impact.impact[-1] > 1.0


def test_fill_probability_falls_with_the_queue_ahead() -> None:
    market = Market(zi_params(), 5, 50_000)
    curve = fill_curve(probes_of_market(market, 2_000)[0], np.array([2, 5]))
    assert (np.diff(curve) < 0).all()
    assert 0.0 < curve[-1] < curve[0] <= 1.0
