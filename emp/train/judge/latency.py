"""How long one forecast takes on one thread, event by event, the quickest of a few passes over the same events.

On a shared machine a pass is interrupted now and then. A compiled step is so short that the quickest of three wall
times is free of that; what takes milliseconds is not, so of peers (and of the trees) it is thread CPU time.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from emp.core.numba.jit import kernel, monotonic_ns
from emp.core.records import FORECAST, Array
from emp.engine.load import LoadedModel
from emp.model.port import forecast
from emp.train.data.data import Dataset
from emp.train.judge.forecasts import head_of, seen_by
from emp.train.judge.peer import PeerForecast

PASSES = 3
EVENTS = 2_000
PEER_EVENTS = 100

Latency = dict[str, float]
"""Keys p50 and p99, in us."""


@kernel
def timed_rows(
    params: Any, memory: Array, domain: int, x: Array, out: Any, laps: Array, clock: Array
) -> None:
    """Forecast row after row and note the ns of each in laps int64[n]."""
    for i in range(x.shape[0]):
        began = monotonic_ns(clock)
        forecast(params, memory, domain, x[i], out)
        laps[i] = monotonic_ns(clock) - began


def model_latencies(models: Mapping[str, LoadedModel], data: Dataset) -> dict[str, Latency]:
    """What each model takes per event of the test part; passes of the models alternate."""
    rows = data.part("test")[:EVENTS]
    laps = {name: np.zeros((PASSES, len(rows)), np.int64) for name in models}
    out, clock = np.zeros(1, FORECAST), np.zeros(2, np.int64)
    x = {name: np.ascontiguousarray(seen_by(model, data).x[rows]) for name, model in models.items()}
    for k in range(PASSES):
        for name, model in models.items():
            memory = np.zeros(model.state_size, np.float32)
            timed_rows(model.params, memory, head_of(model, data), x[name], out[0], laps[name][k], clock)
    return {name: quantiles(mine) for name, mine in laps.items()}


def peer_latency(peer: PeerForecast) -> Latency:
    """What a peer takes per window, in torch without gradients; the window is at hand."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    network = peer.network.eval()
    window = torch.zeros(1, int(peer.facts["window"]), 4 * int(peer.facts["levels"]))
    laps = np.zeros((PASSES, PEER_EVENTS), np.int64)
    with torch.inference_mode():
        for lap in laps:
            for i in range(PEER_EVENTS):
                began = time.thread_time_ns()
                network(window).softmax(-1)
                lap[i] = time.thread_time_ns() - began
    torch.set_num_threads(threads)
    return quantiles(laps)


def quantiles(laps: Array) -> Latency:
    """p50 and p99 in us over events, each at its quickest; laps in ns, [passes, events]."""
    p50, p99 = np.quantile(laps.min(axis=0) / 1e3, [0.5, 0.99])
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}
