"""Learn the head of a new market on a frozen body, row by row: first the head, then what lies below it (Kumar et al.
2022, arXiv 2202.10054), so that a head that knows nothing yet does not pull the body about.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emp.core.ids import generator
from emp.train.data.chunks import Stream, burn_in, plan_epoch, window_batch, windows
from emp.train.fit.arms import AdaptSettings
from emp.train.fit.features import schedule
from emp.train.fit.losses import Scales, Targets, Weights, forecast_losses, targets_of, weighted_sum
from emp.train.net.network import Network, read_outputs

ROWS = 512
"""Rows of a step."""

PASSES = 2
"""Passes of the frozen body over a series: each sequence is seen in the mirror or not, at random."""


class _Rows:
    """Rows of one series: what the body makes of them and what they are trained by."""

    def __init__(self, parts: list[tuple[Tensor, ...]], domain: Tensor) -> None:
        columns = (torch.cat(column) for column in zip(*parts, strict=True))
        self.hidden, self.features, self.x, self.delta_hat, self.labels, self.pos_weight, self.weight = (
            columns
        )
        self.domain = domain

    def loss(self, network: Network, rows: Tensor, scales: Scales, weights: Weights) -> Tensor:
        """The loss of the head on some rows."""
        raw = network.heads(
            self.hidden[rows][None], self.features[rows][None], self.x[rows][None], self.domain
        )
        told = (self.delta_hat, self.labels, self.pos_weight, self.weight)
        targets = Targets(self.domain, *(column[rows][None] for column in told))
        return weighted_sum(forecast_losses(read_outputs(raw), targets, scales), weights)


def learn_heads(
    network: Network, streams: Sequence[Stream], scales: Scales, settings: AdaptSettings, weights: Weights
) -> list[float]:
    """Train the parameters of the heads that are set to train, in place, on all rows of some series.

    Returns:
        the loss of every step.
    """
    seen = [_rows(network, stream, settings) for stream in streams]
    parameters = [p for p in network.heads.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=settings.head_lr)
    order = _order(seen, settings)
    losses: list[float] = []
    for step, (at, rows) in enumerate(order):
        for group in optimizer.param_groups:
            group["lr"] = settings.head_lr * schedule(step, len(order))
        loss = seen[at].loss(network, rows, scales, weights)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _order(seen: Sequence[_Rows], settings: AdaptSettings) -> list[tuple[int, Tensor]]:
    found: list[tuple[int, Tensor]] = []
    for epoch in range(settings.head_epochs):
        rng = generator(settings.seed, "heads", epoch)
        batches: list[tuple[int, Any]] = []
        for at, one in enumerate(seen):
            rows = rng.permutation(len(one.x))[: max(1, len(one.x) // PASSES)]
            batches += [(at, rows[i : i + ROWS]) for i in range(0, len(rows), ROWS)]
        found += [(batches[i][0], torch.from_numpy(batches[i][1])) for i in rng.permutation(len(batches))]
    return found


@torch.no_grad()
def _rows(network: Network, stream: Stream, settings: AdaptSettings) -> _Rows:
    parts = []
    for epoch in range(PASSES):
        for group in plan_epoch([stream], settings.length, 1, settings.seed, epoch, settings.rows):
            x, burn = burn_in([stream], group)
            state = None
            if burn[0]:
                before = torch.from_numpy(np.ascontiguousarray(x[:, x.shape[1] - int(burn[0]) :]))
                state = network.backbone(network.embed(before)[0], None)[1]
            for window in range(windows(group[0])):
                batch = window_batch([stream], group, window)
                targets = targets_of(batch, torch.device("cpu"))
                features_in = torch.from_numpy(batch.x)
                carried = network(features_in, state, targets.domain)
                state = carried.state
                used = targets.weight[0] > 0
                columns = (carried.hidden, carried.features, features_in, *targets[1:])
                parts.append(tuple(column[0][used] for column in columns))
    return _Rows(parts, torch.tensor([stream.domain]))
