"""Learning what needs no memory: gated features and their heads on single rows, before the backbone is trained.

Rows in random order make thousands of small steps out of data that makes hundreds of long sequences, so what one
event tells is learned in seconds, and the sequences are left for what only memory can tell.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from emp.core.clock import LiveClock
from emp.train.data.chunks import Batch, Stream, row_batches
from emp.train.fit.config import TrainConfig
from emp.train.fit.loop import Report, Step
from emp.train.fit.losses import Scales, forecast_losses, targets_of, weighted_sum
from emp.train.net.network import Network, read_outputs

ROWS = 512
"""Rows of a step."""

WEIGHT_DECAY = 0.05


def learn_features(
    network: Network,
    streams: Sequence[Stream],
    scales: Scales,
    config: TrainConfig,
    report: Report | None = None,
) -> list[float]:
    """Train features, direct path and offsets of the heads in place, on the CPU; the backbone says nothing meanwhile.

    Returns:
        the loss of every step.
    """
    heads = network.heads
    parameters = [*network.features.parameters(), heads.features, heads.direct, heads.bias]
    optimizer = torch.optim.AdamW(parameters, lr=config.features_lr, weight_decay=WEIGHT_DECAY)
    total = config.features_epochs * sum(1 for _ in row_batches(streams, ROWS, config.seed, 0, config.rows))
    losses: list[float] = []
    rows, clock = 0, LiveClock()
    began = clock.monotonic_ns()
    for step, batch in enumerate(_all_batches(streams, config)):
        for group in optimizer.param_groups:
            group["lr"] = config.features_lr * schedule(step, total)
        loss = _loss(network, batch, scales, config)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
        optimizer.step()
        losses.append(float(loss.detach()))
        rows += batch.weight.size
        if report:
            seconds = (clock.monotonic_ns() - began) / 1e9
            epoch = step * config.features_epochs // total
            report(Step(step + 1, total, epoch, 1, rows, seconds, {"total": losses[-1]}))
    return losses


def _all_batches(streams: Sequence[Stream], config: TrainConfig) -> Iterator[Batch]:
    for epoch in range(config.features_epochs):
        yield from row_batches(streams, ROWS, config.seed, epoch, config.rows)


def schedule(step: int, total: int) -> float:
    """Share of the learning rate: a tenth of the steps to warm up, then a cosine down to nought."""
    return min(1.0, 10.0 * (step + 1) / total) * 0.5 * (1.0 + math.cos(math.pi * step / total))


def _loss(network: Network, batch: Batch, scales: Scales, config: TrainConfig) -> Tensor:
    """The loss of the heads of their own and, at its weight, of the heads of wider use."""
    x = torch.from_numpy(batch.x)
    targets = targets_of(batch, torch.device("cpu"))
    features = network.features(x)
    silent = x.new_zeros(*x.shape[:2], network.config.d_model)
    sums = []
    for domain, weight in ((batch.domain, 1.0), (batch.broader, config.broader_heads)):
        t = targets._replace(domain=torch.from_numpy(domain))
        raw = network.heads(silent, features, x, t.domain)
        losses = forecast_losses(read_outputs(raw), t, scales)
        sums.append(weight * weighted_sum(losses, config.weights))
    return torch.stack(sums).sum()
