"""How to train: what a settings file may say under `train:`."""

import math

import msgspec

from emp.train.data.chunks import MOST_ROWS
from emp.train.fit.losses import Weights

FEW_LANES = 4
"""Sequences side by side for which `lr` is meant."""


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train; the defaults are the roadmap's (C.3)."""

    seed: int = 0
    lr: float = 2e-4  # for four lanes or fewer, see `rate`
    direct_rate: float = 0.05  # learning rate, in shares of lr, of what is learned before the backbone
    features_epochs: int = 6  # of learning the features, before the backbone
    features_lr: float = 2e-3
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup_steps: int = 20
    lanes: int = 4
    rows: int = MOST_ROWS  # of one series that an epoch takes
    curriculum: tuple[tuple[int, int], ...] = ((4096, 1), (8192, 1), (16384, 1))  # (length, epochs)
    class_weight: float = 0.5  # power of the class weights: 0 counts rows alike, 1 counts classes alike
    masked_share: float = 0.15  # of events whose depth is hidden
    broader_heads: float = 0.25  # weight of the loss of the heads that serve several series, or unknown ones
    average: float = 0.99  # decay of the running mean of the weights
    checkpoint_every: int = 16  # groups
    bf16: bool = False  # projections in bfloat16; the recurrence stays in float32
    weights: Weights = Weights()

    @property
    def rate(self) -> float:
        """The learning rate: it grows with the root of the lanes beyond four, as that of Adam does with the size of a
        batch while noise rules the gradient (Malladi et al. 2022, arXiv 2205.10287).
        """
        return self.lr * math.sqrt(max(self.lanes, FEW_LANES) / FEW_LANES)
