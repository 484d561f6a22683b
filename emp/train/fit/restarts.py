"""Where the state of a model begins anew over rows that were seen, by the rule that the engine follows."""

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.engine.limits import EngineLimits
from emp.model.table import STREAM, advance_or_reset

STATE_TTL_NS = EngineLimits().state_ttl_ns
"""How long a state lives without a believable book wherever a model is trained or judged: the engine's default."""


@kernel
def mark_restarts(stream: Array, ttl_ns: int, since_reset: Array, ts: Array, out: Array) -> None:
    """Carry a STREAM record of no state over int64[n] rows; `out` bool[n]."""
    nothing = np.zeros(0, np.float32)
    for i in range(ts.size):
        advance_or_reset(stream[0], nothing, since_reset[i], ts[i], ttl_ns)
        out[i] = stream[0].events == 1


def restarts(since_reset: Array, ts: Array, ttl_ns: int = STATE_TTL_NS) -> Array:
    """Rows before which a state is zero: the first, those behind a broken stream, and those behind a longer time
    without a believable book than a state lives. Where a model has said what is no number is not known here.

    Args:
        since_reset: int64[n], visible events since the stream was broken: 1 on the first.
        ts: int64[n], ns.
        ttl_ns: how long a state lives.

    Returns:
        bool[n].
    """
    out = np.zeros(len(ts), bool)
    since_reset, ts = (np.ascontiguousarray(column, np.int64) for column in (since_reset, ts))
    mark_restarts(np.zeros(1, STREAM), ttl_ns, since_reset, ts, out)
    return out
