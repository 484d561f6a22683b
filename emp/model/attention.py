"""One event of local attention over a ring of the last keys and values."""

from typing import Any

import numpy as np

from emp.core.numba.fastmath import exp32
from emp.core.numba.jit import kernel
from emp.model.ssm_config import LINE, SSMConfig, packed_dtype
from emp.model.ssm_math import add_product, product, rms_scale


def attention_dtype(config: SSMConfig) -> np.dtype[Any]:
    """Weights: the norm is folded into `qkv`, 1 / sqrt(head size) into its queries, the layer-scale into `out`.

    `bias[h, window - a + j]` is the bias of slot j while slot a is written.
    """
    d = config.d_model
    return packed_dtype(
        {
            "qkv": (d, 3 * d),
            "bias": (config.attention_heads, 2 * config.window),
            "out": (d, d),
        }
    )


@kernel
def attend(w: Any, state: Any, s: Any) -> None:
    """Let the event see the last `window` events: s.x += out(softmax(q k + bias) v).

    Args:
        w: attention_dtype record.
        state: float32[>= ...] from `attention.at` of `layout`: place, then keys [d, window], values [window, d].
        s: scratch record; `x` float32[d] is carried, the rest is overwritten.
    """
    heads, window = w.bias.shape[0], w.bias.shape[1] // 2
    d = w.out.shape[0]
    size = d // heads
    scale = rms_scale(s.x, d)
    for j in range(d):
        s.normed[j] = s.x[j] * scale
    product(w.qkv, s.normed, s.qkv)

    at = int(state[0])
    state[0] = np.float32(at + 1 if at + 1 < window else 0)
    keys = state[LINE : LINE + d * window]
    stride = (d * window + LINE - 1) // LINE * LINE
    values = state[LINE + stride : LINE + stride + window * d]
    for c in range(d):
        keys[c * window + at] = s.qkv[d + c]
    here = values[at * d : (at + 1) * d]
    for c in range(d):
        here[c] = s.qkv[2 * d + c]

    for c in range(d):
        s.attended[c] = np.float32(0.0)
    for h in range(heads):
        logits = s.logits
        bias = w.bias[h]
        for j in range(window):
            logits[j] = bias[window - at + j]
        for c in range(h * size, (h + 1) * size):
            q = s.qkv[c]
            row = keys[c * window : (c + 1) * window]
            for j in range(window):
                logits[j] += q * row[j]
        top = logits[0]
        for j in range(window):
            top = max(top, logits[j])
        total = np.float32(0.0)
        for j in range(window):
            weight = exp32(logits[j] - top)
            logits[j] = weight
            total += weight
        share = np.float32(1.0) / total
        y = s.attended[h * size : (h + 1) * size]
        for j in range(window):
            weight = logits[j] * share
            row = values[j * d + h * size : j * d + (h + 1) * size]
            for c in range(size):
                y[c] += weight * row[c]
    add_product(w.out, s.attended, s.x)
