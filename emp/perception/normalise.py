"""`model_input`: from a MarketState to the vector a model sees, by past-only robust location and scale.

The same vector means the same thing on every instrument, which is what lets one model serve them all.
Location and scale are Huber's: each value moves them by at most a bounded step, so an outlier cannot.
"""

from typing import Any

import numpy as np

from emp.core.codes import Session
from emp.core.numba.jit import kernel
from emp.core.records import DEPTH_FEATURES, HORIZON_NS
from emp.perception.book import running_weight
from emp.perception.state import CORE_INPUTS, NORM_SPAN

CORE = len(CORE_INPUTS)
CONTEXT_INPUTS = (
    *(f"session_{s.name.lower()}" for s in Session if s is not Session.CLOSED),
    "liquidity",
    "has_depth",
    "has_size",
    "pace",
    "activity",
)
"""Inputs that say which market this is: not normalised, and different between instruments by their purpose."""

INPUT_NAMES = (*CORE_INPUTS, *(f"depth_{i}" for i in range(DEPTH_FEATURES)), *CONTEXT_INPUTS)
INPUTS = len(INPUT_NAMES)
"""Length of the model's input vector."""

SESSION_AT = CORE + DEPTH_FEATURES
LIQUIDITY_AT = SESSION_AT + len(Session) - 1

CLIP = 6.0
"""Huber's bound, in scales: beyond it a value counts as if it lay on it. Where most values are next to nothing and
a few are large, a tighter bound lets the scale shrink until the large ones all look alike."""

PACE_S = HORIZON_NS[1] * 1e-9
LOG_SPAN = 4.0
"""Divides the logarithms in `pace` and `activity`, so that they are of the size of the other inputs."""
LEAST_ACTIVITY = 1e-3

MEAN_ABS_GAUSS = 0.7978845608028654
"""E|z| of a standard normal: makes `scale` equal sigma where the input is Gaussian."""

_FLOORS = {"spread": 0.05, "refresh": 0.05, "stale": 0.05}
SCALE_FLOOR = np.array([_FLOORS.get(name, 1e-6) for name in CORE_INPUTS])
"""Least scale of an input, in its own units: one that never moves (a spread of always one tick) stays 0."""


@kernel
def normalise(p: Any, x: Any) -> None:
    """Write x[:CORE] from `p.raw`, then let the new values into location and scale.

    x = z / sqrt(1 + (z / CLIP)^2) with z = (raw - location) / scale: monotone, so no information is lost,
    and bounded by CLIP. Location and scale are those of strictly earlier events.
    """
    weight = running_weight(float(p.events), float(NORM_SPAN))
    raw, location, scale, bounded = p.raw, p.location, p.scale, p.bounded
    for i in range(CORE):  # reads and writes nothing but `p`, or it would not be vectorised
        z = (raw[i] - location[i]) / scale[i]
        bounded[i] = z / np.sqrt(1.0 + (z / CLIP) * (z / CLIP))
        clipped = min(max(z, -CLIP), CLIP)
        location[i] += weight * clipped * scale[i]
        target = abs(clipped) / MEAN_ABS_GAUSS
        scale[i] = max(scale[i] * (1.0 + weight * (target - 1.0)), SCALE_FLOOR[i])
    for i in range(CORE):
        x[i] = bounded[i]


@kernel
def first_location(p: Any) -> None:
    """Start location at the first value ever seen and scale at a tenth of its size (or its floor)."""
    for i in range(CORE):
        p.location[i] = p.raw[i]
        p.scale[i] = max(0.1 * abs(p.raw[i]), SCALE_FLOOR[i])


@kernel
def model_input(p: Any, state: Any, x: Any) -> None:
    """Fill the model's input vector.

    `pace` is the log of the events expected within the middle wall-time horizon, `activity` that of sigma in
    units of delta_hat: how much may happen within a horizon is what normalisation takes away, and without it a
    forecast is right about the average hour only.

    Args:
        p: PERCEPTION record whose `raw` holds the core inputs of this event.
        state: MARKET_STATE record of this event.
        x: float32[INPUTS], overwritten.
    """
    if p.events == 1:
        first_location(p)
    normalise(p, x)
    for i in range(DEPTH_FEATURES):
        x[CORE + i] = state.depth_feat[i]
    for i in range(SESSION_AT, LIQUIDITY_AT):
        x[i] = 0.0
    if SESSION_AT + state.session_id < LIQUIDITY_AT:
        x[SESSION_AT + state.session_id] = 1.0
    x[LIQUIDITY_AT] = state.liquidity_id - 1.0
    x[LIQUIDITY_AT + 1] = 1.0 if state.has_depth else 0.0
    x[LIQUIDITY_AT + 2] = 1.0 if p.has_size else 0.0
    unit = max(float(state.spread_ticks), p.sigma_ticks)
    x[LIQUIDITY_AT + 3] = np.log(max(state.refresh_hz, 1e-3) * PACE_S) / LOG_SPAN
    x[LIQUIDITY_AT + 4] = np.log(max(p.sigma_ticks / unit, LEAST_ACTIVITY)) / LOG_SPAN
