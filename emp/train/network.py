"""The whole network: input map, backbone, heads. `emp.model.build_ssm` packs its tensors for serving."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from emp.core.records import HORIZONS, QUANTILES, Array
from emp.model.heads import CLASSES, LOGITS, MEANS_AT, QUANTILES_AT
from emp.model.ssm_config import SSMConfig
from emp.model.ssm_heads import BIG_MOVES_AT, RAW
from emp.perception.normalise import SESSION_AT
from emp.train.backbone import BackboneSSM


class Outputs(NamedTuple):
    """Heads by meaning; leading axes are those of the input."""

    logits: Tensor  # [..., HORIZONS, 3]: down, flat, up
    quantiles: Tensor  # [..., HORIZONS, 3] of delta_hat, ascending
    mean: Tensor  # [..., HORIZONS] of delta_hat
    big: Tensor  # [..., HORIZONS]: logit of a big move


class Heads(nn.Module):
    """One affine map per domain from (normed hidden state, model input) to the raw outputs."""

    def __init__(self, d_model: int, inputs: int, domains: int) -> None:
        super().__init__()
        self.hidden = nn.Parameter(torch.zeros(domains, d_model, RAW))
        self.direct = nn.Parameter(torch.zeros(domains, inputs, RAW))
        self.bias = nn.Parameter(torch.zeros(domains, RAW))

    def forward(self, hidden: Tensor, x: Tensor, domain: Tensor) -> Tensor:
        """Raw outputs [B, T, RAW] of hidden [B, T, d_model], x [B, T, inputs], domain int64[B]."""
        return hidden @ self.hidden[domain] + x @ self.direct[domain] + self.bias[domain][:, None]


def read_outputs(raw: Tensor) -> Outputs:
    """Split raw outputs; the outer quantiles lie a softplus to either side of the median."""
    shape = raw.shape[:-1]
    low, mid, high = raw[..., QUANTILES_AT:MEANS_AT].reshape(*shape, HORIZONS, len(QUANTILES)).unbind(-1)
    quantiles = torch.stack((mid - functional.softplus(low), mid, mid + functional.softplus(high)), -1)
    logits = raw[..., :LOGITS].reshape(*shape, HORIZONS, CLASSES)
    return Outputs(logits, quantiles, raw[..., MEANS_AT:BIG_MOVES_AT], raw[..., BIG_MOVES_AT:])


def _blind(stem: nn.Linear) -> None:
    """Keep the context inputs (session, liquidity, depth or none) out of the backbone; the heads still see them.

    Few values of them are met in training, each on few markets and days, so a deep model takes them for the
    name of the market: on another day's session it would answer for another market.
    """
    seen = torch.ones_like(stem.weight)
    seen[:, SESSION_AT:] = 0.0
    with torch.no_grad():
        stem.weight *= seen
    stem.weight.register_hook(lambda gradient: gradient * seen.to(gradient))  # type: ignore[no-untyped-call]


class Network(nn.Module):
    """From model inputs to raw head outputs, carrying the backbone's state."""

    def __init__(self, config: SSMConfig, inputs: int, domains: Sequence[str]) -> None:
        super().__init__()
        sizes = {name: getattr(config, name) for name in config.__struct_fields__ if name != "impl"}
        self.config = config
        self.inputs = inputs
        self.domains = tuple(domains)
        self.stem = nn.Linear(inputs, config.d_model)
        _blind(self.stem)
        self.backbone = BackboneSSM(impl=config.impl, **sizes)
        self.heads = Heads(config.d_model, inputs, len(self.domains))

    def forward(self, x: Tensor, state: Tensor | None, domain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Carry over T events.

        Args:
            x: [B, T, inputs].
            state: [B, state_size]; None is the start.
            domain: int64[B], the head of each stream.

        Returns:
            raw outputs [B, T, RAW], hidden [B, T, d_model] (for auxiliary heads), the state after.
        """
        hidden, state = self.backbone(self.stem(x), state)
        return self.heads(hidden, x, domain), hidden, state

    def tensors(self) -> dict[str, Array]:
        """Every weight by its name, float32: what an artifact holds."""
        return {
            name: t.detach().cpu().float().numpy().astype(np.float32) for name, t in self.state_dict().items()
        }
