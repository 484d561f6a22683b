"""One event of the Mamba-2 model, compiled (Dao and Gu 2024, arXiv 2405.21060; `emp.train.net.mixers.Mamba2`)."""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.fastmath import exp32, sigmoid32
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.model.attention import attend
from emp.model.port import register
from emp.model.ssm_config import CONV, LINE, SSMConfig, packed_dtype, padded
from emp.model.ssm_heads import embed, run_head, shared_scratch
from emp.model.ssm_math import add_product, carry_state_plain, product, rms_scale, softplus32


class Mamba2Params(NamedTuple):
    """Weights of the whole model, each an array of records whose shapes are part of the type."""

    stem: Array  # stem_dtype[1]
    layers: Array  # layer_dtype[layers]
    attention: Array  # attention_dtype[1]
    heads: Array  # head_dtype[domains]
    calibration: Array  # CALIBRATION[domains]
    scratch: Array  # scratch_dtype[1]
    attention_after: int
    stride: int  # floats of one layer's state


def layer_dtype(config: SSMConfig) -> np.dtype[Any]:
    """Weights of one layer: the norms are folded into the projections, the layer-scale into `out_proj`."""
    return packed_dtype(
        {
            "in_proj": (config.d_model, padded(config.projected)),
            "conv": (CONV, config.convolved),
            "conv_bias": (config.convolved,),
            "dt_bias": (config.heads,),
            "rate": (config.heads,),  # -exp(a_log)
            "skip": (config.heads,),
            "out_proj": (config.d_inner, config.d_model),
        }
    )


def scratch_dtype(config: SSMConfig) -> np.dtype[Any]:
    """What a step computes on its way."""
    return packed_dtype(
        {
            **shared_scratch(config),
            "xbc": (config.convolved,),
            "new": (config.headdim,),
        }
    )


@kernel
def convolve(w: Any, state: Any, now: Any, s: Any) -> None:
    """Causal convolution and SiLU of the channels `now`; `state` holds the last three events' channels."""
    channels = w.conv_bias.shape[0]
    oldest, older, last = state[:channels], state[channels : 2 * channels], state[2 * channels : 3 * channels]
    for c in range(channels):
        new = now[c]
        y = w.conv_bias[c] + (w.conv[0, c] * oldest[c] + w.conv[1, c] * older[c])
        y += w.conv[2, c] * last[c] + w.conv[3, c] * new
        oldest[c] = older[c]
        older[c] = last[c]
        last[c] = new
        s.xbc[c] = y * sigmoid32(y)


@kernel
def mix_head(w: Any, h: int, state: Any, s: Any) -> None:
    """Carry one head, h = exp(A dt) h + dt B x^T; its gated output goes into s.y."""
    inner = w.out_proj.shape[0]
    channels = w.conv_bias.shape[0]
    states = (channels - inner) // 2
    heads = w.skip.shape[0]
    width = inner // heads
    dt = softplus32(s.projected[inner + channels + h] + w.dt_bias[h])
    alpha = exp32(w.rate[h] * dt)
    x = s.xbc[h * width : (h + 1) * width]
    z = s.projected[h * width : (h + 1) * width]
    y = s.y[h * width : (h + 1) * width]
    for p in range(width):
        s.new[p] = dt * x[p]
    k, q = s.xbc[inner : inner + states], s.xbc[inner + states : channels]
    carry_state_plain(state, alpha, k, s.new, q, states, width, y)
    skip = w.skip[h]
    for p in range(width):
        y[p] = (y[p] + skip * x[p]) * z[p] * sigmoid32(z[p])


@kernel
def mix(w: Any, state: Any, s: Any) -> None:
    """One layer: s.x += out_proj(norm(gated)); `state` is float32[stride], laid out as conv, h."""
    d = w.in_proj.shape[0]
    inner = w.out_proj.shape[0]
    channels = w.conv_bias.shape[0]
    states = (channels - inner) // 2
    heads = w.skip.shape[0]
    width = inner // heads
    h_at = (3 * channels + LINE - 1) // LINE * LINE
    scale = rms_scale(s.x, d)
    for j in range(d):
        s.normed[j] = s.x[j] * scale
    product(w.in_proj, s.normed, s.projected)
    convolve(w, state[: 3 * channels], s.projected[inner : inner + channels], s)
    for h in range(heads):
        mix_head(w, h, state[h_at + h * states * width : h_at + (h + 1) * states * width], s)
    scale = rms_scale(s.y, inner)
    for j in range(inner):
        s.y[j] *= scale
    add_product(w.out_proj, s.y, s.x)


@kernel
def mamba2_forecast(params: Any, state: Any, domain: int, x: Any, out: Any) -> None:
    """Process one event: see `emp.model.port.forecast`."""
    s = params.scratch[0]
    embed(params.stem[0], x, s)
    layers, stride = params.layers.shape[0], params.stride
    for layer in range(layers):
        if layer == params.attention_after:
            attend(params.attention[0], state[layers * stride :], s)
        mix(params.layers[layer], state[layer * stride : (layer + 1) * stride], s)
    run_head(params.heads[domain], params.calibration[domain], x, s, out)


register(Mamba2Params, mamba2_forecast)
