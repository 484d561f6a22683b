"""`BackboneSSM`: state-space layers around local attention; its state is carried by events or by chunks."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from emp.model.ssm_config import Impl, SSMConfig, layout, padded, state_size
from emp.train.net.mixers import LocalAttention, Mamba2, Mamba3, Parts, RMSNorm

LAYER_SCALE = 0.1
ATTENTION = "attention."


class Block(nn.Module):
    """x + scale * mixer(RMSNorm(x)), the scale starting at 0.1 (layer-scale, Touvron et al. 2021)."""

    def __init__(self, mixer: nn.Module, size: int) -> None:
        super().__init__()
        self.norm = RMSNorm(size)
        self.mixer = mixer
        self.scale = nn.Parameter(torch.full((size,), LAYER_SCALE))

    def forward(self, x: Tensor, state: Parts) -> tuple[Tensor, Parts]:
        """Map x [B, T, size] and the mixer's state."""
        y, state = self.mixer(self.norm(x), state)
        return x + self.scale * y, state


class BackboneSSM(nn.Module):
    """Half of the state-space layers, local attention, the other half, a final RMSNorm.

    The two implementations share `forward`: the state is a flat vector per stream (`layout` of
    `emp.model.ssm_config`), all zero before the first event. Truncated back-propagation detaches it;
    gradients flow through it where it is not detached.
    """

    def __init__(self, impl: Impl = "mamba3", **sizes: Any) -> None:
        super().__init__()
        self.config = SSMConfig(impl=impl, **sizes)
        mixer = Mamba3 if impl == "mamba3" else Mamba2
        size = self.config.d_model
        self.layers = nn.ModuleList(Block(mixer(self.config), size) for _ in range(self.config.layers))
        self.attention = Block(LocalAttention(self.config), size)
        self.norm = RMSNorm(size)

    @property
    def state_size(self) -> int:
        """Floats of one stream's state."""
        return state_size(self.config)

    def start(self, streams: int) -> Tensor:
        """The state before the first event, [streams, state_size]."""
        return self.norm.weight.new_zeros(streams, self.state_size)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Carry the model over T events.

        Args:
            x: [B, T, d_model], T >= 1; T = 1 takes the step, more the chunked form.
            state: [B, state_size]; None is the start.

        Returns:
            y [B, T, d_model] and the state after the last event.
        """
        if state is None:
            state = self.start(len(x))
        parts = _read(state, self.config)
        after: Parts = {}
        for at, block in enumerate(self.layers):
            if at == self.config.attention_after:
                x = _through(self.attention, ATTENTION, x, parts, after)
            x = _through(block, f"{at}.", x, parts, after)
        return self.norm(x), _write(after, self.config)


def _through(block: nn.Module, prefix: str, x: Tensor, parts: Parts, after: Parts) -> Tensor:
    """Run one block on its own parts of the state and note them after it."""
    own = {key.removeprefix(prefix): part for key, part in parts.items() if key.startswith(prefix)}
    x, new = block(x, own)
    after.update({prefix + key: part for key, part in new.items()})
    return x


def _read(state: Tensor, config: SSMConfig) -> Parts:
    return {
        name: state[:, part.at : part.at + part.size].reshape(-1, *part.shape)
        for name, part in layout(config).items()
    }


def _write(parts: Parts, config: SSMConfig) -> Tensor:
    """Join the parts in the order and with the padding of `layout`."""
    rows = []
    for name, part in layout(config).items():
        row, rest = parts[name].flatten(1), padded(part.size) - part.size
        rows.append(functional.pad(row, (0, rest)) if rest else row)
    return torch.cat(rows, 1)
