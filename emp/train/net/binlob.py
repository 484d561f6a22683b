"""A network of the class of FastBiNLOB (Hedges 2026, arXiv 2606.25986): dense mixing along one axis at a time, no
attention and no recurrence, so that one window costs a few matrix products; our own code and sizes.

A window of books is normalised (`bilinear.py`) and mapped to HIDDEN features; each block mixes moments, then features;
the last moment and the mean over moments are read. One trunk serves all horizons here, with a classifier each; windows
are DeepLOB's.
"""

import torch
from torch import Tensor, nn

from emp.core.records import HORIZONS, LEVELS
from emp.perception.targets import CLASSES
from emp.train.net.bilinear import BilinearNorm
from emp.train.net.deeplob import WINDOW

HIDDEN, BLOCKS = 96, 3


class BiNLOB(nn.Module):
    """x [B, WINDOW, 4 * levels] to class logits [B, HORIZONS, CLASSES] at the last event of the window."""

    def __init__(self, levels: int = LEVELS) -> None:
        super().__init__()
        self.norm = BilinearNorm(WINDOW, 4 * levels)
        self.embed = nn.Linear(4 * levels, HIDDEN)
        self.blocks = nn.Sequential(*(_Block() for _ in range(BLOCKS)))
        self.last = nn.LayerNorm(HIDDEN)
        self.head = nn.Linear(2 * HIDDEN, HORIZONS * CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Classify windows of books."""
        seen = self.last(self.blocks(self.embed(self.norm(x))))
        logits: Tensor = self.head(torch.cat((seen[:, -1], seen.mean(1)), -1)).reshape(-1, HORIZONS, CLASSES)
        return logits


class _Block(nn.Module):
    """[B, WINDOW, HIDDEN] to the same: a dense map over moments, then one over features, each beside what it maps."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
        self.moments = nn.Sequential(nn.Linear(WINDOW, WINDOW), nn.GELU(), nn.Linear(WINDOW, WINDOW))
        self.features = nn.Sequential(nn.Linear(HIDDEN, 2 * HIDDEN), nn.GELU(), nn.Linear(2 * HIDDEN, HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.moments(self.before(x).transpose(1, 2)).transpose(1, 2)
        return torch.as_tensor(x + self.features(self.between(x)))
