"""Both ends of a state-space model: gated features of the input, the input map, and one tiny head per domain."""

from typing import Any

import numpy as np

from emp.core.numba.fastmath import sigmoid32
from emp.core.numba.jit import kernel
from emp.core.records import HORIZONS, QUANTILES
from emp.model.heads import OUTPUTS, QUANTILES_AT, fill_forecast
from emp.model.ssm_config import SSMConfig, packed_dtype, padded
from emp.model.ssm_math import add_product, rms_scale, softplus32

BIG_MOVES_AT = OUTPUTS
RAW = OUTPUTS + HORIZONS
"""Raw outputs of a head: those of `emp.model.heads`, then the logits of a big move at every horizon."""


def head_dtype(config: SSMConfig, inputs: int) -> np.dtype[Any]:
    """Weights of one domain's head; the final norm and the calibration temperatures are folded in."""
    return packed_dtype(
        {
            "hidden": (config.d_model, RAW),
            "features": (config.features, RAW),
            "direct": (inputs, RAW),
            "bias": (RAW,),
        }
    )


def stem_dtype(config: SSMConfig, inputs: int) -> np.dtype[Any]:
    """Weights of the gated features and of the input map; the gates of a layer stand after its values."""
    d, features = config.d_model, config.features
    return packed_dtype(
        {
            "first": (inputs, 2 * features),
            "first_bias": (2 * features,),
            "second": (features, 2 * features),
            "second_bias": (2 * features,),
            "mixed": (features, d),
            "weight": (inputs, d),
            "bias": (d,),
        }
    )


def shared_scratch(config: SSMConfig) -> dict[str, tuple[int, ...]]:
    """Fields of a step's scratch record that every kind of mixer needs; `x` is the residual stream."""
    d = config.d_model
    return {
        "gates": (2 * config.features,),
        "features": (config.features,),
        "x": (d,),
        "normed": (d,),
        "projected": (padded(config.projected),),
        "y": (config.d_inner,),
        "qkv": (3 * d,),
        "logits": (config.window,),
        "attended": (d,),
        "raw": (RAW,),
    }


@kernel
def run_head(w: Any, c: Any, x: Any, s: Any, out: Any) -> None:
    """From the hidden state `s.x`, the features `s.features` and the model input `x` to the forecast.

    `c` is the head's CALIBRATION.

    The outer quantiles are the median less, and plus, a softplus: they cannot cross.
    """
    d = w.hidden.shape[0]
    scale = rms_scale(s.x, d)
    for j in range(d):
        s.normed[j] = s.x[j] * scale
    raw = s.raw
    for k in range(RAW):
        raw[k] = w.bias[k]
    add_product(w.hidden, s.normed, raw)
    add_product(w.features, s.features, raw)
    add_product(w.direct, x, raw)
    for h in range(HORIZONS):
        at = QUANTILES_AT + h * len(QUANTILES)
        raw[at] = raw[at + 1] - softplus32(raw[at])
        raw[at + 2] = raw[at + 1] + softplus32(raw[at + 2])
    fill_forecast(raw, c, out)


@kernel
def gate(weight: Any, bias: Any, x: Any, s: Any) -> None:
    """Add to s.features the gated linear unit (Dauphin et al. 2017) of x: values * sigmoid(gates)."""
    features = s.features.shape[0]
    for k in range(2 * features):
        s.gates[k] = bias[k]
    add_product(weight, x, s.gates)
    for k in range(features):
        s.features[k] += s.gates[k] * sigmoid32(s.gates[features + k])


@kernel
def embed(w: Any, x: Any, s: Any) -> None:
    """Features of the input, and the input map: s.x = bias + x @ weight + features @ mixed."""
    for k in range(s.features.shape[0]):
        s.features[k] = np.float32(0.0)
    gate(w.first, w.first_bias, x, s)
    gate(w.second, w.second_bias, s.features, s)
    for k in range(w.bias.shape[0]):
        s.x[k] = w.bias[k]
    add_product(w.weight, x, s.x)
    add_product(w.mixed, s.features, s.x)
