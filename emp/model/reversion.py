"""The dumb trader that every model has to beat: the mid comes back once it has strayed by more than a spread.

It stands behind the model port, so that perception, decision rule, costs, limits and venue are those of any
model. Where the mid lies further than one spread from its own running mean (`PERCEPTION.momentum`, the
exponential sum of its moves), it expects the whole way back within every horizon; nearer it expects nothing.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_EVENTS, HORIZONS, Array
from emp.model.port import register

QUARTILE = 0.6744897501960817
"""Upper quartile of a standard normal."""

LONGEST = float(HORIZON_EVENTS[-1])


class ReversionParams(NamedTuple):
    """What the trader looks at: the engine's own perception. Every instrument has a head of its own, by its index."""

    perception: Array  # PERCEPTION[instruments]
    k_sigma: float


@kernel
def reversion_forecast(params: ReversionParams, state: Any, domain: int, x: Any, out: Any) -> None:
    """Expect the way back to the running mean; quartiles as of a walk over the longest event horizon."""
    p = params.perception[domain]
    spread = float(p.ask - p.bid)
    unit = max(spread, params.k_sigma * p.sigma_ticks)
    way = -p.momentum / unit if abs(p.momentum) > spread else 0.0
    width = QUARTILE * p.sigma_ticks * np.sqrt(LONGEST) / unit
    for h in range(HORIZONS):
        out.mean[h] = way
        out.q[h, 0], out.q[h, 1], out.q[h, 2] = way - width, way, way + width
        out.p[h, 0], out.p[h, 1], out.p[h, 2] = 0.0, 1.0, 0.0
        if way != 0.0:
            out.p[h, 1] = 0.0
            out.p[h, 2 if way > 0.0 else 0] = 1.0


register(ReversionParams, reversion_forecast)
