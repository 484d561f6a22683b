"""A model of one's own: a function outside this package that is shown the model's input and writes what it believes.

    def model(x, forecast): ...             # or model(x, forecast, mine), with memory of its own

It is called by address, so one compiled step serves every such model, whether a compiled function stands there, one
that goes on in Python, or a runtime for networks. A mean is enough of a forecast: what is not said is filled in, as of
a walk with the sigma that the input tells, and outcomes correct it as they do every model's (`emp.model.recalibrate`).
Numbers are shown and taken as float64: in float32 Python and compiled code would round differently.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.call import call
from emp.core.numba.jit import inlined, kernel
from emp.core.own_code import ANSWERED, Fault
from emp.core.records import HORIZON_EVENTS, HORIZON_NS, HORIZONS, QUANTILES, Array
from emp.model.port import register

MODEL_RAISED, NUMBER, PROBABILITIES = int(Fault.MODEL_RAISED), int(Fault.NUMBER), int(Fault.PROBABILITIES)
CROSSING, PARTLY = int(Fault.CROSSING), int(Fault.PARTLY)

CLASSES = 3
WORDS = 2
"""float32 of the state that one remembered number takes: it is a float64."""

SAID = np.dtype(
    [
        ("mean", "f8", (HORIZONS,)),  # expected delta_hat
        ("q", "f8", (HORIZONS, len(QUANTILES))),  # quartiles of delta_hat, never falling
        ("p", "f8", (HORIZONS, CLASSES)),  # of down, flat, up
    ],
    align=True,
)
"""What a model writes of one event."""

UNSAID = -1.7976931348623157e308
"""What stands in a forecast before the model has said anything."""

LARGEST = 3.4028234663852886e38
"""Of float32, in which forecasts are kept."""

SUM_TOLERANCE = 1e-3
"""Within which probabilities add up to 1; they are brought to it."""

QUARTILE = 0.6744897501960817
"""Upper quartile of a standard normal."""

MEAN_ABS_GAUSS = 0.7978845608028654
"""E|z| of a standard normal: perception's sigma is a mean size of moves."""

_STEPS = np.array(HORIZON_EVENTS, np.float64)
_SPANS_S = np.array(HORIZON_NS, np.float64) * 1e-9
_EVENT_HORIZONS = len(HORIZON_EVENTS)


class OwnModel(NamedTuple):
    """A model at an address."""

    entry: Array  # int64[1]: int32(x, said, memory)
    at: Array  # int64[1]: seq of the event at hand, 0 where it is not known
    failure: Array  # FAILURE[1], one with that of its features
    x: Array  # float64[inputs], scratch: what it is shown
    said: Array  # SAID[1], scratch
    threshold: Array  # float64[domains, HORIZONS], of delta_hat, beyond which a move is up or down
    places: Array  # int64[2]: where in x activity and pace stand
    units: Array  # float64[2]: what their logarithms are divided by, and the span of pace in s


@inlined
def sigma_of(activity: float, pace: float, h: int) -> float:
    """Sigma of the move to horizon h in units of delta_hat, of a walk with the market's sigma per event.

    Args:
        activity: perception's sigma in that unit.
        pace: events a second.
    """
    steps = _STEPS[h] if h < _EVENT_HORIZONS else max(pace * _SPANS_S[h - _EVENT_HORIZONS], 1.0)
    return activity / MEAN_ABS_GAUSS * math.sqrt(steps)


@inlined
def below(z: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


@kernel
def fill(said: Any, h: int, threshold: float, activity: float, pace: float) -> int:
    """Check what is said of horizon h, and fill in what is not, as `sigma_of` has it; the Fault, or 0."""
    q, p = said.q[h], said.p[h]
    q_said = p_said = 0
    for k in range(CLASSES):
        q_said += q[k] != UNSAID
        p_said += p[k] != UNSAID
    if q_said % CLASSES != 0 or p_said % CLASSES != 0:
        return PARTLY
    if said.mean[h] == UNSAID:
        said.mean[h] = q[1] if q_said != 0 else 0.0
    mean = said.mean[h]
    if q_said == 0:
        wide = QUARTILE * sigma_of(activity, pace, h)
        q[0], q[1], q[2] = mean - wide, mean, mean + wide
    if p_said == 0:
        sigma = max((q[2] - q[0]) / (2.0 * QUARTILE), 1e-9)
        p[0] = below((-threshold - mean) / sigma)
        p[2] = 1.0 - below((threshold - mean) / sigma)
        p[1] = max(1.0 - p[0] - p[2], 0.0)
    total = p[0] + p[1] + p[2]
    size = abs(mean) + abs(q[0]) + abs(q[1]) + abs(q[2]) + abs(total)
    if not size < LARGEST:
        return NUMBER
    if min(p[0], min(p[1], p[2])) < 0.0 or abs(total - 1.0) > SUM_TOLERANCE:
        return PROBABILITIES
    if q[0] > q[1] or q[1] > q[2]:
        return CROSSING
    for k in range(CLASSES):
        p[k] /= total
    return 0


@kernel
def forecast_own(params: OwnModel, state: Any, domain: int, x: Any, out: Any) -> None:
    """Ask the model; see `emp.model.port.forecast`. One that has failed says what is no number, as any model might."""
    failure, said = params.failure[0], params.said[0]
    if failure.kind == 0:
        for j in range(params.x.size):
            params.x[j] = x[j]
        said.mean[:] = UNSAID
        said.q[:] = UNSAID
        said.p[:] = UNSAID
        answer = call(params.entry[0], params.x.ctypes.data, params.said.ctypes.data, state.ctypes.data)
        if answer != ANSWERED:
            failure.kind, failure.seq = MODEL_RAISED, params.at[0]
    activity = math.exp(x[params.places[0]] * params.units[0])
    pace = math.exp(x[params.places[1]] * params.units[0]) / params.units[1]
    for h in range(HORIZONS):
        if failure.kind == 0:
            fault = fill(said, h, params.threshold[domain, h], activity, pace)
            if fault != 0:
                failure.kind, failure.seq, failure.place = fault, params.at[0], h
    for h in range(HORIZONS):
        right = failure.kind == 0
        out.mean[h] = said.mean[h] if right else np.nan
        for k in range(CLASSES):
            out.p[h, k] = said.p[h, k] if right else np.nan
            out.q[h, k] = said.q[h, k] if right else np.nan


register(OwnModel, forecast_own)
