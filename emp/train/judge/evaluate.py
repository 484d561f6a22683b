"""Judge models on the test parts of series they were not trained on, beside baselines, with intervals.

Everything that is fixed before the test (thresholds, priors, baselines, the split) comes from earlier time. All
contenders are judged on the same rows by the same labels, and compared with the linear model draw by draw.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES, HORIZONS, QUANTILES, Array
from emp.engine.load import LoadedModel
from emp.model.artifact import seen_series
from emp.perception.targets import class_prior, classes
from emp.train.data.data import Dataset
from emp.train.data.fingerprint import unpack
from emp.train.judge import baselines
from emp.train.judge.blocks import BlockMeasure, Blocks, blocks_of, forecast_measures, session_confusion
from emp.train.judge.compare import figures, versus
from emp.train.judge.forecasts import forecast_test, head_of
from emp.train.judge.intervals import coverage
from emp.train.judge.latency import Latency, model_latencies, peer_latency
from emp.train.judge.metrics import Outcome, Prediction, Sums, balanced_decision, block_sums, reliability
from emp.train.judge.peer import PeerForecast

MAJORITY, PERSISTENCE, IMBALANCE, TREES = "majority", "persistence", "imbalance", "trees"

LINEAR = "linear"

AS_TRAINED = "_as_trained"
"""Ends the name of a model's forecasts before outcomes correct them."""

Report = Callable[[str, float], None]
"""Called with what is being done and the share of all work that is done."""


class Contender(NamedTuple):
    """A model to judge: one artifact, or several that differ only by the seed they were trained with."""

    name: str
    seeds: tuple[LoadedModel, ...]


class Truth(NamedTuple):
    """One horizon of one series: which rows are judged, and by what."""

    label: Array  # int8[n] of all rows, NO_LABEL where there is none
    move: Array  # float[n]: delta_hat
    train: Array  # rows with a label that is known before the part ends
    test: Array
    outcome: Outcome  # of the test rows
    block: Array  # int64[test]: bootstrap block, numbered from 0


class Evaluation(NamedTuple):
    """Rows of the table, as the JSON of `emp evaluate` holds them, and what else the page shows."""

    table: list[dict[str, Any]]
    curves: dict[tuple[str, str, str], Array]  # (series, model, horizon) -> float[bins, 5] of `reliability`
    spans: dict[str, dict[str, list[int]]]  # by series: train, calibrate and test, ns
    parts: dict[str, dict[str, Any]]  # by series: days, test days, kind of block
    peers: dict[str, dict[str, dict[str, Any]]]  # by series and network: what it took
    latency: dict[str, dict[str, Latency]]  # by series and contender: what one forecast takes
    blocks: dict[
        tuple[str, str], list[list[BlockMeasure]]
    ]  # (series, contender) -> by seed: what evidence holds
    intervals: list[dict[str, Any]]  # coverage of the 90 % intervals, of each contender's first seed


def truth_of(data: Dataset, threshold: float, h: int, blocks: Blocks) -> Truth:
    """What the rows of a series are judged by at one horizon.

    Raises:
        UsageError: no label in the training or test part.
    """
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
    block = np.unique(blocks.number[test], return_inverse=True)[1]
    return Truth(label, move, train, test, outcome, block)


def of_forecasts(forecasts: Array, data: Dataset, truth: Truth, h: int) -> Prediction:
    """What a model said of the judged rows, from FORECAST rows of the whole test part."""
    f = forecasts[np.searchsorted(data.part("test"), truth.test)]
    p = f["p"][:, h].astype(np.float64)
    decided = balanced_decision(p, truth.outcome.prior)
    return Prediction(p, f["q"][:, h].astype(float), f["mean"][:, h].astype(float), decided)


def of_peer(peer: PeerForecast, truth: Truth, h: int) -> Prediction:
    """What a peer said of the judged rows; classes only."""
    p = peer.p[np.searchsorted(peer.rows, truth.test), h].astype(np.float64)
    missing = np.full((len(p), len(QUANTILES)), np.nan)
    return Prediction(p, missing, missing[:, 0], balanced_decision(p, truth.outcome.prior))


def of_baselines(
    data: Dataset, truth: Truth, h: int, seed: int, with_trees: bool
) -> tuple[dict[str, Prediction], Latency | None]:
    """What every baseline says of the judged rows, and what a forecast of the trees takes."""
    known_row = baselines.known_rows(data.targets, data.ts, h)
    label, move, train, test = truth.label, truth.move, truth.train, truth.test
    still = np.zeros(len(label), np.int64)
    said = {
        MAJORITY: baselines.table(still, label, move, train)(test),
        PERSISTENCE: baselines.persistence(label, move, known_row, train)(test),
        IMBALANCE: baselines.imbalance(data.seen.states["qimbalance"], label, move, train)(test),
    }
    if not with_trees:
        return said, None
    said[TREES], latency = baselines.kept_trees(data.x, label, train, test, truth.outcome.prior, seed)
    return said, latency


def evaluate(
    contenders: Sequence[Contender],
    datasets: Sequence[Dataset],
    seed: int,
    with_trees: bool,
    report: Report,
    peers: Mapping[str, Mapping[str, PeerForecast]] | None = None,
    as_trained: bool = False,
) -> Evaluation:
    """Judge contenders and baselines at every horizon of every series.

    Args:
        contenders: one named LINEAR is what the others are compared with; without one there is no comparison.
        peers: forecasts of peers by series and network, where they were trained.
        as_trained: also judge what the models say before outcomes correct it, under its name with AS_TRAINED.

    Raises:
        UsageError: a series overlaps what a model was trained on, or has no test row past the warm-up, or the
            models were trained on other labels than each other.
    """
    found = Evaluation([], {}, {}, {}, {}, {}, {}, [])
    for i, data in enumerate(datasets):
        beside = (peers or {}).get(data.series, {})
        blocks = blocks_of(data) if len(data.part("test")) else Blocks(data.ts, "5min", 0)
        found.spans[data.series] = {part: list(data.span(part)) for part in ("train", "calibrate", "test")}
        found.parts[data.series] = {
            "days": len(np.unique(data.seen.rows["day"])),
            "test_days": blocks.test_days,
            "block": blocks.kind,
        }

        def tick(text: str, share: float, i: int = i, data: Dataset = data) -> None:
            report(f"{data.series} {text}", (i + share) / len(datasets))

        sums, sessions, latency = judge(contenders, data, blocks, seed, with_trees, beside, tick, as_trained)
        found.latency[data.series] = latency
        for contender in contenders:
            first = contender.seeds[0]
            said = forecast_test(first, data)
            found.intervals.extend(coverage(said, data, contender.name, first.artifact.manifest.k_sigma))
            found.blocks[data.series, contender.name] = measures_of(contender.name, sums, sessions)
        if beside:
            found.peers[data.series] = {name: peer.facts for name, peer in beside.items()}
        for h, horizon in enumerate(HORIZON_NAMES):
            for name, seeds in sums[h].items():
                found.table.append(row_of(data, name, horizon, seeds, sums[h].get(LINEAR), seed))
                together = Sums(*(np.sum(a, axis=0) for a in zip(*seeds, strict=True)))
                found.curves[data.series, name, horizon] = reliability(together, seed)
    report("done", 1.0)
    return found


def measures_of(
    name: str, sums: list[dict[str, list[Sums]]], sessions: list[dict[str, list[Array]]]
) -> list[list[BlockMeasure]]:
    """Measures of every seed of a contender at all horizons, block by block, beside the linear model's first seed."""
    found: list[list[BlockMeasure]] = [[] for _ in sums[0][name]]
    for horizon, mine, by_session in zip(HORIZON_NAMES, sums, sessions, strict=True):
        reference = mine[LINEAR][0] if LINEAR in mine else None
        for k, (one, confusion) in enumerate(zip(mine[name], by_session[name], strict=True)):
            found[k] += forecast_measures(horizon, one, reference, confusion)
    return found


def judge(
    contenders: Sequence[Contender],
    data: Dataset,
    blocks: Blocks,
    seed: int,
    with_trees: bool,
    peers: Mapping[str, PeerForecast],
    report: Report,
    as_trained: bool,
) -> tuple[list[dict[str, list[Sums]]], list[dict[str, list[Array]]], dict[str, Latency]]:
    """Block sums by horizon, contender or baseline, and seed; the same of sessions; what a forecast of each takes."""
    threshold = common_thresholds(contenders, data)
    forecasts: dict[str, list[Array]] = {}
    for k, contender in enumerate(contenders):
        report(contender.name, 0.5 * k / len(contenders))
        for model in contender.seeds:
            refuse_overlap(model, data)
        forecasts[contender.name] = [forecast_test(model, data) for model in contender.seeds]
        if as_trained:
            before = [forecast_test(model, data, learns=False) for model in contender.seeds]
            forecasts[contender.name + AS_TRAINED] = before
    seen = data.encoded(encoder_of_baselines(contenders))
    latency = model_latencies({c.name: c.seeds[0] for c in contenders}, data)
    latency |= {name: peer_latency(peer) for name, peer in peers.items()}
    found, sessions = [], []
    session = data.seen.states["session_id"]
    for h, horizon in enumerate(HORIZON_NAMES):
        report(horizon, 0.5 + 0.5 * h / HORIZONS)
        truth = truth_of(data, float(threshold[h]), h, blocks)
        said = {name: [of_forecasts(f, data, truth, h) for f in seeds] for name, seeds in forecasts.items()}
        sessions.append(
            {
                name: [
                    session_confusion(truth.block, session[truth.test], truth.outcome.label, p.decided)
                    for p in seeds
                ]
                for name, seeds in said.items()
            }
        )
        said |= {name: [of_peer(peer, truth, h)] for name, peer in peers.items()}
        others, tree_latency = of_baselines(seen, truth, h, seed, with_trees)
        said |= {name: [prediction] for name, prediction in others.items()}
        if tree_latency is not None:
            latency[TREES] = tree_latency
        found.append(
            {name: [block_sums(p, truth.outcome, truth.block) for p in seeds] for name, seeds in said.items()}
        )
    return found, sessions, latency


def encoder_of_baselines(contenders: Sequence[Contender]) -> Any:
    """The depth encoder through which baselines see the book: the linear model's where there is one."""
    return next((c for c in contenders if c.name == LINEAR), contenders[0]).seeds[0].encoder


def common_thresholds(contenders: Sequence[Contender], data: Dataset) -> Array:
    """The class thresholds of a series, float[HORIZONS], which must be the same for all models."""
    first, *rest = [model for contender in contenders for model in contender.seeds]
    threshold = thresholds_for(first, data)
    for model in rest:
        if not same_labels(first, model, data):
            raise UsageError(
                f"{data.series}: models {first.artifact.hash[:12]} and {model.artifact.hash[:12]} were trained on "
                "other labels: judge them one by one, or train them on the same series"
            )
    return threshold


def thresholds_for(model: LoadedModel, data: Dataset) -> Array:
    """Class thresholds of the head that serves a series."""
    return np.array(model.artifact.manifest.thresholds[head_of(model, data)])


def same_labels(a: LoadedModel, b: LoadedModel, data: Dataset) -> bool:
    """Whether two models mean the same by down, flat and up on a series."""
    return a.artifact.manifest.k_sigma == b.artifact.manifest.k_sigma and bool(
        (thresholds_for(a, data) == thresholds_for(b, data)).all()
    )


def refuse_overlap(model: LoadedModel, data: Dataset) -> None:
    """Raise UsageError where the test part of a series reaches into what the model or its depth encoder was trained on.

    It does where a row of it is one that the model was trained on, whatever file it lies in now. Older artifacts do
    not say their rows: with them the same instrument at a time that the model was trained on is refused.
    """
    start, end = data.span("test")
    mine = data.sample(start, end)
    for used in seen_series(model.artifact.manifest):
        begun, ended = used["train_ns"][0], (used.get("calibrate_ns") or used["train_ns"])[1]
        if "rows_sample" in used:
            overlaps = bool(np.isin(mine, unpack(used["rows_sample"])).any())
        else:
            overlaps = used["instrument"] == data.instrument.name and start < ended and begun < end
        if overlaps:
            files = ", ".join(file["name"] for file in used.get("files", ()))
            raise UsageError(
                f"{data.series}: its test part begins before the model's training ended: give the recordings "
                f"the model was trained with{files and f' ({files})'}, or others"
            )


def row_of(
    data: Dataset, name: str, horizon: str, seeds: list[Sums], linear: list[Sums] | None, seed: int
) -> dict[str, Any]:
    """One row of the table."""
    compared = linear is not None and name != LINEAR
    return {
        "instrument": data.instrument.name,
        "series": data.series,
        "model": name,
        "horizon": horizon,
        **figures(seeds, seed),
        "alpha_after_fees": None,
        "versus_linear": versus(seeds, linear, seed) if compared and linear is not None else None,
    }
