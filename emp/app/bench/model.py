"""One event through the state-space model, beside ONNX Runtime and torch running the same network."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from numba import types
from rich.console import Console

from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE
from emp.app.terminal.console import make_console
from emp.core.errors import UsageError
from emp.core.numba.jit import kernel, monotonic_ns
from emp.core.platform import CLOCK_THREAD_CPU
from emp.core.records import Array
from emp.model.port import forecast

app = typer.Typer()

SIZES: dict[str, dict[str, Any]] = {
    "mamba3": {"impl": "mamba3"},
    "mamba2": {"impl": "mamba2"},
    "large": {"impl": "mamba3", "d_model": 128, "layers": 6, "d_state": 64},
}
"""The default is d_model 64, 4 layers, state 32; all have attention over 32 events and heads."""

EVICT = 1 << 22
"""Bytes read between steps to time them with cold caches: more than a core's own caches hold."""


_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.intp))


@kernel
def thread_cpu_ns(scratch: Any) -> int:
    """CPU time of this thread in ns; `scratch` is an int64[2]."""
    _clock_gettime(CLOCK_THREAD_CPU, scratch.ctypes.data)
    return scratch[0] * 1_000_000_000 + scratch[1]


class Times(NamedTuple):
    """Nanoseconds per step, one entry per step."""

    wall: Array
    cpu: Array


@app.command()
def model(
    size: str = typer.Option("mamba3", help=f"the model in front: {', '.join(SIZES)}"),
    events: int = typer.Option(4_000, min=200, help="steps per round"),
    rounds: int = typer.Option(5, min=1, help="rounds, all runners interleaved"),
    others: bool = typer.Option(True, help="also time the other sizes"),
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None,
    as_json: bool = typer.Option(False, "--json", help="print one JSON object as the last line"),
) -> None:
    """Time the compiled step; every runner carries the same weights, inputs and state, on one thread."""
    if size not in SIZES:
        raise UsageError(f"no model size {size}: choose one of {', '.join(SIZES)}")
    console = make_console()
    with console.status(f"compiling and timing {size}"):
        result = _measure(SIZES[size], events, rounds, peers=True)
    if others:
        result["others"] = {}
        for name in SIZES:
            if name != size:
                with console.status(f"compiling and timing {name}"):
                    result["others"][name] = _measure(SIZES[name], events, rounds, peers=name == "large")
    if evidence is not None:
        from emp.governance.collect import of_steps
        from emp.governance.evidence import Store

        timed = {size: result, **result.get("others", {})}
        found = {name: one["rounds_p99_us"] for name, one in timed.items()}
        result["evidence"] = Store(evidence).add(of_steps(found, {"events": events, "rounds": rounds}))
    _print(console, size, result)
    for name, other in result.get("others", {}).items():
        _print(console, name, other)
    if as_json:
        print(json.dumps(result))


def _measure(sizes: dict[str, Any], events: int, rounds: int, peers: bool) -> dict[str, Any]:
    import numpy as np
    import torch

    from emp.core.ids import generator
    from emp.model.build_ssm import TEMPERATURE, pack
    from emp.model.ssm_config import SSMConfig, packed_records
    from emp.perception.normalise import INPUTS
    from emp.train.net.network import Network

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Network(SSMConfig(**sizes), INPUTS, ("shared",)).eval()
    torch.nn.init.normal_(network.heads.hidden, std=0.1)
    tensors = network.tensors() | {TEMPERATURE: np.ones((1, 6), np.float32)}
    built = pack(network.config, tensors, INPUTS, 1, "bench")
    x = generator(0, "bench model").normal(size=(events, INPUTS)).astype(np.float32)
    state = packed_records(np.dtype("f4"), built.state_size)
    runners: dict[str, Any] = {"step": lambda: _compiled(built.params, state, x, 0)}
    runners["cold"] = lambda: _compiled(built.params, state, x[:400], EVICT)
    runners["call"] = lambda: _called(built.params, state, x)
    if peers:
        runners |= _peers(network, x)
    samples: dict[str, list[Times]] = {name: [] for name in runners}
    for warm in runners.values():
        warm()
    for _ in range(rounds):
        for name, run in runners.items():
            samples[name].append(run())
    return _summary(network, built.params, samples)


def _summary(network: Any, params: Any, samples: dict[str, list[Times]]) -> dict[str, Any]:
    config = network.config
    step = samples["step"]
    result: dict[str, Any] = {
        "impl": config.impl,
        "d_model": config.d_model,
        "layers": config.layers,
        "d_state": config.d_state,
        "params": sum(p.numel() for p in network.parameters()),
        "weight_bytes": sum(a.nbytes for a in params[:4]),
        "step_us": _percentiles([t.wall for t in step]),
        "step_cpu_us": _percentiles([t.cpu for t in step]),
        "rounds_p99_us": [_percentiles([t.wall])["p99"] for t in step],
        "best_round_cpu_us": min(
            (_percentiles([t.cpu]) for t in step), key=lambda percentiles: percentiles["p99"]
        ),
        "cold_cpu_us": _percentiles([t.cpu for t in samples["cold"]]),
        "python_call_us": _percentiles([t.wall for t in samples["call"]]),
        "peers": {},
    }
    for name, times in samples.items():
        if name not in ("step", "cold", "call"):
            wall = _percentiles([t.wall for t in times])
            ratio = round(wall["p50"] / result["python_call_us"]["p50"], 2)
            result["peers"][name] = {"p50_us": wall["p50"], "p99_us": wall["p99"], "ratio": ratio}
    return result


def _percentiles(ns: list[Array]) -> dict[str, float]:
    import numpy as np

    p50, p99 = np.percentile(np.concatenate(ns), (50, 99)) / 1e3
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


def _compiled(params: Any, state: Array, x: Array, evict: int) -> Times:
    """Steps inside the compiled path, as the engine runs them; `evict` bytes are read before each."""
    import numpy as np

    from emp.core.records import FORECAST

    times = Times(np.zeros(len(x), np.int64), np.zeros(len(x), np.int64))
    scratch = np.zeros(2, np.int64)
    out = np.zeros(1, FORECAST)
    waste = np.ones(max(1, evict // 8))
    timed_steps(params, state, x, out[0], waste, times.wall, times.cpu, scratch)
    return times


@kernel
def timed_steps(
    params: Any, state: Array, x: Array, out: Any, waste: Array, wall: Array, cpu: Array, scratch: Array
) -> float:
    """Run one step per row of x, noting wall and thread CPU time of each in ns."""
    touched = 0.0
    for t in range(x.shape[0]):
        if waste.size > 1:
            touched += waste.sum()
        before, began = thread_cpu_ns(scratch), monotonic_ns(scratch)
        forecast(params, state, 0, x[t], out)
        ended = monotonic_ns(scratch)
        cpu[t], wall[t] = thread_cpu_ns(scratch) - before, ended - began
    return touched


def _called(params: Any, state: Array, x: Array) -> Times:
    """Steps called from Python one by one, as a peer is."""
    import numpy as np

    from emp.core.records import FORECAST

    out = np.zeros(1, FORECAST)[0]
    ns = []
    for row in x[:1000]:
        began = time.perf_counter_ns()
        one_step(params, state, row, out)
        ns.append(time.perf_counter_ns() - began)
    return Times(np.array(ns), np.array(ns))


@kernel
def one_step(params: Any, state: Array, x: Array, out: Any) -> None:
    """One event."""
    forecast(params, state, 0, x, out)


def _peers(network: Any, x: Array) -> dict[str, Any]:
    """Runners of the same network: ONNX Runtime where it is installed, and torch."""
    runners: dict[str, Any] = {}
    try:
        import onnxruntime
    except ImportError:
        pass
    else:
        runners["onnxruntime"] = _onnx_runner(onnxruntime, network, x)
    runners["torch"] = _torch_runner(network, x)
    return runners


def _onnx_runner(onnxruntime: Any, network: Any, x: Array) -> Any:
    """One thread, inputs and outputs bound, two state buffers that change places."""
    import numpy as np

    from emp.train.fit.export import onnx_step

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_step(network), options, providers=["CPUExecutionProvider"])
    value = onnxruntime.OrtValue.ortvalue_from_numpy
    states = [value(network.backbone.start(1).numpy()) for _ in range(2)]
    raw = value(np.zeros((1, 1, 48), np.float32))
    held = np.zeros((1, 1, x.shape[1]), np.float32)
    bindings = []
    for before, after in ((0, 1), (1, 0)):
        binding = session.io_binding()
        binding.bind_cpu_input("x", held)
        binding.bind_ortvalue_input("state", states[before])
        binding.bind_ortvalue_output("raw", raw)
        binding.bind_ortvalue_output("after", states[after])
        bindings.append(binding)

    def run() -> Times:
        ns = []
        for t, row in enumerate(x[:1000]):
            held[0, 0] = row
            began = time.perf_counter_ns()
            session.run_with_iobinding(bindings[t % 2])
            ns.append(time.perf_counter_ns() - began)
        return Times(np.array(ns), np.array(ns))

    return run


def _torch_runner(network: Any, x: Array) -> Any:
    import numpy as np
    import torch

    domain = torch.tensor([0])

    def run() -> Times:
        ns = []
        state = network.backbone.start(1)
        with torch.inference_mode():
            for row in torch.from_numpy(x[:200]):
                began = time.perf_counter_ns()
                state = network(row[None, None], state, domain).state
                ns.append(time.perf_counter_ns() - began)
        return Times(np.array(ns), np.array(ns))

    return run


def _print(console: Console, name: str, result: dict[str, Any]) -> None:
    step, cpu, cold = result["step_us"], result["step_cpu_us"], result["cold_cpu_us"]
    console.print(
        f"{name}: d_model {result['d_model']}, {result['layers']} layers, state {result['d_state']}, "
        f"{result['params']:,} parameters"
    )
    console.print(f"  step, wall           p50 {step['p50']:8.1f}  p99 {step['p99']:8.1f} us")
    console.print(f"  step, thread CPU     p50 {cpu['p50']:8.1f}  p99 {cpu['p99']:8.1f} us")
    console.print(f"  the same, cold cache p50 {cold['p50']:8.1f}  p99 {cold['p99']:8.1f} us")
    called = result["python_call_us"]
    console.print(f"  called from Python   p50 {called['p50']:8.1f}  p99 {called['p99']:8.1f} us")
    for peer, row in result["peers"].items():
        console.print(
            f"  {peer:<20} p50 {row['p50_us']:8.1f}  p99 {row['p99_us']:8.1f} us, {row['ratio']:.1f} times as long"
        )
