"""From an artifact's tensors to the packed parameters of the compiled step.

The tensors are those of the trained network, by its own names. Packing folds what need not be computed live:
norm weights into the projection that follows, layer-scale into the projection before, the attention's scale
into its queries, calibration temperatures into the class logits.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import ArtifactError, ConfigError
from emp.core.records import HORIZONS, Array
from emp.model import mamba2, mamba3
from emp.model.artifact import Artifact
from emp.model.attention import attention_dtype
from emp.model.calibration import pack_calibration
from emp.model.heads import CLASSES, LOGITS
from emp.model.mamba2 import Mamba2Params
from emp.model.mamba3 import Mamba3Params
from emp.model.ssm_config import (
    CONV,
    SSMConfig,
    config_from,
    layer_stride,
    packed_records,
    state_size,
)
from emp.model.ssm_heads import RAW, head_dtype, stem_dtype

TEMPERATURE = "temperature"
"""float32[domains, HORIZONS]: what the class logits are divided by."""

Params = Mamba2Params | Mamba3Params


class BuiltSSM(NamedTuple):
    """A model ready to run."""

    params: Params
    state_size: int
    config: SSMConfig


class _Tensors:
    """Named tensors with their shapes checked on the way out."""

    def __init__(self, source: str, tensors: dict[str, Array]) -> None:
        self.source = source
        self.tensors = tensors

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        tensor = self.tensors.get(name)
        if tensor is None:
            raise ArtifactError(f"{self.source}: the tensor {name} is missing")
        if tensor.shape != shape:
            raise ArtifactError(f"{self.source}: the tensor {name} is {tensor.shape}, expected {shape}")
        return tensor.astype(np.float64)


def build(artifact: Artifact, inputs: int, folder: Path | None = None) -> BuiltSSM:
    """Pack a verified artifact of kind mamba2 or mamba3.

    Args:
        artifact: as `emp.model.artifact.load` returned it.
        inputs: length of the model input vector.
        folder: where it came from, for error lines.

    Raises:
        ArtifactError: sizes, tensors and kind do not fit together.
    """
    source = str(folder) if folder else f"artifact {artifact.hash[:12]}"
    manifest = artifact.manifest
    try:
        config = config_from(manifest.config.get("model", {}))
    except ConfigError as error:
        raise ArtifactError(f"{source}: {error}") from error
    if config.impl != manifest.kind:
        raise ArtifactError(f"{source}: the manifest says {manifest.kind}, its sizes are of {config.impl}")
    return pack(config, artifact.tensors, inputs, len(manifest.domains), source)


def pack(config: SSMConfig, tensors: dict[str, Array], inputs: int, domains: int, source: str) -> BuiltSSM:
    """Pack tensors by name into the records of the compiled step."""
    take = _Tensors(source, tensors)
    kind: Any = mamba3 if config.impl == "mamba3" else mamba2
    fill = _layer3 if config.impl == "mamba3" else _layer2
    layers = packed_records(kind.layer_dtype(config), config.layers)
    for at in range(config.layers):
        fill(take, f"backbone.layers.{at}", config, layers[at])
    params_type: Any = Mamba3Params if config.impl == "mamba3" else Mamba2Params
    params = params_type(
        stem=_stem(take, config, inputs),
        layers=layers,
        attention=_attention(take, config),
        heads=_heads(take, config, inputs, domains),
        calibration=pack_calibration(tensors, domains, source),
        scratch=packed_records(kind.scratch_dtype(config), 1),
        attention_after=config.attention_after,
        stride=layer_stride(config),
    )
    return BuiltSSM(params, state_size(config), config)


def _stem(take: _Tensors, config: SSMConfig, inputs: int) -> Array:
    """The gated features and the input map."""
    d, features = config.d_model, config.features
    packed = packed_records(stem_dtype(config, inputs), 1)
    for field, width in (("first", inputs), ("second", features)):
        packed[field][0] = take.take(f"features.{field}.weight", (2 * features, width)).T
        packed[f"{field}_bias"][0] = take.take(f"features.{field}.bias", (2 * features,))
    packed["mixed"][0] = take.take("mixed.weight", (d, features)).T
    packed["weight"][0] = take.take("stem.weight", (d, inputs)).T
    packed["bias"][0] = take.take("stem.bias", (d,))
    return packed


def _projections(take: _Tensors, name: str, config: SSMConfig, layer: Any, out_weight: Array) -> None:
    """The two projections of a mixer, with norm and layer-scale folded in; out_weight float[d_inner]."""
    d, inner = config.d_model, config.d_inner
    norm = take.take(f"{name}.norm.weight", (d,))
    layer["in_proj"][:, : config.projected] = (
        take.take(f"{name}.mixer.in_proj.weight", (config.projected, d)) * norm
    ).T
    scale = take.take(f"{name}.scale", (d,))
    layer["out_proj"] = (
        take.take(f"{name}.mixer.out_proj.weight", (d, inner)) * scale[:, None] * out_weight
    ).T


def _layer3(take: _Tensors, name: str, config: SSMConfig, layer: Any) -> None:
    heads, states = config.heads, config.d_state
    _projections(take, name, config, layer, np.ones(config.d_inner))
    for field, shape in (("dt_bias", (heads,)), ("skip", (heads,))):
        layer[field] = take.take(f"{name}.mixer.{field}", shape)
    for letter in ("b", "c"):
        layer[f"{letter}_norm"] = take.take(f"{name}.mixer.{letter}_norm.weight", (states,))
        layer[f"{letter}_bias"] = take.take(f"{name}.mixer.{letter}_bias", (heads, states))


def _layer2(take: _Tensors, name: str, config: SSMConfig, layer: Any) -> None:
    heads, channels = config.heads, config.convolved
    _projections(take, name, config, layer, take.take(f"{name}.mixer.norm.weight", (config.d_inner,)))
    layer["conv"] = take.take(f"{name}.mixer.conv_weight", (CONV, channels))
    layer["conv_bias"] = take.take(f"{name}.mixer.conv_bias", (channels,))
    layer["dt_bias"] = take.take(f"{name}.mixer.dt_bias", (heads,))
    layer["skip"] = take.take(f"{name}.mixer.skip", (heads,))
    layer["rate"] = -np.exp(take.take(f"{name}.mixer.a_log", (heads,)))


def _attention(take: _Tensors, config: SSMConfig) -> Array:
    d, heads, window = config.d_model, config.attention_heads, config.window
    name = "backbone.attention"
    packed = packed_records(attention_dtype(config), 1)
    qkv = take.take(f"{name}.mixer.qkv.weight", (3 * d, d)) * take.take(f"{name}.norm.weight", (d,))
    qkv[:d] /= np.sqrt(d // heads)
    packed["qkv"][0] = qkv.T
    bias = take.take(f"{name}.mixer.bias", (heads, window))
    packed["bias"][0] = bias[:, -np.arange(2 * window) % window]
    scale = take.take(f"{name}.scale", (d,))
    packed["out"][0] = (take.take(f"{name}.mixer.out_proj.weight", (d, d)) * scale[:, None]).T
    return packed


def _heads(take: _Tensors, config: SSMConfig, inputs: int, domains: int) -> Array:
    d = config.d_model
    norm = take.take("backbone.norm.weight", (d,))
    shared = config.heads_kind == "shared"
    maps = 1 if shared else domains
    hidden = take.take("heads.hidden", (maps, d, RAW))
    features = take.take("heads.features", (maps, config.features, RAW))
    direct = take.take("heads.direct", (maps, inputs, RAW))
    scale = take.take("heads.scale", (domains, RAW)) if shared else np.ones((domains, RAW))
    bias = take.take("heads.bias", (domains, RAW))
    temperature = take.take(TEMPERATURE, (domains, HORIZONS))
    if not (temperature > 0.0).all():
        raise ArtifactError(f"{take.source}: a calibration temperature is not positive")
    share = np.ones((domains, RAW))
    share[:, :LOGITS] = 1.0 / np.repeat(temperature, CLASSES, axis=1)
    scale *= share
    packed = packed_records(head_dtype(config, inputs), domains)
    packed["hidden"] = hidden * norm[:, None] * scale[:, None]
    packed["features"] = features * scale[:, None]
    packed["direct"] = direct * scale[:, None]
    packed["bias"] = bias * share
    return packed
