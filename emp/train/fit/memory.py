"""Is long memory real? A recall task that only a state carried over the whole stretch can solve.

Once, at its start, a sequence shows a symbol under a flag; noise that looks like symbols follows for thousands
of events; a query at the end asks which symbol it was. Whoever sees only the last events must guess.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from emp.core.ids import generator
from emp.core.records import Array
from emp.model.ssm_config import Impl
from emp.train.data.chunks import WINDOW
from emp.train.net.backbone import BackboneSSM

BITS = 2
SYMBOLS = 1 << BITS
FLAG, QUERY = BITS, BITS + 1
CHANNELS = BITS + 2
CHANCE = 1.0 / SYMBOLS
SOLVED = 0.99

SIZES = {"d_model": 32, "layers": 2, "d_state": 16, "headdim": 16, "attention_heads": 2, "window": 32}

Model = Callable[[Tensor], Tensor]
"""Maps x [B, T, CHANNELS] to logits [B, SYMBOLS] at the last event."""


class Stage(NamedTuple):
    """Steps of training at one length."""

    length: int
    sequences: int
    steps: int


CURRICULUM = (
    Stage(64, 64, 110),
    Stage(256, 32, 15),
    Stage(1024, 16, 40),
    Stage(4096, 8, 30),
    Stage(8192, 4, 20),
    Stage(16384, 2, 30),
)


class Point(NamedTuple):
    """One step of a training curve."""

    length: int
    loss: float
    accuracy: float


def recall_batch(rng: np.random.Generator, sequences: int, length: int) -> tuple[Array, Array]:
    """x float32[sequences, length, CHANNELS] and the symbols int64[sequences] to be recalled.

    Every event carries random bits; only the first event's are flagged, the last asks.
    """
    bits = rng.integers(0, 2, (sequences, length, BITS))
    x = np.zeros((sequences, length, CHANNELS), np.float32)
    x[..., :BITS] = 2 * bits - 1
    x[:, 0, FLAG] = 1.0
    x[:, -1, :BITS] = 0.0
    x[:, -1, QUERY] = 1.0
    return x, (bits[:, 0] << np.arange(BITS)).sum(-1)


class Recaller(nn.Module):
    """The backbone between an input map and a classifier."""

    def __init__(self, impl: Impl = "mamba3") -> None:
        super().__init__()
        self.stem = nn.Linear(CHANNELS, SIZES["d_model"])
        self.backbone = BackboneSSM(impl=impl, **SIZES)
        self.head = nn.Linear(SIZES["d_model"], SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the last event; the state is carried over windows, and the gradient with it."""
        state = self.backbone.start(len(x))
        hidden = x.new_zeros(len(x), 1, SIZES["d_model"])
        for at in range(0, x.shape[1], WINDOW):
            hidden, state = self.backbone(self.stem(x[:, at : at + WINDOW]), state)
        logits: Tensor = self.head(hidden[:, -1])
        return logits


class Windowed(nn.Module):
    """A model of the last `window` events, as published order-book models are: convolutions, then a classifier."""

    def __init__(self, window: int = 100, width: int = 32) -> None:
        super().__init__()
        self.window = window
        self.body = nn.Sequential(
            nn.Conv1d(CHANNELS, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(width * window, 64),
            nn.ReLU(),
            nn.Linear(64, SYMBOLS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits from the last events alone; a shorter input is padded in front."""
        last = x[:, -self.window :]
        last = functional.pad(last, (0, 0, self.window - last.shape[1], 0))
        logits: Tensor = self.body(last.transpose(1, 2))
        return logits


def train_recall(
    model: nn.Module,
    seed: int,
    curriculum: tuple[Stage, ...] = CURRICULUM,
    lr: float = 3e-3,
    report: Callable[[int, int, Point], None] | None = None,
) -> list[Point]:
    """Train on growing lengths; return the curve."""
    rng = generator(seed, "recall train")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    total = sum(stage.steps for stage in curriculum)
    curve: list[Point] = []
    for stage in curriculum:
        for _ in range(stage.steps):
            x, symbol = (torch.from_numpy(a) for a in recall_batch(rng, stage.sequences, stage.length))
            logits = model(x)
            loss = functional.cross_entropy(logits, symbol)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            accuracy = float((logits.argmax(-1) == symbol).float().mean())
            curve.append(Point(stage.length, float(loss.detach()), accuracy))
            if report:
                report(len(curve), total, curve[-1])
    return curve


@torch.no_grad()
def recall_accuracy(model: nn.Module, seed: int, length: int, sequences: int = 128, batch: int = 16) -> float:
    """Share of symbols recalled over sequences of a length that training never drew."""
    rng = generator(seed, "recall test", length)
    right = 0
    for at in range(0, sequences, batch):
        size = min(batch, sequences - at)
        x, symbol = (torch.from_numpy(a) for a in recall_batch(rng, size, length))
        right += int((model(x).argmax(-1) == symbol).sum())
    return right / sequences
