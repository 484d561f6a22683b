"""From series to a calibrated network: the same numbers by seed, and after an interruption anywhere."""

from functools import cache

import numpy as np
import pytest
import torch

from emp.core.records import HORIZONS
from emp.model.artifact import Manifest
from emp.model.build_ssm import TEMPERATURE, pack
from emp.model.calibration import QUARTILES
from emp.model.heads import OUTPUTS
from emp.model.ssm_config import SSMConfig
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUTS
from emp.train.data.data import label
from emp.train.fit.config import TrainConfig
from emp.train.fit.fit import Trained, domain_thresholds, heads_for
from emp.train.fit.rollout import rollout
from emp.train.fit.sequence import judge_rows, train_sequence
from tests.kit.datasets import GOOG, dataset, market, seen, without_a_book
from tests.ssm.nets import DOMAINS, IMPLS, SMALL, network

torch.set_num_threads(1)

pytestmark = pytest.mark.usefixtures("short_windows")


@cache
def series():
    return (dataset(4_000, 1),)


def linear():
    """A linear model that knows nothing, with labels and an encoder that are right."""
    domains = heads_for(series())
    manifest = Manifest(
        kind="linear",
        schema="test",
        domains=domains,
        k_sigma=0.5,
        thresholds=domain_thresholds(series(), domains).tolist(),
        warmup_events=512,
    )
    rng = np.random.default_rng(0)
    tensors = {
        "weight": rng.normal(0.0, 0.01, (len(domains), INPUTS, OUTPUTS)).astype(np.float32),
        "bias": np.zeros((len(domains), OUTPUTS), np.float32),
        **{f"encoder.{name}": np.zeros(ENCODER[name].shape, np.float32) for name in ENCODER.names},
    }
    return Trained(manifest, tensors)


def trained(seed=0, report=lambda step: None, **resuming):
    torch.manual_seed(99)  # what the process drew before does not matter
    config = TrainConfig(
        seed=seed, lr=1e-3, lanes=2, curriculum=((512, 1), (1024, 1)), checkpoint_every=1, features_epochs=1
    )
    return train_sequence(series(), linear(), SSMConfig(impl="mamba3", **SMALL), config, report, **resuming)


@cache
def whole():
    return trained()


def same(a, b):
    tensors = (a.network.tensors() | a.calibration, b.network.tensors() | b.calibration)
    assert tensors[0].keys() == tensors[1].keys()
    return all(t.tobytes() == tensors[1][name].tobytes() for name, t in tensors[0].items())


def test_the_same_seed_gives_the_same_model_and_calibration_and_another_does_not():
    again = trained()
    assert same(again, whole())
    assert again.history == whole().history
    assert again.manifest == whole().manifest
    assert not same(trained(seed=1), whole())


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("stop", [12, 30, "end"])
def test_an_interrupted_run_goes_on_to_the_same_model_and_calibration(tmp_path, stop):
    def report(step):
        if step.length > 1 and step.done == (step.total if stop == "end" else stop):
            raise StoppedError

    path = tmp_path / "checkpoint.pt"
    assert len(whole().losses) > 35
    with pytest.raises(StoppedError):
        trained(report=report, checkpoint=path)
    again = trained(checkpoint=path, resume=True)
    assert same(again, whole())
    assert again.history == whole().history
    assert again.losses == whole().losses
    assert again.manifest == whole().manifest


def test_a_finished_run_can_be_exported_again_from_its_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    assert same(trained(checkpoint=path), whole())
    assert same(trained(checkpoint=path, resume=True), whole())


@pytest.mark.parametrize("impl", IMPLS)
def test_what_is_calibrated_on_begins_anew_where_a_state_dies_in_service(impl):
    net, at = network(impl, **SMALL), 1_300
    data = label("synthetic", GOOG, (), seen(without_a_book(market(2_000, 1, 0.5), at)), 0.5)
    assert data.segment[at] == data.segment[at - 1], "the stream is unbroken"
    rows, said = judge_rows(net, data, "calibrate")
    assert rows[0] < at < rows[-1]
    plain = {TEMPERATURE: np.ones((len(DOMAINS), HORIZONS), np.float32)}
    built = pack(net.config, net.tensors() | plain, INPUTS, len(DOMAINS), "test")
    fresh = rollout(built.params, built.state_size, 0, data.x[at : rows[-1] + 1])
    np.testing.assert_array_equal(said.forecast[rows >= at], fresh.forecast)
    gone_on = rollout(built.params, built.state_size, 0, data.x[: rows[-1] + 1])
    assert (gone_on.forecast["p"][at:] != fresh.forecast["p"]).any()
    np.testing.assert_array_equal(said.forecast[rows < at], gone_on.forecast[rows[rows < at]])


def test_every_head_is_calibrated_at_every_horizon():
    found = whole().calibration
    assert found[TEMPERATURE].shape == (len(heads_for(series())), HORIZONS)
    assert (found[TEMPERATURE] > 0).all()
    assert found[QUARTILES].shape == (len(heads_for(series())), HORIZONS, 2)
    report = whole().manifest.config["calibration"]
    assert set(report) == set(heads_for(series()))
    assert {chosen["by"] for head in report.values() for chosen in head.values()} <= {
        "temperature",
        "isotonic",
    }
