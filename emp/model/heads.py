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
        raw: float32[>= OUTPUTS], logits already divided by the calibration temperature.
        out: FORECAST record.

    Quantiles that cross are put in order (rearrangement, Chernozhukov, Fernandez-Val and Galichon 2010,
    which never increases the pinball loss).
    """
    for h in range(HORIZONS):
        a, b, c = raw[h * CLASSES], raw[h * CLASSES + 1], raw[h * CLASSES + 2]
        top = max(a, max(b, c))
        a, b, c = exp32(a - top), exp32(b - top), exp32(c - top)
        share = np.float32(1.0) / (a + b + c)
        out.p[h, 0], out.p[h, 1], out.p[h, 2] = a * share, b * share, c * share

        at = QUANTILES_AT + h * len(QUANTILES)
        low, mid, high = raw[at], raw[at + 1], raw[at + 2]
        out.q[h, 0] = min(low, min(mid, high))
        out.q[h, 2] = max(low, max(mid, high))
        out.q[h, 1] = max(min(low, mid), min(max(low, mid), high))
        out.mean[h] = raw[MEANS_AT + h]
