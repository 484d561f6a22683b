"""Learn the depth encoder: the shared convolution and its gate, jointly with linear heads, on training rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from emp.core.ids import generator
from emp.core.records import HORIZONS, Array
from emp.perception.depth import CELLS_PER_POOL, CHANNELS, ENCODER, POOLS
from emp.perception.targets import CLASSES, NO_LABEL
from emp.train.data.mirror import without_depth
from emp.train.data.table import random_encoder

EPOCHS = 6
BATCH = 2048
LEARNING_RATE = 5e-3


class DepthNet(nn.Module):
    """The encoder of `perception.depth` in torch, and a linear classifier on it and the other inputs.

    Both sides go through the same taps, and the heads see the sum and the difference of the two sides, so that
    the whole obeys the mirror (`emp.train.data.mirror`).
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(encoder["value"], dtype=torch.float32))
        self.value_bias = nn.Parameter(torch.tensor(encoder["value_bias"], dtype=torch.float32))
        self.gate = nn.Parameter(torch.tensor(encoder["gate"], dtype=torch.float32))
        self.gate_bias = nn.Parameter(torch.tensor(encoder["gate_bias"], dtype=torch.float32))
        even, odd = without_depth()
        half = CHANNELS * POOLS
        self.even = torch.tensor(even, dtype=torch.float32)
        self.odd = torch.tensor(odd, dtype=torch.float32)
        self.flat = nn.Linear(even.shape[1] + half, HORIZONS)
        self.turn = nn.Linear(odd.shape[1] + half, HORIZONS, bias=False)
        nn.init.zeros_(self.flat.weight)
        nn.init.zeros_(
            self.flat.bias
        )  # not by torch's generator, which the seed of the training does not reach
        nn.init.zeros_(self.turn.weight)

    def features(self, cells: torch.Tensor) -> torch.Tensor:
        """Depth features of grids float32[n, 2, CELLS + 2]: float32[n, 2, CHANNELS * POOLS], bid side first."""
        n = cells.shape[0]
        flat = cells.reshape(2 * n, 1, -1)
        value = nn.functional.conv1d(flat, self.value[:, None], self.value_bias)
        gate = nn.functional.conv1d(flat, self.gate[:, None], self.gate_bias)
        gated = value * torch.sigmoid(gate)
        return nn.functional.avg_pool1d(gated, CELLS_PER_POOL).reshape(n, 2, CHANNELS * POOLS)

    def forward(self, cells: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Class logits float32[n, HORIZONS, CLASSES] from grids and model inputs (whose depth part is not used)."""
        depth = self.features(cells)
        even = torch.cat([x @ self.even, depth.sum(1)], dim=1)
        odd = torch.cat([x @ self.odd, depth[:, 0] - depth[:, 1]], dim=1)
        move, turn = self.flat(even), self.turn(odd)
        return torch.stack([move - turn, torch.zeros_like(move), move + turn], dim=2)


def train_encoder(
    cells: Array, x: Array, labels: Array, weight: Array, seed: int, progress: Callable[[int], None]
) -> Any:
    """Learn the encoder's weights.

    Args:
        cells: float32[n, 2, CELLS + 2] of training rows with depth.
        x: float32[n, INPUTS].
        labels: int8[n, HORIZONS] classes, NO_LABEL where there is none.
        weight: float64[n], how much a row counts.
        seed: names the run of random numbers.
        progress: called with the rows done.

    Returns:
        An ENCODER record, scaled so that the features of each channel have a root mean square of one.
    """
    torch.set_num_threads(1)
    rng = generator(seed, "encoder")
    net = DepthNet(random_encoder(rng))
    steps = EPOCHS * (len(x) // BATCH)
    adam = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(1, steps))
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = np.sort(order[start : start + BATCH])
            loss = _loss(net, cells[rows], x[rows], labels[rows], weight[rows])
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
            progress(BATCH)
    return _export(net, cells)


def _loss(net: DepthNet, cells: Array, x: Array, labels: Array, weight: Array) -> torch.Tensor:
    logits = net(torch.from_numpy(cells), torch.from_numpy(x)).reshape(-1, CLASSES)
    target = torch.from_numpy(labels.astype(np.int64)).reshape(-1)
    each = nn.functional.cross_entropy(logits, target, ignore_index=NO_LABEL, reduction="none")
    mass = torch.from_numpy(weight.astype(np.float32)).repeat_interleave(labels.shape[1])
    return (each * mass).sum() / mass.sum()


@torch.no_grad()
def _export(net: DepthNet, cells: Array) -> Any:
    step = max(1, len(cells) // 20_000)
    features = net.features(torch.from_numpy(np.ascontiguousarray(cells[::step])))
    size = features.reshape(-1, CHANNELS, POOLS).square().mean(dim=(0, 2)).sqrt().clamp_min(1e-6)
    encoder = np.zeros(1, ENCODER)
    encoder["value"] = (net.value / size[:, None]).numpy()
    encoder["value_bias"] = (net.value_bias / size).numpy()
    encoder["gate"], encoder["gate_bias"] = net.gate.numpy(), net.gate_bias.numpy()
    return encoder[0]
