"""Everything the compiled path holds: one array per concern, one row per instrument, allocated once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emp.core.codes import Quarantine
from emp.core.instrument import Instrument
from emp.core.records import ACCOUNT, FORECAST, MARKET_STATE, SESSION, WORKING, Array
from emp.decision.estimates import new_estimates
from emp.decision.rule import COSTS
from emp.perception.normalise import INPUTS
from emp.perception.state import new_perception
from emp.risk.limits import LIMITS, new_risk

FACTS = np.dtype([("venue_id", "i4"), ("domain", "i4"), ("model_id", "i4")], align=True)

END_OF_TIME = np.iinfo(np.int64).max


class Desk(NamedTuple):
    """State, limits and scratch of all instruments; every array's first axis is the instrument."""

    facts: Array  # FACTS[n]
    sessions: Array  # SESSION[n, rows], padded with rows that never begin
    encoder: Array  # ENCODER[1], shared
    perception: Array  # PERCEPTION[n]
    state: Array  # MARKET_STATE[n]
    inputs: Array  # float32[n, INPUTS]
    memory: Array  # float32[n, state_size]: the model's streaming state
    forecast: Array  # FORECAST[n]
    estimates: Array  # ESTIMATES[n]
    costs: Array  # COSTS[n]
    account: Array  # ACCOUNT[n]
    working: Array  # WORKING[n]
    risk: Array  # RISK[n]
    limits: Array  # LIMITS[n]
    quarantined: Array  # int64[n, reasons]: events kept from perception, by codes.Quarantine
    clock: Array  # int64[2], scratch of monotonic_ns


MUTABLE = (
    "perception",
    "state",
    "memory",
    "forecast",
    "estimates",
    "account",
    "working",
    "risk",
    "quarantined",
)
"""What a checkpoint holds: with these bytes and the events that follow, the engine is the same engine."""


def pad_sessions(tables: Sequence[Array]) -> Array:
    """Stack session tables of different lengths."""
    rows = max(len(t) for t in tables)
    stacked = np.zeros((len(tables), rows), SESSION)
    stacked["start"] = END_OF_TIME
    for i, table in enumerate(tables):
        stacked[i, : len(table)] = table
    return stacked


def new_desk(
    instruments: Sequence[Instrument],
    sessions: Sequence[Array],
    encoder: Array,
    memory: Array,
    domains: Sequence[int],
    limits: Array,
    costs: Array,
) -> Desk:
    """Allocate the desk of `instruments`.

    Args:
        sessions: one SESSION table per instrument.
        encoder: ENCODER[1].
        memory: float32[n, state_size], the rows of the model's state table.
        domains: the model's head for each instrument.
        limits: LIMITS[n].
        costs: COSTS[n].
    """
    n = len(instruments)
    if limits.dtype != LIMITS or costs.dtype != COSTS:
        raise TypeError("limits and costs must be LIMITS and COSTS records")
    facts = np.zeros(n, FACTS)
    facts["venue_id"] = [i.venue for i in instruments]
    facts["domain"] = domains
    return Desk(
        facts=facts,
        sessions=pad_sessions(sessions),
        encoder=encoder,
        perception=new_perception(n),
        state=np.zeros(n, MARKET_STATE),
        inputs=np.zeros((n, INPUTS), np.float32),
        memory=memory,
        forecast=np.zeros(n, FORECAST),
        estimates=new_estimates(n),
        costs=costs,
        account=np.zeros(n, ACCOUNT),
        working=np.zeros(n, WORKING),
        risk=new_risk(n),
        limits=limits,
        quarantined=np.zeros((n, len(Quarantine)), np.int64),
        clock=np.zeros(2, np.int64),
    )
