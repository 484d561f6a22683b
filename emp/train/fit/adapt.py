"""Adapt a trained state-space model to new markets without losing the old ones (roadmap E.2).

    adapted = adapt_model(base, [eurusd], [goog], ARMS["lora_l2sp_rehearsal"], AdaptSettings(), report)

Each new instrument gets a head of its own, which starts as the head for all; the heads of before are not
trained. What comes out is a plain network: adapters are merged, so that serving costs what it did.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import nn

from emp.core.errors import UsageError
from emp.core.records import HORIZONS, Array
from emp.engine.inputs import PREFIX, reference_of, reference_tensors
from emp.model.artifact import Artifact, Manifest
from emp.model.build_ssm import TEMPERATURE
from emp.model.calibration import ISOTONIC, QUARTILES
from emp.perception.normalise import INPUTS
from emp.train.data.chunks import Stream
from emp.train.data.data import Dataset
from emp.train.fit.anchors import ewc, fisher_of, l2_sp, start_of
from emp.train.fit.arms import AdaptSettings, Arm
from emp.train.fit.calibration import Chosen
from emp.train.fit.config import TrainConfig
from emp.train.fit.export import load_network
from emp.train.fit.fit import domain_thresholds, drift_reference, provenance
from emp.train.fit.learner import Fitting, Penalty
from emp.train.fit.loop import Report, Trainer
from emp.train.fit.losses import Weights
from emp.train.fit.new_heads import Market, learn_new_heads
from emp.train.fit.sequence import (
    calibrate_head,
    calibration_loss,
    encoder_record,
    heads_of,
    make_scales,
    make_stream,
)
from emp.train.net.adapters import (
    adapt,
    body,
    merge_difference,
    merged,
    top,
)
from emp.train.net.network import Network

MERGE_LIMIT = 1e-9
"""Largest difference of the merged and the adapted network, in double precision, relative to the largest output."""

FISHER_WINDOW = 512


class Adapted(NamedTuple):
    """An adapted model, ready to be exported, and how it came about."""

    network: Network  # plain, adapters merged
    manifest: Manifest
    calibration: dict[str, Array]
    extra: dict[str, Array]
    losses: list[dict[str, float]]
    history: list[float]
    facts: dict[str, Any]


def head_name(data: Dataset) -> str:
    """Name of the head of an instrument."""
    return f"{data.domain}/{data.instrument.name}"


def adapt_model(
    base: Artifact,
    targets: Sequence[Dataset],
    kept: Sequence[Dataset],
    arm: Arm,
    settings: AdaptSettings,
    report: Report | None = None,
    fisher: dict[str, torch.Tensor] | None = None,
) -> Adapted:
    """Adapt a model to some series, rehearsing or weighing what it knew of others.

    Args:
        base: a state-space artifact.
        targets: series to adapt to.
        kept: series that the base was trained on.
        arm: how.
        settings: how much.
        report: told of every window.
        fisher: of `fisher_information`, for EWC; computed here where None.

    Raises:
        UsageError: the base cannot be adapted so.
    """
    torch.manual_seed(settings.seed)
    network, _ = load_network(base, INPUTS)
    _refuse(base, targets, kept, arm)
    names = [name for name in dict.fromkeys(map(head_name, targets)) if name not in network.domains]
    domains = (*network.domains, *names)
    edges = np.array([*base.manifest.thresholds, *(domain_thresholds(targets, names) if names else [])])
    encoder = encoder_record(base.tensors)
    seen, old = ([data.encoded(encoder) for data in some] for some in (targets, kept))
    new = sorted({domains.index(head_name(data)) for data in targets})
    streams = streams_of(seen, domains, edges, settings)
    rehearsed = streams_of(old, domains, edges, settings) if arm.rehearse else []
    scales = make_scales([*seen, *old], domains)
    config = _train_config(settings, arm)

    market = Market(seen, streams, edges, scales, new, names)
    wider, began = learn_new_heads(network, market, arm.affine, settings, config.weights)
    facts = _prepare(wider, arm, settings, len(new))
    start = start_of(wider)
    penalty = _penalty(arm, settings, start, base, old, streams, fisher)
    shares = _shares(len(streams), len(rehearsed), settings.rehearsal) if rehearsed else None
    trainer = Trainer(
        wider,
        [*streams, *rehearsed],
        scales,
        config,
        lambda candidate: calibration_loss(merged(candidate), seen, edges),
        fitting=Fitting(_groups, penalty, shares, repr(arm)),
    )
    trainer.run(report)
    wider.load_state_dict(trainer.best)
    plain = merged(wider)
    difference = merge_difference(wider, torch.from_numpy(seen[0].x[:2048]), new[0])
    if not difference <= MERGE_LIMIT:
        raise UsageError(f"the merged network differs from the adapted one by {difference:.1e}")
    facts |= {"merge_difference": difference, "head_steps": began.steps, "steps": trainer.step}
    facts["head_began_as"] = began.losses
    chosen = {at: calibrate_head(plain, _served(seen, wider.domains, at), edges, at) for at in new}
    manifest = _manifest(base, targets, old if arm.rehearse else [], wider, edges, facts, trainer.history)
    manifest.config["adaptation"] |= {"arm": arm._asdict(), "settings": msgspec.to_builtins(settings)}
    return Adapted(
        plain.eval(),
        manifest,
        _calibration(base, len(wider.domains), chosen),
        _extra(base, targets, wider.domains, new),
        trainer.losses,
        trainer.history,
        facts,
    )


def fisher_information(
    base: Artifact, kept: Sequence[Dataset], settings: AdaptSettings
) -> dict[str, torch.Tensor]:
    """What the base knows of some of its series: the Fisher information of each weight of its body, of one row."""
    network, _ = load_network(base, INPUTS)
    old = [data.encoded(encoder_record(base.tensors)) for data in kept]
    streams = streams_of(old, network.domains, np.array(base.manifest.thresholds), settings)
    found = fisher_of(network, streams, FISHER_WINDOW, settings.fisher_rows, settings.seed)
    return {name: one for name, one in found.items() if not name.startswith("heads.")}


def streams_of(
    seen: Sequence[Dataset], domains: Sequence[str], edges: Array, settings: AdaptSettings
) -> list[Stream]:
    """Training parts of some series, each for the head that speaks for it alone, every row counting alike."""
    made = [make_stream(data, domains, edges, seen, 0.0, settings.rows) for data in seen]
    return [one._replace(broader=(one.domain,), weight=1.0) for one in made]


def _refuse(base: Artifact, targets: Sequence[Dataset], kept: Sequence[Dataset], arm: Arm) -> None:
    if (arm.rehearse or arm.ewc) and not kept:
        raise UsageError("rehearsal and EWC need series that the model was trained on")
    domains = base.manifest.domains
    for data in kept:
        if heads_of(data, domains)[0] == 0:
            raise UsageError(
                f"{data.series}: the model has no head for {head_name(data)}: it was not trained on it"
            )
    both = {data.instrument.name for data in targets} & {data.instrument.name for data in kept}
    if both:
        raise UsageError(f"{', '.join(sorted(both))}: cannot be adapted to and kept as it is at once")
    for data in targets:
        for part in ("train", "calibrate"):
            if len(data.part(part)) == 0:
                raise UsageError(f"{data.series}: no row of its {part} part is past the warm-up")


def _train_config(settings: AdaptSettings, arm: Arm) -> TrainConfig:
    """Tasks of the heads alone: what shaped the body in pre-training is not in an artifact."""
    return TrainConfig(
        seed=settings.seed,
        lr=settings.lr,
        weight_decay=0.0,
        warmup_steps=5,
        lanes=settings.lanes,
        rows=settings.rows,
        curriculum=((settings.length, settings.epochs if arm.sequences else 0),),
        class_weight=0.0,
        masked_share=0.0,
        broader_heads=0.0,
        average=0.9,
        weights=Weights(next_event=0.0, depth=0.0, depletion=0.0),
    )


def _groups(network: Network, helper: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """All that is trained, at one rate and without decay: weights outside the task keep their bits."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return [{"params": trained, "weight_decay": 0.0, "rate": config.lr}]


def _prepare(network: Network, arm: Arm, settings: AdaptSettings, heads: int) -> dict[str, Any]:
    """Freeze the body but for what the arm trains, and say how much that is."""
    body_size = sum(block.size for block in body(network))
    whole = sum(p.numel() for p in network.parameters())
    try:
        below = top(network)[1] if "top" in (arm.low_rank, arm.trained) else None
        adapt(network, arm.low_rank, arm.rank, arm.trained, settings.seed)
    except ValueError as error:
        raise UsageError(f"this model cannot be adapted so: {error}") from error
    in_body = sum(
        p.numel() for block in body(network) for m in block.modules for p in m.parameters() if p.requires_grad
    )
    domains = len(network.domains)
    in_heads = sum(p.numel() // domains for p in network.heads.parameters() if p.requires_grad) * heads
    return {
        "parameters": whole,
        "body": body_size,
        "trained_in_body": in_body,
        "trained_in_heads": in_heads,
        "frozen_share": below,
    }


def _penalty(
    arm: Arm,
    settings: AdaptSettings,
    start: dict[str, torch.Tensor],
    base: Artifact,
    old: Sequence[Dataset],
    streams: Sequence[Stream],
    fisher: dict[str, torch.Tensor] | None,
) -> Penalty | None:
    if arm.l2_sp:
        return l2_sp(start, settings.alpha, settings.beta)
    if arm.ewc:
        known = fisher_information(base, old, settings) if fisher is None else fisher
        before = sum(one["rows"]["train"] for one in base.manifest.provenance.get("series", []))
        now = sum(min(int(one.use.sum()), settings.rows) for one in streams)
        return ewc(start, known, before / max(1, now))
    return None


def _shares(new: int, old: int, rehearsal: float) -> tuple[float, ...]:
    return tuple([(1.0 - rehearsal) / new] * new + [rehearsal / old] * old)


def _served(seen: Sequence[Dataset], domains: Sequence[str], at: int) -> list[Dataset]:
    return [data for data in seen if head_name(data) == domains[at]]


def _calibration(
    base: Artifact, heads: int, chosen: dict[int, tuple[list[Chosen], Array]]
) -> dict[str, Array]:
    """The base's calibration with that of the new heads."""
    before = len(base.manifest.domains)
    temperature = np.ones((heads, HORIZONS), np.float32)
    temperature[:before] = base.tensors[TEMPERATURE]
    quartiles = np.tile(np.array([1.0, 0.0], np.float32), (heads, HORIZONS, 1))
    quartiles[:before] = base.tensors.get(QUARTILES, quartiles[:before])
    tables = np.zeros(
        (heads, *np.array([one.table for one in next(iter(chosen.values()))[0]]).shape), np.float32
    )
    if ISOTONIC in base.tensors:
        tables[:before] = base.tensors[ISOTONIC]
    for at, (classes, outer) in chosen.items():
        temperature[at] = [one.temperature for one in classes]
        quartiles[at] = outer
        tables[at] = [one.table for one in classes]
    found = {TEMPERATURE: temperature, QUARTILES: quartiles}
    return found | ({ISOTONIC: tables} if tables.any() else {})


def _extra(
    base: Artifact, targets: Sequence[Dataset], domains: Sequence[str], new: Sequence[int]
) -> dict[str, Array]:
    """The depth encoder as it was, and the drift reference with rows for the new heads."""
    found = {name: t for name, t in base.tensors.items() if name.startswith("encoder.")}
    fresh = drift_reference(targets, [domains[at] for at in new])
    if not any(name.startswith(PREFIX) for name in base.tensors):
        return found
    before = len(base.manifest.domains)
    references = [reference_of(base, at) if at < before else None for at in range(len(domains))]
    made = reference_tensors(references)
    for name, rows in fresh.items():
        if name in made:
            made[name][list(new)] = rows
    return found | made


def _manifest(
    base: Artifact,
    targets: Sequence[Dataset],
    rehearsed: Sequence[Dataset],
    network: Network,
    edges: Array,
    facts: dict[str, Any],
    history: list[float],
) -> Manifest:
    before = base.manifest
    series = [*before.provenance.get("series", [])]
    used = {msgspec.json.encode(one, order="sorted") for one in series}
    for one in [*map(provenance, rehearsed), *map(provenance, targets)]:
        if msgspec.json.encode(one, order="sorted") not in used:
            series.append(one)
    told = {"base": base.hash, "calibration_loss": history, **facts}
    return msgspec.structs.replace(
        before,
        domains=list(network.domains),
        thresholds=[[float(t) for t in row] for row in edges],
        config=before.config | {"adaptation": told},
        provenance=before.provenance | {"series": series, "base": base.hash},
        metrics={},
        hash="",
    )
