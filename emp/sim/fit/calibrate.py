"""Estimate a flow model from one recording's event stream (OBS rows).

Everything is counted twice, once as it was and once mirrored (bids as asks), so no model has a preferred
direction.
"""

import numpy as np

from emp.core.errors import DataError
from emp.core.numba.rng import exponential_table
from emp.core.records import Array
from emp.sim.fit.clock import fit_clock
from emp.sim.fit.hawkes import fit_hawkes
from emp.sim.fit.kinds import cells, counts, fit_kinds
from emp.sim.fit.marks import fit_marks
from emp.sim.fit.sides import fit_sides
from emp.sim.fit.wander import fit_wander, local_level
from emp.sim.flow.observe import AT, CANCEL_AT, CANCEL_DEEP, DEEP, HIT, IN
from emp.sim.flow.params import FLOW, HAWKES, KINDS, QUEUE_REACTIVE, ZI

MIN_EVENTS = 5_000


def calibrate(obs: Array, model: str) -> Array:
    """Return the FLOW record (shape (1,)) of `model` ("zi", "hawkes" or "qr") for a stream of events."""
    if len(obs) < MIN_EVENTS:
        raise DataError(f"calibration needs at least {MIN_EVENTS} events, the recording has {len(obs)}")
    if not (obs["sign"] != 0).any():
        raise DataError("calibration needs trades, the recording has none")
    p = np.zeros(1, FLOW)
    p["exp"] = exponential_table()
    p["start_spread"] = int(np.median(obs["ask"] - obs["bid"]))
    p["start_qty"] = max(1, int(np.median(obs["bid_sz"])))
    if model == "zi":
        _zero_intelligence(p, obs)
        return p
    if model == "hawkes":
        fit_marks(p, obs, np.ones(len(obs)))
        p["model"] = HAWKES
        p["base_hz"], p["jump_hz"], p["decay_hz"], p["branching"] = fit_hawkes(obs["ts"], obs["type"])
        return p
    if model == "qr":
        p["model"] = QUEUE_REACTIVE
        fit_wander(p, obs)
        level = local_level(p, obs)
        fit_marks(p, obs, level)
        at = cells(p, obs, level)
        count = counts(obs, at)
        fit_kinds(p, obs, at, count)
        fit_sides(p, obs, at, count, level)
        fit_clock(p, obs)
        return p
    raise DataError(f"unknown flow model {model!r}: choose zi, hawkes or qr")


def _zero_intelligence(p: Array, obs: Array) -> None:
    """Match mean rates, mean size and the width of limit prices; everything else stays blind."""
    seconds = (obs["ts"][-1] - obs["ts"][0]) / 1e9
    kind = obs["type"] % KINDS
    limit = (kind == IN) | (kind == AT) | (kind == DEEP)
    p["model"] = ZI
    p["limit_hz"] = limit.sum() / seconds
    p["market_hz"] = (kind == HIT).sum() / seconds
    cancels = ((kind == CANCEL_AT) | (kind == CANCEL_DEEP)).sum() / seconds
    p["cancel_hz"] = cancels / obs["live"].mean()
    spread = obs["ask"] - obs["bid"]
    p["band"] = max(2, int(2 * np.mean((obs["dist"] + spread)[limit])))
    p["max_qty"] = max(1, int(2 * np.median(obs["qty"][limit]) - 1))
