"""Judge a model on the test parts of series it was not trained on, beside baselines, with intervals.

Everything that is fixed before the test (thresholds, priors, baselines, the split) comes from earlier time.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import UsageError
from emp.core.jit import kernel
from emp.core.records import FORECAST, HORIZON_NAMES, HORIZONS, QUANTILES, Array
from emp.engine.load import LoadedModel
from emp.model.port import forecast
from emp.perception.targets import class_prior, classes
from emp.train import baselines
from emp.train.data import Dataset
from emp.train.metrics import (
    Outcome,
    Prediction,
    Sums,
    balanced_decision,
    block_sums,
    intervals,
    reliability,
    scores,
    totals,
)

BLOCK_NS = 300_000_000_000
"""Length of a bootstrap block: five minutes, long against every horizon and against clusters of activity."""

MODEL, MAJORITY, PERSISTENCE, IMBALANCE, TREES = "model", "majority", "persistence", "imbalance", "trees"

Report = Callable[[str, float], None]
"""Called with what is being done and the share of all work that is done."""


class Evaluation(NamedTuple):
    """Rows of the table, as the JSON of `emp evaluate` holds them, and the points of the reliability curves."""

    table: list[dict[str, Any]]
    curves: dict[tuple[str, str, str], Array]  # (series, model, horizon) -> float[bins, 3]
    spans: dict[str, dict[str, list[int]]]  # by series: train, calibrate and test, ns


@kernel
def forecast_rows(params: Any, memory: Array, domain: int, x: Array, since_reset: Array, out: Array) -> None:
    """Carry a model over the rows of a series as the engine does: its state starts anew after every reset.

    Args:
        memory: float32[state_size], scratch.
        x: float32[n, INPUTS].
        since_reset: int64[n].
        out: FORECAST[n].
    """
    for i in range(x.shape[0]):
        if since_reset[i] == 1:
            memory[:] = 0.0
        forecast(params, memory, domain, x[i], out[i])


def head_of(model: LoadedModel, data: Dataset) -> int:
    """Index of the head that serves a series."""
    asset_class, venue = data.domain.split("/")
    return model.artifact.domain(asset_class, venue, data.instrument.name)


def forecast_series(model: LoadedModel, data: Dataset) -> Array:
    """Forecasts of every row of a series that was encoded with the model's depth encoder: FORECAST[n]."""
    out = np.zeros(len(data.ts), FORECAST)
    domain = head_of(model, data)
    memory = np.zeros(model.state_size, np.float32)
    since_reset = np.ascontiguousarray(data.seen.rows["since_reset"])
    forecast_rows(model.params, memory, domain, np.ascontiguousarray(data.x), since_reset, out)
    return out


def evaluate(
    model: LoadedModel, datasets: Sequence[Dataset], seed: int, with_trees: bool, report: Report
) -> Evaluation:
    """Judge the model and the baselines at every horizon of every series.

    Raises:
        UsageError: a series overlaps what the model was trained on, or has no test row past the warm-up.
    """
    table: list[dict[str, Any]] = []
    curves: dict[tuple[str, str, str], Array] = {}
    spans = {}
    for i, data in enumerate(datasets):
        refuse_overlap(model, data)
        spans[data.series] = {part: list(data.span(part)) for part in ("train", "calibrate", "test")}
        seen = data.encoded(model.encoder)
        forecasts = forecast_series(model, seen)
        for h, horizon in enumerate(HORIZON_NAMES):
            report(f"{data.series} {horizon}", (i + h / HORIZONS) / len(datasets))
            for name, sums in judge(model, seen, forecasts, h, seed, with_trees).items():
                table.append(_row(data, name, horizon, sums, seed))
                curves[data.series, name, horizon] = reliability(sums)
    report("done", 1.0)
    return Evaluation(table, curves, spans)


def judge(
    model: LoadedModel, data: Dataset, forecasts: Array, h: int, seed: int, with_trees: bool
) -> dict[str, Sums]:
    """Block sums of the model and every baseline at one horizon, all over the same test rows."""
    manifest = model.artifact.manifest
    threshold = manifest.thresholds[head_of(model, data)][h]
    move = data.targets.delta_hat[:, h]
    label = classes(move, np.array(threshold))
    train, test = data.part("train"), data.part("test")
    train = train[~np.isnan(data.delta_hat("train", train)[:, h])]
    test = test[~np.isnan(data.delta_hat("test", test)[:, h])]
    if len(train) == 0 or len(test) == 0:
        raise UsageError(
            f"{data.series}: too short: no label at horizon {HORIZON_NAMES[h]} to train or test on"
        )
    prior = class_prior(label[train][:, None])[0]
    outcome = Outcome(label[test], move[test], prior, np.quantile(move[train], QUANTILES))
    block = (data.ts[test] - data.ts[test[0]]) // BLOCK_NS
    block = np.unique(block, return_inverse=True)[1]

    f = forecasts[test]
    p = f["p"][:, h].astype(np.float64)
    said = {
        MODEL: Prediction(
            p, f["q"][:, h].astype(float), f["mean"][:, h].astype(float), balanced_decision(p, prior)
        )
    }
    for name, forecaster in _baselines(data, h, label, move, train, seed, with_trees).items():
        said[name] = forecaster(test)
    return {name: block_sums(prediction, outcome, block) for name, prediction in said.items()}


def _baselines(
    data: Dataset, h: int, label: Array, move: Array, train: Array, seed: int, with_trees: bool
) -> dict[str, baselines.Forecaster]:
    known_row = baselines.known_rows(data.targets, data.ts, h)
    found = {
        MAJORITY: baselines.table(np.zeros(len(label), np.int64), label, move, train),
        PERSISTENCE: baselines.persistence(label, move, known_row, train),
        IMBALANCE: baselines.imbalance(data.seen.states["qimbalance"], label, move, train),
    }
    if with_trees:
        found[TREES] = baselines.trees(data.x, label, train, seed)
    return found


def refuse_overlap(model: LoadedModel, data: Dataset) -> None:
    """Raise UsageError where the test part of a series reaches into what the model was trained on."""
    mine = {file["sha256"] for file in data.files}
    start, end = data.span("test")
    for used in model.artifact.manifest.provenance.get("series", []):
        if mine.isdisjoint(file["sha256"] for file in used["files"]):
            continue
        begun, ended = used["train_ns"][0], used["calibrate_ns"][1]
        if start < ended and begun < end:
            raise UsageError(
                f"{data.series}: its test part begins before the model's training ended: give the recordings "
                f"the model was trained with ({', '.join(file['name'] for file in used['files'])}), or others"
            )


def _row(data: Dataset, name: str, horizon: str, sums: Sums, seed: int) -> dict[str, Any]:
    found = {key: _number(float(value[0])) for key, value in scores(totals(sums)).items()}
    return {
        "instrument": data.instrument.name,
        "series": data.series,
        "model": name,
        "horizon": horizon,
        **found,
        "n": int(sums.n.sum()),
        "alpha_after_fees": None,
        "ci": {key: [_number(low), _number(high)] for key, (low, high) in intervals(sums, seed).items()},
    }


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
