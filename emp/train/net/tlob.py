"""TLOB (Berti and Kasneci 2025, arXiv 2502.15757): attention over time and over features in turn, our own code.

A window of books is normalised (`bilinear.py`), mapped to HIDDEN features, and goes through PAIRS pairs of transformer
layers: the first of a pair attends over moments, the second over features. The last pair narrows both, and two dense
layers read what is left. One trunk serves all horizons here, with a classifier each; windows are DeepLOB's.
"""

import torch
from torch import Tensor, nn

from emp.core.records import HORIZONS, LEVELS
from emp.perception.targets import CLASSES
from emp.train.net.bilinear import BilinearNorm
from emp.train.net.deeplob import WINDOW

HIDDEN, PAIRS, NARROWED, READ = 40, 4, 4, 128


class TLOB(nn.Module):
    """x [B, WINDOW, 4 * levels] to class logits [B, HORIZONS, CLASSES] at the last event of the window."""

    def __init__(self, levels: int = LEVELS) -> None:
        super().__init__()
        self.norm = BilinearNorm(WINDOW, 4 * levels)
        self.embed = nn.Linear(4 * levels, HIDDEN)
        self.place = nn.Parameter(0.02 * torch.randn(WINDOW, HIDDEN))
        moments, features = WINDOW // NARROWED, HIDDEN // NARROWED
        whole = [(_Layer(HIDDEN, HIDDEN), _Layer(WINDOW, WINDOW)) for _ in range(PAIRS - 1)]
        pairs = [*whole, (_Layer(HIDDEN, features), _Layer(WINDOW, moments))]
        self.over_time = nn.ModuleList(pair[0] for pair in pairs)
        self.over_features = nn.ModuleList(pair[1] for pair in pairs)
        self.head = nn.Sequential(
            nn.Linear(moments * features, READ), nn.GELU(), nn.Linear(READ, HORIZONS * CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify windows of books."""
        seen = self.embed(self.norm(x)) + self.place
        for over_time, over_features in zip(self.over_time, self.over_features, strict=True):
            seen = over_features(over_time(seen).transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.head(seen.flatten(1)).reshape(-1, HORIZONS, CLASSES)
        return logits


class _Layer(nn.Module):
    """Self-attention of one head over rows [B, rows, width], then a dense part to another width."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked = nn.Linear(width, 3 * width)
        self.told = nn.Linear(width, width)
        self.dense = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, out))
        self.past = nn.Identity() if out == width else nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.asked(self.before(x)).chunk(3, -1)
        x = x + self.told(nn.functional.scaled_dot_product_attention(query, key, value))
        return torch.as_tensor(self.past(x) + self.dense(self.between(x)))
