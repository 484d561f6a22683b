"""Belief to intent: trade only where the expected edge after every cost is positive (D.1, D.3).

All values are in ticks per lot. For a direction s (+1 buy, -1 sell) and the horizon h with the largest edge:

    edge          = mean_h * unit,  unit = max(spread, k sigma)
    pressure      = -position / full * sigma_h             (a full inventory shifts the edge by one sigma_h)
    gain(cross)   = s (edge + pressure) - (spread / 2 + slip + taker fee + reversion)
    gain(post)    = s (edge + pressure) + spread / 2 - improvement - maker fee - adverse selection
    carry         = what a lot is expected to receive at the next roll, of the side that opens; less that of the side
                    that it closes (`financing`); added to both gains
    worth(gain)   = level + slope gain - standard error     for an order that opens; the gain where it closes
    value(cross)  = worth(gain)                              of an order that opens: once crossing has earned it
    value(post)   = P(fill) worth(gain)

sigma_h is that of a normal with the 90 % interval that outcomes keep true (`model.conformal`): its width * unit / 3.29.
What a maker loses to adverse selection is estimated from trades at the touch (`estimates`); where that is negative, a
taker loses it (`reversion`). P(fill) within the time to live is learned from fills (`fills`).
What a gain has been worth until a lot was closed, and how many lots that allows, is learned from outcomes
(`outcomes`, `shadow`). Size is the share of the order limit that worth(gain) / sigma_h gives, at least a lot, held
below the depth cap and the lots that have been earned; an order that closes is never larger than what is held. An
inventory is full where the owner's position limit is, as far as size has been earned; the shadow's one lot fills it.

A price that an order was withdrawn from because its edge was gone is barred on that side until an order has stood at
another price there: the forecast alone, whose noise flips the sign of an edge many times in a second, can never take a
place in the queue away and give a worse one back. A bar that ends with time is no such rule: after any length, the
horizon's too, the same quote may return on nothing but noise. What risk or a silent feed forced out is not barred.
"""

from enum import IntFlag
from typing import Any, NamedTuple

import numpy as np

from emp.core.codes import Action, EventFlag, Reason, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_EVENTS, HORIZON_NS, HORIZONS, INTERVAL_SIGMAS, Array
from emp.decision.estimates import flow_per_second
from emp.decision.fills import behind_touch, chance, log_ratio, odds_weights
from emp.decision.port import register
from emp.decision.queue import lots_ahead
from emp.decision.standing import AT_ZERO, worth

HOLD, CROSS, POST, CANCEL = int(Action.HOLD), int(Action.CROSS), int(Action.POST), int(Action.CANCEL)
REPLACE = int(Action.REPLACE)
NO_EDGE, TOO_SMALL = int(Reason.NO_EDGE), int(Reason.TOO_SMALL)
NOT_EARNED = int(Reason.NOT_EARNED)
CROSS_EDGE, POST_EDGE = int(Reason.CROSS_EDGE), int(Reason.POST_EDGE)
MOVE_EDGE, CANCEL_EDGE_GONE, WITHDRAWN = (
    int(Reason.MOVE_EDGE),
    int(Reason.CANCEL_EDGE_GONE),
    int(Reason.WITHDRAWN),
)
KEEP_RESTING, IN_FLIGHT, INVENTORY = int(Reason.KEEP_RESTING), int(Reason.IN_FLIGHT), int(Reason.INVENTORY)
NONE, RESTING = int(WorkingState.NONE), int(WorkingState.RESTING)
NO_SIZE = int(EventFlag.NO_SIZE)

EVENT_HORIZONS = len(HORIZON_EVENTS)

NO_PX = -(2**63)
"""No price: 0 is one."""

COSTS = np.dtype(
    [
        ("taker_fee", "f8"),  # ticks per lot
        ("maker_fee", "f8"),
        ("max_order", "i8"),  # lots
        ("max_position", "i8"),  # lots
        ("depth_share", "f8"),  # of the median touch size: the hard cap of an order (G.3)
        ("k_sigma", "f8"),
        ("without", "u4"),  # bits of `Part` that a study leaves out; 0 in earnest
    ],
    align=True,
)
"""Facts and limits that the decision needs; none is a knob to tune."""


class Part(IntFlag):
    """What the rule may do and take into account, each of which a study can leave out (`emp sim ablate`)."""

    CROSS_OPENING = 1
    CROSS_CLOSING = 2
    JOIN = 4  # post at the touch
    IMPROVE = 8  # post a tick before it
    MOVE = 32  # move one that has outlived its time
    CANCEL = 64  # withdraw one whose edge is gone
    BAR = 128  # do not return to a price that was withdrawn from
    ADVERSE = 256  # adverse selection at rest, reversion crossing
    WORTH = 512  # count gains as outcomes have found them
    QUEUE = 1024  # the lots that stand ahead, in the chance of a fill
    CHANCE = 2048  # what fills have taught of that chance; without it, flow over queue


CROSS_OPENING, CROSS_CLOSING = int(Part.CROSS_OPENING), int(Part.CROSS_CLOSING)
JOIN, IMPROVE, MOVING = int(Part.JOIN), int(Part.IMPROVE), int(Part.MOVE)
CANCELLING, BAR, ADVERSE, WORTH = int(Part.CANCEL), int(Part.BAR), int(Part.ADVERSE), int(Part.WORTH)
QUEUE, CHANCE = int(Part.QUEUE), int(Part.CHANCE)


@kernel
def strongest_horizon(f: Any) -> int:
    """The horizon with the largest expected move."""
    best, largest = 0, abs(f.mean[0])
    for h in range(1, HORIZONS):
        size = abs(f.mean[h])
        if size > largest:
            best, largest = h, size
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


class Wait(NamedTuple):
    """How long an order may rest, and the odds that it is filled in that time (`emp.decision.fills`)."""

    ttl_ns: float
    level: float
    slope: float
    behind: float


@kernel
def wait_for(e: Any, ttl_ns: float, learned: bool) -> Wait:
    """What is known here and now of a fill within a time; of flow over queue alone where nothing `learned` counts.

    The rule asks twice an event, in the head and in earnest, and mostly for one time.
    """
    if learned and ttl_ns == e.asked_ns:
        return Wait(ttl_ns, e.odds[0], e.odds[1], e.odds[2])
    level, slope, behind = odds_weights(
        e.fills,
        e.elapsed_ns,
        ttl_ns,
        traded=e.elapsed_ns > 0.0 and e.volume_bid + e.volume_ask > 0.0,
        learned=learned,
    )
    if learned:
        e.asked_ns = ttl_ns
        e.odds[0], e.odds[1], e.odds[2] = level, slope, behind
    return Wait(ttl_ns, level, slope, behind)


@kernel
def wait_of(row: Any) -> Wait:
    """What a row that was decided on rested on."""
    return Wait(row.ttl_ns, float(row.fill_level), float(row.fill_slope), float(row.fill_behind))


@kernel
def fill_probability(event: Any, e: Any, wait: Wait, side: int, px: int, queue: float, size: float) -> float:
    """P(fill) of an order at `px` within its time to live, with `queue` lots ahead."""
    volume = e.volume_bid if side > 0 else e.volume_ask
    ratio = log_ratio(volume, e.elapsed_ns, queue + size, wait.ttl_ns)
    return chance(wait.level, wait.slope, wait.behind, ratio, behind_touch(event, side, px))


@kernel
def counted_ahead(costs: Any, queue: int) -> float:
    """Lots ahead that the chance of a fill is to count: all, or none in a study that leaves the queue out."""
    return 0.0 if costs.without & QUEUE else float(queue)


@kernel
def take_cost(event: Any, e: Any, costs: Any, side: int, slip: float) -> float:
    """Ticks per lot lost against the mid by crossing now."""
    half_spread = 0.5 * (event.ask_px[0] - event.bid_px[0])
    reversion = max(0.0, -(e.adverse_ask if side > 0 else e.adverse_bid))
    if costs.without & ADVERSE:
        reversion = 0.0
    return half_spread + slip + costs.taker_fee + reversion


@kernel
def resting_gain(event: Any, e: Any, costs: Any, side: int, edge: float, px: int) -> float:
    """Expected ticks of a lot that is filled at rest at `px`.

    An order behind the touch buys cheaper, but only after the market has fallen as far: against the mid at its fill
    it gains no more than one at the touch, and it fills less often.
    """
    touch = event.bid_px[0] if side > 0 else event.ask_px[0]
    spread = event.ask_px[0] - event.bid_px[0]
    adverse = max(0.0, e.adverse_bid if side > 0 else e.adverse_ask)
    if costs.without & ADVERSE:
        adverse = 0.0
    return side * edge + 0.5 * spread - max(side * (px - touch), 0) - costs.maker_fee - adverse


@kernel
def held_to_outcomes(costs: Any, standing: Any, account: Any, side: int, gain: float) -> float:
    """What a gain may be counted as: of an order that opens, what outcomes say of it less their standard error.

    An order that closes is taken at its word: what is open has to go, and its place is paid for by the pressure.
    """
    if account.position * side < 0 or costs.without & WORTH:
        return gain
    return worth(standing, gain) - standing.error


@kernel
def carry_of(standing: Any, account: Any, side: int) -> float:
    """Expected financing of a lot traded on a side, ticks: of what it opens, or what it spares by closing."""
    held = -side if account.position * side < 0 else side
    carry = float(standing.carry_buy if held > 0 else standing.carry_sell)
    return carry if held == side else -carry


@kernel
def with_carry(standing: Any, account: Any, side: int, edge: float) -> float:
    """The edge as an order on a side has it: signed towards buying, its financing in it."""
    return edge + side * carry_of(standing, account, side)


@kernel
def better_side(standing: Any, account: Any, edge: float) -> int:
    """The side on which a lot is worth more before the cost of trading."""
    buy, sell = carry_of(standing, account, 1), carry_of(standing, account, -1)
    return 1 if edge + buy > sell - edge else -1


class Sought(NamedTuple):
    """What a new order is to be."""

    size: float  # lots
    not_px: int  # a price that it may not have; NO_PX: any will do
    rival: float  # value of what it is held against, beside zero


@kernel
def left_px(standing: Any, side: int) -> int:
    """The price that a side has left and may not return to; NO_PX where there is none."""
    left = standing.left_bid if side > 0 else standing.left_ask
    if left == 0:
        return NO_PX
    return 0 if left == AT_ZERO else left


@kernel
def best_post(
    event: Any,
    e: Any,
    costs: Any,
    account: Any,
    standing: Any,
    side: int,
    edge: float,
    wait: Wait,
    sought: Sought,
) -> Any:
    """The better of joining the touch and improving it by a tick.

    What a chance could not change is found without asking for one. It lies within 0 and 1; and an order before the
    touch, with nothing ahead, is at least as likely to be filled as one at it.

    Returns:
        (value, price, lots ahead, gain). The value of an order that would lose by a fill is as good as the true one
        to be compared with zero and the rival, and may be another.
    """
    size, not_px, rival = sought
    touch = event.bid_px[0] if side > 0 else event.ask_px[0]
    before = touch + side
    queue = event.bid_sz[0] if side > 0 else event.ask_sz[0]
    joins = touch != not_px and costs.without & JOIN == 0
    improves = event.ask_px[0] - event.bid_px[0] > 1 and before != not_px and costs.without & IMPROVE == 0
    gain = resting_gain(event, e, costs, side, edge, touch)
    counted = held_to_outcomes(costs, standing, account, side, gain)
    gain_before = resting_gain(event, e, costs, side, edge, before)
    counted_before = held_to_outcomes(costs, standing, account, side, gain_before)
    if joins and counted_before <= counted <= 0.0 and wait.slope >= 0.0:
        improves = False
    if joins != improves and (counted if joins else counted_before) <= 0.0 and not -np.inf < rival < 0.0:
        return (counted, touch, queue, gain) if joins else (counted_before, before, 0, gain_before)
    best, best_px, best_queue, best_gain = -np.inf, NO_PX, 0, 0.0
    if joins:
        likely = fill_probability(event, e, wait, side, touch, counted_ahead(costs, queue), size)
        best, best_px, best_queue, best_gain = likely * counted, touch, queue, gain
    if improves:
        value = fill_probability(event, e, wait, side, before, 0.0, size) * counted_before
        if value > best:
            best, best_px, best_queue, best_gain = value, before, 0, gain_before
    return best, best_px, best_queue, best_gain


@kernel
def full_inventory(standing: Any, costs: Any) -> float:
    """Lots whose pressure is one sigma: all that may be held with the size that has been earned."""
    if standing.one_lot:
        return 1.0
    return max(1.0, float(costs.max_position) * max(1, standing.lots) / costs.max_order)


@kernel
def order_size(counted: float, sigma: float, cap: float, costs: Any) -> int:
    """Lots: the share of the order limit that a filled lot is worth in sigmas, at least one, below the depth cap.

    How likely it fills is no part of it: what is risked is risked once it has filled.
    """
    share = min(1.0, counted / sigma) if sigma > 0.0 else 1.0
    return int(min(np.ceil(share * costs.max_order), cap))


@kernel
def best_entry(
    event: Any, e: Any, costs: Any, account: Any, standing: Any, edge: float, wait: Wait, cap: float, row: Any
) -> float:
    """Compare crossing and resting in the direction of the edge; write the better one into the row."""
    side = better_side(standing, account, edge)
    edge = with_carry(standing, account, side, edge)
    size = max(1.0, min(float(costs.max_order), cap))
    slip = slip_ticks(event, side, size)
    cost = take_cost(event, e, costs, side, slip)
    row.gain = side * edge - cost
    best = held_to_outcomes(costs, standing, account, side, side * edge - cost)
    row.cost_to_take, row.slip_ticks = cost, slip
    row.queue_ahead = 0
    row.side = side
    row.action, row.reason_code = CROSS, CROSS_EDGE
    row.px = event.ask_px[0] if side > 0 else event.bid_px[0]
    crossing = CROSS_CLOSING if account.position * side < 0 else CROSS_OPENING
    earned = crossing == CROSS_CLOSING or standing.may_cross
    if costs.without & crossing or not earned:
        best = -np.inf
    left = NO_PX if costs.without & BAR else left_px(standing, side)
    value, px, queue, gain = best_post(
        event, e, costs, account, standing, side, edge, wait, Sought(size, left, best)
    )
    if value > best:
        best = value
        row.queue_ahead, row.px, row.gain = queue, px, gain
        row.action, row.reason_code = POST, POST_EDGE
    return best


@kernel
def only_where_withdrawn(
    event: Any, e: Any, costs: Any, account: Any, standing: Any, edge: float, wait: Wait, cap: float
) -> bool:
    """Whether resting would pay, if not for the price that was withdrawn from."""
    side = better_side(standing, account, edge)
    edge = with_carry(standing, account, side, edge)
    size = max(1.0, min(float(costs.max_order), cap))
    if left_px(standing, side) == NO_PX or costs.without & BAR:
        return False
    return best_post(event, e, costs, account, standing, side, edge, wait, Sought(size, NO_PX, 0.0))[0] > 0.0


@kernel
def manage_resting(
    event: Any,
    e: Any,
    costs: Any,
    account: Any,
    working: Any,
    standing: Any,
    edge: float,
    wait: Wait,
    row: Any,
) -> None:
    """Keep, move or withdraw the order that rests, whichever is worth most; withdrawn it is worth nothing.

    Keeping is valued at its real place in the queue, as far as the venue tells it. So an order is never withdrawn
    that would be posted again where it stood: its place is worth what a new one must wait for. Moving is considered
    once the order has outlived its time: one that follows the touch at once pays for what the touch runs from.
    """
    side = working.side
    edge = with_carry(standing, account, side, edge)
    row.side, row.px, row.qty = side, working.px, working.leaves
    size = float(working.leaves)
    queue = lots_ahead(event, side, working.px, working.queue_ahead)
    row.gain = resting_gain(event, e, costs, side, edge, working.px)
    likely = fill_probability(event, e, wait, side, working.px, counted_ahead(costs, queue), size)
    keep = likely * held_to_outcomes(costs, standing, account, side, row.gain)
    slip = slip_ticks(event, side, size)
    row.cost_to_take, row.slip_ticks = take_cost(event, e, costs, side, slip), slip
    row.queue_ahead = queue
    if standing.lots < 1 and account.position * side >= 0:
        row.action, row.reason_code = CANCEL, NOT_EARNED
        return
    move, px, gain = -np.inf, working.px, row.gain
    if event.ts - working.ts > wait.ttl_ns and costs.without & MOVING == 0:
        move, px, _, gain = best_post(
            event, e, costs, account, standing, side, edge, wait, Sought(size, working.px, keep)
        )
    if max(keep, move) <= 0.0 and costs.without & CANCELLING == 0:
        row.action, row.reason_code = CANCEL, CANCEL_EDGE_GONE
    elif move > keep:
        row.action, row.reason_code = REPLACE, MOVE_EDGE
        row.px, row.gain = px, gain
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
    standing: Any,
    row: Any,
) -> None:
    """Choose an action for one event; see `emp.decision.port.decide` for the arguments."""
    costs = rule.costs[i]
    spread = event.ask_px[0] - event.bid_px[0]
    unit = max(float(spread), costs.k_sigma * sigma_ticks)
    h = strongest_horizon(f)
    sigma = (f.interval[h, 1] - f.interval[h, 0]) * unit / INTERVAL_SIGMAS
    pressure = -sigma * account.position / full_inventory(standing, costs)
    forecast_edge = f.mean[h] * unit
    edge = forecast_edge + pressure
    ttl = time_to_live_ns(h, e)
    wait = wait_for(e, ttl, costs.without & CHANCE == 0)
    cap = costs.depth_share * e.depth if event.flags & NO_SIZE == 0 else float(costs.max_order)

    row.spread_ticks, row.unit_ticks, row.sigma_ticks = spread, unit, sigma_ticks
    row.horizon = h
    row.edge_ticks = edge
    row.depth_cap, row.ttl_ns = cap, ttl
    row.fill_level, row.fill_slope, row.fill_behind = wait.level, wait.slope, wait.behind
    row.qty = 0
    if working.state == RESTING:
        manage_resting(event, e, costs, account, working, standing, edge, wait, row)
        return
    value = best_entry(event, e, costs, account, standing, edge, wait, cap, row)
    opens = account.position * row.side >= 0
    if working.state != NONE:
        row.action, row.reason_code = HOLD, IN_FLIGHT
    elif value <= 0.0:
        row.action = HOLD
        row.reason_code = INVENTORY if forecast_edge * edge < 0.0 else NO_EDGE
        if only_where_withdrawn(event, e, costs, account, standing, edge, wait, cap):
            row.reason_code = WITHDRAWN
    elif opens and standing.lots < 1:
        row.action, row.reason_code = HOLD, NOT_EARNED
    else:
        counted = held_to_outcomes(costs, standing, account, row.side, row.gain)
        row.qty = order_size(counted, sigma, cap, costs)
        row.qty = min(row.qty, standing.lots if opens else abs(account.position))
        if row.qty < 1:
            row.action, row.reason_code = HOLD, TOO_SMALL


@kernel
def record_inputs(event: Any, f: Any, e: Any, account: Any, working: Any, standing: Any, row: Any) -> None:
    """Copy what the decision saw into the row, so that it can be computed again."""
    row.bid, row.ask = event.bid_px[0], event.ask_px[0]
    row.bid_sz, row.ask_sz = event.bid_sz[0], event.ask_sz[0]
    row.flags = event.flags
    row.inventory = account.position
    row.pnl_ticks = account.pnl
    row.p[:, :] = f.p
    row.q[:, :] = f.q
    row.mean[:] = f.mean
    row.interval[:, :] = f.interval
    row.adverse_bid, row.adverse_ask = e.adverse_bid, e.adverse_ask
    row.flow_bid = flow_per_second(e.volume_bid, e.elapsed_ns)
    row.flow_ask = flow_per_second(e.volume_ask, e.elapsed_ns)
    row.fill_level = row.fill_slope = row.fill_behind = 0.0  # of a rule that does not ask
    row.working_state = working.state
    row.resting_side, row.resting_px, row.resting_qty = 0, 0, 0
    row.resting_age_ns = 0
    if working.state != NONE:
        row.resting_side, row.resting_px, row.resting_qty = working.side, working.px, working.leaves
        row.resting_age_ns = event.ts - working.ts
    row.left_bid, row.left_ask = standing.left_bid, standing.left_ask
    row.worth_level, row.worth_slope, row.worth_error = standing.level, standing.slope, standing.error
    row.earned_lots, row.may_cross = standing.lots, standing.may_cross
    row.carry_buy, row.carry_sell = standing.carry_buy, standing.carry_sell


register(ValueRule, decide_by_value)
