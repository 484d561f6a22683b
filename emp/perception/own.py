"""Features of one's own, behind the built-in ones: a function outside this package adds inputs to the model's.

    def features(seen, own): ...            # or features(seen, own, mine), with memory of its own

It is called by address at every event that has a MarketState, by the same compiled code for every such function. A row
of the model's input is then wider: the built-in inputs, the own ones, and behind them, unseen by the model, what the
function remembers. That is zero after whatever breaks the stream, as everything is that perception forgets.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.call import call
from emp.core.numba.jit import inlined, kernel
from emp.core.own_code import ANSWERED, Fault
from emp.core.records import DEPTH_FEATURES, LEVELS, Array
from emp.perception.depth import ENCODER
from emp.perception.features import perceive_book
from emp.perception.normalise import INPUTS
from emp.perception.port import register

FEATURES_RAISED, INPUT = int(Fault.FEATURES_RAISED), int(Fault.INPUT)

SEEN = np.dtype(
    [
        ("ts", "i8"),  # ns UTC
        ("seq", "i8"),
        ("instrument", "i8"),  # index in the run
        ("flags", "i8"),  # EventFlag bits of the event
        ("since_reset", "i8"),  # visible events since the stream last began or was broken, this one included
        ("bid", "i8"),  # best prices in ticks
        ("ask", "i8"),
        ("n_bid", "i8"),  # levels in use
        ("n_ask", "i8"),
        ("bid_px", "i8", (LEVELS,)),  # ticks, best first
        ("bid_sz", "i8", (LEVELS,)),  # lots
        ("ask_px", "i8", (LEVELS,)),
        ("ask_sz", "i8", (LEVELS,)),
        ("trade_px", "i8"),  # of the trade that caused the event
        ("trade_qty", "i8"),  # lots, > 0 where a buyer took; 0 without a trade
        ("spread_ticks", "i8"),
        ("session_id", "i8"),
        ("liquidity_id", "i8"),
        ("sigma_ticks", "f8"),  # past-only sigma of the mid per event
        ("microprice_off", "f8"),
        ("ofi_norm", "f8"),
        ("qimbalance", "f8"),
        ("refresh_hz", "f8"),
        ("stale_ms", "f8"),
        ("slope_bid", "f8"),
        ("slope_ask", "f8"),
        ("curve_bid", "f8"),
        ("curve_ask", "f8"),
        ("depth_feat", "f8", (DEPTH_FEATURES,)),
    ],
    align=True,
)
"""What features are shown of one event and its MarketState, known at its `ts`."""

WORDS = 2
"""float32 that one remembered number takes: it is a float64."""


class OwnFeatures(NamedTuple):
    """The built-in features, and those at an address."""

    encoder: Array  # ENCODER[1]
    entry: Array  # int64[1]: int32(seen, own, memory); 0 where there are none
    layout: Array  # int64[2]: own inputs, and numbers that are remembered
    at: Array  # int64[1]: seq of the event at hand
    failure: Array  # FAILURE[1]
    seen: Array  # SEEN[1], scratch
    own: Array  # float64[own inputs], scratch


def own_features(
    encoder: Any, entry: int, inputs: int, memory: int, at: Array, failure: Array
) -> OwnFeatures:
    """Parameters of features at an address (0: none); the caller keeps what is there alive.

    Args:
        encoder: ENCODER record.
        inputs: own ones.
        memory: float64 that are remembered of each instrument.
        at: int64[1], receives the seq of every event.
        failure: FAILURE[1].
    """
    weights = np.zeros(1, ENCODER)
    weights[0] = encoder
    layout = np.array([inputs, memory], np.int64)
    return OwnFeatures(
        weights,
        np.array([entry], np.int64),
        layout,
        at,
        failure,
        np.zeros(1, SEEN),
        np.zeros(max(inputs, 1)),
    )


def memory_at(inputs: int) -> int:
    """Where in a row what is remembered begins, behind so many own inputs: at an even place, as a float64 must."""
    return (INPUTS + inputs + 1) // WORDS * WORDS


def row_width(inputs: int, memory: int) -> int:
    """float32 of a row with so many own inputs and remembered numbers."""
    return memory_at(inputs) + WORDS * memory if memory else INPUTS + inputs


@inlined
def show(o: Any, event: Any, p: Any, state: Any) -> None:
    """Write what features are shown."""
    o.ts, o.seq, o.instrument, o.flags = event.ts, event.seq, event.instrument, event.flags
    o.since_reset = p.since_reset
    o.bid, o.ask, o.n_bid, o.n_ask = event.bid_px[0], event.ask_px[0], event.n_bid, event.n_ask
    o.bid_px[:], o.bid_sz[:] = event.bid_px, event.bid_sz
    o.ask_px[:], o.ask_sz[:] = event.ask_px, event.ask_sz
    o.trade_px, o.trade_qty = event.trade_px, event.trade_qty
    o.spread_ticks, o.session_id, o.liquidity_id = state.spread_ticks, state.session_id, state.liquidity_id
    o.sigma_ticks, o.microprice_off, o.ofi_norm = p.sigma_ticks, state.microprice_off, state.ofi_norm
    o.qimbalance, o.refresh_hz, o.stale_ms = state.qimbalance, state.refresh_hz, state.stale_ms
    o.slope_bid, o.slope_ask = state.slope_bid, state.slope_ask
    o.curve_bid, o.curve_ask = state.curve_bid, state.curve_ask
    for k in range(DEPTH_FEATURES):
        o.depth_feat[k] = state.depth_feat[k]


@kernel
def perceive_own(features: Any, p: Any, event: Any, sessions: Any, venue_id: int, state: Any, x: Any) -> int:
    """Perceive as the built-in features do, then ask for the own inputs; see `emp.perception.port.perceive`."""
    code = perceive_book(features, p, event, sessions, venue_id, state, x)
    if code != 0:
        return code
    features.at[0] = event.seq
    n, remembered = features.layout[0], features.layout[1]
    if n == 0:
        return 0
    at = (INPUTS + n + 1) // WORDS * WORDS
    if p.since_reset == 1:
        for k in range(WORDS * remembered):
            x[at + k] = 0.0
    failure, own = features.failure[0], features.own
    if failure.kind == 0:
        show(features.seen[0], event, p, state)
        own[:] = 0.0
        memory = x.ctypes.data + 4 * at
        if call(features.entry[0], features.seen.ctypes.data, own.ctypes.data, memory) != ANSWERED:
            failure.kind, failure.seq = FEATURES_RAISED, event.seq
    for k in range(n):
        value = np.float32(own[k])
        if failure.kind == 0 and not np.isfinite(value):
            failure.kind, failure.seq, failure.place = INPUT, event.seq, k
        x[INPUTS + k] = value if failure.kind == 0 else np.float32(np.nan)
    return 0


register(OwnFeatures, perceive_own)
