"""The hot path on one screen: book, features, model, decision, risk, in the order in which data flows.

Live trading runs `step` over one event, replay runs `run_batch` over many, the simulator and every test run
the same function. It returns to Python only when something must leave the process, or the batch ends.
"""

from typing import Any

from emp.core.account import mark
from emp.core.codes import Action, Reason, WorkingState
from emp.core.numba.hold import opened
from emp.core.numba.jit import inlined, kernel, monotonic_ns
from emp.core.numba.lend import lent
from emp.decision.estimates import forget_trades, see_trade, update_estimates
from emp.decision.financing import expect_carry, learn_unfinished
from emp.decision.markouts import judge_fills, keep_fill
from emp.decision.outcomes import note_belief, take_fills
from emp.decision.port import decide, decide_in_the_head, trades_in_the_head
from emp.decision.rule import record_inputs
from emp.decision.shadow import (
    end_shadow,
    follow,
    learn_outcomes,
    meet_market,
    stand_aside,
    withdraw_shadow,
)
from emp.decision.standing import learn_trip, lift_bars, remember_action
from emp.model.port import forecast
from emp.model.recalibrate import recalibrate
from emp.model.table import NO_NUMBER, advance_or_reset
from emp.perception.features import NO_VISIBLE_CHANGE
from emp.perception.port import perceive
from emp.risk.limits import approve, market_block_reason
from emp.risk.portfolio import watch_portfolio

HOLD, CANCEL = int(Action.HOLD), int(Action.CANCEL)
STALE = int(Reason.STALE)
RESTING = int(WorkingState.RESTING)

QUIET = 0  # no decision was due
ROW = 1  # a decision was made and its row written; nothing leaves
COMMAND = 2  # the row's action must leave the process
ASKED = 8
CALENDAR = 5  # `run_batch`: the trading calendar must be laid out further before the next event


@inlined
def step(desk: Any, policy: Any, event: Any, row: Any, lap: Any) -> int:
    """Process one event.

    Args:
        desk: engine.desk.Desk.
        policy: engine.policy.Policy: features, model and rule, each of a type that its port knows.
        event: EVENT record.
        row: DECISION record, overwritten where the result is ROW or COMMAND.
        lap: int32[3], ns spent in the adapter, the model and in all.

    Returns:
        QUIET, ROW or COMMAND.
    """
    began = monotonic_ns(desk.clock)
    i = event.instrument
    p, facts, f = desk.perception[i], desk.facts[i], desk.forecast[i]
    e, account, working, standing = desk.estimates[i], desk.account[i], desk.working[i], desk.standing[i]

    seen = perceive(
        policy.features, p, event, desk.sessions[i], facts.venue_id, desk.state[i], desk.inputs[i]
    )
    perceived = monotonic_ns(desk.clock)
    if seen == NO_VISIBLE_CHANGE:
        see_trade(e, event)
        meet_market(desk.shadow[i], event, desk.shadow_account[i], desk.shadow_working[i], desk.costs[i])
        return QUIET
    if seen != 0:
        desk.quarantined[i, seen] += 1
        withdraw_shadow(desk.shadow[i], event.ts + facts.round_trip_ns, desk.shadow_working[i])
        return withdraw(event, facts, account, working, row)

    last_ns = desk.stream[i].ts
    advance_or_reset(desk.stream[i], desk.memory[i], p.since_reset, event.ts, facts.state_ttl_ns)
    if p.since_reset == 1:
        forget_trades(e)
        lift_bars(standing)
        learn_unfinished(standing, desk.shadow_lots[i], last_ns)
        shadow, its_account, its_working = desk.shadow[i], desk.shadow_account[i], desk.shadow_working[i]
        end_shadow(shadow, its_account, its_working, desk.shadow_lots[i], standing, desk.costs[i], last_ns)
    forecast(policy.model, desk.memory[i], facts.domain, desk.inputs[i], f)
    bid, ask, broken = event.bid_px[0], event.ask_px[0], p.since_reset == 1
    if not recalibrate(desk.recalibration[i], event.ts, bid, ask, p.sigma_ticks, broken, f):
        desk.stream[i].events = NO_NUMBER
    believed = monotonic_ns(desk.clock)

    update_estimates(e, event)
    mark(account, event.bid_px[0] + event.ask_px[0], p.day)
    row.ts, row.seq, row.instrument, row.model_id = event.ts, event.seq, i, facts.model_id
    row.since_reset, row.disturbed = p.since_reset, p.events > p.since_reset
    row.state_events = desk.stream[i].events
    judge_outcomes(desk.lots[i], desk.markouts[i], standing, account, desk.costs[i].max_order, event)
    if desk.financing[i].roll_ns != 0:
        expect_carry(desk.financing[i], event.ts, standing, desk.shadow_standing[i])
    if trades_in_the_head(policy.rule):
        trade_in_the_head(desk, policy.rule, i, event, p, row)
    record_inputs(event, f, e, account, working, standing, row)
    decide(policy.rule, i, event, p.sigma_ticks, f, e, account, working, standing, row)
    resting = working.state == RESTING
    if desk.portfolio[0].limited:
        mid = 0.5 * (event.bid_px[0] + event.ask_px[0])
        watch_portfolio(
            desk.portfolio[0],
            desk.exposure,
            desk.account,
            desk.working,
            i,
            mid,
            event.ts,
            desk.risk[i],
        )
    approve(desk.risk[i], desk.limits[i], account, p.session_id, resting, row)
    remember_action(standing, row)
    note_belief(desk.lots[i], standing, row)

    ended = monotonic_ns(desk.clock)
    lap[0], lap[1], lap[2] = perceived - began, believed - perceived, ended - began
    row.latency_ms = (ended - began) * 1e-6
    return ROW if row.action == HOLD else COMMAND


@inlined
def judge_outcomes(lots: Any, markouts: Any, standing: Any, account: Any, max_order: int, event: Any) -> None:
    """Hold what was believed of our lots against what they brought, as far as it is known by now."""
    judge_fills(markouts, event.ts, 0.5 * (event.bid_px[0] + event.ask_px[0]))
    ended = take_fills(lots, account, event.ts)
    if lots.moved != 0:
        keep_fill(markouts, lots.moved, lots.moved_px, event.ts)
    if ended:
        learn_trip(standing, lots.last, max_order)


@inlined
def trade_in_the_head(desk: Any, rule: Any, i: int, event: Any, p: Any, row: Any) -> None:
    """Carry the shadow over the event, and let the rule decide for it; `row` has the ages of stream and state."""
    shadow, account, working = desk.shadow[i], desk.shadow_account[i], desk.shadow_working[i]
    lots, standing, mine = desk.shadow_lots[i], desk.shadow_standing[i], desk.shadow_row[i]
    meet_market(shadow, event, account, working, desk.costs[i])
    learn_outcomes(shadow, account, lots, desk.standing[i], event.ts)
    if market_block_reason(desk.limits[i], p.session_id, row) != 0:
        stand_aside(shadow, working)
        return
    mine.ts = event.ts
    decide_in_the_head(
        rule,
        i,
        event,
        p.sigma_ticks,
        desk.forecast[i],
        desk.estimates[i],
        account,
        working,
        standing,
        mine,
    )
    remember_action(standing, mine)
    follow(shadow, event, mine, account, working, lots, standing, desk.facts[i].round_trip_ns)


@kernel
def withdraw(event: Any, facts: Any, account: Any, working: Any, row: Any) -> int:
    """On a book that may not be believed nothing of ours may rest."""
    if working.state != RESTING:
        return QUIET
    row.ts, row.seq, row.instrument, row.model_id = event.ts, event.seq, event.instrument, facts.model_id
    row.action, row.reason_code = CANCEL, STALE
    row.side, row.px, row.qty = working.side, working.px, working.leaves
    row.inventory, row.pnl_ticks = account.position, account.pnl
    return COMMAND


@kernel
def ask(row: Any, asked: Any) -> None:
    """Write what the row's action needs as a command: int64[ASKED], which Python reads in one go."""
    asked[0], asked[1], asked[2] = row.instrument, row.ts, row.seq
    asked[3], asked[4] = row.action, row.reason_code
    asked[5], asked[6], asked[7] = row.side, row.px, row.qty


@kernel
def run_batch(held: Any, events: Any, start: int, rows: Any, laps: Any, states: Any) -> tuple[int, int, int]:
    """Run `step` over events[start:] until a command must leave, the calendar ends, or the batch does.

    Args:
        held: (desk, policy, int64[ASKED]), held (`core.numba.hold`); the last receives what a command needs.
        events: EVENT[n].
        rows: DECISION[>= n - start], filled from 0.
        laps: int32[>= n - start, 3], one line per row.
        states: MARKET_STATE[n] to receive the state after each event, or of length 0 where nobody wants them.

    Returns:
        (index of the next event, rows written, QUIET, COMMAND or CALENDAR); with COMMAND the last row asks for it,
        with CALENDAR the next event lies beyond what is laid out of its instrument's calendar.
    """
    desk, policy, asked = opened(held)
    events, rows, laps, states = lent(events), lent(rows), lent(laps), lent(states)
    written = 0
    for k in range(start, events.size):
        if events[k].ts >= desk.facts[events[k].instrument].calendar_end_ns:
            return k, written, CALENDAR
        result = step(desk, policy, events[k], rows[written], laps[written])
        if k < states.size:
            states[k] = desk.state[events[k].instrument]
        if result != QUIET:
            written += 1
        if result == COMMAND:
            ask(rows[written - 1], asked)
            return k + 1, written, COMMAND
    return events.size, written, QUIET


@kernel
def run_all(held: Any, events: Any, rows: Any, laps: Any) -> int:
    """Run `step` over all events, deliver nothing, and return how many rows were written.

    For measuring: every event is decided as if nothing of ours were working. `rows` (DECISION[m]) and `laps`
    (int32[m, 3]) are filled round and round, so that they may be as short as the caches like it.
    """
    desk, policy, _ = opened(held)
    events, rows, laps = lent(events), lent(rows), lent(laps)
    written, at = 0, 0
    for k in range(events.size):
        if step(desk, policy, events[k], rows[at], laps[at]) != QUIET:
            written += 1
            at = at + 1 if at + 1 < rows.size else 0
    return written
