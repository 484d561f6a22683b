"""Belief to intent: trade only where the expected edge after every cost is positive (D.1, D.3).

All values are in ticks per lot. For a direction s (+1 buy, -1 sell) and the horizon h with the largest edge:

    edge          = mean_h * unit,  unit = max(spread, k sigma)
    pressure      = -position / limit * sigma_h             (a full inventory shifts the edge by one sigma_h)
    value(cross)  = s (edge + pressure) - (spread / 2 + slip + taker fee + reversion)
    value(post)   = P(fill) [ s (edge + pressure) + spread / 2 - improvement - maker fee - adverse selection ]

sigma_h is the spread of the forecast's own quartiles, (q75 - q25) * unit / 1.349. What a maker loses to
adverse selection is estimated from trades at the touch (`estimates`); where that is negative, a taker loses it
(`reversion`). P(fill) = min(1, volume traded into that side within the time to live / (queue ahead + our size)).
Size is the share of the order limit that value / sigma_h gives, at least a lot, held below the depth cap.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.codes import Action, EventFlag, Reason, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_EVENTS, HORIZON_NS, HORIZONS, Array
from emp.decision.estimates import flow_per_second
from emp.decision.port import register

HOLD, CROSS, POST, CANCEL = int(Action.HOLD), int(Action.CROSS), int(Action.POST), int(Action.CANCEL)
NO_EDGE, TOO_SMALL = int(Reason.NO_EDGE), int(Reason.TOO_SMALL)
CROSS_EDGE, POST_EDGE, CHASE = int(Reason.CROSS_EDGE), int(Reason.POST_EDGE), int(Reason.CHASE)
CANCEL_TTL, CANCEL_EDGE_GONE = int(Reason.CANCEL_TTL), int(Reason.CANCEL_EDGE_GONE)
KEEP_RESTING, IN_FLIGHT, INVENTORY = int(Reason.KEEP_RESTING), int(Reason.IN_FLIGHT), int(Reason.INVENTORY)
NONE, RESTING = int(WorkingState.NONE), int(WorkingState.RESTING)
NO_SIZE = int(EventFlag.NO_SIZE)

IQR_OF_SIGMA = 1.3489795003921634
"""Interquartile range of a standard normal: turns quartiles into a sigma."""

EVENT_HORIZONS = len(HORIZON_EVENTS)

COSTS = np.dtype(
    [
        ("taker_fee", "f8"),  # ticks per lot
        ("maker_fee", "f8"),
        ("max_order", "i8"),  # lots
        ("max_position", "i8"),  # lots
        ("depth_share", "f8"),  # of the median touch size: the hard cap of an order (G.3)
        ("k_sigma", "f8"),
    ],
    align=True,
)
"""Facts and limits that the decision needs; none is a knob to tune."""


@kernel
def strongest_horizon(f: Any) -> int:
    """The horizon with the largest expected move."""
    best = 0
    for h in range(1, HORIZONS):
        if abs(f.mean[h]) > abs(f.mean[best]):
            best = h
    return best


@kernel
def time_to_live_ns(h: int, e: Any) -> float:
    """How long a resting order may wait: the horizon that carries its edge, in time."""
    if h < EVENT_HORIZONS:
        return HORIZON_EVENTS[h] * e.elapsed_ns
    return float(HORIZON_NS[h - EVENT_HORIZONS])


@kernel
def slip_ticks(event: Any, side: int, qty: float) -> float:
    """Mean ticks beyond the touch that `qty` lots pay when they walk the visible book of the other side."""
    if event.flags & NO_SIZE or qty <= 0.0:
        return 0.0
    left, paid = qty, 0.0
    levels = event.n_ask if side > 0 else event.n_bid
    worst = 0.0
    for i in range(levels):
        if side > 0:
            worst = float(event.ask_px[i] - event.ask_px[0])
            size = float(event.ask_sz[i])
        else:
            worst = float(event.bid_px[0] - event.bid_px[i])
            size = float(event.bid_sz[i])
        take = min(left, size)
        paid += take * worst
        left -= take
        if left <= 0.0:
            break
    return (paid + left * worst) / qty


@kernel
def fill_probability(e: Any, side: int, queue: float, size: float, ttl_ns: float) -> float:
    """P(fill) within the time to live, from the volume that trades into our side and what stands ahead."""
    volume = e.volume_bid if side > 0 else e.volume_ask
    expected = flow_per_second(volume, e.elapsed_ns) * ttl_ns * 1e-9
    return min(1.0, expected / (queue + size))


@kernel
def take_cost(event: Any, e: Any, costs: Any, side: int, slip: float) -> float:
    """Ticks per lot lost against the mid by crossing now."""
    half_spread = 0.5 * (event.ask_px[0] - event.bid_px[0])
    reversion = max(0.0, -(e.adverse_ask if side > 0 else e.adverse_bid))
    return half_spread + slip + costs.taker_fee + reversion


@kernel
def queue_ahead(event: Any, side: int, offset: int) -> int:
    """Lots that stand before an order at the touch (offset 0), one tick better (1) or one behind (-1)."""
    if offset > 0:
        return 0
    queue = event.bid_sz[0] if side > 0 else event.ask_sz[0]
    if offset < 0:
        px = event.bid_px[0] - 1 if side > 0 else event.ask_px[0] + 1
        for i in range(1, event.n_bid if side > 0 else event.n_ask):
            if (event.bid_px[i] if side > 0 else event.ask_px[i]) == px:
                queue += event.bid_sz[i] if side > 0 else event.ask_sz[i]
    return queue


@kernel
def post_value(
    event: Any, e: Any, costs: Any, side: int, edge: float, offset: int, queue: int, size: float, ttl: float
) -> float:
    """Expected ticks per lot of resting at an offset (see `queue_ahead`) behind `queue` lots.

    An order behind the touch buys a tick cheaper, but only after the market has fallen by that tick: against
    the mid at its fill it gains no more than one at the touch, and it fills less often.
    """
    spread = event.ask_px[0] - event.bid_px[0]
    if offset > 0 and spread < 2:
        return -np.inf
    adverse = max(0.0, e.adverse_bid if side > 0 else e.adverse_ask)
    gain = side * edge + 0.5 * spread - max(offset, 0) - costs.maker_fee - adverse
    return fill_probability(e, side, float(queue), size, ttl) * gain


@kernel
def order_size(value: float, sigma: float, cap: float, costs: Any) -> int:
    """Lots: the share value / sigma of the order limit, at least one, held below the depth cap."""
    share = min(1.0, value / sigma) if sigma > 0.0 else 1.0
    return int(min(np.ceil(share * costs.max_order), cap))


@kernel
def best_entry(event: Any, e: Any, costs: Any, edge: float, ttl: float, cap: float, row: Any) -> float:
    """Compare crossing and resting in the direction of the edge; write the better one into the row."""
    side = 1 if edge > 0.0 else -1
    size = max(1.0, min(float(costs.max_order), cap))
    slip = slip_ticks(event, side, size)
    cost = take_cost(event, e, costs, side, slip)
    best = side * edge - cost
    row.cost_to_take, row.slip_ticks = cost, slip
    row.queue_ahead = 0
    row.side = side
    row.action, row.reason_code = CROSS, CROSS_EDGE
    row.px = event.ask_px[0] if side > 0 else event.bid_px[0]
    for offset in range(2):
        queue = queue_ahead(event, side, offset)
        value = post_value(event, e, costs, side, edge, offset, queue, size, ttl)
        if value > best:
            best = value
            row.queue_ahead = queue
            row.action, row.reason_code = POST, POST_EDGE
            row.px = event.bid_px[0] + offset if side > 0 else event.ask_px[0] - offset
    return best


@kernel
def manage_resting(event: Any, e: Any, costs: Any, working: Any, edge: float, ttl: float, row: Any) -> None:
    """Keep, chase or withdraw the order that rests."""
    side = working.side
    row.side, row.px, row.qty = side, working.px, working.leaves
    touch = event.bid_px[0] if side > 0 else event.ask_px[0]
    behind = side * (touch - working.px)
    offset = -1 if behind > 0 else 0
    queue = queue_ahead(event, side, offset)
    value = post_value(event, e, costs, side, edge, offset, queue, float(working.leaves), ttl)
    slip = slip_ticks(event, side, float(working.leaves))
    row.cost_to_take, row.slip_ticks = take_cost(event, e, costs, side, slip), slip
    row.queue_ahead = queue
    if event.ts - working.ts > ttl:
        row.action, row.reason_code = CANCEL, CANCEL_TTL
    elif value <= 0.0:
        row.action, row.reason_code = CANCEL, CANCEL_EDGE_GONE
    elif behind > 1:
        row.action, row.reason_code = CANCEL, CHASE
    else:
        row.action, row.reason_code = HOLD, KEEP_RESTING


class ValueRule(NamedTuple):
    """The built-in rule: the action with the highest expected value per lot, where that is above zero."""

    costs: Array  # COSTS[instruments]


@kernel
def decide_by_value(
    rule: ValueRule,
    i: int,
    event: Any,
    sigma_ticks: float,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    row: Any,
) -> None:
    """Choose an action for one event; see `emp.decision.port.decide` for the arguments."""
    costs = rule.costs[i]
    spread = event.ask_px[0] - event.bid_px[0]
    unit = max(float(spread), costs.k_sigma * sigma_ticks)
    h = strongest_horizon(f)
    sigma = (f.q[h, 2] - f.q[h, 0]) * unit / IQR_OF_SIGMA
    pressure = -sigma * account.position / costs.max_position
    forecast_edge = f.mean[h] * unit
    edge = forecast_edge + pressure
    ttl = time_to_live_ns(h, e)
    cap = costs.depth_share * e.depth if event.flags & NO_SIZE == 0 else float(costs.max_order)

    row.spread_ticks, row.unit_ticks, row.sigma_ticks = spread, unit, sigma_ticks
    row.horizon = h
    row.edge_ticks = edge
    row.depth_cap, row.ttl_ns = cap, ttl
    row.qty = 0
    if working.state == RESTING:
        manage_resting(event, e, costs, working, edge, ttl, row)
        return
    value = best_entry(event, e, costs, edge, ttl, cap, row)
    if working.state != NONE:
        row.action, row.reason_code = HOLD, IN_FLIGHT
    elif value <= 0.0:
        row.action = HOLD
        row.reason_code = INVENTORY if forecast_edge * edge < 0.0 else NO_EDGE
    else:
        row.qty = order_size(value, sigma, cap, costs)
        if row.qty < 1:
            row.action, row.reason_code = HOLD, TOO_SMALL


@kernel
def record_inputs(event: Any, f: Any, e: Any, account: Any, working: Any, row: Any) -> None:
    """Copy what the decision saw into the row, so that it can be computed again."""
    row.bid, row.ask = event.bid_px[0], event.ask_px[0]
    row.bid_sz, row.ask_sz = event.bid_sz[0], event.ask_sz[0]
    row.flags = event.flags
    row.inventory = account.position
    row.pnl_ticks = account.pnl
    row.p[:, :] = f.p
    row.q[:, :] = f.q
    row.mean[:] = f.mean
    row.adverse_bid, row.adverse_ask = e.adverse_bid, e.adverse_ask
    row.flow_bid = flow_per_second(e.volume_bid, e.elapsed_ns)
    row.flow_ask = flow_per_second(e.volume_ask, e.elapsed_ns)
    row.working_state = working.state
    row.resting_side, row.resting_px, row.resting_qty = 0, 0, 0
    row.resting_age_ns = 0
    if working.state != NONE:
        row.resting_side, row.resting_px, row.resting_qty = working.side, working.px, working.leaves
        row.resting_age_ns = event.ts - working.ts


register(ValueRule, decide_by_value)
