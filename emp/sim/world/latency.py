"""Latency, drawn leg by leg from distributions that widen when the market is busy.

A leg takes `floor + lognormal(median, sigma) * load`, where load is (events per second / usual events per
second) ** `load_exponent`, at least 1. Logarithms of network and gateway delays are near normal with a hard
floor (Downey, "Evidence for long-tailed distributions in the internet", 2001), and spikes come exactly when
the market is busy (hftbacktest issue 256). A session is an ordered byte stream, so a message never overtakes
an earlier one of the same direction.
"""

from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.rng import table_index
from emp.core.records import Array
from emp.sim.book.book import u

FEED, ENTRY, MODIFY, CANCEL, REPORT = 0, 1, 2, 3, 4
LEGS = 5

LATENCY = np.dtype(
    [
        ("floor_ns", "f8", (LEGS,)),
        ("load_exponent", "f8"),
        ("usual_hz", "f8"),
        ("compute_ns", "f8"),  # the strategy's own time per decision
        ("body_ns", "f8", (LEGS, 4096)),  # quantiles of the delay above the floor at the usual load
    ],
    align=True,
)


class Leg(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One leg: never less than the floor, and a log-normal delay above it."""

    floor_us: float
    median_us: float
    sigma: float = 0.5


class LatencyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delays of a server in the same region as the venue's gateway; a broker's FIX gateway is slower."""

    feed: Leg = Leg(100.0, 150.0)
    entry: Leg = Leg(150.0, 250.0)
    modify: Leg = Leg(150.0, 280.0)
    cancel: Leg = Leg(150.0, 230.0)
    report: Leg = Leg(120.0, 180.0)
    load_exponent: float = 0.5
    usual_hz: float = 100.0
    compute_us: float = 60.0


def latency_record(config: LatencyConfig) -> Array:
    """Return the LATENCY record (shape (1,)) of a configuration."""
    record = np.zeros(1, LATENCY)
    normal = NormalDist()
    quantiles = np.array([normal.inv_cdf((i + 0.5) / 4096) for i in range(4096)])
    for i, leg in enumerate((config.feed, config.entry, config.modify, config.cancel, config.report)):
        record["floor_ns"][0, i] = leg.floor_us * 1e3
        record["body_ns"][0, i] = leg.median_us * 1e3 * np.exp(leg.sigma * quantiles)
    record["load_exponent"] = config.load_exponent
    record["usual_hz"] = config.usual_hz
    record["compute_ns"] = config.compute_us * 1e3
    return record


@kernel
def draw_latency(m: Any, leg: int, load_hz: float, r: Any) -> int:
    """Return one delay in ns for a leg while `load_hz` events per second happen."""
    load = 1.0
    if load_hz > m.usual_hz:
        load = (load_hz / m.usual_hz) ** m.load_exponent
    return int(m.floor_ns[u(leg)] + m.body_ns[u(leg), table_index(r)] * load)
