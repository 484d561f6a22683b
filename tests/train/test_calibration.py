"""Calibration: what the tables are, when they are chosen, and that the compiled step and the evaluation agree."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emp.core.errors import ArtifactError
from emp.core.records import FORECAST, HORIZONS, Array
from emp.model.calibration import FLOOR, ISOTONIC, KINDS, KNOTS, QUARTILES, pack_calibration
from emp.model.heads import LOGITS, OUTPUTS, QUANTILES_AT, fill_forecast
from emp.perception.targets import DOWN, FLAT, UP
from emp.train.fit import calibration
from emp.train.fit.calibration import (
    BLOCK_NS,
    STEEPEST,
    STRETCHES,
    Rows,
    apply_table,
    calibrate,
    fit_table,
    fit_temperature,
    gain_of,
    measure_quartiles,
    shrunk,
    softmax,
    stretches,
)

torch.set_num_threads(1)


def drawn(n: int, seed: int, bend: float = 1.0, temperature: float = 1.0) -> Rows:
    """Rows whose true probabilities are the said ones, but for a temperature and a bend of the flat class."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 1.0, (n, 3))
    truth = softmax(logits, temperature)
    truth[:, FLAT] **= bend
    truth /= truth.sum(1, keepdims=True)
    label = (truth.cumsum(1) < rng.random((n, 1))).sum(1)
    return Rows(logits, label, np.ones(n), *stretches(np.arange(n) * (BLOCK_NS // 100)))


def tables(table: Array) -> dict[str, Array]:
    """The same table for every horizon of one head."""
    return {ISOTONIC: np.tile(table, (1, HORIZONS, 1, 1, 1))}


def served(logits: Array, tensors: dict[str, Array]) -> Array:
    """Probabilities of the compiled step for logits float64[n, 3]: float32[n, 3]."""
    packed = pack_calibration(tensors, 1, "test")
    out, found = np.zeros(1, FORECAST), np.zeros((len(logits), 3), np.float32)
    for i, row in enumerate(logits):
        raw = np.zeros(OUTPUTS, np.float32)
        raw[:LOGITS] = np.tile(row, HORIZONS)
        fill_forecast(raw, packed[0], out[0])
        found[i] = out["p"][0, i % HORIZONS]
    return found


def test_a_temperature_is_found_and_tables_are_refused_where_it_is_enough() -> None:
    chosen = [calibrate(drawn(12_000, seed, temperature=1.7)) for seed in range(6)]
    assert [round(c.temperature, 1) for c in chosen] == [1.7] * 6
    assert sum(c.isotonic for c in chosen) <= 1  # by chance a gain passes its standard error one time in six


def test_tables_are_chosen_where_a_temperature_is_not_enough_and_lessen_the_loss() -> None:
    chosen = calibrate(drawn(20_000, 1, bend=2.0))
    assert chosen.isotonic
    assert chosen.gain > 2.0 * chosen.error
    other = drawn(20_000, 2, bend=2.0)
    before = softmax(other.logits, chosen.temperature)
    after = apply_table(chosen.table, before)
    losses = [calibration.log_loss(p, other.label).mean() for p in (before, after)]
    assert losses[1] < losses[0] - 0.5 * chosen.gain
    assert abs(after[:, FLAT].mean() - (other.label == FLAT).mean()) < 0.02


def test_the_choice_never_sees_the_stretch_that_it_is_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(4_000, 3)
    seen: list[int] = []
    original = calibration.fit_table

    def watched(p: Array, label: Array, weight: Array) -> Array:
        seen.append(len(p))
        return original(p, label, weight)

    monkeypatch.setattr(calibration, "fit_table", watched)
    chosen = calibrate(rows)
    assert seen[: STRETCHES - 1] == [1_000, 2_000, 3_000]
    assert len(seen) == STRETCHES - 1 + chosen.isotonic


def test_a_gain_below_its_standard_error_is_not_taken() -> None:
    block = np.repeat(np.arange(10), 100)
    difference = np.where(block < 5, 1.0, -0.9)
    mean, error = gain_of(difference, np.ones(1_000), block)
    assert mean == pytest.approx(0.05)
    assert error == pytest.approx(0.95 / np.sqrt(9), rel=1e-6)  # of ten blocks, not of a thousand rows
    assert gain_of(difference, np.ones(1_000), np.zeros(1_000)) == (0.0, np.inf)
    assert gain_of(np.full(5, np.nan), np.ones(5), np.arange(5)) == (0.0, np.inf)


@pytest.mark.parametrize(("error", "taken"), [(0.6, False), (0.5, False), (0.4, True)])
def test_tables_and_less_following_must_win_by_more_than_a_standard_error(
    monkeypatch: pytest.MonkeyPatch, error: float, taken: bool
) -> None:
    monkeypatch.setattr(calibration, "gain_of", lambda *_: (0.5, error))
    rows = drawn(2_000, 4)
    assert calibrate(rows).isotonic == taken
    moves = np.random.default_rng(0).normal(size=2_000)
    q = np.tile([-9.0, 0.0, 9.0], (2_000, 1))
    follow, _ = measure_quartiles(q, moves, 0.6745, *rows[2:5])
    assert (follow < 1.0) == taken


@given(st.integers(0, 10_000), st.integers(1, 3_000), st.floats(0.1, 8.0), st.floats(0.2, 5.0))
def test_any_table_rises_is_bounded_and_is_accepted_by_the_runtime(
    seed: int, n: int, spread: float, bend: float
) -> None:
    rows = drawn(n, seed, bend)
    table = fit_table(softmax(rows.logits * spread, 1.0), rows.label, rows.weight)
    assert table.shape == (KINDS, 2, KNOTS)
    assert pack_calibration(tables(table), 1, "test")["tabled"].all()
    slope = np.diff(table[:, 1].astype(float)) / np.diff(table[:, 0].astype(float))
    assert slope.max() < 1.01 * STEEPEST
    p = apply_table(table, softmax(100.0 * rows.logits, 1.0))
    assert p.min() > FLOOR / 4
    assert p.max() < 1.0


def test_the_compiled_step_computes_the_tables_of_the_evaluation() -> None:
    rows = drawn(3_000, 5, bend=2.5)
    table = fit_table(softmax(rows.logits, 1.0), rows.label, rows.weight)
    logits = np.random.default_rng(6).normal(0.0, 4.0, (2_000, 3))
    logits[:3] = np.eye(3) * 200.0  # certain: the ends of the tables
    want = apply_table(table, softmax(logits, 1.0))
    got = served(logits, tables(table))
    np.testing.assert_allclose(got, want, rtol=2e-5)
    assert np.isfinite(np.log(got)).all()
    assert got.max() < 1.0
    assert np.abs(got - softmax(logits, 1.0)).max() > 0.05


def test_the_mirror_image_of_a_forecast_is_the_forecast_of_the_mirror_image() -> None:
    rows = drawn(3_000, 7, bend=0.5)
    table = fit_table(softmax(rows.logits, 1.0), rows.label, rows.weight)
    turned = rows._replace(logits=rows.logits[:, ::-1], label=2 - rows.label)
    again = fit_table(softmax(turned.logits, 1.0), turned.label, turned.weight)
    np.testing.assert_allclose(again, table, rtol=1e-5)
    logits = np.random.default_rng(8).normal(size=(500, 3))
    p, other = served(logits, tables(table)), served(logits[:, ::-1], tables(table))
    np.testing.assert_allclose(p[:, [UP, FLAT, DOWN]], other, rtol=1e-6)


def test_quartiles_follow_a_model_that_is_right_and_not_one_that_is_wrong() -> None:
    rng = np.random.default_rng(10)
    size = np.exp(rng.normal(0.0, 0.7, 8_000))
    moves = size * rng.normal(size=8_000)
    weight, (stretch, block, _) = np.ones(8_000), stretches(np.arange(8_000) * (BLOCK_NS // 100))
    half = float(np.median(np.abs(moves)))
    q = 0.6745 * size[:, None] * np.array([-1.0, 0.0, 1.0])
    assert measure_quartiles(q, moves, half, weight, stretch, block) == (1.0, 0.0)
    follow, rest = measure_quartiles(3.0 * q[::-1], moves, half, weight, stretch, block)
    assert follow == 0.0
    assert rest == pytest.approx(half)
    raw, out = np.zeros(OUTPUTS, np.float32), np.zeros(1, FORECAST)
    raw[QUANTILES_AT : QUANTILES_AT + 3] = (-2.0, 0.5, 4.0)
    kept = np.tile(np.float32([0.25, 0.3]), (1, HORIZONS, 1))
    fill_forecast(raw, pack_calibration({QUARTILES: kept}, 1, "test")[0], out[0])
    np.testing.assert_allclose(out["q"][0, 0], shrunk(np.array([-2.0, 0.5, 4.0]), 0.25, 0.4), rtol=1e-6)


def test_hours_of_one_day_do_not_choose_tables() -> None:
    rows = drawn(12_000, 3, bend=2.5)
    assert calibrate(rows).isotonic
    chosen = calibrate(rows._replace(whole_day=np.zeros(len(rows.label), bool)))
    assert not chosen.isotonic
    assert chosen.temperature == calibrate(rows).temperature


def test_a_head_without_rows_is_left_alone() -> None:
    none = Rows(np.zeros((0, 3)), *(np.zeros(0, np.int64) for _ in range(5)))
    assert calibrate(none) == calibration.NOTHING
    assert fit_temperature(*none[:3]) == (1.0, 0.0)
    with pytest.raises(ArtifactError, match=r"quartiles is \(1, 6, 3\)"):
        pack_calibration({QUARTILES: np.zeros((1, 6, 3), np.float32)}, 1, "test")
