"""The linear model: multinomial logistic classes, linear quantiles and means. The baseline of every table."""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.model.heads import OUTPUTS, fill_forecast
from emp.model.port import register

PADDED = (OUTPUTS + 15) // 16 * 16
"""Outputs rounded up to whole vector registers."""


class LinearParams(NamedTuple):
    """Parameters of the linear model, one head per domain."""

    weight: Array  # float32[domains, INPUTS, PADDED]
    bias: Array  # float32[domains, PADDED]
    calibration: Array  # CALIBRATION[domains]
    scratch: Array  # float32[PADDED]


@kernel
def linear_forecast(params: LinearParams, state: Any, domain: int, x: Any, out: Any) -> None:
    """raw = bias + x @ weight of the domain's head; the state is empty."""
    raw = params.scratch
    weight = params.weight[domain]
    bias = params.bias[domain]
    for k in range(PADDED):
        raw[k] = bias[k]
    blocks = x.size - x.size % 4
    for j in range(0, blocks, 4):  # four inputs at a time: raw is loaded and stored a quarter as often
        x0, x1, x2, x3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        for k in range(PADDED):
            raw[k] += (
                x0 * weight[j, k] + x1 * weight[j + 1, k] + x2 * weight[j + 2, k] + x3 * weight[j + 3, k]
            )
    for j in range(blocks, x.size):
        for k in range(PADDED):
            raw[k] += x[j] * weight[j, k]
    fill_forecast(raw, params.calibration[domain], out)


register(LinearParams, linear_forecast)


def linear_params(weight: Array, bias: Array, calibration: Array) -> LinearParams:
    """Pad and pack trained weights.

    Args:
        weight: float[domains, INPUTS, OUTPUTS].
        bias: float[domains, OUTPUTS].
        calibration: CALIBRATION[domains].
    """
    padding = PADDED - OUTPUTS
    return LinearParams(
        np.ascontiguousarray(np.pad(weight, ((0, 0), (0, 0), (0, padding))), dtype=np.float32),
        np.ascontiguousarray(np.pad(bias, ((0, 0), (0, padding))), dtype=np.float32),
        calibration,
        np.zeros(PADDED, np.float32),
    )
