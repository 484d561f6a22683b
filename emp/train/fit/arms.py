"""Ways to adapt a trained model to new markets, by name, and the settings that they share."""

from typing import NamedTuple

import msgspec

from emp.train.net.adapters import Where


class Arm(NamedTuple):
    """One way: what learns, and what holds it."""

    trained: Where = "nowhere"  # blocks of the body that are trained as they are
    low_rank: Where = "nowhere"  # linear maps with an adapter
    rank: int = 8  # of the adapters
    l2_sp: bool = False
    ewc: bool = False
    rehearse: bool = False
    affine: bool = False  # the new head is the shared one with a scale and an offset, not one of its own
    sequences: bool = True  # train on sequences after the new head was learned


ARMS: dict[str, Arm] = {
    "head": Arm(sequences=False),
    "freeze": Arm(trained="top"),
    "lora": Arm(low_rank="top"),
    "lora_all": Arm(low_rank="everywhere", rank=4),
    "lora_l2sp": Arm(low_rank="top", l2_sp=True),
    "lora_l2sp_rehearsal": Arm(low_rank="top", l2_sp=True, rehearse=True),
    "lora_affine": Arm(low_rank="top", l2_sp=True, rehearse=True, affine=True),
    "ewc": Arm(trained="everywhere", ewc=True),
    "full": Arm(trained="everywhere"),
}
"""The new head is learned first, on the frozen body, in all of them (Kumar et al. 2022, arXiv 2202.10054)."""

DEFAULT = "lora_l2sp_rehearsal"
"""The roadmap's: the bottom frozen, low-rank adapters on the top, L2-SP, rehearsal."""


class AdaptSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to adapt."""

    seed: int = 0
    lr: float = 1e-3
    epochs: int = 4  # of sequences
    length: int = 4096  # of sequences
    lanes: int = 1
    head_epochs: int = 6  # of single rows, for the new head, before the sequences
    head_lr: float = 1e-2
    rehearsal: float = 0.25  # share of rows that are of the series to be kept
    alpha: float = 0.01  # L2-SP of the body
    beta: float = 0.01  # L2-SP of the new head
    fisher_rows: int = 8192  # of each series to be kept, for EWC
    rows: int = 130_000  # of one series that an epoch takes

    def __post_init__(self) -> None:
        if not 0.0 < self.rehearsal < 1.0:
            raise ValueError(f"rehearsal must lie between 0 and 1, was {self.rehearsal}")
        for name in ("lr", "head_lr"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"{name} must be above 0, was {getattr(self, name)}")
        for name in ("length", "lanes", "rows", "fisher_rows", "head_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, was {getattr(self, name)}")
