"""The array records: what flows through the compiled path, defined once.

Prices are integers in ticks, quantities integers in lots, times integers in ns since the Unix epoch, UTC.
Parquet schemas, database tables and documentation are derived from these dtypes.
"""

from typing import Any

import numpy as np

LEVELS = 10
"""Price levels per side that an event carries; deeper levels of a recording are not used."""

DEPTH_FEATURES = 16
"""Length of `MarketState.depth_feat` (the roadmap's D, 8 to 16)."""

HORIZON_EVENTS = (1, 5, 20)
"""Event-time horizons, in changes of the visible book."""

HORIZON_NS = (100_000_000, 500_000_000, 2_000_000_000)
"""Wall-time horizons: 100 ms, 500 ms, 2 s."""

HORIZON_NAMES = ("1ev", "5ev", "20ev", "100ms", "500ms", "2s")
HORIZONS = len(HORIZON_NAMES)

QUANTILES = (0.25, 0.5, 0.75)

INTERVAL_LEVEL = 0.9
"""Share of moves that the interval of a forecast is to hold."""

INTERVAL_SIGMAS = 3.2897072539029444
"""Sigmas of a normal that such an interval spans."""

EVENT = np.dtype(
    [
        ("ts", "i8"),  # exchange time
        ("seq", "i8"),  # order authority within an instrument: strictly increasing
        ("ts_recv", "i8"),  # when this machine received it; equals ts in a recording without a local stamp
        ("instrument", "i4"),  # index in the run's instrument table
        ("flags", "u4"),  # EventFlag bits
        ("n_bid", "i4"),  # levels in use
        ("n_ask", "i4"),
        ("trade_px", "i8"),  # last (worst) price of the trade or sweep
        ("trade_qty", "i8"),  # signed total: > 0 buyer-initiated, < 0 seller-initiated
        ("trade_qty_last", "i8"),  # unsigned quantity executed at trade_px itself
        ("bid_px", "i8", (LEVELS,)),  # best first; unused levels are 0
        ("bid_sz", "i8", (LEVELS,)),
        ("ask_px", "i8", (LEVELS,)),
        ("ask_sz", "i8", (LEVELS,)),
    ],
    align=True,
)
"""One event: the visible book after it, and the trade that caused it where there was one."""

MARKET_STATE = np.dtype(
    [
        ("spread_ticks", "i4"),
        ("microprice_off", "f4"),
        ("ofi_norm", "f4"),
        ("qimbalance", "f4"),
        ("refresh_hz", "f4"),
        ("stale_ms", "f4"),
        ("slope_bid", "f4"),
        ("slope_ask", "f4"),
        ("curve_bid", "f4"),
        ("curve_ask", "f4"),
        ("depth_feat", "f4", (DEPTH_FEATURES,)),
        ("has_depth", "?"),
        ("session_id", "i1"),
        ("liquidity_id", "i1"),
        ("venue_id", "i1"),
        ("ts", "i8"),
        ("seq", "i8"),
    ],
    align=True,
)
"""The dimensionless view of the market (roadmap, API & data contracts)."""

FORECAST = np.dtype(
    [
        ("p", "f4", (HORIZONS, 3)),  # down, flat, up: calibrated class probabilities
        ("q", "f4", (HORIZONS, len(QUANTILES))),  # quantiles of delta_hat, never crossing
        ("mean", "f4", (HORIZONS,)),  # expected delta_hat
        ("interval", "f4", (HORIZONS, 2)),  # ends of the 90 % interval of delta_hat, held to outcomes
    ],
    align=True,
)
"""What a model believes about delta_hat at each horizon of HORIZON_NAMES."""

DECISION = np.dtype(
    [
        # the roadmap's action log (H.1)
        ("ts", "i8"),
        ("seq", "i8"),
        ("instrument", "i4"),
        ("action", "i4"),  # Action
        ("reason_code", "i4"),  # Reason
        ("edge_ticks", "f4"),  # of the best action considered, signed towards buying
        ("cost_to_take", "f4"),  # ticks: half spread + slip + fees + adverse-selection penalty
        ("context_mult", "f4"),
        ("inventory", "i8"),  # lots, signed, before the action
        ("latency_ms", "f4"),  # receive to decision; not part of the log's hash
        ("model_id", "i4"),  # index into the run's list of model hashes; written out as model_hash
        # what the action asks for
        ("side", "i4"),  # +1 buy, -1 sell, 0 none
        ("px", "i8"),  # limit price in ticks
        ("qty", "i8"),  # lots
        ("horizon", "i4"),  # index in HORIZON_NAMES that carried the edge
        # the inputs: with the fees and limits of the run, enough to compute the row again
        ("spread_ticks", "i4"),
        ("flags", "u4"),  # of the event
        ("bid", "i8"),
        ("ask", "i8"),
        ("bid_sz", "i8"),
        ("ask_sz", "i8"),
        ("sigma_ticks", "f8"),
        ("unit_ticks", "f4"),  # max(spread_ticks, k * sigma_ticks)
        ("slip_ticks", "f8"),  # part of cost_to_take: what the visible book beyond the touch adds
        ("p", "f4", (HORIZONS, 3)),
        ("q", "f4", (HORIZONS, len(QUANTILES))),
        ("mean", "f4", (HORIZONS,)),
        ("interval", "f4", (HORIZONS, 2)),
        ("adverse_bid", "f8"),  # ticks: expected adverse drift after a fill at our bid
        ("adverse_ask", "f8"),
        ("flow_bid", "f8"),  # lots per second traded against the bid, past only
        ("flow_ask", "f8"),
        ("ttl_ns", "f8"),  # how long an order of this horizon may rest
        (
            "fill_level",
            "f4",
        ),  # log odds of a fill within it: level + slope log r + behind log(1 + ticks / spread)
        ("fill_slope", "f4"),
        ("fill_behind", "f4"),
        ("depth_cap", "f8"),  # lots: what the owner's share of the median touch size allows
        ("queue_ahead", "i8"),  # lots ahead of the order that rests, or of the one to be posted or moved
        ("working_state", "i4"),  # WorkingState before the action
        ("resting_side", "i4"),
        ("resting_px", "i8"),
        ("resting_qty", "i8"),
        ("resting_age_ns", "i8"),
        (
            "left_bid",
            "i8",
        ),  # price at which a bid of ours was last withdrawn for its edge; 0 where none bars a return, AT_ZERO for 0
        ("left_ask", "i8"),
        (
            "gain",
            "f4",
        ),  # ticks: what a lot of the order considered brings if it fills, before it is held to outcomes
        ("worth_level", "f4"),  # what outcomes say of a gain: level + slope * gain, and the standard error
        ("worth_slope", "f4"),
        ("worth_error", "f4"),
        ("earned_lots", "i4"),  # most that an order which opens may have
        ("pnl_ticks", "f8"),  # marked to mid after fees, in ticks times lots
        ("day_pnl", "f8"),  # since the trading day began
        ("drawdown", "f8"),  # below the highest pnl of the run: 0 or less
        ("since_reset", "i8"),  # visible events since the stream last began or was broken
        ("disturbed", "?"),  # it was broken: by a halt, a gap, a pause or a flip of the session
        ("state_events", "i8"),  # visible events since the model's state was zero
        ("orders_used", "f8"),  # what stood in the leaky buckets before the action
        ("minute_lots_used", "f8"),
        ("hour_lots_used", "f8"),
        ("session_id", "i4"),
        ("halted", "?"),  # before the action
        ("degraded", "?"),
        ("barred", "u1"),  # Reason for which nothing may be opened; 0 none
        ("may_cross", "?"),  # to open: the shadow's crossings have earned it
        (
            "room",
            "i4",
        ),  # lots that the account's limits leave on the side asked for; 0 no such limit, -1 none left
        (
            "carry_buy",
            "f4",
        ),  # ticks: expected financing at the next roll of a lot held long; a cost is below 0
        ("carry_sell", "f4"),  # the same of a lot held short
    ],
    align=True,
)
"""One row of the action log: a decision, its reason, and its inputs."""

UNHASHED = frozenset({"latency_ms"})
"""Columns of DECISION that differ between runs by nature and are left out of the log's hash."""

ACCOUNT = np.dtype(
    [
        ("position", "i8"),  # lots, signed
        ("cash", "f8"),  # ticks times lots: minus the cost of all buys plus the proceeds of all sells
        ("fees", "f8"),  # ticks times lots, paid
        ("financing", "f8"),  # ticks times lots, received for what was held over rolls; paid is below 0
        ("traded", "i8"),  # lots, both sides
        ("fills", "i8"),
        ("pnl", "f8"),  # cash + position * mid - fees + financing, at the last mark
        ("peak", "f8"),  # highest pnl since the run began
        ("day", "i4"),  # trading day of day_start
        ("day_start", "f8"),  # pnl at the day's first mark
        ("overnight", "f8"),  # pnl between the last mark of a day and the first of the next, added up
    ],
    align=True,
)
"""Position and money of one instrument."""

WORKING = np.dtype(
    [
        ("state", "i4"),  # WorkingState
        ("side", "i4"),
        ("px", "i8"),
        ("leaves", "i8"),  # lots still open
        ("queue_ahead", "i8"),  # lots ahead of us where the venue tells, else -1
        ("ts", "i8"),  # when the order was decided
        ("immediate", "?"),
    ],
    align=True,
)
"""Our one working order of an instrument, as the decision sees it."""

SESSION = np.dtype([("start", "i8"), ("session_id", "i4"), ("day", "i4")], align=True)
"""A span of a trading calendar, from `start` to the start of the next row; `day` counts trading days."""

Array = np.ndarray[Any, Any]
"""A structured or plain array; shapes and units stand in the docstring of whoever takes it."""


def empty_events(n: int) -> Array:
    """Return `n` zeroed EVENT rows."""
    return np.zeros(n, EVENT)


def fieldwise_bytes(rows: Array, skip: frozenset[str] = frozenset()) -> bytes:
    """Canonical bytes of structured rows: column after column, without padding and without `skip`."""
    names = [n for n in rows.dtype.names or () if n not in skip]
    return b"".join(np.ascontiguousarray(rows[n]).tobytes() for n in names)
