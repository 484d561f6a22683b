"""Truncated back-propagation through time: carried state, a curriculum of lengths, checkpoints, one result per seed.

    trainer = Trainer(network, streams, scales, config)
    trainer.run(report, checkpoint=folder / "checkpoint.pt")
    best = trainer.averaged()

`Fitting` says what is fitted and by what, where it is not every weight of a network by its losses alone.

A checkpoint is written between groups of sequences, where no state is carried, so a resumed run goes on to the
same numbers as one that was never stopped (on the same machine, with as many threads).
"""

import math
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from emp.core.clock import Clock, LiveClock
from emp.core.errors import ArtifactError, UsageError
from emp.core.ids import generator
from emp.train.data import auxiliary
from emp.train.data.chunks import (
    BURN_IN,
    MOST_ROWS,
    Batch,
    Stream,
    burn_in,
    plan_epoch,
    quotas_of,
    window_batch,
    windows,
)
from emp.train.data.chunks import Sequence as Stretch
from emp.train.fit.judging import Judge, Judging
from emp.train.fit.losses import (
    AuxiliaryTargets,
    Scales,
    Weights,
    auxiliary_losses,
    forecast_losses,
    targets_of,
    weighted_sum,
)
from emp.train.net.network import Network, read_outputs

FORMAT = 3


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to train; the defaults are the roadmap's (C.3)."""

    seed: int = 0
    lr: float = 2e-4
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


class Step(NamedTuple):
    """What is reported after every window."""

    done: int  # windows
    total: int
    epoch: int
    length: int  # of sequences; 1 while features are learned from single rows
    events: int  # trained on so far in this run
    seconds: float  # since this run began
    losses: dict[str, float]

    @property
    def events_per_s(self) -> float:
        """Throughput of this run."""
        return self.events / max(self.seconds, 1e-9)


Report = Callable[[Step], None]


Penalty = Callable[[Network], Tensor]
"""What is added to the loss of every window, as a function of the weights."""

Groups = Callable[[Network, nn.Module, TrainConfig], list[dict[str, Any]]]
"""Parameters of a network and of the auxiliary head by groups, as AdamW takes them; "rate" is a group's."""


def parameter_groups(network: Network, helper: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, scales, step sizes, biases) do not; what is learned beforehand learns slowly."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    learned: list[Tensor] = []
    for name, p in [*network.named_parameters(), *helper.named_parameters()]:
        if name.startswith(("features.", "heads.features", "heads.direct")):
            learned.append(p)
        else:
            (matrices if name.endswith(("weight", "heads.hidden")) and p.dim() >= 2 else others).append(p)
    slow = config.lr * config.direct_rate
    return [
        {"params": matrices, "weight_decay": config.weight_decay, "rate": config.lr},
        {"params": others, "weight_decay": 0.0, "rate": config.lr},
        {"params": learned, "weight_decay": 0.0, "rate": slow},
    ]


class Fitting(NamedTuple):
    """What is fitted, by what beside the losses, and how streams are mixed."""

    groups: Groups = parameter_groups
    penalty: Penalty | None = None
    shares: tuple[float, ...] | None = None  # of the rows of an epoch, by stream; None: every stream whole
    name: str = ""  # tells runs of other groups or penalties apart in a checkpoint


WHOLE = Fitting()


class Trainer:
    """Trains a network on streams; `losses` has one row per window.

    With a judge, `history` has its loss of the averaged weights at the start and after every epoch, and `best`
    the weights with the least; an epoch is judged while the next one trains. A checkpoint holds no trace of where it
    was written: a run may go on on another kind of device.
    """

    def __init__(
        self,
        network: Network,
        streams: Sequence[Stream],
        scales: Scales,
        config: TrainConfig,
        judge: Judge | None = None,
        clock: Clock | None = None,
        fitting: Fitting = WHOLE,
    ) -> None:
        self.network, self.streams, self.config, self.fitting = network, streams, config, fitting
        self.judging = Judging(judge) if judge else None
        self.clock = clock or LiveClock()
        self.device = next(network.parameters()).device
        self.scales = Scales(*(size.to(self.device) for size in scales))
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.helper = nn.Linear(network.config.d_model, auxiliary.OUTPUTS).to(self.device)
        self.mean = deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            fitting.groups(network, self.helper, config), lr=config.lr, betas=(0.9, 0.95)
        )
        self.epochs = [length for length, epochs in config.curriculum for _ in range(epochs)]
        quotas = None if fitting.shares is None else quotas_of(streams, fitting.shares, config.rows)
        self.plans = [
            plan_epoch(streams, length, config.lanes, config.seed, epoch, config.rows, quotas)
            for epoch, length in enumerate(self.epochs)
        ]
        self.total = sum(_windows(group) for plan in self.plans for group in plan)
        self.epoch = self.group = self.step = 0
        self.losses: list[dict[str, float]] = []
        self.history: list[float] = []
        self.best: dict[str, Tensor] = {}
        self._events = 0
        self._began = self.clock.monotonic_ns()

    def run(
        self,
        report: Report | None = None,
        checkpoint: Path | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> bool:
        """Train to the end of the curriculum, or until `stop` says so between groups.

        Returns:
            Whether the curriculum is finished.
        """
        self._began = self.clock.monotonic_ns()
        self._events = 0
        if self.step == 0:
            self._keep_best()
        while self.epoch < len(self.epochs):
            plan = self.plans[self.epoch]
            while self.group < len(plan):
                self.train_group(plan[self.group], report)
                self.group += 1
                if checkpoint and self.group % self.config.checkpoint_every == 0:
                    self.save(checkpoint)
                if stop and stop():
                    return False
            self.epoch, self.group = self.epoch + 1, 0
            self._keep_best()
            if checkpoint:
                self.save(checkpoint)
        self._collect()
        return True

    def _keep_best(self) -> None:
        """Have this epoch's weights judged while the next one trains."""
        if self.judging is not None:
            self._collect()
            self.judging.begin(self.mean)

    def _collect(self) -> None:
        """Note the loss of the weights that are being judged, and keep them where it is the least."""
        verdict = self.judging.collect() if self.judging is not None else None
        if verdict is not None:
            if not self.history or verdict.loss < min(self.history):
                self.best = verdict.weights
            self.history.append(verdict.loss)

    def averaged(self) -> Network:
        """The network with the running mean of its weights, which generalises better than the last ones."""
        return self.mean

    # --- one group

    def train_group(self, group: Sequence[Stretch], report: Report | None = None) -> None:
        """Take one step for every window of a group of sequences."""
        state = self._burned_in(group)
        for window in range(_windows(group)):
            batch = window_batch(self.streams, group, window)
            losses, state = self._train_window(batch, state)
            self.losses.append(losses)
            self._events += int((batch.weight > 0).sum())
            if report:
                seconds = (self.clock.monotonic_ns() - self._began) / 1e9
                length = self.epochs[self.epoch]
                report(Step(self.step, self.total, self.epoch, length, self._events, seconds, losses))

    @torch.no_grad()
    def _burned_in(self, group: Sequence[Stretch]) -> Tensor:
        """State of every lane after its burn-in; a lane that begins its segment starts from zero."""
        x, burn = burn_in(self.streams, group)
        state = self.network.backbone.start(len(group))
        for length in np.unique(burn[burn > 0]):
            lanes = torch.from_numpy(np.flatnonzero(burn == length)).to(self.device)
            part = torch.from_numpy(x[burn == length, BURN_IN - int(length) :]).to(self.device)
            with self._precision():
                _, after = self.network.backbone(self.network.embed(part)[0], state[lanes])
            state[lanes] = after
        return state

    def _train_window(self, batch: Batch, state: Tensor) -> tuple[dict[str, float], Tensor]:
        for parameters in self.optimizer.param_groups:
            parameters["lr"] = parameters["rate"] * self._schedule()
        x = torch.from_numpy(batch.x).to(self.device)
        masked = self._masked(x.shape[:2])
        seen = x.clone()
        seen[..., auxiliary.DEPTH] = torch.where(masked[..., None], 0.0, x[..., auxiliary.DEPTH])
        targets = targets_of(batch, self.device)
        with self._precision():
            carried = self.network(seen, state, targets.domain)
            helper = self.helper(carried.hidden)
            broader = torch.from_numpy(batch.broader).to(self.device)
            wider = self.network.heads(carried.hidden, carried.features, seen, broader)
        losses = forecast_losses(read_outputs(carried.raw.float()), targets, self.scales)
        losses |= auxiliary_losses(helper.float(), _auxiliary_targets(batch, x, masked))
        loss = weighted_sum(losses, self.config.weights)
        wide = targets._replace(domain=broader)
        own = forecast_losses(read_outputs(wider.float()), wide, self.scales)
        loss = loss + self.config.broader_heads * weighted_sum(own, self.config.weights)
        if self.fitting.penalty is not None:
            losses["penalty"] = self.fitting.penalty(self.network)
            loss = loss + losses["penalty"]

        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        trained = [*self.network.parameters(), *self.helper.parameters()]
        norm = float(nn.utils.clip_grad_norm_(trained, self.config.clip))
        if not math.isfinite(norm):
            raise ArtifactError(
                f"training diverged at step {self.step}: the gradient is {norm}: lower the learning rate"
            )
        self.optimizer.step()
        self.step += 1
        self._average()
        values = {name: float(value.detach()) for name, value in losses.items()}
        return values | {"total": float(loss.detach()), "gradient": norm}, carried.state.detach()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16)

    def _schedule(self) -> float:
        """Linear warm-up, then a cosine down to nought at the last step."""
        warm = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        return warm * 0.5 * (1.0 + math.cos(math.pi * self.step / max(1, self.total)))

    def _masked(self, shape: torch.Size) -> Tensor:
        rng = generator(self.config.seed, "mask", self.step)
        return torch.from_numpy(rng.random(tuple(shape)) < self.config.masked_share).to(self.device)

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.config.average, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.mean.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, 1.0 - keep)

    # --- checkpoints

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        torch.save(
            {
                "format": FORMAT,
                "fingerprint": self._fingerprint(),
                "network": self.network.state_dict(),
                "mean": self.mean.state_dict(),
                "helper": self.helper.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "place": [self.epoch, self.group, self.step],
                "losses": self.losses,
                "history": self.history,
                "best": self.best,
                "waiting": self.judging.waiting if self.judging is not None else None,
            },
            scratch,
        )
        os.replace(scratch, path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same network, data and configuration.

        Raises:
            UsageError: the checkpoint cannot be read, or belongs to another run.
        """
        try:
            kept = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:
            raise UsageError(f"{path}: not a readable checkpoint: {str(error).splitlines()[0]}") from error
        if kept.get("format") != FORMAT or kept["fingerprint"] != self._fingerprint():
            raise UsageError(f"{path}: belongs to another run: model, data or settings differ")
        self.network.load_state_dict(kept["network"])
        self.mean.load_state_dict(kept["mean"])
        self.helper.load_state_dict(kept["helper"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.epoch, self.group, self.step = kept["place"]
        self.losses, self.history, self.best = kept["losses"], kept["history"], kept["best"]
        if self.judging is not None and kept["waiting"] is not None:
            self.judging.begin(self.mean, kept["waiting"])

    def _fingerprint(self) -> str:
        """Names everything that a run's numbers depend on, apart from the machine."""
        data = [
            (s.name, len(s.x), s.domain, float(s.weight), float(np.abs(s.x).sum(dtype=np.float64)))
            for s in self.streams
        ]
        fitted = (self.fitting.name, self.fitting.shares) if self.fitting != WHOLE else ()
        return repr(
            (msgspec.to_builtins(self.config), msgspec.to_builtins(self.network.config), data, *fitted)
        )


def _windows(group: Sequence[Stretch]) -> int:
    return max(windows(sequence) for sequence in group)


def _auxiliary_targets(batch: Batch, x: Tensor, masked: Tensor) -> AuxiliaryTargets:
    kind, wait, depletion = (torch.from_numpy(a).to(x.device) for a in batch.auxiliary)
    return AuxiliaryTargets(kind, wait, depletion, x, masked)
