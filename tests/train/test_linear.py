"""The linear heads find a planted truth, obey the mirror, and say the same in the compiled path."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emp.core.records import HORIZONS, QUANTILES, Array
from emp.engine.choose import load_model
from emp.model.artifact import save
from emp.model.heads import MEANS_AT, QUANTILES_AT
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUTS
from emp.perception.state import CELLS
from emp.perception.targets import DOWN, FLAT, NO_LABEL, UP
from emp.train.data.data import load_dataset, parse_series
from emp.train.data.mirror import mirror_basis, mirror_matrix
from emp.train.data.table import encode_cells, random_encoder
from emp.train.fit import fit, linear
from emp.train.fit.calibration import stretches
from emp.train.fit.encoder import DepthNet, train_encoder
from emp.train.fit.linear import Head, Sample, fit_head
from emp.train.judge.forecasts import forecast_series
from tests.kit.datasets import dataset

EVEN, ODD = mirror_basis()


def raw(head: Head, x: Array) -> Array:
    return np.asarray(x @ head.weight + head.bias)


def probabilities(head: Head, x: Array, h: int) -> Array:
    z = raw(head, x)[:, 3 * h : 3 * h + 3]
    e = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def planted(n: int, seed: int) -> tuple[Sample, Array]:
    """Rows whose classes follow a mirror-symmetric logistic law, and moves that follow a linear one."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, INPUTS)) + (np.arange(INPUTS) == 0)
    law = np.random.default_rng(0)
    e = x @ EVEN @ law.normal(0.0, 0.3, EVEN.shape[1])
    o = x @ ODD @ law.normal(0.0, 0.5, ODD.shape[1])
    z = np.stack([e - o, np.zeros(n), e + o], axis=1)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    label = (p.cumsum(1) < rng.random((n, 1))).sum(1)
    move = o + np.exp(0.2 * e) * rng.normal(size=n)
    labels = np.tile(label[:, None], (1, HORIZONS)).astype(np.int8)
    moves = np.tile(move[:, None], (1, HORIZONS))
    labels[:, 1:], moves[:, 1:] = NO_LABEL, np.nan
    return Sample(x, labels, moves, np.ones(n), *stretches(np.arange(n) * 10**9)), p


@pytest.fixture(scope="module")
def head() -> Head:
    return fit_head(planted(8_000, 1)[0], planted(2_000, 2)[0], lambda: None)


def test_classes_quantiles_and_means_of_a_planted_law_are_found(head: Head) -> None:
    test, p = planted(4_000, 3)
    turn = np.log(p[:, UP] / p[:, DOWN]) / 2.0  # what the mirror turns: the expected move, too
    assert np.abs(probabilities(head, test.x, 0) - p).mean() < 0.03
    assert 0.9 < head.calibration[0].temperature < 1.1
    found = raw(head, test.x)
    for i, tau in enumerate(QUANTILES):
        assert (test.delta_hat[:, 0] <= found[:, QUANTILES_AT + i]).mean() == pytest.approx(tau, abs=0.03)
    assert np.corrcoef(found[:, MEANS_AT], turn)[0, 1] > 0.97


def test_a_horizon_without_labels_stays_silent(head: Head) -> None:
    assert not head.weight[:, 3:18].any()
    assert not head.weight[:, MEANS_AT + 1 :].any()


def test_the_mirror_exchanges_down_and_up(head: Head) -> None:
    x = np.random.default_rng(7).normal(size=(50, INPUTS))
    mirrored = x @ mirror_matrix()
    p, other = probabilities(head, x, 0), probabilities(head, mirrored, 0)
    np.testing.assert_allclose(p[:, [UP, FLAT, DOWN]], other, atol=1e-12)
    q, turned = (
        raw(head, x)[:, QUANTILES_AT : QUANTILES_AT + 3],
        raw(head, mirrored)[:, QUANTILES_AT : QUANTILES_AT + 3],
    )
    np.testing.assert_allclose(q, -turned[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(raw(head, x)[:, MEANS_AT], -raw(head, mirrored)[:, MEANS_AT], atol=1e-12)


def test_the_mirror_is_an_involution_that_the_basis_splits() -> None:
    m = mirror_matrix()
    np.testing.assert_array_equal(m @ m, np.eye(INPUTS))
    np.testing.assert_allclose(m @ EVEN, EVEN)
    np.testing.assert_allclose(m @ ODD, -ODD)
    both = np.hstack([EVEN, ODD])
    np.testing.assert_allclose(both.T @ both, np.eye(INPUTS), atol=1e-12)


def test_quantiles_fall_back_on_the_whole_where_following_does_harm() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2_000, INPUTS))
    move = np.where(rng.random(2_000) < 0.8, 0.0, rng.normal(size=2_000))
    labels = np.where(move > 0, UP, np.where(move < 0, DOWN, FLAT)).astype(np.int8)
    labels, moves = (np.tile(a[:, None], (1, HORIZONS)) for a in (labels, move))
    sample = Sample(x, labels, moves, np.ones(2_000), *stretches(np.arange(2_000)))
    head = fit_head(Sample(*(a[:1_500] for a in sample)), Sample(*(a[1_500:] for a in sample)), lambda: None)
    quantiles = raw(head, x[1_500:])[:, QUANTILES_AT : QUANTILES_AT + 3]
    miss = move[1_500:, None] - quantiles
    taus = np.array(QUANTILES)
    loss = np.maximum(taus * miss, (taus - 1) * miss).mean()
    still = np.maximum(taus * move[1_500:, None], (taus - 1) * move[1_500:, None]).mean()
    assert loss <= still * 1.001


def test_the_torch_encoder_is_the_compiled_one() -> None:
    rng = np.random.default_rng(4)
    cells = np.zeros((20, 2, CELLS + 2), np.float32)
    cells[:, :, 1:-1] = rng.random((20, 2, CELLS))
    encoder = random_encoder(rng)
    out = np.zeros((20, 16), np.float32)
    encode_cells(cells, np.ones(20, bool), encoder, out)
    with torch.no_grad():
        found = DepthNet(encoder).features(torch.from_numpy(cells)).numpy().reshape(20, 16)
    np.testing.assert_allclose(found, out, atol=1e-5)


def test_the_encoder_learns_where_the_depth_speaks() -> None:
    rng = np.random.default_rng(5)
    cells = np.zeros((12_000, 2, CELLS + 2), np.float32)
    cells[:, :, 1:-1] = rng.random((12_000, 2, CELLS)) ** 2
    deep = cells[:, :, 9:17].sum(2)
    labels = np.where(deep[:, 0] > deep[:, 1] + 0.3, UP, np.where(deep[:, 1] > deep[:, 0] + 0.3, DOWN, FLAT))
    labels = np.tile(labels[:, None], (1, HORIZONS)).astype(np.int8)
    x = np.zeros((12_000, INPUTS), np.float32)
    encoder = train_encoder(cells[:10_000], x[:10_000], labels[:10_000], np.ones(10_000), 0, lambda _: None)
    out = np.zeros((12_000, 16), np.float32)
    encode_cells(cells, np.ones(12_000, bool), encoder, out)
    wanted = deep[:, 0] - deep[:, 1]
    design = np.column_stack([out[:, :8] - out[:, 8:], np.ones(12_000)])
    beta = np.linalg.lstsq(design[:10_000], wanted[:10_000], rcond=None)[0]
    assert np.corrcoef(design[10_000:] @ beta, wanted[10_000:])[0, 1] > 0.9
    assert np.sqrt(np.square(out).mean()) == pytest.approx(1.0, abs=0.2)


def test_the_encoder_is_the_same_whatever_torch_has_drawn_before() -> None:
    rng = np.random.default_rng(6)
    cells = rng.random((4_096, 2, CELLS + 2)).astype(np.float32)
    x = rng.normal(size=(4_096, INPUTS)).astype(np.float32)
    labels = rng.integers(0, 3, (4_096, HORIZONS)).astype(np.int8)
    made = []
    for drawn in (1, 2):
        torch.manual_seed(drawn)
        made.append(train_encoder(cells, x, labels, np.ones(len(x)), 3, lambda _: None).tobytes())
    assert made[0] == made[1]


def test_the_artifact_forecasts_what_was_trained_and_knows_nothing_of_the_test_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "PENALTIES", (1e-2,))
    monkeypatch.setattr(linear, "ITERATIONS", 10)
    monkeypatch.setattr(fit, "train_encoder", lambda *_: random_encoder(np.random.default_rng(0)))
    data = dataset(4_000, 1)
    trained = fit.train_linear([data], 0.5, 0, lambda *_: None)
    save(tmp_path / "a", trained.manifest, trained.tensors)
    model = load_model(tmp_path / "a")
    seen = data.encoded(model.encoder)
    forecasts = forecast_series(model, seen, learns=False)
    k = model.artifact.domain("equity", "nasdaq", "GOOG")
    z = seen.x.astype(np.float64) @ trained.tensors["weight"][k] + trained.tensors["bias"][k]
    e = np.exp(z[:, :18].reshape(-1, HORIZONS, 3))
    np.testing.assert_allclose(forecasts["p"], e / e.sum(2, keepdims=True), atol=1e-4)
    np.testing.assert_allclose(forecasts["mean"], z[:, MEANS_AT : MEANS_AT + HORIZONS], atol=1e-4)
    quantiles = np.sort(z[:, QUANTILES_AT:MEANS_AT].reshape(-1, HORIZONS, 3), axis=2)
    np.testing.assert_allclose(forecasts["q"], quantiles, atol=1e-4)

    after = data.ts >= data.split.test_ns
    noise = np.random.default_rng(0)
    x, moves = data.x.copy(), data.targets.delta_hat.copy()
    x[after], moves[after] = noise.normal(size=x[after].shape), noise.normal(size=moves[after].shape)
    blinded = replace(data, seen=data.seen._replace(x=x), targets=data.targets._replace(delta_hat=moves))
    again = fit.train_linear([blinded], 0.5, 0, lambda *_: None)
    for name, tensor in trained.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)
    assert again.manifest.thresholds == trained.manifest.thresholds


@pytest.mark.real_data
def test_the_shipped_model_says_in_the_kernel_what_its_weights_say(data_dir: Path) -> None:
    name = "lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv.zst"
    data = load_dataset(parse_series(f"GOOG={data_dir / name}"), 0.5)
    model = load_model("linear")
    seen = data.encoded(model.encoder)
    forecasts = forecast_series(model, seen, learns=False)
    k = model.artifact.domain("equity", "nasdaq", "GOOG")
    tensors = model.artifact.tensors
    z = seen.x.astype(np.float64) @ tensors["weight"][k].astype(np.float64) + tensors["bias"][k]
    z = z[:, :18].reshape(-1, HORIZONS, 3)
    e = np.exp(z - z.max(2, keepdims=True))
    np.testing.assert_allclose(forecasts["p"], e / e.sum(2, keepdims=True), atol=1e-4)
    assert set(ENCODER.names or ()) == {
        n.removeprefix("encoder.") for n in tensors if n.startswith("encoder.")
    }
