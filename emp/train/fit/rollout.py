"""Carry a packed model over whole series with the compiled step: what the live system would have said."""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import FORECAST, Array
from emp.model.port import forecast
from emp.model.ssm_config import packed_records
from emp.model.ssm_heads import RAW


class Rollout(NamedTuple):
    """What a model said of n events."""

    forecast: Array  # FORECAST[n]
    raw: Array  # float32[n, RAW], whose part of big moves is a logit; the rest is scratch of `forecast`


@kernel
def serve_all(params: Any, state: Any, domain: int, x: Any, segment: Any, out: Any, raw: Any) -> None:
    """Carry a packed model over x float32[n, inputs]; the state starts from zero with every segment."""
    for t in range(x.shape[0]):
        if t > 0 and segment[t] != segment[t - 1]:
            state[:] = 0.0
        forecast(params, state, domain, x[t], out[t])
        raw[t] = params.scratch[0].raw


def rollout(params: Any, state_size: int, domain: int, x: Array, segment: Array | None = None) -> Rollout:
    """Run over rows in order of time.

    Args:
        params: packed by `emp.model.build_ssm`.
        x: float32[n, inputs].
        segment: int64[n], stretches over which a state lives (`emp.train.fit.restarts`); one where None.
    """
    n = len(x)
    state = packed_records(np.dtype("f4"), state_size)
    said = Rollout(np.zeros(n, FORECAST), np.zeros((n, RAW), np.float32))
    stretches = np.zeros(n, np.int64) if segment is None else np.ascontiguousarray(segment, np.int64)
    serve_all(params, state, domain, np.ascontiguousarray(x, np.float32), stretches, *said)
    return said
