"""One event to one MarketState: every feature at `ts` is a function of events up to `ts` and nothing else."""

from typing import Any, NamedTuple

import numpy as np

from emp.core.book import judge_touch
from emp.core.codes import EventFlag
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.perception.book import TRADE, TRADE_OR_AUCTION, remember_book, running_weight, update_flow
from emp.perception.context import update_liquidity, update_session
from emp.perception.depth import depth_features, slope_and_curve, update_depth_scales
from emp.perception.normalise import model_input
from emp.perception.port import register
from emp.perception.state import CORE_INPUTS, FLOW_SPAN, SCALE_SPAN, SHORT_SPAN, TREND_SPAN

VISIBLE = int(EventFlag.VISIBLE)
NO_SIZE = int(EventFlag.NO_SIZE)

TREND_WEIGHT = 2.0 / (TREND_SPAN + 1.0)
TREND_KEEP = 1.0 - TREND_WEIGHT
IMPULSE_KEEP = 0.5
IMBALANCE = CORE_INPUTS.index("qimbalance")

NO_VISIBLE_CHANGE = -1
"""`perceive`: the event changed nothing visible; there is no new MarketState."""


@kernel
def update_moves(p: Any, event: Any, weight: float) -> None:
    """Mid move of this event, its EWMA magnitude (sigma), and its exponential sums; in ticks."""
    p.mid_move = 0.5 * ((event.bid_px[0] + event.ask_px[0]) - (p.bid + p.ask))
    p.sigma_ticks += weight * (abs(p.mid_move) - p.sigma_ticks)
    p.impulse = IMPULSE_KEEP * p.impulse + p.mid_move
    p.momentum = TREND_KEEP * p.momentum + p.mid_move
    p.swing += TREND_WEIGHT * (abs(p.mid_move) - p.swing)


@kernel
def update_clock(p: Any, event: Any) -> float:
    """Time since the last visible event in ns, and the mean of such times over FLOW_SPAN and SHORT_SPAN."""
    waited = float(event.ts - p.ts)
    p.gap_short_ns += running_weight(float(p.since_reset), float(SHORT_SPAN)) * (waited - p.gap_short_ns)
    p.gap_mean_ns += running_weight(float(p.since_reset), float(FLOW_SPAN)) * (waited - p.gap_mean_ns)
    return waited


@kernel
def touch_features(p: Any, event: Any, state: Any) -> None:
    """Spread, microprice and queue imbalance of the best level; 0 for the last two where sizes are unknown.

    microprice = (ask * bid_sz + bid * ask_sz) / (bid_sz + ask_sz), so (microprice - mid) / spread is half of
    the queue imbalance; both are kept because the roadmap's contract names both. The model sees the imbalance
    as log(bid_sz / ask_sz), which has one shape on every instrument, where the share itself has several.
    """
    state.spread_ticks = event.ask_px[0] - event.bid_px[0]
    state.qimbalance = 0.0
    p.raw[IMBALANCE] = 0.0
    p.has_size = event.flags & NO_SIZE == 0
    if p.has_size:
        bid_sz, ask_sz = float(event.bid_sz[0]), float(event.ask_sz[0])
        state.qimbalance = (bid_sz - ask_sz) / (bid_sz + ask_sz)
        p.raw[IMBALANCE] = np.log(bid_sz / ask_sz)
    state.microprice_off = 0.5 * state.qimbalance


@kernel
def core_inputs(p: Any, event: Any, state: Any) -> None:
    """The core inputs of the model (CORE_INPUTS) before normalisation: dimensionless, in log where a ratio.

    Slopes and curves enter per reach of the visible side (ticks from its touch to its last level) instead of
    per tick, because a tick is another share of the book on every instrument and at every moment. The raw
    imbalance is already there: `touch_features`.
    """
    reach_bid = float(event.bid_px[0] - event.bid_px[max(event.n_bid - 1, 0)])
    reach_ask = float(event.ask_px[max(event.n_ask - 1, 0)] - event.ask_px[0])
    unit = max(float(state.spread_ticks), p.sigma_ticks)
    raw = p.raw
    raw[0] = np.log(float(state.spread_ticks))
    raw[1] = p.impulse / unit
    raw[2] = state.ofi_norm
    raw[4] = np.log(max(state.refresh_hz, 1e-3))
    raw[5] = np.log(p.gap_short_ns * state.refresh_hz * 1e-9 + 1e-2)
    raw[6] = state.slope_bid * reach_bid
    raw[7] = state.slope_ask * reach_ask
    raw[8] = state.curve_bid * reach_bid * reach_bid
    raw[9] = state.curve_ask * reach_ask * reach_ask
    raw[10] = np.sqrt(p.swing / p.sigma_ticks) if p.sigma_ticks > 0.0 else 0.0
    raw[11] = p.momentum / unit


@kernel
def forget_flow(p: Any) -> None:
    """Drop what is only true of an unbroken stream; scales learned over a long time stay."""
    p.has_book = False
    p.since_reset = 0
    p.flow = 0.0
    p.impulse = 0.0
    p.momentum = 0.0
    p.gap_mean_ns = 0.0
    p.gap_short_ns = 0.0


@kernel
def start_book(p: Any, event: Any) -> None:
    """Take the first book after a reset as its own predecessor: it made no move and no flow."""
    remember_book(p, event)
    p.ts = event.ts


class BookFeatures(NamedTuple):
    """The built-in features: everything of the roadmap's MarketState from the visible book and its trades."""

    encoder: Array  # ENCODER[1]: weights of the depth encoder, which come with the model


@kernel
def perceive_book(
    features: BookFeatures, p: Any, event: Any, sessions: Any, venue_id: int, state: Any, x: Any
) -> int:
    """Process one event; see `emp.perception.port.perceive` for arguments and result."""
    if update_session(p, event, sessions):
        forget_flow(p)
    p.ts_event = event.ts
    if event.flags & VISIBLE == 0:
        if event.flags & TRADE_OR_AUCTION == TRADE:
            p.flow += event.trade_qty  # hidden liquidity: flow all the same, but no step of an event horizon
        return NO_VISIBLE_CHANGE
    reason = judge_touch(event)
    if reason != 0:
        p.has_book = False
        return reason
    if not p.has_book:
        start_book(p, event)
    p.events += 1
    p.since_reset += 1
    weight = running_weight(float(p.events), float(SCALE_SPAN))

    update_flow(p, event, weight)
    update_moves(p, event, weight)
    waited_ns = update_clock(p, event)
    update_depth_scales(p, event, weight)

    touch_features(p, event, state)
    state.ofi_norm = p.flow / p.flow_scale if p.flow_scale > 0.0 else 0.0
    state.refresh_hz = 1e9 / max(p.gap_mean_ns, 1e3)
    state.stale_ms = waited_ns * 1e-6
    state.slope_bid, state.curve_bid = slope_and_curve(event.bid_px, event.bid_sz, event.n_bid)
    state.slope_ask, state.curve_ask = slope_and_curve(event.ask_px, event.ask_sz, event.n_ask)
    state.has_depth = depth_features(p, event, features.encoder[0], state.depth_feat)
    state.session_id = p.session_id
    state.liquidity_id = update_liquidity(p, event, weight)
    state.venue_id = venue_id
    state.ts = event.ts
    state.seq = event.seq

    core_inputs(p, event, state)
    model_input(p, state, x)
    remember_book(p, event)
    p.ts = event.ts
    return 0


register(BookFeatures, perceive_book)
