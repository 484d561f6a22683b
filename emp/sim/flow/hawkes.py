"""Multivariate Hawkes flow: twelve event types excite each other through sums of exponentials.

Kernels that are a sum of exponentials with well-separated scales follow a power law between them (Bacry,
Mastromatteo and Muzy, "Hawkes processes in finance", arXiv 1502.04592). Simulation by Ogata's thinning: the
total intensity only falls between events, so its present value bounds it.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.rng import table_index, uniform
from emp.sim.flow.marks import apply_type
from emp.sim.flow.params import SCALES, TYPES
from emp.sim.flow.state import pass_time


@kernel
def hawkes_gap(flow: Any) -> None:
    """Draw the time of the next event and bring the intensities to it."""
    s, p, r = flow.state[0], flow.params[0], flow.rng
    base = 0.0
    for j in range(TYPES):
        base += p.base_hz[j]
    waited = 0.0
    bound = base
    for m in range(SCALES):
        bound += s.total[m]
        s.scratch[m] = 1.0
    while True:
        dt = p.exp[table_index(r)] / bound
        waited += dt
        now = base
        for m in range(SCALES):
            fall = np.exp(-p.decay_hz[m] * dt)
            s.scratch[m] *= fall
            s.total[m] *= fall
            now += s.total[m]
        if uniform(r) * bound <= now:
            break
        bound = now
    for m in range(SCALES):
        for j in range(TYPES):
            s.excite[m, j] *= s.scratch[m]
    pass_time(s, int(waited * 1e9) + 1)


@kernel
def hawkes_apply(flow: Any) -> None:
    """Apply one event: its type in proportion to the intensities at its time."""
    s, p = flow.state[0], flow.params[0]
    total = 0.0
    for j in range(TYPES):
        w = p.base_hz[j] + s.excite[0, j] + s.excite[1, j] + s.excite[2, j]
        s.scratch[j] = w
        total += w
    v = uniform(flow.rng) * total
    t = 0
    while t < TYPES - 1 and v >= s.scratch[t]:
        v -= s.scratch[t]
        t += 1
    apply_type(flow, t)
    for m in range(SCALES):
        for j in range(TYPES):
            jump = p.jump_hz[t, m, j]
            s.excite[m, j] += jump
            s.total[m] += jump
