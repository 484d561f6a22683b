"""Order flow: reproducible, clonable, sound books; calibration recovers what it should; our orders count."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from emp.core.errors import DataError, UsageError
from emp.core.numba.rng import seeded
from emp.core.records import EVENT
from emp.sim.book.book import TRADE_QTY
from emp.sim.book.check import check_book
from emp.sim.fit.calibrate import calibrate
from emp.sim.fit.hawkes import fit_hawkes
from emp.sim.fit.samples import averages, memory_decay
from emp.sim.fit.sides import logistic, memory_features
from emp.sim.flow.observe import HIT
from emp.sim.flow.params import Source, load_params, params_hash, save_params
from emp.sim.flow.zi import zi_params
from emp.sim.measure import estimators as est
from emp.sim.measure.maker import naive_maker
from emp.sim.measure.observe_market import Tape, observe_market
from emp.sim.world.latency import CANCEL, ENTRY, FEED, LatencyConfig, Leg, draw_latency, latency_record
from emp.sim.world.market import Market

START = 50_000


@pytest.fixture(scope="module")
def tape() -> Tape:
    return observe_market(Market(zi_params(), 7, START), 40_000, "zi")


@pytest.fixture(scope="module")
def flows(tape: Tape) -> dict[str, np.ndarray]:
    return {"zi": zi_params(), "hawkes": calibrate(tape.obs, "hawkes"), "qr": calibrate(tape.obs, "qr")}


def digest(market: Market) -> str:
    parts = (market.flow.book, market.flow.state, market.flow.rng)
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


@pytest.mark.parametrize("name", ["zi", "hawkes", "qr"])
def test_same_seed_same_market_and_the_book_is_sound(name: str, flows: dict[str, np.ndarray]) -> None:
    first, again, other = (Market(flows[name], seed, START) for seed in (1, 1, 2))
    for market in (first, again, other):
        for _ in range(10):
            market.run(2**62, 2_000)
            check_book(market.book)
    assert digest(first) == digest(again) != digest(other)


@pytest.mark.parametrize("name", ["zi", "hawkes", "qr"])
def test_clones_diverge_in_nothing_until_disturbed(name: str, flows: dict[str, np.ndarray]) -> None:
    market = Market(flows[name], 3, START)
    market.run(2**62, 5_000)
    twin = market.clone()
    rows, other = np.zeros(3_000, EVENT), np.zeros(3_000, EVENT)
    market.run(2**62, 3_000, rows=rows)
    twin.run(2**62, 3_000, rows=other)
    assert rows.tobytes() == other.tobytes()
    assert digest(market) == digest(twin)
    naive_maker(twin, 1, LatencyConfig(), 0.0, 0.0, 200)
    market.run(2**62, 2_000)
    assert digest(market) != digest(twin)


def test_another_process_sees_the_same_events(tmp_path: Path) -> None:
    code = (
        "import hashlib; import numpy as np; from emp.core.records import EVENT;"
        "from emp.sim.world.market import zero_intelligence;"
        "m = zero_intelligence(9); rows = np.zeros(2000, EVENT); m.run(2**62, 2000, rows=rows);"
        "print(hashlib.sha256(rows.tobytes()).hexdigest())"
    )
    run = [sys.executable, "-c", code]
    out = [subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert out[0] == out[1]
    assert len(out[0].strip()) == 64


def test_zero_intelligence_knows_nothing(tape: Tape) -> None:
    signs = tape.obs["sign"][tape.obs["sign"] != 0]
    assert abs(est.acf(signs, 10)[1:]).max() < 0.06
    gap = np.diff(tape.obs["ts"]) / 1e9
    assert gap.std() / gap.mean() == pytest.approx(1.0, abs=0.1)


def test_a_naive_maker_earns_where_nobody_knows_anything() -> None:
    results = [
        naive_maker(Market(zi_params(), k, START), k, LatencyConfig(), 0.0, 0.0, decisions=4_000)
        for k in range(3)
    ]
    assert min(r.per_lot for r in results) > 0.1
    paying = naive_maker(Market(zi_params(), 0, START), 0, LatencyConfig(), 1.0, 0.0, decisions=4_000)
    assert paying.fees == pytest.approx(paying.lots)
    assert paying.per_lot < results[0].per_lot - 0.9


def test_calibrated_flow_keeps_rates_and_mix(tape: Tape, flows: dict[str, np.ndarray]) -> None:
    want = np.bincount(tape.obs["type"] % 6, minlength=6) / len(tape.obs)
    rate = len(tape.obs) / tape.hours
    for name in ("hawkes", "qr"):
        got = observe_market(Market(flows[name], 5, START), 40_000, name)
        mix = np.bincount(got.obs["type"] % 6, minlength=6) / len(got.obs)
        assert np.abs(mix - want).max() < 0.08, name
        assert len(got.obs) / got.hours == pytest.approx(rate, rel=0.25), name


def test_features_of_the_past_know_nothing_of_the_future(tape: Tape) -> None:
    obs = tape.obs[:2_000]
    noise = obs.copy()
    rng = np.random.default_rng(0)
    noise["type"][1_000:] = rng.integers(0, 12, 1_000)
    noise["sign"][1_000:] = rng.integers(-1, 2, 1_000)
    noise["bid"][1_001:] += rng.integers(-9, 9, 999)
    decay = memory_decay()
    one, two = (memory_features(o, decay, np.full(len(o), 2.0)) for o in (obs, noise))
    assert np.array_equal(one[:1_000], two[:1_000])
    assert not np.array_equal(one[1_500:], two[1_500:])


def test_the_simulator_remembers_as_the_calibration_says(flows: dict[str, np.ndarray]) -> None:
    market = Market(flows["qr"], 8, START)
    n = 3_000
    kind, side, sign = np.zeros(n, int), np.zeros(n), np.zeros(n)
    for i in range(n):
        market.run(2**62, 1)
        what = int(market.state["type"][0])
        kind[i], side[i] = what % 6, 1.0 if what >= 6 else -1.0
        sign[i] = np.sign(market.book[TRADE_QTY]) if kind[i] == HIT else 0
    decay = memory_decay()
    memory, own = market.state["memory"][0], market.state["own"][0]
    signs = averages(np.append(sign, 0), decay, np.append(sign != 0, False))[-1]
    pulses = [averages(np.append(np.where(kind == k, side, 0.0), 0), decay)[-1] for k in range(6)]
    assert memory[:8] == pytest.approx(signs)
    assert memory[8:56] == pytest.approx(np.concatenate(pulses))
    assert own == pytest.approx(np.concatenate([signs, pulses[HIT]]))


def test_averages_by_hand() -> None:
    got = averages(np.array([1.0, 0.0, 1.0]), np.array([0.5]))
    assert got[:, 0].tolist() == [0.0, 0.5, 0.25]


def test_logistic_finds_its_weights() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 3))
    w = np.array([1.0, -0.5, 0.0])
    up = rng.random(20_000) < 1 / (1 + np.exp(-(0.3 + x @ w)))
    assert logistic(x, up.astype(float), np.full(20_000, 0.3), 1.0) == pytest.approx(w, abs=0.06)


def test_hawkes_fit_finds_no_excitement_in_poisson_events() -> None:
    rng = np.random.default_rng(2)
    ts = np.cumsum(rng.exponential(1e8, 20_000)).astype(np.int64)
    types = rng.integers(0, 12, 20_000)
    base, _, _, branching = fit_hawkes(ts, types)
    assert branching < 0.3
    assert base.sum() == pytest.approx(10.0, rel=0.3)


def test_latency_has_a_floor_and_widens_when_it_is_busy() -> None:
    m = latency_record(
        LatencyConfig(entry=Leg(100.0, 50.0, 0.5), cancel=Leg(200.0, 50.0, 0.5), usual_hz=10.0)
    )
    r = seeded(1, "x")
    quiet = [draw_latency(m[0], ENTRY, 5.0, r) for _ in range(4_000)]
    busy = [draw_latency(m[0], ENTRY, 1_000.0, r) for _ in range(4_000)]
    assert min(quiet) >= 100_000
    assert np.median(quiet) == pytest.approx(150_000, rel=0.05)
    assert np.median(busy) == pytest.approx(100_000 + 50_000 * 10, rel=0.1)
    assert min(draw_latency(m[0], CANCEL, 5.0, r) for _ in range(500)) >= 200_000
    assert draw_latency(m[0], FEED, 5.0, r) > 0


def test_models_are_kept_in_files(tmp_path: Path, flows: dict[str, np.ndarray]) -> None:
    source = Source("XYZ", 1, 2, "a note")
    save_params(tmp_path / "m.npz", flows["qr"], source)
    back, known = load_params(tmp_path / "m.npz")
    assert known == source
    assert params_hash(back) == params_hash(flows["qr"])
    np.save(tmp_path / "array.npy", np.arange(3))
    spoilt = {"bad.npz": b"nothing", "empty": b"", "zip": b"PK\x03\x04" + bytes(range(256))}
    for name, held in spoilt.items():
        (tmp_path / name).write_bytes(held)
    for name in (*spoilt, "array.npy", "."):
        with pytest.raises(DataError, match="not a flow model"):
            load_params(tmp_path / name)
    with pytest.raises(DataError, match="at least 5000 events"):
        calibrate(np.zeros(10, dtype=[("ts", "i8")]), "zi")
    with pytest.raises(UsageError, match="1000 ticks or more"):
        Market(zi_params(), 1, 5)
