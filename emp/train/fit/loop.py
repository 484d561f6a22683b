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
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from emp.core.clock import Clock, LiveClock
from emp.core.errors import ArtifactError, UsageError
from emp.train.data.chunks import BURN_IN, WINDOW, Stream, burn_in, plan_epoch, quotas_of, spans, windows
from emp.train.data.chunks import Sequence as Stretch
from emp.train.fit.captured import WORTH_FUSING, plain
from emp.train.fit.config import TrainConfig
from emp.train.fit.judging import Judge, Judging
from emp.train.fit.learner import WHOLE, Fitting, Learner
from emp.train.fit.losses import Scales
from emp.train.fit.windows import windows_of
from emp.train.net.network import Network

FORMAT = 4


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
        fused: bool | None = None,
    ) -> None:
        """`fused` compiles a GPU's kernels; None: where the training is long enough to earn it back."""
        self.network, self.streams, self.config, self.fitting = network, streams, config, fitting
        self.judging = Judging(judge) if judge else None
        self.clock = clock or LiveClock()
        self.epochs = [length for length, epochs in config.curriculum for _ in range(epochs)]
        quotas = None if fitting.shares is None else quotas_of(streams, fitting.shares, config.rows)
        self.plans = [
            plan_epoch(streams, length, config.lanes, config.seed, epoch, config.rows, quotas)
            for epoch, length in enumerate(self.epochs)
        ]
        self.total = sum(_windows(group) for plan in self.plans for group in plan)
        if fused is None:
            fused = self.total * config.lanes * WINDOW >= WORTH_FUSING
        self.learner = Learner(network, scales, config, fitting, fused)
        self.device = self.learner.device
        self.windows = windows_of(streams, config, self.device)
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
            self.judging.begin(self.learner.mean)

    def _collect(self) -> None:
        """Note the loss of the weights that are being judged, and keep them where it is the least."""
        verdict = self.judging.collect() if self.judging is not None else None
        if verdict is not None:
            if not self.history or verdict.loss < min(self.history):
                self.best = verdict.weights
            self.history.append(verdict.loss)

    def averaged(self) -> Network:
        """The network with the running mean of its weights, which generalises better than the last ones."""
        return self.learner.mean

    # --- one group

    def train_group(self, group: Sequence[Stretch], report: Report | None = None) -> None:
        """Take one step for every window of a group of sequences.

        Raises:
            ArtifactError: a gradient is not finite.
        """
        state = self._burned_in(group)
        waiting = []
        for number in range(_windows(group)):
            window = self.windows.window(group, number, self.step)
            values, state = self.learner.learn(window, state, self.step, self.total)
            self.step += 1
            rows = sum(
                int(self.streams[at].use[span].sum())
                for (at, *_), span in zip(group, spans(group, number), strict=True)
            )
            waiting.append((values, rows))
            if self.device.type == "cpu":
                self._settle(waiting, report)
        self._settle(waiting, report)

    def _settle(self, waiting: list[tuple[Tensor, int]], report: Report | None) -> None:
        """Note what steps came to; a GPU is asked once a group, since it would wait for every answer."""
        if not waiting:
            return
        first = self.step - len(waiting)
        found = torch.stack([values for values, _ in waiting]).tolist()
        for at, (values, (_, rows)) in enumerate(zip(found, waiting, strict=True)):
            losses = dict(zip(self.learner.names, values, strict=True))
            if not math.isfinite(losses["gradient"]):
                raise ArtifactError(
                    f"training diverged at step {first + at}: the gradient is {losses['gradient']}:"
                    " lower the learning rate"
                )
            self.losses.append(losses)
            self._events += rows
            if report:
                seconds = (self.clock.monotonic_ns() - self._began) / 1e9
                length = self.epochs[self.epoch]
                report(Step(first + at + 1, self.total, self.epoch, length, self._events, seconds, losses))
        waiting.clear()

    @torch.no_grad()
    def _burned_in(self, group: Sequence[Stretch]) -> Tensor:
        """State of every lane after its burn-in; a lane that begins its segment starts from zero."""
        x, burn = burn_in(self.streams, group)
        state = self.network.backbone.start(self.windows.lanes(group))
        for length in np.unique(burn[burn > 0]):
            lanes = torch.from_numpy(np.flatnonzero(burn == length)).to(self.device)
            part = torch.from_numpy(x[burn == length, BURN_IN - int(length) :]).to(self.device)
            with self.learner.precision(), plain():
                _, after = self.network.backbone(self.network.embed(part)[0], state[lanes])
            state[lanes] = after
        return state

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
                "mean": self.learner.mean.state_dict(),
                "helper": self.learner.helper.state_dict(),
                "moments": self.learner.optimizer.state_dict()["state"],
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
        self.learner.mean.load_state_dict(kept["mean"])
        self.learner.helper.load_state_dict(kept["helper"])
        groups = self.learner.optimizer.state_dict()["param_groups"]
        self.learner.optimizer.load_state_dict({"state": kept["moments"], "param_groups": groups})
        self.epoch, self.group, self.step = kept["place"]
        self.losses, self.history, self.best = kept["losses"], kept["history"], kept["best"]
        if self.judging is not None and kept["waiting"] is not None:
            self.judging.begin(self.learner.mean, kept["waiting"])

    def _fingerprint(self) -> str:
        """Names everything that a run's numbers depend on, apart from the machine."""
        sums = [
            f"{np.abs(s.x).sum(dtype=np.float64):.6g}" for s in self.streams
        ]  # another CPU adds otherwise
        data = [
            (s.name, len(s.x), s.domain, f"{s.weight:.6g}", total)
            for s, total in zip(self.streams, sums, strict=True)
        ]
        fitted = (self.fitting.name, self.fitting.shares) if self.fitting != WHOLE else ()
        return repr(
            (msgspec.to_builtins(self.config), msgspec.to_builtins(self.network.config), data, *fitted)
        )


def _windows(group: Sequence[Stretch]) -> int:
    return max(windows(sequence) for sequence in group)
