"""What is minimised: direction, quantiles, mean and big moves at every horizon, and the auxiliary tasks."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from emp.core.records import DEPTH_FEATURES, QUANTILES, Array
from emp.perception.targets import NO_LABEL
from emp.train.data.auxiliary import DEPLETIONS, DEPTH, HAS_DEPTH, NEXT_KINDS, NONE
from emp.train.data.chunks import Batch
from emp.train.net.network import Outputs

HUBER = 3.0
"""Mean moves beyond which the loss of the mean grows linearly."""

BIG_QUANTILE = 0.9
"""Share of training moves that are not big."""


class Weights(NamedTuple):
    """Weight of every task in the sum."""

    direction: float = 1.0
    quantile: float = 0.5
    mean: float = 0.25
    big: float = 0.1
    next_event: float = 0.1
    depth: float = 0.05
    depletion: float = 0.1


class Scales(NamedTuple):
    """Sizes of moves in training, by domain and horizon."""

    move: Tensor  # [domains, HORIZONS]: mean |delta_hat|
    big: Tensor  # [domains, HORIZONS]: |delta_hat| above which a move is big
    trim: Tensor  # [domains, HORIZONS]: moves count as at most this large


def move_scales(delta_hat: Array) -> tuple[Array, Array, Array]:
    """Rows of `Scales` for one domain, from training moves float[n, HORIZONS]."""
    size = np.abs(delta_hat)
    move = np.maximum(np.nanmean(size, axis=0), 1e-3)
    big = np.maximum(np.nanquantile(size, BIG_QUANTILE, axis=0), 1e-6)
    return move, big, np.maximum(np.nanquantile(size, 0.999, axis=0), 1e-3)


class Targets(NamedTuple):
    """Labels of a window as tensors; shapes as in `emp.train.data.chunks.Batch`."""

    domain: Tensor
    delta_hat: Tensor
    labels: Tensor
    pos_weight: Tensor
    weight: Tensor


def targets_of(batch: Batch, device: torch.device) -> Targets:
    """A batch's labels as tensors."""
    fields = (batch.domain, batch.delta_hat, batch.labels, batch.pos_weight, batch.weight)
    return Targets(*(torch.from_numpy(np.ascontiguousarray(a)).to(device) for a in fields))


def forecast_losses(outputs: Outputs, t: Targets, scales: Scales) -> dict[str, Tensor]:
    """Weighted means over the rows that count of every task of the heads."""
    known = t.labels != NO_LABEL
    weight = t.weight[..., None] * known
    total = weight.sum().clamp(min=1.0)
    move = scales.move[t.domain][:, None]
    big = scales.big[t.domain][:, None]
    trim = scales.trim[t.domain][:, None]
    delta = torch.where(known, t.delta_hat, 0.0)
    clipped = torch.minimum(torch.maximum(delta, -trim), trim)

    labels = t.labels.clamp(min=0)
    log_p = outputs.logits.log_softmax(-1)
    picked = log_p.gather(-1, labels[..., None])[..., 0]
    tilt = t.pos_weight.gather(-1, labels[..., None])[..., 0]
    direction = -(picked * weight * tilt).sum() / total

    tau = torch.stack(
        [outputs.quantiles.new_full((), q) for q in QUANTILES]
    )  # filled in place: it can be captured
    miss = (clipped[..., None] - outputs.quantiles) / move[..., None]
    pinball = torch.maximum(tau * miss, (tau - 1.0) * miss).mean(-1)
    mean = functional.huber_loss(outputs.mean / move, clipped / move, reduction="none", delta=HUBER)
    is_big = (delta.abs() > big).to(outputs.big.dtype)
    rare = outputs.big.new_full((), BIG_QUANTILE / (1.0 - BIG_QUANTILE))
    bigness = functional.binary_cross_entropy_with_logits(
        outputs.big, is_big, reduction="none", pos_weight=rare
    )
    return {
        "direction": direction,
        "quantile": (pinball * weight).sum() / total,
        "mean": (mean * weight).sum() / total,
        "big": (bigness * weight).sum() / total,
    }


class AuxiliaryTargets(NamedTuple):
    """Labels [B, T] of the auxiliary tasks, and the inputs before any depth was masked."""

    next_kind: Tensor
    wait: Tensor
    depletion: Tensor
    x: Tensor  # [B, T, INPUTS]
    masked: Tensor  # bool[B, T]: the depth of this event was hidden


def auxiliary_losses(raw: Tensor, t: AuxiliaryTargets) -> dict[str, Tensor]:
    """Losses of the auxiliary head's outputs [B, T, OUTPUTS of `emp.train.data.auxiliary`]."""
    kind, wait, queue, depth = torch.split(raw, [NEXT_KINDS, 1, DEPLETIONS, DEPTH_FEATURES], -1)
    waits = ~t.wait.isnan()
    gap = functional.smooth_l1_loss(wait[..., 0], torch.where(waits, t.wait, 0.0), reduction="none")
    shown = t.x[..., DEPTH]
    hidden = t.masked & (t.x[..., HAS_DEPTH] > 0.5)
    error = (depth - shown).square().mean(-1)
    return {
        "next_event": _cross_entropy(kind, t.next_kind) + (gap * waits).sum() / waits.sum().clamp(min=1),
        "depletion": _cross_entropy(queue, t.depletion),
        "depth": (error * hidden).sum() / hidden.sum().clamp(min=1),
    }


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    known = labels != NONE
    loss = functional.cross_entropy(
        logits.flatten(0, 1), labels.clamp(min=0).flatten(), reduction="none"
    ).view_as(known)
    return (loss * known).sum() / known.sum().clamp(min=1)


def weighted_sum(losses: dict[str, Tensor], weights: Weights) -> Tensor:
    """The sum that is minimised."""
    return torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
