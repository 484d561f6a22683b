"""A rule of one's own: a function outside this package that is shown an observation and writes a request.

    def rule(seen, request): ...            # or rule(seen, request, mine), with memory of its own

It is called by address, so one compiled step serves every such rule, whether a compiled function stands there or one
that goes on in Python. The request is taken as far as it makes sense beside the order at work; then risk approves it
in the same step as any other: no rule can skip that.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.book import MAX_TICKS
from emp.core.codes import Action, Reason, WorkingState
from emp.core.numba.call import call
from emp.core.numba.jit import kernel
from emp.core.records import HORIZONS, LEVELS, QUANTILES, Array
from emp.decision.estimates import flow_per_second
from emp.decision.port import register
from emp.decision.rule import slip_ticks, strongest_horizon, take_cost, time_to_live_ns

HOLD, CROSS, POST, CANCEL = int(Action.HOLD), int(Action.CROSS), int(Action.POST), int(Action.CANCEL)
REPLACE = int(Action.REPLACE)
OWN_RULE, IN_FLIGHT = int(Reason.OWN_RULE), int(Reason.IN_FLIGHT)
NONE, RESTING = int(WorkingState.NONE), int(WorkingState.RESTING)

ANSWERED = 1
"""What a rule's entry point returns; anything else is a failure."""

RAISED, SENSELESS = 1, 2
"""Kinds of FAILURE."""

OBSERVATION = np.dtype(
    [
        ("ts", "i8"),  # ns UTC
        ("seq", "i8"),
        ("instrument", "i4"),  # index in the run
        ("flags", "u4"),  # EventFlag bits of the event
        ("bid", "i8"),  # best prices in ticks
        ("ask", "i8"),
        ("n_bid", "i4"),  # levels in use
        ("n_ask", "i4"),
        ("bid_px", "i8", (LEVELS,)),  # ticks, best first
        ("bid_sz", "i8", (LEVELS,)),  # lots
        ("ask_px", "i8", (LEVELS,)),
        ("ask_sz", "i8", (LEVELS,)),
        ("trade_px", "i8"),  # of the trade that caused the event
        ("trade_qty", "i8"),  # lots, > 0 where a buyer took; 0 without a trade
        ("spread_ticks", "i8"),
        ("sigma_ticks", "f8"),  # past-only sigma of the mid per event
        ("microprice_off", "f8"),
        ("ofi_norm", "f8"),
        ("qimbalance", "f8"),
        ("refresh_hz", "f8"),
        ("session_id", "i8"),
        ("expected_ticks", "f8", (HORIZONS,)),  # expected move of the mid at each of HORIZON_NAMES
        ("quartiles_ticks", "f8", (HORIZONS, len(QUANTILES))),
        ("p", "f8", (HORIZONS, 3)),  # of down, flat, up
        ("flow_bid", "f8"),  # lots a second that trade against the bid, past only
        ("flow_ask", "f8"),
        ("adverse_bid", "f8"),  # ticks that the mid moves against a fill at our bid, past only
        ("adverse_ask", "f8"),
        ("position", "i8"),  # lots, signed
        ("pnl_ticks", "f8"),  # ticks times lots after fees, marked to mid
        ("order_state", "i8"),  # codes.WorkingState: 0 none, 2 resting
        ("order_side", "i8"),
        ("order_px", "i8"),
        ("order_qty", "i8"),  # lots still open
        ("order_ahead", "i8"),  # lots ahead where the venue tells, else -1
        ("order_age_ns", "i8"),
        ("maker_fee", "f8"),  # ticks a lot
        ("taker_fee", "f8"),
        ("max_order", "i8"),  # the owner's limits, lots
        ("max_position", "i8"),
    ],
    align=True,
)
"""What a rule sees of one event, known at its `ts`."""

REQUEST = np.dtype(
    [
        ("action", "i8"),  # codes.Action; as it comes, HOLD: leave everything as it is
        ("side", "i8"),  # +1 buy, -1 sell: for POST and CROSS
        ("px", "i8"),  # ticks: for POST and REPLACE; a CROSS without one takes the opposite best price
        ("qty", "i8"),  # lots, of which the owner's limits may take some off
        ("expected_ticks", "f8"),  # what a lot is believed to bring if it fills: held against what it brings
    ],
    align=True,
)
"""What a rule asks for."""

FAILURE = np.dtype(
    [("kind", "i8"), ("seq", "i8"), ("action", "i8"), ("side", "i8"), ("px", "i8"), ("qty", "i8")]
)
"""The first request that could not be taken; after it the rule is not asked again."""


class OwnRule(NamedTuple):
    """A rule at an address."""

    entry: Array  # int64[2]: int32(observation, request, memory), and the address of the rule's own memory
    seen: Array  # OBSERVATION[1], scratch
    request: Array  # REQUEST[1], scratch
    failure: Array  # FAILURE[1]
    costs: Array  # COSTS[instruments]
    state: Array  # MARKET_STATE[instruments]


def own_rule(entry: int, memory: int, costs: Array, state: Array) -> OwnRule:
    """Parameters of the rule at an address; the caller keeps what is there alive."""
    return OwnRule(
        np.array([entry, memory], np.int64),
        np.zeros(1, OBSERVATION),
        np.zeros(1, REQUEST),
        np.zeros(1, FAILURE),
        costs,
        state,
    )


@kernel
def observe(
    o: Any,
    i: int,
    event: Any,
    state: Any,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    costs: Any,
    unit: float,
) -> None:
    """Write what the rule sees; all but sigma."""
    o.ts, o.seq, o.instrument, o.flags = event.ts, event.seq, i, event.flags
    o.bid, o.ask, o.n_bid, o.n_ask = event.bid_px[0], event.ask_px[0], event.n_bid, event.n_ask
    o.bid_px[:], o.bid_sz[:] = event.bid_px, event.bid_sz
    o.ask_px[:], o.ask_sz[:] = event.ask_px, event.ask_sz
    o.trade_px, o.trade_qty = event.trade_px, event.trade_qty
    o.spread_ticks = event.ask_px[0] - event.bid_px[0]
    o.microprice_off, o.ofi_norm, o.qimbalance = state.microprice_off, state.ofi_norm, state.qimbalance
    o.refresh_hz, o.session_id = state.refresh_hz, state.session_id
    for h in range(HORIZONS):
        o.expected_ticks[h] = f.mean[h] * unit
        for k in range(3):
            o.quartiles_ticks[h, k] = f.q[h, k] * unit
            o.p[h, k] = f.p[h, k]
    o.flow_bid = flow_per_second(e.volume_bid, e.elapsed_ns)
    o.flow_ask = flow_per_second(e.volume_ask, e.elapsed_ns)
    o.adverse_bid, o.adverse_ask = e.adverse_bid, e.adverse_ask
    o.position, o.pnl_ticks = account.position, account.pnl
    o.order_state = working.state
    o.order_side = o.order_px = o.order_qty = o.order_age_ns = 0
    o.order_ahead = -1
    if working.state != NONE:
        o.order_side, o.order_px, o.order_qty = working.side, working.px, working.leaves
        o.order_ahead, o.order_age_ns = working.queue_ahead, event.ts - working.ts
    o.maker_fee, o.taker_fee = costs.maker_fee, costs.taker_fee
    o.max_order, o.max_position = costs.max_order, costs.max_position


@kernel
def makes_sense(request: Any, event: Any) -> bool:
    """Whether a request is one that an order could be made of; 0 is a price where the market is not above it."""
    if request.action in (HOLD, CANCEL):
        return True
    whole = -MAX_TICKS <= request.px <= MAX_TICKS
    priced = whole and (request.px != 0 or event.bid_px[0] <= 0)
    if request.action == REPLACE:
        return priced and request.qty >= 1
    if request.action in (POST, CROSS):
        sided = request.side == 1 or request.side == -1
        return sided and request.qty >= 1 and (priced or (request.action == CROSS and whole))
    return False


@kernel
def take_request(request: Any, event: Any, working: Any, max_order: int, row: Any) -> None:
    """Write the request into the row, as far as it makes sense beside the order at work.

    One order is at work at a time: while one rests, it can be moved or withdrawn; while one is on its way, nothing
    can be asked for.
    """
    action = request.action
    if working.state == RESTING:
        row.side, row.px, row.qty = working.side, working.px, working.leaves
        if action == CANCEL:
            row.action = CANCEL
        elif action == REPLACE and (request.px != working.px or request.qty != working.leaves):
            row.action, row.px, row.qty = REPLACE, request.px, min(request.qty, max_order)
    elif working.state != NONE:
        row.reason_code = IN_FLIGHT
    elif action in (POST, CROSS):
        row.action, row.side, row.px, row.qty = action, request.side, request.px, min(request.qty, max_order)
        if action == CROSS and request.px == 0:
            row.px = event.ask_px[0] if row.side > 0 else event.bid_px[0]


@kernel
def decide_own(
    rule: OwnRule,
    i: int,
    event: Any,
    sigma_ticks: float,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    standing: Any,
    row: Any,
) -> None:
    """Ask the rule; see `emp.decision.port.decide` for the arguments."""
    costs, request, failure = rule.costs[i], rule.request[0], rule.failure[0]
    spread = event.ask_px[0] - event.bid_px[0]
    unit = max(float(spread), costs.k_sigma * sigma_ticks)
    h = strongest_horizon(f)
    row.spread_ticks, row.unit_ticks, row.sigma_ticks, row.horizon = spread, unit, sigma_ticks, h
    row.edge_ticks, row.ttl_ns = f.mean[h] * unit, time_to_live_ns(h, e)
    side = 1 if row.edge_ticks > 0.0 else -1
    slip = slip_ticks(event, side, float(costs.max_order))
    row.cost_to_take, row.slip_ticks = take_cost(event, e, costs, side, slip), slip
    row.depth_cap = float(costs.max_order)
    row.queue_ahead = working.queue_ahead if working.state == RESTING else 0
    row.side, row.px, row.qty, row.gain = 0, 0, 0, 0.0
    row.action, row.reason_code = HOLD, OWN_RULE
    if failure.kind != 0:
        return
    observe(rule.seen[0], i, event, rule.state[i], f, e, account, working, costs, unit)
    rule.seen[0].sigma_ticks = sigma_ticks
    request.action = HOLD
    request.side = request.px = request.qty = 0
    request.expected_ticks = 0.0
    answer = call(rule.entry[0], rule.seen.ctypes.data, rule.request.ctypes.data, rule.entry[1])
    if answer != ANSWERED or not makes_sense(request, event):
        failure.kind, failure.seq = RAISED if answer != ANSWERED else SENSELESS, event.seq
        failure.action, failure.side, failure.px, failure.qty = (
            request.action,
            request.side,
            request.px,
            request.qty,
        )
        return
    row.gain = request.expected_ticks
    take_request(request, event, working, costs.max_order, row)


register(OwnRule, decide_own, in_the_head=False)
