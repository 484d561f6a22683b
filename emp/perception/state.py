"""What perception remembers of an instrument: one record, so that a checkpoint is a copy of its bytes."""

import numpy as np

from emp.core.records import HORIZON_EVENTS, Array

FLOW_SPAN = HORIZON_EVENTS[-1]
"""Events over which order flow is summed and the event rate is taken: the longest event horizon."""

SHORT_SPAN = HORIZON_EVENTS[1]
"""Events over which the newest waiting times are taken: the middle event horizon."""

TREND_SPAN = 5 * FLOW_SPAN
"""Events over which momentum and the recent size of moves are taken: long enough that moves, however rare on an
instrument, are spread and not lumped, so that their distribution is alike between instruments."""

SCALE_SPAN = 2048
"""Events over which scales (volatility, flow size, level size) are estimated: one training window."""

NORM_SPAN = 8 * SCALE_SPAN
"""Events over which the location and scale of each model input are estimated: the longest sequence trained."""

LONG_GAP_NS = 60_000_000_000
"""A pause after which what was known of the flow is no longer true: states are reset, labels dropped."""

CELLS = 16
"""Tick-space cells per side of the depth grid."""

LIQUIDITY_BINS = 64
"""Bins of log2(L1 size / spread), one per half octave, centred on 1."""

CORE_INPUTS = (
    "spread",
    "impulse",
    "ofi_norm",
    "qimbalance",
    "refresh",
    "stale",
    "slope_bid",
    "slope_ask",
    "curve_bid",
    "curve_ask",
    "sigma",
    "momentum",
)
"""The inputs that are normalised past-only and compared between instruments (PSI). microprice_off is half of
qimbalance (see `features.touch_features`), so only one of the two is an input."""

PERCEPTION = np.dtype(
    [
        ("events", "i8"),  # visible events since the instrument was first seen
        ("since_reset", "i8"),  # visible events since the last reset: the warm-up counter
        ("has_book", "?"),  # a good book is known and nothing has invalidated it since
        ("ts", "i8"),  # of the last visible event
        ("ts_event", "i8"),  # of the last event of any kind
        ("bid", "i8"),
        ("ask", "i8"),
        ("bid_sz", "i8"),
        ("ask_sz", "i8"),
        ("mid_move", "f8"),  # of the last visible event, ticks
        ("flow", "f8"),  # lots (quote moves where sizes are unknown): exponential sum of order flow
        ("flow_scale", "f8"),  # mean magnitude of `flow`
        ("gap_mean_ns", "f8"),  # mean time between visible events over FLOW_SPAN
        ("gap_short_ns", "f8"),  # the same over SHORT_SPAN
        ("has_size", "?"),  # the last visible event told sizes
        ("impulse", "f8"),  # ticks: exponential sum of mid moves, half of it the last one
        ("sigma_ticks", "f8"),  # EWMA of |mid move| per visible event
        ("swing", "f8"),  # ticks: the same over TREND_SPAN
        ("momentum", "f8"),  # ticks: exponential sum of mid moves over TREND_SPAN
        ("level_gap", "f8"),  # ticks between adjacent levels
        ("level_size", "f8"),  # lots per level
        ("session_row", "i8"),  # row of the session table that holds the last event
        ("session_id", "i4"),
        ("halted", "?"),
        ("day", "i4"),
        ("liquidity", "f8"),  # log2(L1 size / spread), smoothed
        ("liquidity_id", "i4"),
        ("liquidity_low", "f8"),  # tercile edges from previous days
        ("liquidity_high", "f8"),
        ("liquidity_today", "f8", (LIQUIDITY_BINS,)),
        ("liquidity_past", "f8", (LIQUIDITY_BINS,)),
        ("raw", "f8", (len(CORE_INPUTS),)),  # core inputs before normalisation
        ("location", "f8", (len(CORE_INPUTS),)),
        ("scale", "f8", (len(CORE_INPUTS),)),
        ("bounded", "f8", (len(CORE_INPUTS),)),  # scratch of the normalisation
        ("grid", "f4", (2, CELLS + 2)),  # scratch: depth in tick space, one cell of padding at each end
        ("lots", "i8", (CELLS + 1,)),  # scratch: lots of one side by cell, and beyond
    ],
    align=True,
)


def new_perception(n: int = 1) -> Array:
    """Fresh state of `n` instruments."""
    state = np.zeros(n, PERCEPTION)
    state["session_row"] = -1
    state["session_id"] = -1
    state["liquidity_id"] = 1  # no previous day is known: the middle bucket
    state["scale"] = 1.0
    return state
