"""One step of training: losses of a window, their gradients, AdamW, and the running mean of the weights."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from emp.train.data import auxiliary
from emp.train.fit.captured import Captured, fuse
from emp.train.fit.config import TrainConfig
from emp.train.fit.losses import (
    AuxiliaryTargets,
    Scales,
    auxiliary_losses,
    forecast_losses,
    weighted_sum,
)
from emp.train.fit.windows import Window
from emp.train.net.network import Network, read_outputs

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
    return [
        {"params": matrices, "weight_decay": config.weight_decay, "rate": config.rate},
        {"params": others, "weight_decay": 0.0, "rate": config.rate},
        {"params": learned, "weight_decay": 0.0, "rate": config.rate * config.direct_rate},
    ]


class Fitting(NamedTuple):
    """What is fitted, by what beside the losses, and how streams are mixed."""

    groups: Groups = parameter_groups
    penalty: Penalty | None = None
    shares: tuple[float, ...] | None = None  # of the rows of an epoch, by stream; None: every stream whole
    name: str = ""  # tells runs of other groups or penalties apart in a checkpoint


WHOLE = Fitting()


class Learner:
    """A network, the auxiliary head and what trains them; `mean` is the network with the running mean of its weights.

    On a GPU the losses of a window and their gradients are one captured graph, of fused kernels in a long training.
    """

    def __init__(
        self, network: Network, scales: Scales, config: TrainConfig, fitting: Fitting, fused: bool = False
    ) -> None:
        """Begin with a network.

        Args:
            scales: sizes of moves, by domain.
            fused: compile its kernels, on a GPU: a minute that a long training earns back.
        """
        self.network, self.config, self.fitting = network, config, fitting
        self.device = next(network.parameters()).device
        self.scales = Scales(*(size.to(self.device) for size in scales))
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.helper = nn.Linear(network.config.d_model, auxiliary.OUTPUTS).to(self.device)
        self.mean = deepcopy(network).requires_grad_(False)
        on_gpu = self.device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            fitting.groups(network, self.helper, config),
            lr=config.rate,
            betas=(0.9, 0.95),
            fused=on_gpu or None,
        )
        self.trained = [*network.parameters(), *self.helper.parameters()]
        self.names: tuple[str, ...] = ()  # of the values of a step, once there was one
        self._losses = window_losses
        self._gradients: Callable[[Window, Tensor], tuple[Tensor, Tensor]] = self.gradients
        if on_gpu and fused:
            self._losses = fuse(network, window_losses)
        if on_gpu:
            self._gradients = Captured(self.gradients, self.optimizer)

    def learn(self, window: Window, state: Tensor, step: int, total: int) -> tuple[Tensor, Tensor]:
        """Take a step on one window.

        Args:
            window: what is learned from.
            state: [B, state_size], before its first event.
            step, total: steps before this one, and in all.

        Returns:
            the values by `names`, float32[K] (losses by task, their sum, the norm of the gradient), and the state after
            the window; both without gradient.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * schedule(self.config, step, total)
        values, state = self._gradients(window, state)
        self.optimizer.step()
        self._average(step + 1)
        return values, state

    def gradients(self, window: Window, state: Tensor) -> tuple[Tensor, Tensor]:
        """Leave the clipped gradients of a window in the parameters; values and state as of `learn`."""
        seen = window.x.clone()
        depth = window.x[..., auxiliary.DEPTH]
        seen[..., auxiliary.DEPTH] = torch.where(window.masked[..., None], 0.0, depth)
        with self.precision():
            carried = self.network(seen, state, window.targets.domain)
            helper = self.helper(carried.hidden)
            wider = self.network.heads(carried.hidden, carried.features, seen, window.broader)
        loss, losses = self._losses(carried.raw, wider, helper, window, self.scales, self.config)
        if self.fitting.penalty is not None:
            losses["penalty"] = self.fitting.penalty(self.network)
            loss = loss + losses["penalty"]
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.trained, self.config.clip)
        self.names = (*losses, "total", "gradient")
        values = torch.stack([*(one.detach() for one in losses.values()), loss.detach(), norm])
        return values, carried.state.detach()

    def precision(self) -> torch.autocast:
        """The precision of projections."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16)

    @torch.no_grad()
    def _average(self, steps: int) -> None:
        keep = min(self.config.average, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(list(self.mean.parameters()), list(self.network.parameters()), 1.0 - keep)


def window_losses(
    raw: Tensor, wider: Tensor, helper: Tensor, window: Window, scales: Scales, config: TrainConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum that is minimised, and the losses of a window by task.

    Args:
        raw, wider: raw outputs [B, T, RAW] of the heads of their own and of those of wider use.
        helper: of the auxiliary head, [B, T, OUTPUTS].
    """
    targets = window.targets
    aims = AuxiliaryTargets(window.next_kind, window.wait, window.depletion, window.x, window.masked)
    losses = forecast_losses(read_outputs(raw.float()), targets, scales)
    losses |= auxiliary_losses(helper.float(), aims)
    wide = targets._replace(domain=window.broader)
    own = forecast_losses(read_outputs(wider.float()), wide, scales)
    loss = weighted_sum(losses, config.weights)
    return loss + config.broader_heads * weighted_sum(own, config.weights), losses


def schedule(config: TrainConfig, step: int, total: int) -> float:
    """Linear warm-up, then a cosine down to nought at the last step."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    return warm * 0.5 * (1.0 + math.cos(math.pi * step / max(1, total)))
