"""The linear model: multinomial logistic classes, linear quantiles and means. The baseline of every table."""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.simd import aligned, load, splat, store
from emp.core.records import Array
from emp.model.heads import LANES, OUTPUTS, fill_forecast
from emp.model.port import register

PADDED = (OUTPUTS + LANES - 1) // LANES * LANES
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
    blocks = x.size - x.size % 4
    for k in range(0, PADDED, LANES):  # sixteen outputs stay in a register while all inputs pass
        row = load(bias, k)
        for j in range(0, blocks, 4):
            at = j * PADDED + k
            row = row + (
                splat(x[j]) * load(weight, at)
                + splat(x[j + 1]) * load(weight, at + PADDED)
                + splat(x[j + 2]) * load(weight, at + 2 * PADDED)
                + splat(x[j + 3]) * load(weight, at + 3 * PADDED)
            )
        for j in range(blocks, x.size):
            row = row + splat(x[j]) * load(weight, j * PADDED + k)
        store(raw, k, row)
    fill_forecast(raw, params.calibration[domain], out)


register(LinearParams, linear_forecast)


def linear_params(weight: Array, bias: Array, calibration: Array) -> LinearParams:
    """Pad and pack trained weights.

    Args:
        weight: float[domains, INPUTS, OUTPUTS].
        bias: float[domains, OUTPUTS].
        calibration: CALIBRATION[domains].
    """
    padding = PADDED - OUTPUTS  # a row of weights that crosses a cache line is two loads
    return LinearParams(
        aligned(np.pad(weight, ((0, 0), (0, 0), (0, padding))).astype(np.float32)),
        aligned(np.pad(bias, ((0, 0), (0, padding))).astype(np.float32)),
        calibration,
        aligned(np.zeros(PADDED, np.float32)),
    )
