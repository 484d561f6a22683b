"""Bilinear input normalisation (Tran et al. 2021, arXiv 2109.00983): a window scaled along time and along features.

Two standardised copies of a window, one by the mean and deviation of each feature over time, one by those of each
moment over features, are scaled, shifted and mixed with weights that are learned and do not become negative.
"""

import torch
from torch import Tensor, nn

FLOOR = 1e-4
"""Deviation below which a row does not vary."""


class BilinearNorm(nn.Module):
    """x [B, window, features] to the same shape."""

    def __init__(self, window: int, features: int) -> None:
        super().__init__()
        self.feature_scale = nn.Parameter(torch.ones(features))
        self.feature_shift = nn.Parameter(torch.zeros(features))
        self.time_scale = nn.Parameter(torch.ones(window, 1))
        self.time_shift = nn.Parameter(torch.zeros(window, 1))
        self.mix = nn.Parameter(torch.full((2,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise windows."""
        over_time = _standard(x, 1) * self.feature_scale + self.feature_shift
        over_features = _standard(x, 2) * self.time_scale + self.time_shift
        share = self.mix.clamp(min=0.0)
        return share[0] * over_time + share[1] * over_features


def _standard(x: Tensor, dim: int) -> Tensor:
    deviation, mean = torch.std_mean(x, dim, correction=0, keepdim=True)
    return (x - mean) / torch.where(deviation < FLOOR, torch.ones_like(deviation), deviation)
