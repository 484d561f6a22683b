"""One event of the Mamba-3 model, compiled (Lahoti et al. 2026, arXiv 2603.15569; `emp.train.net.mixers.Mamba3`)."""

import math
from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.fastmath import exp32, sigmoid32
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.model.attention import attend
from emp.model.port import register
from emp.model.ssm_config import LINE, SSMConfig, packed_dtype, padded
from emp.model.ssm_heads import embed, run_head, shared_scratch
from emp.model.ssm_math import (
    TURNS,
    TWO_PI,
    add_product,
    carry_state,
    product,
    rms_scale,
    sincos32,
    softplus32,
    tanh32,
)

PI = np.float32(math.pi)
DECAY_FLOOR = np.float32(1e-4)
ONE = np.float32(1.0)


class Mamba3Params(NamedTuple):
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
    """Weights of one layer: the norm is folded into `in_proj`, the layer-scale into `out_proj`."""
    heads, states = config.heads, config.d_state
    return packed_dtype(
        {
            "in_proj": (config.d_model, padded(config.projected)),
            "dt_bias": (heads,),
            "skip": (heads,),
            "b_norm": (states,),
            "c_norm": (states,),
            "b_bias": (heads, states),
            "c_bias": (heads, states),
            "out_proj": (config.d_inner, config.d_model),
        }
    )


def scratch_dtype(config: SSMConfig) -> np.dtype[Any]:
    """What a step computes on its way."""
    heads, states = config.heads, config.d_state
    return packed_dtype(
        {
            **shared_scratch(config),
            "held": (config.headdim,),
            "new": (config.headdim,),
            "b": (states,),
            "c": (states,),
            "q": (states,),
            "k_old": (states,),
            "dt": (heads,),
            "omega": (config.angles,),
            "sin": (heads, config.angles),
            "cos": (heads, config.angles),
        }
    )


@kernel
def turn(w: Any, phi: Any, s: Any) -> None:
    """Step sizes of all heads, the angles `phi` carried by omega dt modulo 2 pi, their sines and cosines."""
    heads, angles = s.cos.shape
    inner, states = w.out_proj.shape[0], w.b_norm.shape[0]
    dt_at = 2 * inner + 2 * states
    for i in range(angles):
        s.omega[i] = PI * tanh32(s.projected[dt_at + 3 * heads + i])
    for h in range(heads):
        dt = softplus32(s.projected[dt_at + h] + w.dt_bias[h])
        s.dt[h] = dt
        own = phi[h * angles : (h + 1) * angles]
        for i in range(angles):
            angle = own[i] + s.omega[i] * dt
            angle -= TWO_PI * np.floor(angle * TURNS)
            own[i] = angle
            s.sin[h, i], s.cos[h, i] = sincos32(angle)


@kernel
def normalise_keys(w: Any, s: Any) -> None:
    """RMSNorm of B and C over the state dimension."""
    inner, states = w.out_proj.shape[0], w.b_norm.shape[0]
    b = s.projected[2 * inner : 2 * inner + states]
    c = s.projected[2 * inner + states : 2 * inner + 2 * states]
    b_scale, c_scale = rms_scale(b, states), rms_scale(c, states)
    for n in range(states):
        s.b[n] = b[n] * b_scale * w.b_norm[n]
        s.c[n] = c[n] * c_scale * w.c_norm[n]


@kernel
def rotate(vector: Any, bias: Any, sin: Any, cos: Any, out: Any) -> None:
    """out = vector + bias with the pairs (i, angles + i) turned."""
    angles, states = cos.shape[0], vector.shape[0]
    for i in range(angles):
        u, v = vector[i] + bias[i], vector[angles + i] + bias[angles + i]
        out[i] = u * cos[i] - v * sin[i]
        out[angles + i] = u * sin[i] + v * cos[i]
    for n in range(2 * angles, states):
        out[n] = vector[n] + bias[n]


@kernel
def mix_head(w: Any, h: int, k: Any, v: Any, state: Any, s: Any) -> None:
    """Carry one head: alpha h + beta v_old k_old^T + gamma v k^T, gated output into s.y.

    Args:
        k, v: float32[states], float32[width] of the previous event; become those of this one.
        state: float32[states * width] of this head.
    """
    heads, states = w.b_bias.shape
    inner = w.out_proj.shape[0]
    width = inner // heads
    dt_at = 2 * inner + 2 * states
    dt = s.dt[h]
    rate = s.projected[dt_at + heads + h]
    rate = ONE + rate if rate >= np.float32(0.0) else ONE / (ONE - rate)
    alpha = exp32(-max(rate, DECAY_FLOOR) * dt)
    share = sigmoid32(s.projected[dt_at + 2 * heads + h])
    beta, gamma = (ONE - share) * dt * alpha, share * dt
    x = s.projected[inner + h * width : inner + (h + 1) * width]
    z = s.projected[h * width : (h + 1) * width]
    for p in range(width):
        s.held[p] = beta * v[p]
        s.new[p] = gamma * x[p]
        v[p] = x[p]
    for n in range(states):
        s.k_old[n] = k[n]
    rotate(s.b, w.b_bias[h], s.sin[h], s.cos[h], k)
    rotate(s.c, w.c_bias[h], s.sin[h], s.cos[h], s.q)
    y = s.y[h * width : (h + 1) * width]
    carry_state(state, alpha, s.k_old, s.held, k, s.new, s.q, states, width, y)
    skip = w.skip[h]
    for p in range(width):
        y[p] = (y[p] + skip * x[p]) * z[p] * sigmoid32(z[p])


@kernel
def mix(w: Any, state: Any, s: Any) -> None:
    """One layer: s.x += out_proj(mixer(s.x)); `state` is float32[stride], laid out as phi, k, v, h."""
    d = w.in_proj.shape[0]
    heads, states = w.b_bias.shape
    inner = w.out_proj.shape[0]
    width = inner // heads
    angles = s.cos.shape[1]
    k_at = (heads * angles + LINE - 1) // LINE * LINE
    v_at = k_at + (heads * states + LINE - 1) // LINE * LINE
    h_at = v_at + (inner + LINE - 1) // LINE * LINE
    scale = rms_scale(s.x, d)
    for j in range(d):
        s.normed[j] = s.x[j] * scale
    product(w.in_proj, s.normed, s.projected)
    turn(w, state[: heads * angles], s)
    normalise_keys(w, s)
    for h in range(heads):
        k = state[k_at + h * states : k_at + (h + 1) * states]
        v = state[v_at + h * width : v_at + (h + 1) * width]
        own = state[h_at + h * states * width : h_at + (h + 1) * states * width]
        mix_head(w, h, k, v, own, s)
    add_product(w.out_proj, s.y, s.x)


@kernel
def mamba3_forecast(params: Any, state: Any, domain: int, x: Any, out: Any) -> None:
    """Process one event: see `emp.model.port.forecast`."""
    s = params.scratch[0]
    embed(params.stem[0], x, s)
    layers, stride = params.layers.shape[0], params.stride
    for layer in range(layers):
        if layer == params.attention_after:
            attend(params.attention[0], state[layers * stride :], s)
        mix(params.layers[layer], state[layer * stride : (layer + 1) * stride], s)
    run_head(params.heads[domain], params.calibration[domain], x, s, out)


register(Mamba3Params, mamba3_forecast)
