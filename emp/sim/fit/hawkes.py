"""Maximum likelihood of a multivariate Hawkes process with given decay rates.

With the decays fixed the likelihood is concave in rates and jumps, and its EM iteration (Veen and
Schoenberg, "Estimation of space-time branching process models", JASA 2008) only multiplies by positive
numbers, so everything stays non-negative: no inhibition is estimated.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.flow.params import SCALES, TYPES

DECAY_HZ = (2000.0, 20.0, 0.2)
ROUNDS = 120
MAX_BRANCHING = 0.98


@kernel
def _em_round(
    gap_s: Any, types: Any, base: Any, jump: Any, decay: Any, new_base: Any, new_jump: Any
) -> float:
    """Attribute every event to the base rate or to past ones; return the log-likelihood without compensator."""
    x = np.zeros((TYPES, SCALES))
    total = 0.0
    for i in range(len(types)):
        j = types[i]
        if i > 0:
            for m in range(SCALES):
                fall = np.exp(-decay[m] * gap_s[i - 1])
                for k in range(TYPES):
                    x[k, m] *= fall
        rate = base[j]
        for k in range(TYPES):
            for m in range(SCALES):
                rate += jump[k, m, j] * x[k, m]
        total += np.log(rate)
        new_base[j] += base[j] / rate
        for k in range(TYPES):
            for m in range(SCALES):
                new_jump[k, m, j] += jump[k, m, j] * x[k, m] / rate
        for m in range(SCALES):
            x[j, m] += 1.0
    return total


def spectral_radius(jump: Array, decay: Array) -> float:
    """Largest eigenvalue of the integrated kernel: the mean number of children, in the worst mix of types."""
    matrix = (jump / decay[None, :, None]).sum(axis=1)
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def fit_hawkes(ts: Array, types: Array) -> tuple[Array, Array, Array, float]:
    """Return base rates (12,), jumps (12, 3, 12) [cause, scale, effect], decays (3,) in Hz, and branching.

    Bid and ask are made alike by averaging mirrored parameters. Where the estimate is not stationary, jumps
    are scaled to a branching ratio of MAX_BRANCHING and base rates raised to keep the mean rate.
    """
    decay = np.array(DECAY_HZ)
    gap = np.diff(ts) / 1e9
    span = float(ts[-1] - ts[0]) / 1e9
    counts = np.bincount(types, minlength=TYPES).astype(float)
    base = 0.5 * counts / span
    jump = np.repeat((0.4 * decay / SCALES)[None, :, None], TYPES, 0) * np.ones((1, 1, TYPES)) / TYPES
    left = np.array([(1 - np.exp(-d * (ts[-1] - ts) / 1e9)) / d for d in DECAY_HZ])
    exposure = np.array([[left[m][types == k].sum() for m in range(SCALES)] for k in range(TYPES)])
    for _ in range(ROUNDS):
        new_base, new_jump = np.zeros(TYPES), np.zeros((TYPES, SCALES, TYPES))
        _em_round(gap, types.astype(np.int64), base, jump, decay, new_base, new_jump)
        base = new_base / span
        jump = new_jump / np.maximum(exposure, 1e-12)[:, :, None]
    half = TYPES // 2
    swap = np.r_[half:TYPES, 0:half]
    base = 0.5 * (base + base[swap])
    jump = 0.5 * (jump + jump[swap][:, :, swap])
    radius = spectral_radius(jump, decay)
    if radius > MAX_BRANCHING:
        jump *= MAX_BRANCHING / radius
        radius = MAX_BRANCHING
    rate = 0.5 * (counts + counts[swap]) / span
    kernel_mass = (jump / decay[None, :, None]).sum(axis=1)
    base = np.maximum(0.02 * rate, rate - kernel_mass.T @ rate)
    return base, jump, decay, radius
