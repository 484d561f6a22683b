"""Step parity of one artifact: the compiled step that serves it against its definition, in double precision, from the
tensors of the artifact: the network in torch, or the matrix product of a linear model, over whole stretches at once.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import FORECAST, HORIZONS, QUANTILES, Array
from emp.engine.load import LoadedModel
from emp.model.calibration import ISOTONIC, QUARTILES
from emp.model.heads import CLASSES, LOGITS, MEANS_AT
from emp.model.port import forecast
from emp.perception.normalise import INPUTS
from emp.train.data.table import FeatureTable
from emp.train.fit.calibration import apply_table
from emp.train.fit.export import difference, load_network, torch_forecast
from emp.train.fit.restarts import restarts

FIELDS = ("p", "q", "mean")
"""Of FORECAST, as far as the step alone says them."""

PIECES = 8
"""Pieces of the rows, each a block with a largest difference of its own."""


@kernel
def serve_rows(params: Any, memory: Array, head: int, x: Array, anew: Array, out: Array) -> None:
    """Carry a model over x float32[n, INPUTS] into FORECAST[n]; its state starts from zero where `anew` says so."""
    for t in range(x.shape[0]):
        if anew[t]:
            memory[:] = 0.0
        forecast(params, memory, head, x[t], out[t])


def step_differences(model: LoadedModel, head: int, seen: FeatureTable) -> tuple[list[float], int]:
    """Largest difference of the step from its definition in each of PIECES parts of the rows of a stretch, relative to
    a value or to its output's usual size (`emp.train.fit.export.difference`); and how many rows were compared.
    """
    anew = restarts(seen.rows["since_reset"], seen.states["ts"])
    x = np.ascontiguousarray(seen.x, np.float32)
    got = np.zeros(len(x), FORECAST)
    serve_rows(model.params, np.zeros(model.state_size, np.float32), head, x, anew, got)
    want = defined(model, head, x, np.flatnonzero(anew)[1:])
    return by_piece(got, want), len(x)


def by_piece(got: Array, want: dict[str, Array]) -> list[float]:
    """The largest difference over all fields in each of PIECES parts of FORECAST[n]; fewer where rows are fewer."""
    found = []
    for rows in np.array_split(np.arange(len(got)), max(1, min(PIECES, len(got)))):
        worst = 0.0
        for name in FIELDS:
            # the quantiles of a horizon have one scale, their distance: a median is near nought, and small beside it
            over = (0, 2) if name == "q" else (0,)
            worst = max(worst, difference(got[name][rows], want[name][rows], over))
        found.append(
            min(worst, 1e9)
        )  # what is no number is infinitely wrong, and evidence holds finite figures
    return found


def defined(model: LoadedModel, head: int, x: Array, breaks: Array) -> dict[str, Array]:
    """What an artifact is defined to say of x float32[n, INPUTS], by field of FORECAST; its state starts from zero at
    the first row and at `breaks`.
    """
    if model.artifact.manifest.kind == "linear":
        return linear_forecast(model.artifact.tensors, head, x)
    network, calibration = load_network(model.artifact, INPUTS)
    parts = [torch_forecast(network, calibration, part, head) for part in np.split(x, breaks) if len(part)]
    return {name: np.concatenate([part[name] for part in parts]) for name in FIELDS}


def linear_forecast(tensors: dict[str, Array], head: int, x: Array) -> dict[str, Array]:
    """What a linear model is defined to say, in double precision."""
    weight, bias = (tensors[name][head].astype(np.float64) for name in ("weight", "bias"))
    raw = x.astype(np.float64) @ weight + bias
    logits = raw[:, :LOGITS].reshape(-1, HORIZONS, CLASSES)
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p = shifted / shifted.sum(axis=-1, keepdims=True)
    if ISOTONIC in tensors:
        for h, table in enumerate(tensors[ISOTONIC][head]):
            if table.any():
                p[:, h] = apply_table(table, p[:, h])
    q = np.sort(raw[:, LOGITS:MEANS_AT].reshape(-1, HORIZONS, len(QUANTILES)), axis=-1)
    if QUARTILES in tensors:
        follow, rest = tensors[QUARTILES][head].astype(np.float64).T
        q = follow[:, None] * q + rest[:, None] * np.array([-1.0, 0.0, 1.0])
    return {"p": p, "q": q, "mean": raw[:, MEANS_AT : MEANS_AT + HORIZONS]}
