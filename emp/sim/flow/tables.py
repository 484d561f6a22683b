"""A flow model made ready to be simulated: its parameters, and what of them can be worked out beforehand."""

import numpy as np

from emp.core.numba.simd import aligned
from emp.core.records import Array
from emp.sim.flow.observe import AT, CANCEL_AT, CANCEL_DEEP, DEEP, HIT, IN
from emp.sim.flow.params import FLOW, IMBALANCES, LASTS, PACES, PAUSES, QUEUE_REACTIVE, SPREADS

LOG_SHIFT_NS = 1000.0
"""The clock's averages take log(gap + this), so that the shortest gaps do not count for more than the rest."""

CELLS = 1024
ORDERLY = (IN, AT, DEEP, HIT)
"""The kinds that do not become more frequent as more orders rest, in the order of `kind_sums`."""

LAW = np.dtype(
    [
        ("side_weight", FLOW["side_weight"]),  # first, so that its rows begin at cache lines
        *((name, FLOW[name]) for name in FLOW.fields or () if name != "side_weight"),
        ("gaps", "f4", (PACES, PAUSES, 256, 2)),  # `gap_ns`, and log(gap + LOG_SHIFT_NS)
        # by [imbalance, spread, last]: the running sum of ORDERLY's weights (4), then the weights of cancels at
        # the best price and deeper, per share of the usual number of orders (2)
        ("kind_sums", "f8", (IMBALANCES * SPREADS * LASTS, 8)),
        ("crowd", "f8"),  # 1 / live_ref
        ("logit", "f8", (CELLS + 1,)),  # log-odds of the borders of CELLS equal cells of probability
    ],
    align=True,
)
"""FLOW with tables; `tabulate` makes it."""


def tabulate(params: Array) -> Array:
    """Return the LAW record (shape (1,)) of a FLOW record; a LAW record is returned as it is."""
    if params.dtype == LAW:
        return params
    law = aligned(np.zeros(1, LAW))
    for name in FLOW.fields or ():
        law[name] = params[name]
    if params["model"][0] != QUEUE_REACTIVE:
        return law
    law["crowd"] = 1.0 / params["live_ref"]
    law["gaps"] = np.stack([params["gap_ns"], np.log(params["gap_ns"] + LOG_SHIFT_NS)], axis=-1)
    weight = params["kind_weight"][0][:, :, None, :] * params["after"][0]
    sums = law["kind_sums"][0].reshape(IMBALANCES, SPREADS, LASTS, 8)
    sums[..., :4] = np.cumsum(weight[..., list(ORDERLY)], axis=-1)
    sums[..., 4], sums[..., 5] = weight[..., CANCEL_AT], weight[..., CANCEL_DEEP]
    border = np.arange(1, CELLS) / CELLS
    law["logit"][0] = np.concatenate([[-np.inf], np.log(border / (1.0 - border)), [np.inf]])
    return law
