"""On recorded markets: parity over 10,000 real events, and a small model trained from the command line."""

import json
from importlib.metadata import version

import numpy as np
import pytest
import torch
import zstandard
from typer.testing import CliRunner

from emp.app.commands.train import app
from emp.core.errors import ConfigError
from emp.engine.choose import load_model
from emp.model.build_ssm import TEMPERATURE, pack
from emp.model.ssm_config import SSMConfig
from emp.perception.normalise import INPUTS
from emp.perception.schema import schema_hash
from emp.train.data.data import load_dataset, parse_series
from emp.train.fit.export import difference, load_network, torch_forecast
from emp.train.fit.rollout import rollout
from emp.train.fit.sequence import head_of, start_as_linear
from emp.train.fit.settings import read_settings
from emp.version import __version__
from tests.ssm.nets import IMPLS, calibration, network

pytestmark = pytest.mark.real_data

STEM = "GOOG_2012-06-21_34200000_57600000_{}_10.csv"
ROWS = 14_000


@pytest.fixture(scope="module")
def recording(data_dir, tmp_path_factory):
    """The first rows of a LOBSTER day, plain."""
    folder = tmp_path_factory.mktemp("goog")
    for kind in ("message", "orderbook"):
        packed = data_dir / "lobster" / (STEM.format(kind) + ".zst")
        with packed.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            text = reader.read(40_000_000)
        lines = text.split(b"\n")[:ROWS]
        (folder / STEM.format(kind)).write_bytes(b"\n".join(lines) + b"\n")
    return folder / STEM.format("message")


@pytest.fixture(scope="module")
def events(recording):
    model = load_model("linear")
    data = load_dataset(parse_series(f"GOOG={recording}"), model.artifact.manifest.k_sigma)
    return data.encoded(model.encoder)


@pytest.mark.parametrize("impl", IMPLS)
def test_step_and_network_agree_on_10000_real_events(impl, events):
    net = network(impl)
    x = np.ascontiguousarray(events.x[:10_000], np.float32)
    assert len(x) == 10_000
    calibrated = calibration()
    built = pack(net.config, net.tensors() | calibrated, x.shape[1], 2, "test")
    out, raw = rollout(built.params, built.state_size, 1, x)
    want = torch_forecast(net, calibrated, x, 1)
    for name in ("p", "q", "mean"):
        assert difference(out[name], want[name]) < 1e-4, name
    assert difference(raw[:, 42:], want["big"]) < 1e-4


def test_training_starts_as_the_linear_model(events):
    linear = load_model("linear")
    domains = linear.artifact.manifest.domains
    torch.manual_seed(0)
    net = load_like(linear, SSMConfig())
    typical = np.repeat(events.x[:500].mean(axis=0, keepdims=True), len(domains), axis=0)
    start_as_linear(net, linear.artifact.tensors, typical)
    built = pack(
        net.config,
        net.tensors() | {TEMPERATURE: np.ones((len(domains), 6), np.float32)},
        events.x.shape[1],
        len(domains),
        "test",
    )
    at = head_of(events, domains)
    out, _ = rollout(built.params, built.state_size, at, events.x[:500])
    raw = events.x[:500] @ linear.artifact.tensors["weight"][at] + linear.artifact.tensors["bias"][at]
    p = np.exp(raw[:, :18].reshape(-1, 6, 3))
    np.testing.assert_allclose(out["p"], p / p.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(out["mean"], raw[:, 36:42], rtol=1e-3, atol=1e-6)
    theirs = np.sort(raw[:, 18:36].reshape(-1, 6, 3), axis=-1).mean(axis=0)
    np.testing.assert_allclose(out["q"].mean(axis=0), theirs, atol=0.05)


def load_like(linear, config):
    from emp.train.net.network import Network

    return Network(config, linear.artifact.tensors["weight"].shape[1], linear.artifact.manifest.domains)


def test_train_writes_a_run_and_an_artifact_that_the_engine_loads(recording, tmp_path):
    settings = tmp_path / "tiny.yaml"
    settings.write_text(
        "model: {d_model: 16, layers: 2, d_state: 8, headdim: 16, attention_heads: 2, window: 8}\n"
        "train: {lr: 0.001, lanes: 2, curriculum: [[4096, 1]]}\n"
    )
    out = tmp_path / "m"
    options = ["--out", str(out), "--model", "mamba3", "--linear", "linear", "--data", f"GOOG={recording}"]
    result = CliRunner().invoke(app, [*options, "--settings", str(settings), "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout.splitlines()[-1])
    loaded = load_model(out)
    assert loaded.artifact.hash == said["model_hash"]
    assert loaded.artifact.manifest.schema == schema_hash()
    assert loaded.artifact.manifest.metrics["parity"]["p"] < 1e-4
    assert loaded.state_size > 0
    net, _ = load_network(loaded.artifact, INPUTS)
    assert net.config.d_model == 16
    run = tmp_path / "m.run"
    kept = {path.stem: json.loads(path.read_text()) for path in run.glob("*.json")}
    assert {path.name for path in run.iterdir()} == {
        *("config.json", "provenance.json", "metrics.json", "checkpoint.pt", "losses.csv", "curve.png")
    }
    assert kept["config"]["train"]["lr"] == 0.001
    assert kept["provenance"]["series"] == loaded.artifact.manifest.provenance["series"]
    assert kept["provenance"]["code"].startswith(f"{__version__}+")
    assert kept["provenance"]["packages"]["torch"] == version("torch")
    assert kept["metrics"]["model_hash"] == loaded.artifact.hash
    assert set(kept["metrics"]["calibration"]) == set(loaded.artifact.manifest.domains)


@pytest.mark.parametrize(
    "text",
    ["model: {d_modle: 3}", "train: {lr: fast}", "sizes: {}", "model: [", "model: {headdim: 7}", "3"],
)
def test_wrong_settings_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings(path, "mamba3", 0)
    assert "\n" not in str(caught.value)
