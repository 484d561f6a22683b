"""Sizes of a state-space model and the layout of its state: one row of floats, in training as in serving.

The state of a stream is a flat vector, all zero before the first event. Training carries it as a tensor
[batch, size], serving as a row of the state table; `layout` says where each part lies, so that either can
take over from the other at any event.
"""

import math
from functools import cache
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from emp.core.errors import ConfigError
from emp.core.records import Array

Impl = Literal["mamba2", "mamba3"]
HeadKind = Literal["per_domain", "shared"]

LINE = 16
"""Floats in a cache line: every part of the state starts on one."""

CONV = 4
"""Taps of Mamba-2's causal convolution."""


class SSMConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sizes of the backbone.

    `layers` state-space layers with one local-attention layer in their middle (the sandwich). A head of the
    state space has `headdim` channels and a state of `d_state` per channel. dt_min and dt_max bound the step
    sizes at initialisation: a head forgets over about 1/dt events. `features` gated features of the input are
    seen by backbone and heads. Output heads are one map per domain, or one shared map with a scale and an offset
    of every output per domain.
    """

    impl: Impl = "mamba3"
    d_model: int = 64
    layers: int = 4
    d_state: int = 32
    headdim: int = 32
    expand: int = 2
    attention_heads: int = 4
    window: int = 32
    features: int = 64
    heads_kind: HeadKind = "per_domain"
    dt_min: float = 1e-4
    dt_max: float = 0.1

    def __post_init__(self) -> None:
        for name in (
            "d_model",
            "layers",
            "d_state",
            "headdim",
            "expand",
            "attention_heads",
            "window",
            "features",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, was {getattr(self, name)}")
        if self.d_state % 4:
            raise ConfigError(f"model.d_state must be a multiple of 4 (rotated pairs), was {self.d_state}")
        if self.d_inner % self.headdim:
            raise ConfigError(
                f"model.headdim {self.headdim} must divide expand * d_model = {self.d_inner} into whole heads"
            )
        if self.d_model % self.attention_heads:
            raise ConfigError(
                f"model.attention_heads {self.attention_heads} must divide d_model = {self.d_model}"
            )
        if not 0.0 < self.dt_min < self.dt_max:
            raise ConfigError(f"model.dt_min {self.dt_min} must lie between 0 and dt_max {self.dt_max}")

    @property
    def d_inner(self) -> int:
        """Channels inside a mixer."""
        return self.expand * self.d_model

    @property
    def heads(self) -> int:
        """Heads of a mixer."""
        return self.d_inner // self.headdim

    @property
    def angles(self) -> int:
        """Rotated pairs of a Mamba-3 key: half of its dimensions, two to a pair."""
        return self.d_state // 4

    @property
    def attention_after(self) -> int:
        """State-space layers that come before the attention."""
        return self.layers // 2

    @property
    def projected(self) -> int:
        """Outputs of a mixer's input projection."""
        if self.impl == "mamba3":
            return 2 * self.d_inner + 2 * self.d_state + 3 * self.heads + self.angles
        return 2 * self.d_inner + 2 * self.d_state + self.heads

    @property
    def convolved(self) -> int:
        """Channels that pass Mamba-2's convolution: x, B and C."""
        return self.d_inner + 2 * self.d_state


class Part(NamedTuple):
    """A part of the state: its first float and its shape."""

    at: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Floats in use."""
        return math.prod(self.shape)


def padded(n: int) -> int:
    """`n` floats rounded up to whole cache lines."""
    return -(-n // LINE) * LINE


def packed_dtype(fields: dict[str, tuple[int, ...]]) -> np.dtype[Any]:
    """A record of float32 arrays, each starting on a cache line: the shapes are part of the compiled type."""
    offsets, at = [], 0
    for shape in fields.values():
        offsets.append(4 * at)
        at += padded(math.prod(shape))
    formats = [("f4", shape) for shape in fields.values()]
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": 4 * at})


def packed_records(dtype: np.dtype[Any], n: int) -> Array:
    """`n` zeroed records, the first on a cache line."""
    raw = np.zeros(n * dtype.itemsize + 4 * LINE, np.uint8)
    skip = -raw.ctypes.data % (4 * LINE)
    return raw[skip : skip + n * dtype.itemsize].view(dtype)


def _layer_shapes(config: SSMConfig) -> dict[str, tuple[int, ...]]:
    """Parts of one layer's state; `h` is [head, state, channel] so that a step streams over channels."""
    h = (config.heads, config.d_state, config.headdim)
    if config.impl == "mamba3":
        return {
            "phi": (config.heads, config.angles),
            "k": (config.heads, config.d_state),
            "v": (config.heads, config.headdim),
            "h": h,
        }
    return {"conv": (CONV - 1, config.convolved), "h": h}


@cache
def layout(config: SSMConfig) -> dict[str, Part]:
    """Where every part of the state lies: `0.h` of layer 0 and so on, then `attention.*`."""
    shapes = {
        f"{layer}.{name}": shape
        for layer in range(config.layers)
        for name, shape in _layer_shapes(config).items()
    }
    shapes["attention.at"] = (1,)
    shapes["attention.k"] = (config.d_model, config.window)
    shapes["attention.v"] = (config.window, config.d_model)
    parts: dict[str, Part] = {}
    at = 0
    for name, shape in shapes.items():
        parts[name] = Part(at, shape)
        at += padded(math.prod(shape))
    return parts


@cache
def state_size(config: SSMConfig) -> int:
    """Floats of one stream's state."""
    last = list(layout(config).values())[-1]
    return last.at + padded(last.size)


def layer_stride(config: SSMConfig) -> int:
    """Floats of one layer's state."""
    return sum(padded(math.prod(shape)) for shape in _layer_shapes(config).values())


def config_from(values: dict[str, Any]) -> SSMConfig:
    """Read the sizes back from a manifest; raise ConfigError in one line where they are not sizes."""
    try:
        return msgspec.convert(values, SSMConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"model sizes: {error}") from error
