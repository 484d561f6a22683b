"""From raw head outputs to a Forecast: the same for every model."""

from typing import Any

import numpy as np

from emp.core.numba.fastmath import exp_row
from emp.core.numba.jit import kernel
from emp.core.numba.simd import ROW_BYTES, load, store
from emp.core.records import HORIZONS, QUANTILES
from emp.model.calibration import through_tables

CLASSES = 3
LOGITS = HORIZONS * CLASSES
QUANTILES_AT = LOGITS
MEANS_AT = LOGITS + HORIZONS * len(QUANTILES)
OUTPUTS = MEANS_AT + HORIZONS
"""Raw outputs per head: class logits, quantiles and means of delta_hat, each for all horizons."""

LANES = ROW_BYTES // 4
"""Numbers that are worked at side by side."""


@kernel
def fill_forecast(raw: Any, c: Any, out: Any) -> None:
    """Turn raw outputs into calibrated probabilities, ordered quantiles and means.

    Args:
        raw: float32[>= OUTPUTS], logits already divided by the calibration temperature; overwritten.
        c: CALIBRATION record of the head.
        out: FORECAST record.

    Quantiles that cross are put in order (rearrangement, Chernozhukov, Fernandez-Val and Galichon 2010,
    which never increases the pinball loss).
    """
    for h in range(HORIZONS):
        at = h * CLASSES
        top = max(raw[at], max(raw[at + 1], raw[at + 2]))
        raw[at] -= top
        raw[at + 1] -= top
        raw[at + 2] -= top
    first, last = load(raw, 0), load(raw, LOGITS - LANES)  # two rows that overlap, in the same numbers
    store(raw, 0, exp_row(first))
    store(raw, LOGITS - LANES, exp_row(last))
    for h in range(HORIZONS):
        at = h * CLASSES
        share = np.float32(1.0) / (raw[at] + raw[at + 1] + raw[at + 2])
        for k in range(CLASSES):
            out.p[h, k] = raw[at + k] * share
        if c.tabled[h]:
            through_tables(c, h, out.p[h])
        at = QUANTILES_AT + h * len(QUANTILES)
        low, mid, high = raw[at], raw[at + 1], raw[at + 2]
        follow, rest = c.follow[h], c.rest[h]
        out.q[h, 0] = follow * min(low, min(mid, high)) - rest
        out.q[h, 2] = follow * max(low, max(mid, high)) + rest
        out.q[h, 1] = follow * max(min(low, mid), min(max(low, mid), high))
        out.mean[h] = raw[MEANS_AT + h]
