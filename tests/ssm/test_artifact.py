"""Artifacts of state-space models: exported only where step and network agree, refused when anything is wrong."""

import json

import numpy as np
import pytest
import torch

from emp.core.errors import ArtifactError
from emp.core.records import HORIZONS
from emp.model.artifact import MANIFEST, TENSORS, Manifest, load, save
from emp.model.build_ssm import TEMPERATURE, build
from emp.model.calibration import FLAT, ISOTONIC, QUARTILES
from emp.train.fit import export as exporter
from emp.train.fit.export import export, load_network, onnx_step
from tests.ssm.nets import DOMAINS, INPUTS, calibration, inputs, network

SCHEMA = "a" * 64


def manifest(kind="mamba3"):
    return Manifest(
        kind=kind,
        schema=SCHEMA,
        domains=list(DOMAINS),
        k_sigma=0.5,
        thresholds=[[0.1] * HORIZONS] * 2,
        warmup_events=512,
    )


def exported(folder, impl="mamba3"):
    net = network(impl)
    return net, export(folder / "m", net, manifest(), calibration(), {}, [inputs(200)] * 2)


@pytest.mark.parametrize("impl", ["mamba2", "mamba3"])
def test_export_load_and_build_make_the_same_model(tmp_path, impl):
    net, kept = exported(tmp_path, impl)
    assert kept.manifest.kind == impl
    assert kept.manifest.metrics["parity"]["p"] < 1e-4
    again = load(tmp_path / "m", SCHEMA)
    assert again.hash == kept.hash
    built = build(again, INPUTS)
    assert built.config == net.config
    trained, calibrated = load_network(again, INPUTS)
    np.testing.assert_equal(calibrated, calibration())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name]), name


def test_export_refuses_where_step_and_network_differ(tmp_path, monkeypatch):
    original = exporter.step_forecast

    def wrong(*args):
        fields = original(*args)
        fields["mean"] = fields["mean"] * 1.001
        return fields

    monkeypatch.setattr(exporter, "step_forecast", wrong)
    with pytest.raises(ArtifactError, match="not exported: the compiled step differs") as caught:
        exported(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m").exists()


def test_each_head_is_compared_on_events_of_its_own_market(tmp_path):
    """Another market's events make a head say what single precision cannot hold: that is no fault of the step."""
    net = network("mamba3")
    with torch.no_grad():
        net.heads.direct[1, 0, :3] = torch.tensor([3e3, 3e3, -3e3])
    own, foreign = inputs(300), inputs(300)
    own[:, 0] = 0.0
    with pytest.raises(ArtifactError, match="not exported: the compiled step differs"):
        export(tmp_path / "m", net, manifest(), calibration(), {}, [foreign, foreign])
    export(tmp_path / "m", net, manifest(), calibration(), {}, [foreign, own])
    assert (tmp_path / "m" / MANIFEST).is_file()


def test_export_refuses_numbers_that_are_not_finite(tmp_path):
    net = network("mamba3")
    with torch.no_grad():
        net.heads.bias[0, 3] = float("nan")
    with pytest.raises(ArtifactError, match="not exported"):
        export(tmp_path / "m", net, manifest(), calibration(), {}, [inputs(50)] * 2)


def flip_a_byte(folder):
    path = folder / TENSORS
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def truncate(folder):
    path = folder / TENSORS
    path.write_bytes(path.read_bytes()[:-1000])


def remove(folder):
    (folder / TENSORS).unlink()


def edit_the_manifest(folder):
    path = folder / MANIFEST
    values = json.loads(path.read_text())
    values["k_sigma"] = 0.7
    path.write_text(json.dumps(values))


def cut_the_manifest(folder):
    path = folder / MANIFEST
    path.write_text(path.read_text()[:100])


@pytest.mark.parametrize("harm", [flip_a_byte, truncate, remove, edit_the_manifest, cut_the_manifest])
def test_a_damaged_artifact_is_refused_in_one_line(tmp_path, harm):
    exported(tmp_path)
    harm(tmp_path / "m")
    with pytest.raises(ArtifactError) as caught:
        load(tmp_path / "m", SCHEMA)
    assert "\n" not in str(caught.value)


def test_an_artifact_of_another_input_schema_is_refused(tmp_path):
    exported(tmp_path)
    with pytest.raises(ArtifactError, match="schema"):
        load(tmp_path / "m", "b" * 64)


def without(tensors, name):
    return {key: t for key, t in tensors.items() if key != name}


def mismatches():
    def drop(m, tensors):
        return m, without(tensors, "backbone.layers.1.mixer.dt_bias")

    def reshape(m, tensors):
        return m, tensors | {"stem.weight": tensors["stem.weight"].T.copy()}

    def other_kind(m, tensors):
        m.kind = "mamba2"
        return m, tensors

    def other_sizes(m, tensors):
        m.config["model"]["layers"] = 3.5
        return m, tensors

    def impossible_sizes(m, tensors):
        m.config["model"]["headdim"] = 7
        return m, tensors

    def no_sizes(m, tensors):
        m.config = {"model": {"impl": "mamba9"}}
        return m, tensors

    def cold(m, tensors):
        return m, tensors | {TEMPERATURE: np.zeros((2, HORIZONS), np.float32)}

    def falling(m, tensors):
        tensors[ISOTONIC][0, 1, 0, 1, 5] = 0.9
        return m, tensors

    def outside(m, tensors):
        tensors[ISOTONIC][0, 1, 1, 1, -1] = 1.0
        return m, tensors

    def knots_that_stand_still(m, tensors):
        tensors[ISOTONIC][1, 4, 0, 0, 7] = tensors[ISOTONIC][1, 4, 0, 0, 6]
        return m, tensors

    def half_a_table(m, tensors):
        tensors[ISOTONIC][1, 4, FLAT] = 0.0
        return m, tensors

    def shorter_tables(m, tensors):
        return m, tensors | {ISOTONIC: tensors[ISOTONIC][..., :16]}

    def crossing_quartiles(m, tensors):
        tensors[QUARTILES][0, 0] = (1.0, -0.5)
        return m, tensors

    def fewer_heads(m, tensors):
        m.domains = m.domains[:1]
        return m, tensors

    sizes = [drop, reshape, other_kind, other_sizes, impossible_sizes, no_sizes, fewer_heads]
    tables = [falling, outside, knots_that_stand_still, half_a_table, shorter_tables]
    return [*sizes, cold, *tables, crossing_quartiles]


@pytest.mark.parametrize("change", mismatches(), ids=lambda f: f.__name__)
def test_tensors_that_do_not_fit_the_sizes_are_refused_in_one_line(tmp_path, change):
    _, kept = exported(tmp_path)
    m, tensors = change(load(tmp_path / "m", SCHEMA).manifest, kept.tensors)
    save(tmp_path / "n", m, tensors)
    with pytest.raises(ArtifactError) as caught:
        build(load(tmp_path / "n", SCHEMA), INPUTS, tmp_path / "n")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "n") in str(caught.value)


@torch.no_grad()
def test_the_onnx_graph_is_the_step():
    ort = pytest.importorskip("onnxruntime")
    net = network("mamba3")
    session = ort.InferenceSession(onnx_step(net), providers=["CPUExecutionProvider"])
    x = inputs(40)
    state = net.backbone.start(1)
    want = net(torch.from_numpy(x[None]), state, torch.tensor([0])).raw
    carried = state.numpy()
    for t in range(len(x)):
        raw, carried = session.run(None, {"x": x[None, t : t + 1], "state": carried})
    np.testing.assert_allclose(raw[0, 0], want[0, -1].numpy(), rtol=1e-3, atol=1e-4)
