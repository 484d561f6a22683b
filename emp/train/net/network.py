"""The whole network: gated features, backbone, heads. `emp.model.build_ssm` packs its tensors for serving."""

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
from emp.perception.normalise import INPUT_NAMES, SESSION_AT
from emp.train.net.backbone import BackboneSSM


class Outputs(NamedTuple):
    """Heads by meaning; leading axes are those of the input."""

    logits: Tensor  # [..., HORIZONS, 3]: down, flat, up
    quantiles: Tensor  # [..., HORIZONS, 3] of delta_hat, ascending
    mean: Tensor  # [..., HORIZONS] of delta_hat
    big: Tensor  # [..., HORIZONS]: logit of a big move


class Features(nn.Module):
    """Two gated linear units (Dauphin et al. 2017) over the input, the second beside a skip: no memory."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, 2 * features)
        self.second = nn.Linear(features, 2 * features)

    def forward(self, x: Tensor) -> Tensor:
        """Features [..., features] of x [..., inputs]."""
        first = functional.glu(self.first(x), -1)
        return first + functional.glu(self.second(first), -1)


class Heads(nn.Module):
    """An affine map per domain from (normed hidden state, features, model input) to the raw outputs.

    Shared heads have one map, and per domain a scale and an offset of every output.
    """

    def __init__(self, config: SSMConfig, inputs: int, domains: int) -> None:
        super().__init__()
        self.shared = config.heads_kind == "shared"
        maps = 1 if self.shared else domains
        self.hidden = nn.Parameter(torch.zeros(maps, config.d_model, RAW))
        self.features = nn.Parameter(torch.zeros(maps, config.features, RAW))
        self.direct = nn.Parameter(torch.zeros(maps, inputs, RAW))
        self.bias = nn.Parameter(torch.zeros(domains, RAW))
        if self.shared:
            self.scale = nn.Parameter(torch.ones(domains, RAW))

    def forward(self, hidden: Tensor, features: Tensor, x: Tensor, domain: Tensor) -> Tensor:
        """Raw outputs [B, T, RAW] of hidden, features and x, each [B, T, width]; domain int64[B]."""
        at = torch.zeros_like(domain) if self.shared else domain
        raw = hidden @ self.hidden[at] + features @ self.features[at] + x @ self.direct[at]
        if self.shared:
            raw = raw * self.scale[domain][:, None]
        return raw + self.bias[domain][:, None]


class Carried(NamedTuple):
    """What a network made of a stretch of events."""

    raw: Tensor  # [B, T, RAW]
    hidden: Tensor  # [B, T, d_model], for heads of wider use and auxiliary tasks
    features: Tensor  # [B, T, features]
    state: Tensor  # [B, state_size] after the last event


def read_outputs(raw: Tensor) -> Outputs:
    """Split raw outputs; the outer quantiles lie a softplus to either side of the median."""
    shape = raw.shape[:-1]
    low, mid, high = raw[..., QUANTILES_AT:MEANS_AT].reshape(*shape, HORIZONS, len(QUANTILES)).unbind(-1)
    quantiles = torch.stack((mid - functional.softplus(low), mid, mid + functional.softplus(high)), -1)
    logits = raw[..., :LOGITS].reshape(*shape, HORIZONS, CLASSES)
    return Outputs(logits, quantiles, raw[..., MEANS_AT:BIG_MOVES_AT], raw[..., BIG_MOVES_AT:])


STEADY_AT = INPUT_NAMES.index("pace")
"""From here on context inputs are measurements that vary within a market; those before it name the market."""


def _blind(layer: nn.Linear) -> None:
    """Keep the inputs that name a market (session, liquidity, depth or none) out of all but the direct path.

    Few values of them are met in training, each on few markets and days, so a deep model takes them for the
    name of the market: on another day's session it would answer for another market.
    """
    named = slice(SESSION_AT, STEADY_AT)

    def without(gradient: Tensor) -> Tensor:
        left = gradient.clone()
        left[:, named] = 0.0
        return left

    with torch.no_grad():
        layer.weight[:, named] = 0.0
    layer.weight.register_hook(without)  # type: ignore[no-untyped-call]


class Network(nn.Module):
    """From model inputs to raw head outputs, carrying the backbone's state."""

    def __init__(self, config: SSMConfig, inputs: int, domains: Sequence[str]) -> None:
        super().__init__()
        sizes = {name: getattr(config, name) for name in config.__struct_fields__ if name != "impl"}
        self.config = config
        self.inputs = inputs
        self.domains = tuple(domains)
        self.features = Features(inputs, config.features)
        self.stem = nn.Linear(inputs, config.d_model)
        self.mixed = nn.Linear(config.features, config.d_model, bias=False)
        _blind(self.stem)
        _blind(self.features.first)
        self.backbone = BackboneSSM(impl=config.impl, **sizes)
        self.heads = Heads(config, inputs, len(self.domains))

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the backbone [..., d_model] and features [..., features] of x [..., inputs]."""
        features = self.features(x)
        return self.stem(x).to(x.dtype) + self.mixed(features).to(x.dtype), features

    def forward(self, x: Tensor, state: Tensor | None, domain: Tensor) -> Carried:
        """Carry over T events.

        Args:
            x: [B, T, inputs].
            state: [B, state_size]; None is the start.
            domain: int64[B], the head of each stream.
        """
        embedded, features = self.embed(x)
        hidden, state = self.backbone(embedded, state)
        return Carried(self.heads(hidden, features, x, domain), hidden, features, state)

    def tensors(self) -> dict[str, Array]:
        """Every weight by its name, float32: what an artifact holds."""
        return {
            name: t.detach().cpu().float().numpy().astype(np.float32) for name, t in self.state_dict().items()
        }
