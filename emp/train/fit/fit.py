"""From datasets to a linear artifact: thresholds, depth encoder, one head per domain and one for all, calibrated."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES, Array
from emp.engine.inputs import reference_tensors, told_inputs
from emp.model.artifact import Manifest
from emp.observe.drift import make_reference
from emp.perception.depth import ENCODER
from emp.perception.schema import schema_hash
from emp.perception.targets import classes, thresholds
from emp.train.data.data import WARMUP_EVENTS, Dataset, Part
from emp.train.data.fingerprint import pack
from emp.train.fit.calibration import calibration_report, isotonic_tensor, stretches
from emp.train.fit.encoder import EPOCHS, train_encoder
from emp.train.fit.linear import Head, Sample, fit_head

SHARED = "shared"
"""Name of head 0, which is fitted on all domains alike and serves those that have none of their own."""

MAX_ROWS = 60_000
"""Rows of one series that a fit uses; longer ones are thinned evenly, as neighbours tell much the same."""

Report = Callable[[str, float], None]
"""Called with what is being done and the share of all work that is done."""


class Trained(NamedTuple):
    """What `save` of `emp.model.artifact` takes."""

    manifest: Manifest
    tensors: dict[str, Array]


def train_linear(
    datasets: Sequence[Dataset], k_sigma: float, seed: int, report: Report, most: int = MAX_ROWS
) -> Trained:
    """Train the linear model on the training parts of some series; calibrate on their calibration parts.

    Args:
        datasets: series to train on, each labelled as it says (`Dataset.edges`).
        k_sigma: of the unit of delta_hat.
        seed: names the run of random numbers.
        report: told of progress.
        most: rows of one series that a fit uses.

    Raises:
        UsageError: a series has no usable row in one of the two parts.
    """
    for data in datasets:
        for part in ("train", "calibrate"):
            if len(data.part(part)) == 0:
                raise UsageError(
                    f"{data.series}: no row of its {part} part is past the warm-up of {WARMUP_EVENTS} events"
                )
    domains = heads_for(datasets)
    edges = domain_thresholds(datasets, domains)
    report("depth encoder", 0.0)
    encoder = fit_encoder(
        datasets, domains, edges, seed, lambda share: report("depth encoder", 0.3 * share), most
    )
    seen = [data.encoded(encoder) for data in datasets]
    heads = []
    for i, domain in enumerate(domains):
        mine = [data for data in seen if serves(domain, data)]
        train, calibrate = (pooled_sample(mine, part, edges[i], most) for part in ("train", "calibrate"))
        steps = iter(range(1, len(HORIZON_NAMES) + 1))

        def tick(i: int = i, domain: str = domain, steps: Any = steps) -> None:
            done = (i + next(steps) / len(HORIZON_NAMES)) / len(domains)
            report(f"head {domain}", 0.3 + 0.7 * done)

        heads.append(fit_head(train, calibrate, tick))
    manifest = Manifest(
        kind="linear",
        schema=schema_hash(),
        domains=domains,
        k_sigma=k_sigma,
        thresholds=[[float(t) for t in row] for row in edges],
        warmup_events=WARMUP_EVENTS,
        config=_config(domains, heads),
        provenance={"seed": seed, "series": [provenance(data) for data in datasets]},
    )
    return Trained(manifest, _tensors(heads, encoder) | drift_reference(datasets, domains))


def drift_reference(datasets: Sequence[Dataset], heads: Sequence[str]) -> dict[str, Array]:
    """Tensors that say what the inputs looked like in training: for each head the series that it is fitted on."""
    rows = {data.series: told_inputs(data.x[data.part("train")]) for data in datasets}
    return reference_tensors(
        [make_reference([rows[data.series] for data in datasets if serves(head, data)]) for head in heads]
    )


def heads_for(datasets: Sequence[Dataset]) -> list[str]:
    """Names of the heads: one for all, one per domain, and one per instrument where a domain has several."""
    names = {
        data.domain: {d.instrument.name for d in datasets if d.domain == data.domain} for data in datasets
    }
    heads = [SHARED, *sorted(names)]
    for domain in sorted(names):
        if len(names[domain]) > 1:
            heads += [f"{domain}/{name}" for name in sorted(names[domain])]
    return heads


def serves(head: str, data: Dataset) -> bool:
    """Whether a series is among those that a head is fitted on."""
    return head in (SHARED, data.domain, f"{data.domain}/{data.instrument.name}")


def domain_thresholds(datasets: Sequence[Dataset], domains: Sequence[str]) -> Array:
    """Class thresholds, float64[domains, HORIZONS], from training rows alone; every series counts alike."""
    found = []
    for domain in domains:
        moves, weights = [], []
        for data in datasets:
            if serves(domain, data):
                rows = data.part("train")
                moves.append(data.delta_hat("train", rows))
                weights.append(np.full(len(rows), 1.0 / len(rows)))
        found.append(thresholds(np.concatenate(moves), np.concatenate(weights)))
    return np.array(found)


def pooled_sample(datasets: Sequence[Dataset], part: Part, threshold: Array, most: int = MAX_ROWS) -> Sample:
    """Rows of several series, thinned, each domain and each series within it counting alike."""
    domains = [data.domain for data in datasets]
    samples = []
    for data in datasets:
        rows = thin(data.part(part), most)
        delta_hat = data.delta_hat(part, rows)
        weight = 1.0 / (len(set(domains)) * domains.count(data.domain) * len(rows))
        samples.append(
            Sample(
                data.x[rows],
                classes(delta_hat, data.edges(threshold)),
                delta_hat,
                np.full(len(rows), weight),
                *stretches(data.ts[rows], data.split.whole_days),
            )
        )
    return Sample(*(np.concatenate(a) for a in zip(*samples, strict=True)))


def thin(rows: Array, most: int = MAX_ROWS) -> Array:
    """At most so many of the rows, evenly spaced."""
    step = -(-len(rows) // most)
    return rows[:: max(1, step)]


def fit_encoder(
    datasets: Sequence[Dataset],
    domains: Sequence[str],
    edges: Array,
    seed: int,
    report: Callable[[float], None],
    most: int = MAX_ROWS,
) -> Any:
    """Learn the depth encoder on the training rows that have depth; a silent one where none has."""
    cells, x, labels, weight = [], [], [], []
    for data in datasets:
        has_depth = data.seen.states["has_depth"]
        rows = data.part("train")
        rows = thin(rows[has_depth[rows]], most)
        if len(rows) == 0:
            continue
        cells.append(data.seen.cells[(np.cumsum(has_depth) - 1)[rows]])
        x.append(data.x[rows])
        head = edges[domains.index(data.domain)]
        labels.append(classes(data.delta_hat("train", rows), data.edges(head)))
        weight.append(np.full(len(rows), 1.0 / len(rows)))
    if not cells:
        return np.zeros(1, ENCODER)[0]
    total = EPOCHS * sum(len(a) for a in x)
    done = 0

    def tick(rows: int) -> None:
        nonlocal done
        done += rows
        report(done / total)

    return train_encoder(
        np.concatenate(cells), np.concatenate(x), np.concatenate(labels), np.concatenate(weight), seed, tick
    )


def provenance(data: Dataset) -> dict[str, Any]:
    """Where a series came from and which spans of it were used; no paths of the machine."""
    begin, end = data.span("train")[0], data.span("calibrate")[1]
    return {
        "series": data.series,
        "instrument": data.instrument.name,
        "asset_class": data.instrument.asset_class.name.lower(),
        "rows_sha256": data.rows_sha256(begin, end),
        "rows_sample": pack(data.sample(begin, end)),
        "files": list(data.files),
        "rows": {part: len(data.part(part)) for part in ("train", "calibrate")},
        "train_ns": list(data.span("train")),
        "calibrate_ns": list(data.span("calibrate")),
    }


def _config(domains: Sequence[str], heads: Sequence[Head]) -> dict[str, Any]:
    return {
        "mirror_symmetric": True,
        "penalties": {domain: head.penalties for domain, head in zip(domains, heads, strict=True)},
        "calibration": calibration_report(domains, [head.calibration for head in heads]),
    }


def _tensors(heads: Sequence[Head], encoder: Any) -> dict[str, Array]:
    tensors = {
        "weight": np.stack([head.weight for head in heads]).astype(np.float32),
        "bias": np.stack([head.bias for head in heads]).astype(np.float32),
        **isotonic_tensor([head.calibration for head in heads]),
    }
    for name in ENCODER.names or ():
        tensors[f"encoder.{name}"] = np.array(encoder[name], np.float32)
    return tensors
