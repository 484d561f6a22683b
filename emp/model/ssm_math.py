"""Small compiled pieces of the state-space step, written so that the compiler turns their loops into vectors.

Weights are [inputs, outputs] with the outputs innermost: a matrix-vector product streams through memory once
and needs no sum across a register. Sizes are part of the record types, so every loop length is a constant.
"""

import math
from typing import Any

import numpy as np

from emp.core.numba.fastmath import exp32, sigmoid32
from emp.core.numba.jit import kernel

EPS = np.float32(1e-5)
TWO_PI = np.float32(2.0 * math.pi)
TURNS = np.float32(0.5 / math.pi)
_TWO_OVER_PI = np.float32(2.0 / math.pi)
# pi / 2 in two parts, so that subtracting a multiple of it keeps the last bits (Cody and Waite)
_HALF_PI_HIGH = np.float32(1.5703125)
_HALF_PI_LOW = np.float32(math.pi / 2.0 - 1.5703125)
# Taylor coefficients for |r| <= pi / 4: the last omitted terms are below 3e-8
_S3, _S5, _S7, _S9 = (np.float32((-1.0) ** ((n - 1) // 2) / math.factorial(n)) for n in (3, 5, 7, 9))
_C2, _C4, _C6, _C8 = (np.float32((-1.0) ** (n // 2) / math.factorial(n)) for n in (2, 4, 6, 8))
_LINEAR_FROM = np.float32(20.0)


@kernel
def sincos32(x: Any) -> Any:
    """Sine and cosine in float32 to about 1e-7, for |x| up to a few turns."""
    turns = np.floor(x * _TWO_OVER_PI + np.float32(0.5))
    r = (x - turns * _HALF_PI_HIGH) - turns * _HALF_PI_LOW
    r2 = r * r
    sin = r + r * r2 * (_S3 + r2 * (_S5 + r2 * (_S7 + r2 * _S9)))
    cos = np.float32(1.0) + r2 * (_C2 + r2 * (_C4 + r2 * (_C6 + r2 * _C8)))
    quadrant = np.int32(turns) & np.int32(3)
    swapped = quadrant & np.int32(1)
    s = cos if swapped else sin
    c = sin if swapped else cos
    s = -s if quadrant >= np.int32(2) else s
    c = -c if (quadrant == np.int32(1)) | (quadrant == np.int32(2)) else c
    return s, c


@kernel
def tanh32(x: Any) -> Any:
    """Hyperbolic tangent in float32, to 2e-7 absolute."""
    return np.float32(2.0) * sigmoid32(np.float32(2.0) * x) - np.float32(1.0)


@kernel
def softplus32(x: Any) -> Any:
    """log(1 + e**x) in float32."""
    return x if x > _LINEAR_FROM else np.float32(np.log1p(exp32(x)))


@kernel
def rms_scale(x: Any, size: int) -> Any:
    """1 / sqrt(mean of x[:size]^2 + eps)."""
    total = np.float32(0.0)
    for i in range(size):
        total += x[i] * x[i]
    return np.float32(1.0) / np.sqrt(total / np.float32(size) + EPS)


@kernel
def add_product(weight: Any, x: Any, y: Any) -> None:
    """y += x @ weight: weight float32[inputs, outputs], x float32[>= inputs], y float32[>= outputs]."""
    rows, columns = weight.shape
    whole = rows - rows % 4
    for j in range(0, whole, 4):
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        for k in range(columns):
            y[k] += (a * weight[j, k] + b * weight[j + 1, k]) + (c * weight[j + 2, k] + d * weight[j + 3, k])
    for j in range(whole, rows):
        a = x[j]
        for k in range(columns):
            y[k] += a * weight[j, k]


@kernel
def product(weight: Any, x: Any, y: Any) -> None:
    """y = x @ weight."""
    for k in range(weight.shape[1]):
        y[k] = np.float32(0.0)
    add_product(weight, x, y)


@kernel
def carry_state(
    h: Any,
    alpha: Any,
    k_old: Any,
    v_old: Any,
    k_new: Any,
    v_new: Any,
    q: Any,
    states: int,
    width: int,
    y: Any,
) -> None:
    """h = alpha h + k_old v_old^T + k_new v_new^T, then y = q h.

    Args:
        h: float32[states * width] of one head, rows of channels.
        k_old, k_new, q: float32[states]; v_old, v_new: float32[width].
        y: float32[width], overwritten.
    """
    for p in range(width):
        y[p] = np.float32(0.0)
    for n in range(0, states, 4):
        a, b, c, d = k_old[n], k_old[n + 1], k_old[n + 2], k_old[n + 3]
        e, f, g, i = k_new[n], k_new[n + 1], k_new[n + 2], k_new[n + 3]
        r, s, t, u = q[n], q[n + 1], q[n + 2], q[n + 3]
        rows = h[n * width : (n + 4) * width]
        for p in range(width):
            old, new = v_old[p], v_new[p]
            h0 = alpha * rows[p] + a * old + e * new
            h1 = alpha * rows[p + width] + b * old + f * new
            h2 = alpha * rows[p + 2 * width] + c * old + g * new
            h3 = alpha * rows[p + 3 * width] + d * old + i * new
            rows[p], rows[p + width], rows[p + 2 * width], rows[p + 3 * width] = h0, h1, h2, h3
            y[p] += (r * h0 + s * h1) + (t * h2 + u * h3)


@kernel
def carry_state_plain(h: Any, alpha: Any, k: Any, v: Any, q: Any, states: int, width: int, y: Any) -> None:
    """h = alpha h + k v^T, then y = q h; shapes as in `carry_state`."""
    for p in range(width):
        y[p] = np.float32(0.0)
    for n in range(0, states, 4):
        e, f, g, i = k[n], k[n + 1], k[n + 2], k[n + 3]
        r, s, t, u = q[n], q[n + 1], q[n + 2], q[n + 3]
        rows = h[n * width : (n + 4) * width]
        for p in range(width):
            new = v[p]
            h0 = alpha * rows[p] + e * new
            h1 = alpha * rows[p + width] + f * new
            h2 = alpha * rows[p + 2 * width] + g * new
            h3 = alpha * rows[p + 3 * width] + i * new
            rows[p], rows[p + width], rows[p + 2 * width], rows[p + 3 * width] = h0, h1, h2, h3
            y[p] += (r * h0 + s * h1) + (t * h2 + u * h3)
