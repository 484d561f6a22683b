"""ONNX files as models, and torch modules written as such: the same forecasts, and one line where they cannot serve."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emp
from emp.core.errors import ArtifactError, EmpError
from emp.core.records import FORECAST
from emp.engine import onnx_model
from emp.engine.choose import load_model, model_of
from emp.engine.load import load_folder
from emp.model.artifact import save
from emp.model.own import forecast_own

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")
nn = torch.nn

N = len(emp.INPUT_NAMES)


@pytest.fixture(scope="module")
def market() -> emp.MarketData:
    return emp.simulate("zi", "GC", events=6_000, seed=5)


class Recurrent(nn.Module):  # type: ignore[name-defined,misc]
    """Expects what a cell of its own remembers."""

    def __init__(self, inputs: int = N) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.cell, self.head = nn.GRUCell(inputs, 8), nn.Linear(8, 6)

    def forward(self, x: Any, state: Any) -> Any:
        after = self.cell(x, state)
        return {"mean": 0.1 * self.head(after)}, after


class Plain(nn.Module):  # type: ignore[name-defined,misc]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.head = nn.Linear(N, 6 + 18 + 18)

    def forward(self, x: Any) -> Any:
        raw = 0.1 * self.head(x)
        quartiles = raw[:, 24:].reshape(-1, 6, 3).sort(dim=-1).values
        return {"mean": raw[:, :6], "p": raw[:, 6:24].reshape(-1, 6, 3).softmax(-1), "q": quartiles}


def said_of(network: Any, rows: Any) -> Any:
    loaded = network.load()
    memory, out = np.zeros(loaded.state_size, np.float32), np.zeros(len(rows), FORECAST)
    for k, x in enumerate(rows):
        forecast_own(loaded.params, memory, 0, x, out[k])
    loaded.owner.check()
    return out


def test_a_module_is_written_and_says_the_same(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(size=(50, N)).astype(np.float32)
    path = emp.export(Recurrent(), tmp_path / "net.onnx", state=torch.zeros(1, 8))
    said = said_of(emp.Model.onnx(path), rows)
    module, state = Recurrent().eval(), torch.zeros(1, 8)
    for x, mine in zip(rows, said, strict=True):
        with torch.no_grad():
            want, state = module(torch.from_numpy(x)[None], state)
        assert mine["mean"] == pytest.approx(want["mean"][0].numpy(), abs=1e-6)
    whole = emp.export(Plain(), tmp_path / "plain.onnx")
    with torch.no_grad():
        want = Plain().eval()(torch.from_numpy(rows))
    said = said_of(emp.Model.onnx(whole), rows)
    for name in ("mean", "p", "q"):
        assert said[name] == pytest.approx(want[name].numpy(), abs=1e-6), name


def test_it_serves_by_its_name_and_says_of_itself_what_was_said_of_it(
    tmp_path: Path, market: emp.MarketData
) -> None:
    first = market[:2_000]
    path = emp.export(
        Recurrent(), tmp_path / "net.onnx", state=torch.zeros(1, 8), warmup_events=700, trained_on=first
    )
    results = [emp.backtest(market, model=path), emp.backtest(market, model=emp.Model.onnx(path))]
    assert results[0].summary["action_log_sha256"] == results[1].summary["action_log_sha256"]
    assert results[0].summary["spans"]["trained"]["events"] == 2_000
    early = results[0].rows["state_events"] <= 700
    assert set(np.unique(results[0].rows["action"][early])) == {emp.HOLD}
    assert np.abs(results[0].rows["mean"]).max() > 0.0
    market.save(tmp_path / "day.parquet")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "emp", "replay", "day.parquet", "--instrument", "GC",
         "--model", "net.onnx", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["model_hash"] == model_of(path).artifact.hash == results[0].summary["model_hash"]


def test_own_inputs_come_behind_the_built_in_ones(tmp_path: Path, market: emp.MarketData) -> None:
    def lean(seen: Any, own: Any) -> None:
        own[0] = seen.qimbalance

    features = emp.Features(lean, ["lean"])
    path = emp.export(Recurrent(N + 1), tmp_path / "wide.onnx", state=torch.zeros(1, 8), features=features)
    result = emp.backtest(market[:2_000], model=emp.Model.onnx(path, features=features))
    assert np.isfinite(result.rows["mean"]).all()
    with pytest.raises(emp.UsageError, match=f"number {N + 1} is lean, here nothing$"):
        emp.backtest(market[:2_000], model=path)


def test_a_kept_copy_serves_when_the_file_is_gone_and_not_when_it_was_edited(tmp_path: Path) -> None:
    path = emp.export(Recurrent(), tmp_path / "net.onnx", state=torch.zeros(1, 8), warmup_events=33)
    loaded = model_of(path)
    folder = tmp_path / loaded.artifact.hash
    save(folder, loaded.artifact.manifest, loaded.artifact.tensors)
    path.unlink()
    again = load_folder(folder)
    assert again.artifact.hash == loaded.artifact.hash
    assert (again.state_size, again.width) == (loaded.state_size, loaded.width)
    tensors = folder / "model.safetensors"
    spoiled = bytearray(tensors.read_bytes())
    spoiled[-40] ^= 1
    tensors.write_bytes(spoiled)
    with pytest.raises(ArtifactError, match="changed or damaged"):
        load_folder(folder)
    with pytest.raises(EmpError, match=r"model .*net.onnx: No such file"):
        model_of(path)


def graph(inputs: dict[str, Any], outputs: dict[str, Any], kind: Any = None, value: float = 0.0) -> bytes:
    """A network that says the same of everything: constants of given shapes."""
    helper, tensor = onnx.helper, onnx.TensorProto
    kind = tensor.FLOAT if kind is None else kind
    given = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    gives = [helper.make_tensor_value_info(name, tensor.FLOAT, shape) for name, shape in outputs.items()]
    nodes = [
        helper.make_node(
            "Constant", [], [name],
            value=helper.make_tensor(name, tensor.FLOAT, shape, np.full(int(np.prod(shape)), value, np.float32)),
        )
        for name, shape in outputs.items()
    ]  # fmt: skip
    made = helper.make_graph(nodes, "constant", given, gives)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def made_of(nodes: list[Any], held: Any = (), output: Any = None, says: str = "") -> bytes:
    """A network of nodes; `held` are its constants, `says` is its metadata."""
    helper, tensor = onnx.helper, onnx.TensorProto
    given = [helper.make_tensor_value_info("x", tensor.FLOAT, [1, N])]
    gives = [output or helper.make_tensor_value_info("mean", tensor.FLOAT, None)]
    constants = [helper.make_tensor(name, kind, [], [value]) for name, kind, value in held]
    made = helper.make_graph(nodes, "made", given, gives, constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if says:
        entry = model.metadata_props.add()
        entry.key, entry.value = "emp", says
    content: bytes = model.SerializeToString()
    return content


def node(op: str, inputs: Any, output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node(op, inputs, [output], **attributes)


def sixes() -> Any:
    return node("Constant", [], "six", value=onnx.helper.make_tensor("", 1, [6], [0.5] * 6))


def dropping(training: bool) -> bytes:
    """`training` is a constant there, as an exporter writes it."""
    held = [("half", onnx.TensorProto.FLOAT, 0.5), ("training", onnx.TensorProto.BOOL, training)]
    return made_of([sixes(), node("Dropout", ["six", "half", "training"], "mean")], held)


def within(op: str) -> bytes:
    """An operator within a branch of another."""
    helper = onnx.helper
    value = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [6])
    branches = [
        helper.make_graph([node(one, [], "out", **more)], one, [], [value])
        for one, more in (
            (op, {"shape": [6]}),
            ("Constant", {"value": helper.make_tensor("", 1, [6], [0.0] * 6)}),
        )
    ]
    yes = ("yes", onnx.TensorProto.BOOL, True)
    return made_of([node("If", ["yes"], "mean", then_branch=branches[0], else_branch=branches[1])], [yes])


DRAWS = {
    "normal": (made_of([node("RandomNormal", [], "mean", shape=[6])]), "RandomNormal"),
    "seeded": (made_of([node("RandomUniform", [], "mean", shape=[6], seed=3.0)]), "RandomUniform"),
    "like": (made_of([sixes(), node("RandomNormalLike", ["six"], "mean")]), "RandomNormalLike"),
    "bernoulli": (made_of([sixes(), node("Bernoulli", ["six"], "mean")]), "Bernoulli"),
    "dropout": (dropping(True), "Dropout in training mode"),
    "in a branch": (within("RandomNormal"), "RandomNormal"),
}


@pytest.mark.parametrize(("content", "name"), DRAWS.values(), ids=DRAWS)
def test_what_draws_at_random_is_refused_by_its_name(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(emp.UsageError, match=f"^model net.onnx: {name} draws at random"):
        model_of(tmp_path / "net.onnx")


@pytest.mark.parametrize("content", [graph({"x": [1, N]}, {"mean": [1, 6]}), within("RandomNormal")])
def test_the_format_of_the_runtime_alone_is_refused(tmp_path: Path, content: bytes) -> None:
    """It is run whatever the file is called, and says nothing of its operators to who reads it as ONNX."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "net.onnx")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    with pytest.raises(
        emp.UsageError, match=r"model net.onnx: is in onnxruntime's own format: give the ONNX"
    ):
        model_of(tmp_path / "net.onnx")


@pytest.mark.parametrize("odd", [b"\x3a\x04\x0a\x02\x22\xff", b"\x3a\x05\x0a\x03\x0a\x01\xff", b"\x80"])
def test_what_is_no_protocol_buffer_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: bytes
) -> None:
    content = graph({"x": [1, N]}, {"mean": [1, 6]})
    (tmp_path / "net.onnx").write_bytes(odd)
    start = onnx_model._start
    monkeypatch.setattr(onnx_model, "_start", lambda _, whose: start(content, whose))
    with pytest.raises(emp.UsageError, match=r"model net.onnx: is no ONNX file"):
        model_of(tmp_path / "net.onnx")


def test_dropout_that_drops_nothing_serves(tmp_path: Path) -> None:
    for content in (dropping(False), made_of([sixes(), node("Dropout", ["six"], "mean")])):
        (tmp_path / "net.onnx").write_bytes(content)
        said = said_of(emp.Model.onnx(tmp_path / "net.onnx"), np.zeros((1, N), np.float32))
        assert said["mean"].tolist() == [[0.5] * 6]


WRONG = (
    "[]", "{", '{"trained_on": 5}',
    '{"trained_on": [1]}', '{"trained_on": [["GOOG"]]}', '{"trained_on": [["GOOG", 1, "a"]]}',
    '{"trained_on": [["GOOG", 9, 5]]}', '{"trained_on": [["GOOG", 5, 1180591620717411303424]]}',
    '{"warmup_events": 9223372036854775808}', '{"warmup_events": 9223372036854775807}',
    '{"warmup_events": true}', '{"warmup_events": 0}', '{"base": 3}', '{"inputs": "qimbalance"}',
)  # fmt: skip


@pytest.mark.parametrize("says", WRONG)
def test_metadata_that_says_nothing_clear_is_one_line(tmp_path: Path, says: str) -> None:
    (tmp_path / "net.onnx").write_bytes(made_of([sixes(), node("Identity", ["six"], "mean")], says=says))
    with pytest.raises(
        emp.UsageError, match=r"model net.onnx: what its metadata says under 'emp' is wrong: "
    ) as told:
        model_of(tmp_path / "net.onnx")
    assert "\n" not in str(told.value)


def test_what_was_exported_with_market_data_of_any_year_is_read_again(tmp_path: Path) -> None:
    """Also of a catalogue that is not there where it serves."""
    says = '{"trained_on": [["MYCOIN", 1000000000, 9000000000]]}'
    (tmp_path / "net.onnx").write_bytes(made_of([sixes(), node("Identity", ["six"], "mean")], says=says))
    loaded = model_of(tmp_path / "net.onnx")
    assert loaded.artifact.manifest.provenance["series"][0]["train_ns"] == [10**9, 9 * 10**9]


def test_a_base_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    says = '{"base": "nope"}'
    (tmp_path / "net.onnx").write_bytes(made_of([sixes(), node("Identity", ["six"], "mean")], says=says))
    with pytest.raises(EmpError, match="nope") as told:
        model_of(tmp_path / "net.onnx")
    assert "\n" not in str(told.value)


def test_outputs_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    helper = onnx.helper
    sequence = made_of(
        [sixes(), node("SequenceConstruct", ["six"], "mean")],
        output=helper.make_tensor_sequence_value_info("mean", 1, None),
    )
    words = made_of(
        [node("Constant", [], "mean", value=helper.make_tensor("", 8, [6], [b"a"] * 6))],
        output=helper.make_tensor_value_info("mean", onnx.TensorProto.STRING, [6]),
    )
    for content, kind in ((sequence, r"seq\(tensor\(float\)\)"), (words, r"tensor\(string\)")):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises(emp.UsageError, match=f"model net.onnx: mean is a {kind}, numbers are wanted"):
            model_of(tmp_path / "net.onnx")


def test_a_network_is_shown_the_inputs_that_it_was_exported_for(tmp_path: Path, monkeypatch: Any) -> None:
    def one(seen: Any, own: Any) -> None:
        own[0] = seen.qimbalance

    lean, other = emp.Features(one, ["lean"]), emp.Features(one, ["other"])
    path = emp.export(
        Recurrent(N + 1), tmp_path / "net.onnx", state=torch.zeros(1, 8), features=lean, trained_on=()
    )
    assert emp.Model.onnx(path, features=lean).settings.inputs[-1] == "lean"
    with pytest.raises(
        emp.UsageError, match=f"for other inputs .features=.: number {N + 1} is lean, here other$"
    ):
        emp.Model.onnx(path, features=other)
    with pytest.raises(
        emp.UsageError, match=f"for other inputs .features=.: number {N + 1} is lean, here nothing$"
    ):
        emp.Model.onnx(path)
    monkeypatch.setattr("emp.engine.onnx_model.schema_hash", lambda: "0" * 64)
    with pytest.raises(emp.UsageError, match="inputs that this version computes otherwise: export it anew"):
        emp.Model.onnx(path, features=lean)


MEAN = {"mean": [6]}
CANNOT = {
    "other inputs": (graph({"input": [1, N]}, MEAN), "its inputs are input: x is wanted, and state may be"),
    "wrong width": (graph({"x": [1, N - 1]}, MEAN), rf"x is \[1, {N - 1}\], and a model is shown {N} numbers"),
    "a batch": (graph({"x": [32, N]}, MEAN), rf"x is \[32, {N}\], and a model is shown {N} numbers"),
    "no outputs": (graph({"x": [1, N]}, {"raw": [6]}), "its outputs are raw: mean is wanted, or q"),
    "wrong shape": (graph({"x": [1, N]}, {"mean": [5]}), r"mean is \[5\], \[6\] is wanted"),
    "double": (graph({"x": [1, N]}, MEAN, 11), r"x is a tensor\(double\), float32 is wanted"),
    "state alone": (graph({"x": [N], "state": [4]}, MEAN), "the input state and the output after belong together"),
    "after alone": (graph({"x": [N]}, MEAN | {"after": [4]}), "the input state and the output after belong together"),
    "free state": (graph({"x": [N], "state": [2, "n"]}, MEAN), r"state is \[2, -1\]: its sizes are to be fixed"),
    "too large": (graph({"x": [N], "state": [1 << 21]}, MEAN), r"state is \[2097152\]: its sizes are to be fixed"),
    "no network": (b"not a network", "no network that onnxruntime can run: "),
}  # fmt: skip


@pytest.mark.parametrize(("content", "why"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_serve_is_refused_in_one_line(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(emp.UsageError, match=f"model net.onnx: {why}") as caught:
        model_of(tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [[N], [1, N], [1, 1, N], ["batch", N], ["batch", "n"]])
def test_axes_of_one_are_as_good_as_none(tmp_path: Path, shape: list[Any]) -> None:
    (tmp_path / "net.onnx").write_bytes(graph({"x": shape}, {"mean": [1, 6]}, value=0.25))
    said = said_of(emp.Model.onnx(tmp_path / "net.onnx"), np.zeros((1, N), np.float32))
    assert said["mean"].tolist() == [[0.25] * 6]


def test_a_network_that_says_no_number_ends_in_one_line(tmp_path: Path, market: emp.MarketData) -> None:
    (tmp_path / "net.onnx").write_bytes(graph({"x": [N]}, MEAN, value=float("nan")))
    with pytest.raises(
        emp.UsageError, match=r"model net.onnx, at event 1: what it says of 1ev is not finite$"
    ):
        emp.backtest(market[:1_000], model=tmp_path / "net.onnx")


def test_a_kept_one_is_own_code_still_and_says_what_it_lacks(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "net.onnx").write_bytes(graph({"x": [N]}, MEAN))
    artifact = model_of(tmp_path / "net.onnx").artifact
    kept = tmp_path / artifact.hash
    save(kept, artifact.manifest, artifact.tensors)
    assert load_model(kept, own=True).artifact.hash == artifact.hash
    with pytest.raises(ArtifactError, match="a model of your own: here only what emp train writes is taken"):
        load_model(kept)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ArtifactError, match=r"a model of your own, net.onnx: .*onnxruntime is not installed"):
        load_model(kept, own=True)


def test_a_network_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose weights lie beside it has a hash, and a copy in a run's folder, that know nothing of them."""
    onnx = pytest.importorskip("onnx")
    emp.export(Plain(), tmp_path / "whole.onnx")
    monkeypatch.chdir(tmp_path)  # where they would be looked for
    onnx.save_model(
        onnx.load("whole.onnx"), "net.onnx", save_as_external_data=True, location="w", size_threshold=0
    )
    with pytest.raises(emp.UsageError, match=r"net.onnx: its weights lie in another file: save it as one$"):
        model_of(Path("net.onnx"))
    assert model_of(Path("whole.onnx"))


def test_without_the_runtime_one_line_says_what_to_install(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "net.onnx").write_bytes(graph({"x": [N]}, MEAN))
    with pytest.raises(emp.UsageError, match=r"onnxruntime is not installed \(extra onnx\): .*install"):
        model_of(tmp_path / "net.onnx")


def test_weights_that_a_function_holds_are_part_of_its_hash() -> None:
    """Of a torch module, and of trees that are written in C."""
    ensemble = pytest.importorskip("sklearn.ensemble")

    def named(held: Any) -> str:
        def model(x: Any, forecast: Any) -> None:
            forecast.mean[0] = held(x)

        return emp.Model(model).load().artifact.hash

    def forest(seed: int) -> Any:
        x = np.random.default_rng(seed).normal(size=(60, 3))
        return ensemble.RandomForestRegressor(3, random_state=1, n_jobs=1).fit(x, x[:, 0]).predict

    other = Plain()
    with torch.no_grad():
        other.head.bias[7] += 1.0
    assert named(Plain()) == named(Plain())
    assert named(Plain()) != named(other)
    assert named(forest(1)) == named(forest(1))
    assert named(forest(1)) != named(forest(2))
    touched = forest(1)
    state = touched.__self__.estimators_[-1].tree_
    state.value[0, 0, 0] += 1.0  # of the last tree alone
    assert named(touched) != named(forest(1))


def refused(module: Any, why: str, tmp_path: Path, **more: Any) -> None:
    with pytest.raises(EmpError, match=why) as caught:
        emp.export(module, tmp_path / "bad.onnx", **more)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_module_that_cannot_serve_is_not_written(tmp_path: Path) -> None:
    class Drawing(nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, x: Any) -> Any:
            return {"mean": torch.rand(1, 6) + 0.0 * x[:, :6]}

    class Unnamed(nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, x: Any) -> Any:
            return x[:, :6]

    class Stateless(nn.Module):  # type: ignore[name-defined,misc]
        def forward(self, x: Any, state: Any) -> Any:
            return {"mean": x[:, :6]}

    class Counting(nn.Module):  # type: ignore[name-defined,misc]
        calls = 0

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return {"mean": 0.0 * x[:, :6] + self.calls}

    refused(Drawing(), "RandomUniform draws at random", tmp_path)
    refused(Counting(), "not exported: the file differs from the module by .* in mean", tmp_path)
    refused(Unnamed(), "returns a dict of mean, q, p", tmp_path)
    refused(Stateless(), "returns two: what it says, and the state after", tmp_path, state=torch.zeros(1, 2))
    refused(Recurrent(), r"given \[1, 39\]: TypeError: ", tmp_path)
    refused(Recurrent(5), r"given \[1, 39\], \[1, 8\]: RuntimeError", tmp_path, state=torch.zeros(1, 8))
    refused(lambda x: x, r"a torch.nn.Module is wanted, not function", tmp_path)
    refused(Plain(), "warmup_events is a whole number", tmp_path, warmup_events=0)
