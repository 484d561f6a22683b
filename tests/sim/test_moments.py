"""What is estimated by simulated moments, against processes whose parameters are known."""

from pathlib import Path

import numpy as np
import pytest

from emp.core.errors import UsageError
from emp.core.numba.rng import seeded
from emp.sim.facts.distances import distance_rows
from emp.sim.facts.study import Studied, fit_part, named_source, without_fitted
from emp.sim.fit import leaning as lean
from emp.sim.fit.moments import EVALUATIONS, Bounded, match
from emp.sim.fit.wander import TAU_S, covariances, half_minutes, local_level, parts
from emp.sim.flow.marks import draw_ticks
from emp.sim.flow.observe import OBS
from emp.sim.flow.params import FLOW, MEMORY, RATES, Source, save_params
from emp.sim.flow.splitting import work_off
from emp.sim.flow.state import STATE, TRADE
from emp.sim.flow.tables import tabulate
from emp.sim.flow.zi import zi_params
from emp.sim.measure import estimators as est
from emp.sim.measure.observe_market import Tape, observe_market
from emp.sim.measure.probe import reached
from emp.sim.world.market import Market


def split_signs(alpha: float, n: int, seed: int) -> np.ndarray:
    """Signs of trades that all belong to the long order at work."""
    s, p, r = np.zeros(1, STATE), tabulate(np.zeros(1, FLOW)), seeded(seed, "split")
    s["split_sign"] = 1.0
    p["split_alpha"], p["split_longest"] = alpha, 1e6
    out = np.zeros(n)
    for i in range(n):
        out[i] = s["split_sign"][0]
        work_off(s[0], p[0], out[i], r)
    return out


@pytest.mark.parametrize("alpha", [1.4, 1.6])
def test_splitting_makes_the_memory_that_theory_says_and_the_estimator_finds_it(alpha: float) -> None:
    found = [est.memory_exponent(split_signs(alpha, 15_000, k)) for k in range(4)]
    assert np.mean(found) == pytest.approx(alpha - 1.0, abs=0.15)


def test_local_whittle_is_not_deceived_by_short_memory() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(size=40_000)
    short = noise.copy()
    for i in range(1, len(short)):
        short[i] += 0.6 * short[i - 1]
    assert est.local_whittle(noise) == pytest.approx(0.0, abs=0.06)
    assert est.local_whittle(short) == pytest.approx(0.0, abs=0.1)
    weights = np.cumprod(np.concatenate([[1.0], (np.arange(1, 4_000) - 0.7) / np.arange(1, 4_000)]))
    long = np.convolve(noise, weights, "valid")  # fractional noise with d = 0.3
    assert est.local_whittle(long) == pytest.approx(0.3, abs=0.06)
    assert np.isnan(est.local_whittle(noise[:20]))


def test_matching_finds_the_parameters_of_a_known_process() -> None:
    calls = 0

    def simulate(theta: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        rng = np.random.default_rng(1)
        x = theta[0] + theta[1] * rng.normal(size=(10, 2_000))
        return np.column_stack([x.mean(axis=1), x.std(axis=1), np.full(10, np.nan)])

    parameters = [Bounded(0.0, 0.8, -5.0, 5.0), Bounded(1.0, 0.8, 0.1, 5.0)]
    found, score = match(simulate, np.array([1.5, 2.5, 7.0]), parameters)
    assert found == pytest.approx([1.5, 2.5], abs=0.15)
    assert score < 5.0
    assert calls == EVALUATIONS
    found, _ = match(simulate, np.array([9.0, 2.5, 7.0]), parameters)
    assert found[0] <= 5.0


def wandering(seed: int, hours: float = 25.0) -> tuple[np.ndarray, np.ndarray]:
    """Events of a market whose log spread is a slow part of 300 s and variance 0.09, and noise; and the slow part."""
    rng = np.random.default_rng(seed)
    ts = np.sort(rng.uniform(0, hours * 3600, int(hours * 3600)))
    slow = np.zeros(len(ts))
    for i in range(1, len(ts)):
        keep = np.exp(-(ts[i] - ts[i - 1]) / 300.0)
        slow[i] = keep * slow[i - 1] + 0.3 * np.sqrt(1 - keep**2) * rng.normal()
    obs = np.zeros(len(ts), OBS)
    obs["ts"] = (ts * 1e9).astype(np.int64)
    obs["ask"] = np.round(np.exp(np.log(200.0) + slow + 0.4 * rng.normal(size=len(ts)))).astype(np.int64)
    return obs, slow


def test_slow_variance_is_told_from_noise() -> None:
    obs, slow = wandering(1)
    count, spread = half_minutes(obs)
    found = parts(*covariances(spread, spread))
    assert found.sum() == pytest.approx(0.09, rel=0.35)
    assert int(np.argmax(found)) == TAU_S.index(300.0)
    assert parts(*covariances(count, count)).sum() < 0.01
    p = np.zeros(1, FLOW)
    p["level_var"] = found
    level = np.log(local_level(p, obs))
    assert np.corrcoef(level, slow)[0, 1] > 0.9
    assert np.abs(level.mean()) < 0.05
    assert len(found) == RATES


def test_distances_scale_with_the_level_and_rounding_has_no_bias() -> None:
    r = seeded(2, "ticks")
    table = np.full(256, 3.0)
    drawn = [draw_ticks(table, 1.4, r) for _ in range(20_000)]
    assert np.mean(drawn) == pytest.approx(4.2, abs=0.02)
    assert set(drawn) == {4, 5}
    assert {draw_ticks(table, 1.0, r) for _ in range(100)} == {3}
    assert {draw_ticks(table, 0.01, r) for _ in range(100)} == {1}


def test_the_square_root_path_by_hand() -> None:
    path = lean.square_root_path(4, 8)
    assert path[:4] == pytest.approx(np.sqrt([1, 2, 3, 4]))
    assert path[4] == pytest.approx(np.sqrt(5) - 1)
    assert 0.3 < path[7] / path[3] < 0.45


def test_leaning_finds_the_kernel_of_a_linear_market(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 2 * lean.CHILDREN
    t = np.arange(1, steps + 1)
    shape = lean.square_root_path(lean.CHILDREN, steps)
    answer = np.array([np.minimum(t, 2.0**k) for k in range(MEMORY)])
    answer[:, 0] = 0.0  # the first child meets a market that has not leaned
    true = np.zeros(MEMORY)
    true[2], true[5] = 0.3, 0.1

    def linear(market: np.ndarray, qty: int, every: int, children: int, runs: int) -> np.ndarray:
        path = (shape + (true - market["outside"][0]) @ answer)[: 2 * children]
        noise = np.random.default_rng(len(calls)).normal(size=(runs, 1))
        return path + 0.1 * (noise - noise.mean())

    monkeypatch.setattr(lean, "metaorder_paths", linear)
    monkeypatch.setattr(lean, "market_of", lambda p, seed, start: p)
    p = np.zeros(1, FLOW)
    p["decay"] = 0.5 ** (1.0 / 4.0 ** np.arange(MEMORY))
    calls = []
    found = lean.leaning(p, 10_000, progress=lambda: calls.append(1))
    assert linear(found, 1, 60, lean.CHILDREN, 2).mean(axis=0) == pytest.approx(shape, abs=0.3)
    assert len(calls) == lean.STEPS
    assert not p["outside"].any()


def test_a_virtual_order_is_filled_when_its_turn_has_come() -> None:
    bid, ask = 0, 1
    assert reached(TRADE, bid, 100, 6, bid, 100, 5)
    assert not reached(TRADE, bid, 100, 5, bid, 100, 5)
    assert reached(TRADE, bid, 99, 1, bid, 100, 5)
    assert not reached(TRADE, bid, 101, 50, bid, 100, 0)
    assert not reached(TRADE, ask, 100, 50, bid, 100, 0)
    assert reached(1, ask, 100, 1, bid, 100, 5)
    assert not reached(1, ask, 101, 1, bid, 100, 5)
    assert reached(1, bid, 102, 1, ask, 101, 5)


def test_what_a_model_was_fitted_to_is_not_held_out(tmp_path: Path) -> None:
    tape = observe_market(Market(zi_params(), 4, 50_000), 20_000, "XYZ")
    ts = tape.obs["ts"]
    made = Studied(None, None, tape, None)  # type: ignore[arg-type]
    source = Source("XYZ", int(ts[2_000]), int(ts[12_000]), "")
    left = without_fitted(made, source)
    assert int(left.tape.obs["ts"][0]) > source.last_ns
    assert left.fitted is not None
    assert int(left.fitted["ts"][0]) == source.first_ns
    assert int(left.fitted["ts"][-1]) == source.last_ns
    assert without_fitted(made, Source("ABC", int(ts[0]), int(ts[-1]), "")) is made
    with pytest.raises(UsageError, match="fitted to all"):
        without_fitted(made, Source("XYZ", int(ts[0]), int(ts[-1]), ""))
    save_params(tmp_path / "x.npz", zi_params(), source)
    assert named_source(str(tmp_path / "x.npz")) == source
    assert len(fit_part(tape.obs, 0.5)) == len(tape.obs) // 2
    day = tape.obs.copy()
    day["ts"] = np.linspace(0, 3 * 3600 * 10**9, len(day)).astype(np.int64)
    assert int(fit_part(day, 1.0)["ts"][0]) >= 1800 * 10**9


def test_other_instruments_are_compared_in_their_own_units() -> None:
    one = observe_market(Market(zi_params(max_qty=40), 2, 50_000), 100_000, "one")
    big = one.obs.copy()
    for name in ("qty", "bid_sz", "ask_sz"):
        big[name] *= 10
    for name in ("ts", "age_ns"):
        big[name] *= 3
    other = observe_market(Market(zi_params(max_qty=40), 3, 50_000), 100_000, "other")
    scaled = Tape("scaled", big, one.depth)
    own = {r.name.split(": ")[1]: r.simulated or 0.0 for r in distance_rows(other, scaled)}
    raw = {r.name.split(": ")[1]: r.simulated or 0.0 for r in distance_rows(other, scaled, big[:20_000])}
    assert max(own.values()) < 0.3
    for name in ("log touch quantity", "log market order size", "log gap"):
        assert raw[name] > 2.0 * own[name] + 0.2, name
    nearly = [r for r in distance_rows(other, one, one.obs[:20_000]) if not r.passed]
    assert len(nearly) <= 3
