"""From datasets to a state-space artifact: it starts as the linear model and learns what the past adds to it.

The direct path of the heads begins with the weights of a linear model fitted on the same rows (same domains,
thresholds and depth encoder), so training begins at that baseline and not below it.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from emp.core.platform import usable_cores
from emp.core.records import HORIZONS, QUANTILES, Array
from emp.engine.inputs import PREFIX
from emp.model.artifact import Manifest
from emp.model.build_ssm import TEMPERATURE, pack
from emp.model.calibration import QUARTILES
from emp.model.heads import CLASSES, MEANS_AT, QUANTILES_AT
from emp.model.ssm_config import SSMConfig
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUTS
from emp.perception.targets import NO_LABEL, classes, daily_priors, pos_weight
from emp.train.data.auxiliary import auxiliary_labels
from emp.train.data.chunks import MOST_ROWS, Stream
from emp.train.data.data import Dataset, Part
from emp.train.fit import calibration
from emp.train.fit.calibration import Chosen, Rows, fit_temperature, measure_quartiles, stretches
from emp.train.fit.config import TrainConfig
from emp.train.fit.features import learn_features
from emp.train.fit.fit import Trained, provenance
from emp.train.fit.loop import Report, Trainer
from emp.train.fit.losses import Scales, move_scales
from emp.train.fit.restarts import restarts
from emp.train.fit.rollout import Rollout, rollout
from emp.train.fit.took import Took
from emp.train.net.network import Heads, Network

CONTEXT = 16_384
"""Events before the rows to be judged from which the state is built up."""


MOST_BESIDE = 4
"""Series that are judged at once: what one holds of its rows is large."""


class Judged(NamedTuple):
    """What a network says of some rows and what happened, for calibration."""

    logits: Array  # float64[n, HORIZONS, CLASSES]
    quantiles: Array  # float64[n, HORIZONS, QUANTILES]
    labels: Array  # int8[n, HORIZONS]
    moves: Array  # float64[n, HORIZONS]
    weight: Array  # float64[n]
    stretch: Array  # int64[n], see `emp.train.fit.calibration.Rows`
    block: Array  # int64[n]
    whole_day: Array  # bool[n]

    def known(self, h: int) -> Array:
        """Rows with a label at a horizon."""
        return np.flatnonzero(self.labels[:, h] != NO_LABEL)

    def rows(self, h: int) -> Rows:
        """Those rows, for the classes."""
        columns = (self.logits[:, h], self.labels[:, h], self.weight, *self[-3:])
        return Rows(*(a[self.known(h)] for a in columns))


class Calibration(NamedTuple):
    """How the outputs of every head are calibrated."""

    classes: list[list[Chosen]]  # [heads][HORIZONS]
    quartiles: Array  # float32[heads, HORIZONS, 2]

    def tensors(self) -> dict[str, Array]:
        """What an artifact holds of it."""
        temperature = np.array([[chosen.temperature for chosen in head] for head in self.classes], np.float32)
        measured = {TEMPERATURE: temperature, QUARTILES: self.quartiles}
        return measured | calibration.isotonic_tensor(self.classes)


class SequenceModel(NamedTuple):
    """A trained and calibrated network, and what its artifact holds beside it."""

    network: Network
    calibration: dict[str, Array]  # tensors, by name
    manifest: Manifest
    extra: dict[str, Array]  # tensors of the depth encoder and of the drift reference
    losses: list[dict[str, float]]  # one row per window
    history: list[float]  # calibration loss, at the start and after every epoch


def train_sequence(
    datasets: Sequence[Dataset],
    linear: Trained,
    model: SSMConfig,
    config: TrainConfig,
    report: Report,
    checkpoint: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    took: Took | None = None,
) -> SequenceModel:
    """Train on the training parts, choose the epoch and calibrate on the calibration parts.

    First what needs no memory is learned, from the linear model onwards; then the backbone and all the rest.

    Args:
        datasets: series to train on.
        linear: the linear model of the same series.
        checkpoint: path to write checkpoints to.
        resume: go on from that checkpoint, wherever it was written.
        device: "cpu" or "cuda", of `pick_device`; what is exported is computed on the CPU.
        took: counts the seconds of the stages features, sequences and calibration.
    """
    took = took or Took()
    torch.manual_seed(config.seed)
    domains = linear.manifest.domains
    seen = [data.encoded(encoder_record(linear.tensors)) for data in datasets]
    edges = np.array(linear.manifest.thresholds)
    streams = [make_stream(data, domains, edges, seen, config.class_weight, config.rows) for data in seen]
    network = Network(model, INPUTS, domains)
    start_as_linear(network, linear.tensors, typical_inputs(streams, len(domains)))
    tilt = class_tilt(streams, len(domains))
    add_tilt(network, tilt)
    scales = make_scales(seen, domains)
    if not resume:
        with took.stage("features"):  # small steps: a CPU is quicker at them
            learn_features(network, streams, scales, config, report)
    network.to(device)

    def judge(candidate: Network) -> float:
        return calibration_loss(without_tilt(candidate, tilt), seen, edges)

    with took.stage("sequences"):
        trainer = Trainer(network, streams, scales, config, judge)
        if resume and checkpoint:
            trainer.resume(checkpoint)
        trainer.run(report, checkpoint)
    network.load_state_dict(trainer.best)
    network = without_tilt(network, tilt).cpu()
    with took.stage("calibration"):
        calibrated = calibrate(network, seen, edges)
    manifest = Manifest(
        kind=model.impl,
        schema=linear.manifest.schema,
        domains=list(domains),
        k_sigma=linear.manifest.k_sigma,
        thresholds=linear.manifest.thresholds,
        warmup_events=linear.manifest.warmup_events,
        config={
            "train": msgspec.to_builtins(config),
            "calibration_loss": trainer.history,
            "calibration": calibration.calibration_report(domains, calibrated.classes),
        },
        provenance={"seed": config.seed, "series": [provenance(data) for data in datasets]},
    )
    beside = ("encoder.", PREFIX)
    extra = {name: t for name, t in linear.tensors.items() if name.startswith(beside)}
    return SequenceModel(
        network.eval(), calibrated.tensors(), manifest, extra, trainer.losses, trainer.history
    )


def without_tilt(network: Network, tilt: Array) -> Network:
    """A copy with the effect of class weights taken out."""
    fair = deepcopy(network)
    add_tilt(fair, -tilt)
    return fair


def encoder_record(tensors: dict[str, Array]) -> Any:
    """The depth encoder among an artifact's tensors."""
    encoder = np.zeros(1, ENCODER)
    for name in ENCODER.names or ():
        encoder[name] = tensors[f"encoder.{name}"]
    return encoder[0]


def make_stream(
    data: Dataset,
    domains: Sequence[str],
    edges: Array,
    together: Sequence[Dataset],
    power: float,
    most: int = MOST_ROWS,
) -> Stream:
    """The training part of a dataset; each domain, and each series in it, counts alike in the loss.

    Rows weigh by the class prior that was known when their day began, to the given power; of a series an epoch
    takes at most `most` rows.
    """
    n = int(np.searchsorted(data.ts, data.split.calibrate_ns))
    rows = data.part("train")
    domain, *broader = heads_of(data, domains)
    every = np.arange(n)
    delta_hat = data.delta_hat("train", every).astype(np.float32)
    labels = classes(delta_hat, data.edges(edges[domain]))
    use = np.zeros(n, bool)
    use[rows] = True
    days, day = np.unique(data.seen.rows["day"][:n], return_inverse=True)
    priors = daily_priors(labels, data.targets.known_ns[:n], data.ts[:n], data.seen.rows["day"][:n])
    tilt = np.stack([pos_weight(priors[int(d)]) ** power for d in days]).astype(np.float32)
    x = np.ascontiguousarray(data.x[:n], np.float32)
    alike = [other for other in together if other.domain == data.domain]
    kinds = len({other.domain for other in together})
    total = sum(min(len(other.part("train")), most) for other in together)
    return Stream(
        name=data.series,
        domain=domain,
        broader=tuple(broader) or (domain,),
        x=x,
        delta_hat=delta_hat,
        labels=labels,
        use=use,
        segment=np.ascontiguousarray(data.segment[:n]),
        pos_weight=tilt,
        day=day.astype(np.int64),
        weight=total / (kinds * len(alike) * min(len(rows), most)),
        auxiliary=auxiliary_labels(
            data.seen.rows["bid"][:n].copy(), data.seen.rows["ask"][:n].copy(), x, data.segment[:n].copy()
        ),
    )


def class_tilt(streams: Sequence[Stream], heads: int) -> Array:
    """By how much class weights shift the logits of a head: float32[heads, HORIZONS * CLASSES].

    A model trained with weights w_c believes in p_c w_c / sum (Menon et al. 2021, logit adjustment), so the log
    of the mean weight is put into the biases at the start and taken out of the trained ones.
    """
    tilt = np.zeros((heads, HORIZONS * CLASSES), np.float32)
    for head in range(heads):
        mine = [s.pos_weight[s.day[s.use]].mean(axis=0) for s in streams if head in (s.domain, *s.broader)]
        if mine:
            tilt[head] = np.log(np.mean(mine, axis=0)).ravel()
    return tilt


def add_tilt(network: Network, tilt: Array) -> None:
    """Add to the biases of the class logits."""
    with torch.no_grad():
        network.heads.bias[:, : tilt.shape[1]] += torch.from_numpy(tilt).to(network.heads.bias)


def make_scales(datasets: Sequence[Dataset], domains: Sequence[str]) -> Scales:
    """Sizes of training moves by domain."""
    found = []
    for at in range(len(domains)):
        mine = [data for data in datasets if at in heads_of(data, domains)] or datasets
        moves = [data.delta_hat("train", data.part("train")) for data in mine]
        found.append(move_scales(np.concatenate(moves)))
    return Scales(*(torch.tensor(np.array(a), dtype=torch.float32) for a in zip(*found, strict=True)))


def typical_inputs(streams: Sequence[Stream], heads: int) -> Array:
    """Mean input of the rows that train each head: float32[heads, INPUTS]."""
    found = np.zeros((heads, INPUTS), np.float32)
    for head in range(heads):
        mine = [s.x[s.use].mean(axis=0) for s in streams if head in (s.domain, *s.broader)]
        if mine:
            found[head] = np.mean(mine, axis=0)
    return found


def start_as_linear(network: Network, tensors: dict[str, Array], typical: Array) -> None:
    """Give the heads' direct path the weights of a linear model (shared heads: of its head for all).

    The outer quantiles start at its widths at the `typical` inputs, float32[heads, INPUTS]: a softplus of an
    affine map cannot be an affine map.
    """
    weight = torch.from_numpy(np.asarray(tensors["weight"], np.float32))
    bias = torch.from_numpy(np.asarray(tensors["bias"], np.float32))
    if network.heads.shared:
        weight, bias = weight[:1], bias[:1].expand(len(bias), -1)
    middle = (torch.from_numpy(typical)[:, None] @ weight)[:, 0] + bias
    write_linear(network.heads, slice(None), weight, bias, middle)


@torch.no_grad()
def write_linear(heads: Heads, at: slice, weight: Tensor, bias: Tensor, middle: Tensor) -> None:
    """Write linear models over some heads, in place.

    Args:
        heads: with maps of their own.
        at: which of them.
        weight, bias: of the linear models, [heads, INPUTS, OUTPUTS] and [heads, OUTPUTS].
        middle: what they say of typical inputs, [heads, OUTPUTS].
    """
    for p in (heads.hidden, heads.features, heads.direct, heads.bias):
        p[at] = 0.0
    heads.direct[at, :, : weight.shape[-1]] = weight
    heads.bias[at, : bias.shape[-1]] = bias
    for h in range(HORIZONS):
        low, mid, high = (QUANTILES_AT + h * len(QUANTILES) + i for i in range(3))
        for outer, sign in ((low, -1.0), (high, 1.0)):
            width = (sign * (middle[:, outer] - middle[:, mid])).clamp(min=1e-3)
            heads.direct[at, :, outer] = 0.0
            heads.bias[at, outer] = width + torch.log(-torch.expm1(-width))
    assert (
        weight.shape[-1] > MEANS_AT
    )  # classes, quantiles and means: nothing of the linear model is left out


def heads_of(data: Dataset, heads: Sequence[str]) -> list[int]:
    """Heads that serve a series, the most special one first: its instrument's, its domain's, the shared one."""
    names = (f"{data.domain}/{data.instrument.name}", data.domain)
    return [*(heads.index(name) for name in names if name in heads), 0]


def head_of(data: Dataset, heads: Sequence[str]) -> int:
    """The head that speaks for a series."""
    return heads_of(data, heads)[0]


def judge_rows(network: Network, data: Dataset, part: Part, head: int | None = None) -> tuple[Array, Rollout]:
    """Rows of a part and what the compiled step says of them, its state built up over CONTEXT events before, and begun
    anew wherever it is where it serves.
    """
    rows = data.part(part)
    first = max(0, int(rows[0]) - CONTEXT)
    end = int(rows[-1]) + 1
    tensors = network.tensors() | {TEMPERATURE: np.ones((len(network.domains), HORIZONS), np.float32)}
    built = pack(network.config, tensors, network.inputs, len(network.domains), "calibration")
    domain = head_of(data, network.domains) if head is None else head
    stretch = np.cumsum(restarts(data.seen.rows["since_reset"][first:end], data.ts[first:end]))
    said = rollout(built.params, built.state_size, domain, data.x[first:end], stretch)
    return rows, Rollout(said.forecast[rows - first], said.raw[rows - first])


def calibration_loss(network: Network, datasets: Sequence[Dataset], edges: Array) -> float:
    """Mean log loss of the classes over series and horizons on the calibration parts, after calibration there."""
    asked = [(data, head_of(data, network.domains)) for data in datasets]
    found = _judged(network, asked, edges)
    losses = [fit_temperature(*judged.rows(h)[:3])[1] for judged in found for h in range(HORIZONS)]
    return float(np.mean(losses))


def calibrate(network: Network, datasets: Sequence[Dataset], edges: Array) -> Calibration:
    """Calibrate every head on the rows of the calibration parts that it serves.

    Only maps that leave the balance of up and down alone, and of the classes as a whole where isotonic is not
    proven: a bias of a class would follow how busy that stretch of time happened to be.
    """
    heads = len(network.domains)
    chosen = [[calibration.NOTHING] * HORIZONS for _ in range(heads)]
    quartiles = np.tile(np.array([1.0, 0.0], np.float32), (heads, HORIZONS, 1))
    serves = {at: [data for data in datasets if at in heads_of(data, network.domains)] for at in range(heads)}
    served = [at for at in range(heads) if serves[at]]
    with ThreadPoolExecutor(min(MOST_BESIDE, usable_cores()), thread_name_prefix="emp-calibrate") as pool:
        found = pool.map(lambda at: calibrate_head(network, serves[at], edges, at), served)
        for at, (classes_of, quartiles_of) in zip(served, found, strict=True):
            chosen[at], quartiles[at] = classes_of, quartiles_of
    return Calibration(chosen, quartiles)


def calibrate_head(
    network: Network, mine: Sequence[Dataset], edges: Array, at: int
) -> tuple[list[Chosen], Array]:
    """How the classes of a head are calibrated, by horizon, and its quartiles float32[HORIZONS, 2], on the rows of the
    calibration parts of some series.
    """
    parts = _judged(network, [(data, at) for data in mine], edges)
    judged = Judged(*(np.concatenate(a) for a in zip(*parts, strict=True)))
    trained = np.concatenate([data.delta_hat("train", data.part("train")) for data in mine])
    chosen = [calibration.calibrate(judged.rows(h)) for h in range(HORIZONS)]
    quartiles = np.tile(np.array([1.0, 0.0], np.float32), (HORIZONS, 1))
    for h in range(HORIZONS):
        rows = judged.known(h)
        if len(rows):
            columns = (judged.weight, judged.stretch, judged.block)
            half = float(np.nanmedian(np.abs(trained[:, h])))
            quartiles[h] = measure_quartiles(
                judged.quantiles[rows, h], judged.moves[rows, h], half, *(a[rows] for a in columns)
            )
    return chosen, quartiles


def _judged(network: Network, asked: Sequence[tuple[Dataset, int]], edges: Array) -> list[Judged]:
    """Calibration rows of some series, each through a head, side by side: compiled steps need no interpreter."""
    with ThreadPoolExecutor(min(MOST_BESIDE, usable_cores()), thread_name_prefix="emp-judge") as pool:
        return list(pool.map(lambda one: _judged_by(network, one[0], edges[one[1]], one[1]), asked))


def _judged_by(network: Network, data: Dataset, edges: Array, head: int) -> Judged:
    rows, said = judge_rows(network, data, "calibrate", head)
    moves = data.delta_hat("calibrate", rows)
    return Judged(
        np.log(np.maximum(said.forecast["p"].astype(np.float64), 1e-12)),
        said.forecast["q"].astype(np.float64),
        classes(moves, data.edges(edges)),
        moves.astype(np.float64),
        np.full(len(rows), 1.0 / len(rows)),
        *stretches(data.ts[rows], data.split.whole_days),
    )
