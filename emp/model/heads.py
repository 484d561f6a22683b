"""From raw head outputs to a Forecast: the same for every model."""

from typing import Any

import numpy as np

from emp.core.fastmath import exp32
from emp.core.jit import kernel
from emp.core.records import HORIZONS, QUANTILES

CLASSES = 3
LOGITS = HORIZONS * CLASSES
QUANTILES_AT = LOGITS
MEANS_AT = LOGITS + HORIZONS * len(QUANTILES)
OUTPUTS = MEANS_AT + HORIZONS
"""Raw outputs per head: class logits, quantiles and means of delta_hat, each for all horizons."""


@kernel
def fill_forecast(raw: Any, out: Any) -> None:
    """Turn raw outputs into probabilities, ordered quantiles and means.

    Args:
        raw: float32[>= OUTPUTS], logits already divided by the calibration temperature; overwritten.
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
    for k in range(LOGITS):  # apart from the loops around it, so that it is vectorised
        raw[k] = exp32(raw[k])
    for h in range(HORIZONS):
        at = h * CLASSES
        share = np.float32(1.0) / (raw[at] + raw[at + 1] + raw[at + 2])
        for c in range(CLASSES):
            out.p[h, c] = raw[at + c] * share
        at = QUANTILES_AT + h * len(QUANTILES)
        low, mid, high = raw[at], raw[at + 1], raw[at + 2]
        out.q[h, 0] = min(low, min(mid, high))
        out.q[h, 2] = max(low, max(mid, high))
        out.q[h, 1] = max(min(low, mid), min(max(low, mid), high))
        out.mean[h] = raw[MEANS_AT + h]
