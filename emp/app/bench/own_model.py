"""What a forecast costs: the shipped linear model, and the same weights as models of one's own."""

import contextlib
import time
from typing import Any

import numpy as np

from emp.core.errors import UsageError
from emp.core.ids import generator
from emp.core.numba.jit import kernel
from emp.core.records import FORECAST, HORIZONS, Array
from emp.engine.choose import load_model
from emp.engine.loaded import LoadedModel
from emp.engine.onnx_model import Network
from emp.engine.own_model import Model, Settings
from emp.model.port import forecast
from emp.perception.normalise import INPUTS

ROUNDS, EVENTS, SLOW_EVENTS = 5, 20_000, 2_000
MEANS_AT = 36


@kernel
def forecasts(params: Any, memory: Array, x: Array, out: Any) -> None:
    """Forecast float32[n, inputs] row after row into one FORECAST record."""
    for k in range(x.shape[0]):
        forecast(params, memory, 0, x[k], out)


def own_costs() -> dict[str, float]:
    """ns a forecast, the quickest of some rounds in turn, by way; without ONNX where its extra is missing."""
    shipped = load_model("linear")
    weight, bias = (shipped.artifact.tensors[name][0] for name in ("weight", "bias"))
    weight, bias = (
        np.ascontiguousarray(weight[:, MEANS_AT:], float),
        np.ascontiguousarray(bias[MEANS_AT:], float),
    )
    models = {"linear": shipped, **{name: one.load() for name, one in _own(weight, bias).items()}}
    with contextlib.suppress(ImportError, UsageError):
        models["onnx"] = _network(weight, bias).load()
    x = generator(0, "bench own model").normal(size=(EVENTS, INPUTS)).astype(np.float32)
    best = dict.fromkeys(models, float("inf"))
    for k in range(ROUNDS + 1):
        for name, model in models.items():
            took = _round(model, x if name in ("linear", "compiled") else x[:SLOW_EVENTS])
            if k:  # the first one compiles
                best[name] = min(best[name], took)
    return {name: round(ns, 1) for name, ns in best.items()}


def _round(model: LoadedModel, x: Array) -> float:
    out, memory = np.zeros(1, FORECAST), np.zeros(model.state_size, np.float32)
    began = time.perf_counter_ns()
    forecasts(model.params, memory, x, out[0])
    took = (time.perf_counter_ns() - began) / len(x)
    if model.owner is not None:
        model.owner.check()
    return took


def _own(weight: Array, bias: Array) -> dict[str, Model]:
    import numba

    def linear(x: Any, forecast: Any) -> None:
        for h in range(HORIZONS):
            mean = bias[h]
            for k in range(INPUTS):
                mean += x[k] * weight[k, h]
            forecast.mean[h] = mean

    return {"compiled": Model(numba.njit(linear)), "python": Model(linear)}


def _network(weight: Array, bias: Array) -> Network:
    from onnx import TensorProto, helper, numpy_helper

    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, INPUTS])
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, HORIZONS])
    held = [numpy_helper.from_array(a.astype(np.float32), name) for name, a in (("w", weight), ("b", bias))]
    node = helper.make_node("Gemm", ["x", "w", "b"], ["mean"])
    graph = helper.make_graph([node], "linear", [given], [mean], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return Network(model.SerializeToString(), Settings("linear.onnx"))


def show_costs(costs: dict[str, float]) -> None:
    """Print what a forecast costs, each way."""
    onnx = f"{costs['onnx'] / 1e3:.1f} us as ONNX" if "onnx" in costs else "as ONNX: extra onnx is missing"
    print(
        f"own model    {costs['compiled']:.0f} ns a forecast compiled, {costs['python'] / 1e3:.1f} us in Python,"
        f" {onnx}; the built-in linear model {costs['linear']:.0f} ns"
    )
