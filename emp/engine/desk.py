"""Everything the compiled path holds: one array per concern, one row per instrument, allocated once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emp.access.paper.venue import ROUND_TRIP_NS
from emp.core.codes import Quarantine
from emp.core.instrument import Instrument
from emp.core.records import ACCOUNT, DECISION, FORECAST, MARKET_STATE, SESSION, WORKING, Array
from emp.decision.estimates import new_estimates
from emp.decision.financing import new_financing
from emp.decision.markouts import new_markouts
from emp.decision.outcomes import new_lots
from emp.decision.rule import COSTS
from emp.decision.shadow import new_shadow
from emp.decision.standing import new_standing
from emp.model.recalibrate import new_recalibration
from emp.model.table import STREAM
from emp.perception.normalise import INPUTS
from emp.perception.state import new_perception
from emp.risk.limits import LIMITS, new_risk

FACTS = np.dtype(
    [
        ("venue_id", "i4"),
        ("domain", "i4"),  # the head of the model that serves the instrument
        ("model_id", "i4"),  # index in the run's list of model hashes
        ("state_ttl_ns", "i8"),
        ("round_trip_ns", "i8"),  # to the venue and back, as far as is known before anything was sent
        ("calendar_end_ns", "i8"),  # the session table says nothing of what comes from here on
    ],
    align=True,
)

END_OF_TIME = np.iinfo(np.int64).max


class Desk(NamedTuple):
    """State, limits and scratch of all instruments; every array's first axis is the instrument."""

    facts: Array  # FACTS[n]
    sessions: Array  # SESSION[n, rows], padded with rows that never begin
    perception: Array  # PERCEPTION[n]
    state: Array  # MARKET_STATE[n]
    inputs: Array  # float32[n, width]: the model's input, and behind it what own features remember
    memory: Array  # float32[n, state_size]: the model's streaming state
    stream: Array  # STREAM[n]: how old it is
    forecast: Array  # FORECAST[n]
    recalibration: Array  # RECALIBRATION[n]: what outcomes have taught of the forecasts
    estimates: Array  # ESTIMATES[n]
    lots: Array  # LOTS[n]: ours, what was believed of them and what they brought
    markouts: Array  # MARKOUTS[n]: what the mid did after our fills
    standing: Array  # STANDING[n]: what outcomes allow
    shadow: Array  # SHADOW[n]: the rule trading in the head
    shadow_account: Array  # ACCOUNT[n]
    shadow_working: Array  # WORKING[n]
    shadow_lots: Array  # LOTS[n]
    shadow_standing: Array  # STANDING[n]: every gain is believed
    shadow_row: Array  # DECISION[n], scratch
    costs: Array  # COSTS[n]
    financing: Array  # FINANCING[n]: the next roll
    account: Array  # ACCOUNT[n]
    working: Array  # WORKING[n]
    risk: Array  # RISK[n]
    limits: Array  # LIMITS[n]
    portfolio: Array  # PORTFOLIO[1]: limits over all instruments
    exposure: Array  # EXPOSURE[n]
    quarantined: Array  # int64[n, reasons]: events kept from perception, by codes.Quarantine
    clock: Array  # int64[2], scratch of monotonic_ns


MUTABLE = (
    "perception",
    "state",
    "inputs",
    "memory",
    "stream",
    "forecast",
    "recalibration",
    "estimates",
    "lots",
    "markouts",
    "standing",
    "shadow",
    "shadow_account",
    "shadow_working",
    "shadow_lots",
    "shadow_standing",
    "financing",
    "account",
    "working",
    "risk",
    "portfolio",
    "exposure",
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
    state_ttl_ns: int,
    limits: Array,
    costs: Array,
    portfolio: Array,
    exposure: Array,
) -> Desk:
    """Allocate the desk of `instruments`, with no model behind it yet.

    Args:
        sessions: one SESSION table per instrument.
        state_ttl_ns: time without a believable book after which a state starts from zero.
        limits: LIMITS[n].
        costs: COSTS[n].
        portfolio: PORTFOLIO[1].
        exposure: EXPOSURE[n].
    """
    n = len(instruments)
    if limits.dtype != LIMITS or costs.dtype != COSTS:
        raise TypeError("limits and costs must be LIMITS and COSTS records")
    facts = np.zeros(n, FACTS)
    facts["venue_id"] = [i.venue for i in instruments]
    facts["state_ttl_ns"] = state_ttl_ns
    facts["round_trip_ns"] = [ROUND_TRIP_NS[i.venue] for i in instruments]
    return Desk(
        facts=facts,
        sessions=pad_sessions(sessions),
        perception=new_perception(n),
        state=np.zeros(n, MARKET_STATE),
        inputs=np.zeros((n, INPUTS), np.float32),
        memory=np.zeros((n, 0), np.float32),
        stream=np.zeros(n, STREAM),
        forecast=np.zeros(n, FORECAST),
        recalibration=new_recalibration(n),
        estimates=new_estimates(n),
        lots=new_lots(n),
        markouts=new_markouts(n),
        standing=new_standing(n),
        shadow=new_shadow(n),
        shadow_account=np.zeros(n, ACCOUNT),
        shadow_working=np.zeros(n, WORKING),
        shadow_lots=new_lots(n),
        shadow_standing=new_standing(n, one_lot=True),
        shadow_row=np.zeros(n, DECISION),
        costs=costs,
        financing=new_financing(n),
        account=np.zeros(n, ACCOUNT),
        working=np.zeros(n, WORKING),
        risk=new_risk(n),
        limits=limits,
        portfolio=portfolio,
        exposure=exposure,
        quarantined=np.zeros((n, len(Quarantine)), np.int64),
        clock=np.zeros(2, np.int64),
    )
