"""The planner as a rule of the compiled step (`emp.decision.port`): once a step it looks ahead and chooses.

At every event the built-in rule decides first. Where the planner acts, once every `step` visible events (or as soon as
nothing is on its way) its choice is put in place of the rule's, and between two of them it waits. The trader in the
head goes on with the built-in rule: what its gains are worth is known whenever the planner stands aside. What is asked
for is approved by risk in the same step like anything else.

A search goes to a depth that the seat names, whatever the machine's pace: so a decision is a function of what the seat
says and the events, and a replay that sets the seat as it was gives it again. How long searches took is kept beside
(`took`) for whoever switches the planner off and on.

With `explore` a share of choices is drawn among the allowed actions. Each choice can be kept as a POINT: what a model
is trained on and held to.
"""

from typing import Any

import numpy as np

from emp.core.codes import Action, Reason, WorkingState
from emp.core.numba.jit import kernel, monotonic_ns
from emp.core.numba.rng import one_of, uniform
from emp.core.records import INTERVAL_SIGMAS
from emp.decision.port import register
from emp.decision.queue import lots_ahead
from emp.decision.rule import NO_PX, Sought, ValueRule, best_post, decide_by_value, order_size, wait_of
from emp.plan.essentials import (
    ACTIONS,
    HOLD,
    LONGEST_EVENTS,
    REST,
    TAKE,
    facing,
    standardise,
    unit_of_step,
    write_essentials,
)
from emp.plan.planner import ACT, KEPT, OFF, PROBE, Planner
from emp.plan.search import best_action, look_ahead

NO_ACTION, CROSS, POST, CANCEL = int(Action.HOLD), int(Action.CROSS), int(Action.POST), int(Action.CANCEL)
REPLACE = int(Action.REPLACE)
PLANNED, IN_FLIGHT, TOO_SMALL = int(Reason.PLANNED), int(Reason.IN_FLIGHT), int(Reason.TOO_SMALL)
NONE, RESTING = int(WorkingState.NONE), int(WorkingState.RESTING)


@kernel
def _as_rule(row: Any, side: int, resting: bool) -> int:
    """What the rule has chosen, in the model's actions."""
    if row.action == NO_ACTION:
        return HOLD
    if resting:
        return TAKE if row.action == CANCEL else REST
    if row.side != side:
        return -1
    return TAKE if row.action == CROSS else REST


@kernel
def _search(rule: Any, seat: Any) -> None:
    """Look ahead from `rule.z`, and keep how long that took."""
    standardise(rule.z, rule.centre, rule.scale)
    began = monotonic_ns(rule.work.clock)
    look_ahead(rule.model, rule.z, seat.depth, 0, rule.work)
    rule.took[rule.took[KEPT] % KEPT] = monotonic_ns(rule.work.clock) - began
    rule.took[KEPT] += 1
    seat.searches += 1


@kernel
def _choose(rule: Any, seat: Any) -> tuple[int, bool]:
    """The action of the largest value, or one that is drawn; whether it was drawn."""
    if seat.explore > 0.0 and (seat.depth == 0 or uniform(rule.random) < seat.explore):
        k = one_of(int(rule.allowed.sum()), rule.random)
        for a in range(ACTIONS):
            if rule.allowed[a]:
                if k == 0:
                    return a, True
                k -= 1
    return best_action(rule.work.q, rule.allowed), False


@kernel
def _ask(  # noqa: PLR0913
    rule: Any,
    seat: Any,
    action: int,
    side: int,
    px: int,
    event: Any,
    account: Any,
    working: Any,
    standing: Any,
    cap: float,
    sigma: float,
    unit: float,
    costs: Any,
    row: Any,
) -> None:
    """Write the choice into the row."""
    gain = float(rule.work.q[action]) * unit if seat.depth > 0 else 0.0
    row.reason_code, row.gain = PLANNED, gain
    row.action, row.side = NO_ACTION, side
    if working.state == RESTING:
        row.px, row.qty = working.px, working.leaves
        if action == TAKE:
            row.action = CANCEL
        elif action == REST:
            row.action, row.px = REPLACE, px
        return
    row.px, row.qty = px, 0
    if action == HOLD:
        return
    if account.position * side < 0:
        row.qty = abs(account.position)
    elif seat.explore > 0.0:
        row.qty = 1  # what is learned from is one lot, whatever has been earned
    else:
        row.qty = min(order_size(gain, sigma, cap, costs), standing.lots)
    if row.qty < 1:
        row.reason_code = TOO_SMALL
        return
    row.action = CROSS if action == TAKE else POST
    if action == TAKE:
        row.px = event.ask_px[0] if side > 0 else event.bid_px[0]


@kernel
def _keep(  # noqa: PLR0913
    rule: Any,
    seat: Any,
    action: int,
    drawn: bool,
    by_rule: int,
    rule_gain: float,
    side: int,
    event: Any,
    account: Any,
    working: Any,
    costs: Any,
    unit: float,
    ahead: float,
    imbalance: float,
    since_reset: int,
) -> None:
    """Keep the choice as a POINT; `z` was kept before it was standardised."""
    p = rule.points[seat.points]
    p.ts, p.since_reset, p.side, p.action, p.drawn = event.ts, since_reset, side, action, drawn
    p.rule, p.rule_gain = by_rule, rule_gain
    p.resting = 1 if working.state == RESTING else 0
    p.position, p.fills, p.pnl = account.position, account.fills, account.pnl
    p.mid = 0.5 * (event.bid_px[0] + event.ask_px[0])
    p.spread, p.unit = event.ask_px[0] - event.bid_px[0], unit
    p.taker_fee, p.maker_fee = costs.taker_fee, costs.maker_fee
    p.ahead, p.qimbalance = ahead, side * imbalance
    for a in range(ACTIONS):
        p.q[a] = rule.work.q[a] if seat.depth > 0 else np.float32(0.0)


@kernel
def _is_due(seat: Any, working: Any, row: Any) -> bool:
    """Whether this event is one to choose at; counts the step down."""
    if seat.wait > 0:
        seat.wait -= 1
    settled = working.state == NONE or working.state == RESTING
    return bool(seat.wait == 0 and settled and row.since_reset > seat.warmup)


@kernel
def _where_to_rest(
    event: Any,
    e: Any,
    costs: Any,
    account: Any,
    standing: Any,
    working: Any,
    side: int,
    edge: float,
    row: Any,
) -> tuple[int, int]:
    """Price at which an order would be posted, and lots ahead of it; the better of the touch and a tick before it."""
    leaves = float(working.leaves) if working.state == RESTING else 1.0
    sought = Sought(leaves, NO_PX, -np.inf)
    _, px, queue, _ = best_post(event, e, costs, account, standing, side, edge, wait_of(row), sought)
    if px == NO_PX:
        px, queue = event.bid_px[0] if side > 0 else event.ask_px[0], 0
    return px, queue


@kernel
def decide_planned(
    rule: Planner,
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
    """Choose by looking ahead; see `emp.decision.port.decide` for the arguments."""
    decide_by_value(ValueRule(rule.costs), i, event, sigma_ticks, f, e, account, working, standing, row)
    seat = rule.seat[i]
    if seat.mode == OFF or row.since_reset <= seat.warmup:
        return
    if not _is_due(seat, working, row):
        if seat.mode == ACT:
            row.action, row.reason_code, row.qty = NO_ACTION, PLANNED, 0
            if working.state == RESTING:
                row.side, row.px, row.qty = working.side, working.px, working.leaves
            elif working.state != NONE:
                row.reason_code = IN_FLIGHT
        return
    seat.wait = seat.step
    if seat.mode == PROBE and seat.pause > 0:
        seat.pause -= 1
        return
    costs, unit = rule.costs[i], unit_of_step(sigma_ticks, float(seat.step))
    edge = f.mean[row.horizon] * row.unit_ticks
    side, resting = facing(account, working, standing, edge), working.state == RESTING
    px, queue = _where_to_rest(event, e, costs, account, standing, working, side, edge, row)
    ahead, at = float(queue), px
    if resting:
        at = working.px
        ahead = float(lots_ahead(event, side, working.px, working.queue_ahead))
    write_essentials(
        rule.z,
        event,
        rule.state[i],
        f,
        e,
        account,
        working,
        costs,
        side,
        unit,
        row.unit_ticks / unit,
        at,
        ahead,
        float(seat.step),
    )
    if seat.points < rule.points.size:
        rule.points[seat.points].z[:] = rule.z
    if seat.depth > 0:
        _search(rule, seat)
    if seat.mode != ACT:
        return
    opens = account.position * side >= 0
    earned = standing.lots >= 1 or seat.explore > 0.0 or not opens
    rule.allowed[HOLD] = True
    rule.allowed[TAKE] = True if resting else earned
    rule.allowed[REST] = px != working.px if resting else earned
    if resting and not earned:
        rule.allowed[HOLD], rule.allowed[REST] = False, False
    action, drawn = _choose(rule, seat)
    if seat.points < rule.points.size:
        _keep(
            rule,
            seat,
            action,
            drawn,
            _as_rule(row, side, resting),
            row.gain if row.side == side else -row.gain,
            side,
            event,
            account,
            working,
            costs,
            unit,
            ahead,
            rule.state[i].qimbalance,
            row.since_reset,
        )
    seat.points += 1
    h = LONGEST_EVENTS
    sigma = (f.interval[h, 1] - f.interval[h, 0]) * row.unit_ticks / INTERVAL_SIGMAS
    cap = row.depth_cap
    _ask(rule, seat, action, side, px, event, account, working, standing, cap, sigma, unit, costs, row)


@kernel
def decide_by_rule_in_the_head(
    rule: Planner,
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
    """The built-in rule, for the trader in the head."""
    decide_by_value(ValueRule(rule.costs), i, event, sigma_ticks, f, e, account, working, standing, row)


register(Planner, decide_planned, in_the_head=decide_by_rule_in_the_head)
