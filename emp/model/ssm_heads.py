"""The heads of a state-space model: one tiny affine map per domain from the hidden state and the input."""

from typing import Any

import numpy as np

from emp.core.jit import kernel
from emp.core.records import HORIZONS, QUANTILES
from emp.model.heads import OUTPUTS, QUANTILES_AT, fill_forecast
from emp.model.ssm_config import SSMConfig, packed_dtype, padded
from emp.model.ssm_math import add_product, rms_scale, softplus32

BIG_MOVES_AT = OUTPUTS
RAW = OUTPUTS + HORIZONS
"""Raw outputs of a head: those of `emp.model.heads`, then the logits of a big move at every horizon."""


def head_dtype(d_model: int, inputs: int) -> np.dtype[Any]:
    """Weights of one domain's head; the final norm and the calibration temperatures are folded in."""
    return packed_dtype({"hidden": (d_model, RAW), "direct": (inputs, RAW), "bias": (RAW,)})


def stem_dtype(d_model: int, inputs: int) -> np.dtype[Any]:
    """Weights of the input map."""
    return packed_dtype({"weight": (inputs, d_model), "bias": (d_model,)})


def shared_scratch(config: SSMConfig) -> dict[str, tuple[int, ...]]:
    """Fields of a step's scratch record that every kind of mixer needs; `x` is the residual stream."""
    d = config.d_model
    return {
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
    """From the hidden state `s.x` and the model input `x` to the forecast; `c` is the head's CALIBRATION.

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
    add_product(w.direct, x, raw)
    for h in range(HORIZONS):
        at = QUANTILES_AT + h * len(QUANTILES)
        raw[at] = raw[at + 1] - softplus32(raw[at])
        raw[at + 2] = raw[at + 1] + softplus32(raw[at + 2])
    fill_forecast(raw, c, out)


@kernel
def embed(w: Any, x: Any, s: Any) -> None:
    """The input map: s.x = bias + x @ weight."""
    for k in range(w.bias.shape[0]):
        s.x[k] = w.bias[k]
    add_product(w.weight, x, s.x)
