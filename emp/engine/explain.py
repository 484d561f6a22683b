"""A row of the action log explained: made again from its own inputs, in plain words, with what would have changed it.

A row holds what the rule and risk rested on (`core.records.DECISION`); fees and limits are the run's. `decided_again`
builds the book, the estimates and the account that the row describes and asks the same kernels once more.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from emp.core.codes import Action, Reason, WorkingState
from emp.core.instrument import Instrument
from emp.core.records import (
    ACCOUNT,
    DECISION,
    EVENT,
    FORECAST,
    HORIZON_EVENTS,
    HORIZON_NAMES,
    WORKING,
    Array,
)
from emp.decision.estimates import new_estimates
from emp.decision.rule import ValueRule, decide_by_value, fill_probability, wait_of
from emp.decision.standing import new_standing
from emp.engine.limits import EngineLimits, cost_records, limit_records
from emp.risk.limits import approve, new_risk
from emp.risk.portfolio import PLENTY

ANSWER = ("action", "reason_code", "side", "px", "qty")
"""What a decision is."""

NOT_DECIDED = frozenset({Reason.STALE})
"""Reasons of rows behind which no decision stands: withdrawn from a book that may not be believed."""

ELSEWHERE = frozenset({Reason.OWN_RULE, Reason.PLANNED})
"""Reasons of rows that the built-in rule did not decide: what did cannot be asked again from a row."""

LIMITS_OF_ACCOUNT = frozenset(
    {Reason.GROSS_EXPOSURE, Reason.NET_EXPOSURE, Reason.ACCOUNT_LOSS, Reason.MARGIN}
)
"""Reasons of refusals and breaches that rest on more than the row: on all instruments."""

_TWINS = {"left_bid": "left_ask", "carry_buy": "carry_sell"}
"""Inputs of which there is one for each side: they are changed together."""

FARTHEST = 64.0
"""Units of the forecast's scale within which another edge is looked for."""


class Rules(NamedTuple):
    """Fees and limits of the instrument in the run."""

    costs: Array  # COSTS[1]
    limits: Array  # LIMITS[1]


def rules_of(instrument: Instrument, limits: EngineLimits) -> Rules:
    """The records that the engine made of an instrument's facts and the owner's limits."""
    return Rules(cost_records([instrument], limits), limit_records(limits, 1))


def decided_again(row: Any, rules: Rules) -> Any:
    """The row made a second time: DECISION, of which the answer and the measures are filled.

    Burn-in and k of sigma are the model's; they are taken as the row says they were. The book has no more than the
    row needs of it, so what walking it cost is added to the taker's fee.
    """
    found = np.zeros(1, DECISION)[0]
    for name in (
        "ts",
        "seq",
        "resting_side",
        "resting_qty",
        "since_reset",
        "disturbed",
        "state_events",
        "inventory",
    ):
        found[name] = row[name]
    costs, limits = rules.costs.copy(), rules.limits.copy()
    costs["taker_fee"] += row["slip_ticks"]
    costs["k_sigma"] = _k_sigma(row)
    waits = Reason(int(row["reason_code"])) is Reason.WARMUP
    limits["warmup_events"] = row["state_events"] if waits else row["state_events"] - 1
    account, working = _account(row), _working(row)
    estimates = _estimates(row, float(costs["depth_share"][0]))
    decide_by_value(
        ValueRule(costs),
        0,
        _event(row),
        float(row["sigma_ticks"]),
        _forecast(row),
        estimates,
        account,
        working,
        _standing(row),
        found,
    )
    resting = row["working_state"] == WorkingState.RESTING
    approve(_risk(row), limits[0], account, int(row["session_id"]), resting, found)
    return found


def _k_sigma(row: Any) -> float:
    sigma = float(row["sigma_ticks"])
    return (
        float(row["unit_ticks"]) / sigma if sigma > 0.0 and row["unit_ticks"] > row["spread_ticks"] else 0.0
    )


def _event(row: Any) -> Any:
    """A book that shows what the row says of it: the touch, and the queue of an order behind it."""
    event = np.zeros(1, EVENT)[0]
    event["ts"], event["seq"], event["flags"] = row["ts"], row["seq"], row["flags"]
    event["n_bid"] = event["n_ask"] = 1
    for touch in ("bid", "ask"):
        event[f"{touch}_px"][0], event[f"{touch}_sz"][0] = row[touch], row[f"{touch}_sz"]
    side = int(row["resting_side"])
    mine = "bid" if side > 0 else "ask"
    rests = row["working_state"] == WorkingState.RESTING
    if rests and (row[mine] - row["resting_px"]) * side > 0:  # behind the touch
        event[f"n_{mine}"] = 2
        event[f"{mine}_px"][1] = row["resting_px"]
        event[f"{mine}_sz"][1] = row["queue_ahead"] - row[f"{mine}_sz"]
    return event


def _forecast(row: Any) -> Any:
    forecast = np.zeros(1, FORECAST)[0]
    for name in ("p", "q", "mean", "interval"):
        forecast[name] = row[name]
    return forecast


def _estimates(row: Any, depth_share: float) -> Any:
    e = new_estimates()[0]
    horizon = int(row["horizon"])
    steps = HORIZON_EVENTS[horizon] if horizon < len(HORIZON_EVENTS) else 0
    e["elapsed_ns"] = row["ttl_ns"] / (steps or 1)  # of a time on the clock any that is no longer
    for side in ("bid", "ask"):
        e[f"adverse_{side}"] = row[f"adverse_{side}"]
        e[f"volume_{side}"] = row[f"flow_{side}"] * e["elapsed_ns"] * 1e-9
    e["depth"] = row["depth_cap"] / depth_share
    odds = row["fill_level"], row["fill_slope"], row["fill_behind"]
    if any(odds):  # rows of earlier builds have none, and are taken as what is known at first
        e["fills"]["learned"]["weights"] = odds
    return e


def _standing(row: Any) -> Any:
    standing = new_standing()[0]
    for name in ("left_bid", "left_ask"):
        standing[name] = row[name]
    for name in ("level", "slope", "error"):
        standing[name] = row[f"worth_{name}"]
    standing["lots"], standing["may_cross"] = row["earned_lots"], row["may_cross"]
    standing["carry_buy"], standing["carry_sell"] = row["carry_buy"], row["carry_sell"]
    return standing


def _account(row: Any) -> Any:
    account = np.zeros(1, ACCOUNT)[0]
    account["position"], account["pnl"] = row["inventory"], row["pnl_ticks"]
    account["day_start"] = row["pnl_ticks"] - row["day_pnl"]
    account["peak"] = row["pnl_ticks"] - row["drawdown"]
    return account


def _working(row: Any) -> Any:
    working = np.zeros(1, WORKING)[0]
    working["state"], working["side"], working["px"] = (
        row["working_state"],
        row["resting_side"],
        row["resting_px"],
    )
    working["queue_ahead"] = row["queue_ahead"]
    working["leaves"], working["ts"] = row["resting_qty"], row["ts"] - row["resting_age_ns"]
    return working


def _risk(row: Any) -> Any:
    risk = new_risk()[0]
    for name in ("halted", "degraded", "context_mult", "ts", "barred"):
        risk[name] = row[name]
    risk["room_buy"] = risk["room_sell"] = row["room"] if row["room"] > 0 else 0 if row["room"] else PLENTY
    reason = Reason(int(row["reason_code"]))
    if reason in LIMITS_OF_ACCOUNT:  # the other side may be barred by another, and is not asked
        risk["room_reason"] = reason
        risk["account_breach"] = reason if row["action"] == Action.FLATTEN else 0
    for name in ("orders", "minute_lots", "hour_lots"):
        risk[name] = row[f"{name}_used"]
    if row["halted"] and row["action"] == Action.FLATTEN:  # a loss limit overrules the owner's halt alone
        risk["halt_reason"] = Reason.HALTED
    return risk


# --- in words


def explain(row: Any, instrument: str, rules: Rules) -> list[str]:
    """Why a decision was as it was, line by line; prices in ticks, values in ticks per lot."""
    reason = Reason(int(row["reason_code"]))
    lines = [
        f"{instrument} seq {int(row['seq'])}, {_when(int(row['ts']))}: {_answer(row)} ({reason.name.lower()})"
    ]
    lines.append(f"  {MEANING[reason]}")
    if reason in NOT_DECIDED:
        return lines
    lines += [f"  {line}" for line in (*_seen(row), *_considered(row), *_financed(row), *_bounds(row, rules))]
    again = decided_again(row, rules)
    if all(again[name] == row[name] for name in ANSWER):
        lines.append("  made again from the row: the same")
    else:
        lines.append(
            f"  made again from the row it would be: {_answer(again)}"
            " - fees, limits or the rule are not those of the run"
        )
        return lines
    lines += [f"  otherwise if {line}" for line in _otherwise(row, rules)]
    return lines


def _when(ts: int) -> str:
    return f"{datetime.fromtimestamp(ts // 10**9, UTC):%Y-%m-%d %H:%M:%S}.{ts % 10**9:09d} UTC"


def _answer(row: Any) -> str:
    action = Action(int(row["action"]))
    side = {1: "buy", -1: "sell"}.get(int(row["side"]), "")
    if action is Action.HOLD or not side:
        return action.name.lower()
    return f"{action.name.lower()}, {side} {int(row['qty'])} at {int(row['px'])}"


def _seen(row: Any) -> Iterator[str]:
    h = int(row["horizon"])
    down, flat, up = (float(p) for p in row["p"][h])
    moved = float(row["mean"][h] * row["unit_ticks"])
    yield (
        f"book {int(row['bid'])} x {int(row['bid_sz'])} / {int(row['ask'])} x {int(row['ask_sz'])},"
        f" spread {int(row['spread_ticks'])}, sigma {float(row['sigma_ticks']):.3f} an event"
    )
    yield (
        f"forecast at {HORIZON_NAMES[h]}: {moved:+.3f} expected; down {down:.3f}, flat {flat:.3f}, up {up:.3f}"
    )
    edge = float(row["edge_ticks"])
    yield f"inventory {int(row['inventory']):+d}: pressure {edge - moved:+.3f}, so an edge of {edge:+.3f}"


def _considered(row: Any) -> Iterator[str]:
    gain, level, slope = (float(row[n]) for n in ("gain", "worth_level", "worth_slope"))
    error = float(row["worth_error"])
    side = "buying" if row["side"] > 0 else "selling"
    yield (
        f"{side}: crossing costs {float(row['cost_to_take']):.3f}; the best order gains {gain:+.3f} if it fills,"
        f" {int(row['queue_ahead'])} lots ahead"
    )
    kept = row["reason_code"] == Reason.KEEP_RESTING
    if (row["action"] == Action.POST or kept) and row["fill_slope"]:
        size = max(1, int(row["resting_qty"] if kept else row["qty"]))
        likely = fill_probability(
            _event(row),
            _estimates(row, 1.0),
            wait_of(row),
            int(row["side"]),
            int(row["px"]),
            float(row["queue_ahead"]),
            size,
        )
        yield (
            f"at rest {size} at {int(row['px'])} fills with a chance of {likely:.1%} within"
            f" {float(row['ttl_ns']) * 1e-9:.2f} s, by what fills have taught"
        )
    if row["side"] * row["inventory"] < 0:
        yield "it closes what is held, so the gain counts as it stands"
    else:
        if not row["may_cross"] and row["action"] != Action.CROSS:  # rows of earlier builds do not say
            yield "to open it may rest, not cross: what was opened by crossing in the head has not earned that"
        counted = level + slope * gain - error
        if (level, slope, error) == (0.0, 1.0, 0.0):
            yield f"nothing is known yet of what such gains bring; {int(row['earned_lots'])} lots have been earned"
            return
        yield (
            f"such gains have brought {level:+.3f} {slope:+.3f} x gain, +- {error:.3f}: counted as {counted:+.3f};"
            f" {int(row['earned_lots'])} lots have been earned"
        )


def _financed(row: Any) -> Iterator[str]:
    """What the next roll had in it, where it mattered."""
    long, short = float(row["carry_buy"]), float(row["carry_sell"])
    if long or short:
        yield f"the next roll is expected to bring {long:+.3f} a lot held long, {short:+.3f} one held short"


def _bounds(row: Any, rules: Rules) -> Iterator[str]:
    limits = rules.limits[0]
    yield (
        f"limits: position {int(limits['max_position'])}, depth cap {float(row['depth_cap']):.2f} lots; used"
        f" {float(row['orders_used']):.1f} orders, {float(row['minute_lots_used']):.0f} and"
        f" {float(row['hour_lots_used']):.0f} lots; day {float(row['day_pnl']):+.1f} of"
        f" {-float(limits['max_daily_loss']):.0f}, drawdown {float(row['drawdown']):+.1f} of"
        f" {-float(limits['max_drawdown']):.0f}"
    )


def _otherwise(row: Any, rules: Rules) -> Iterator[str]:
    """The nearest change of one input alone, with which another answer would have come."""
    for sign, word in ((1.0, "more"), (-1.0, "less")):
        change = partial(_more_expected, row, sign)
        found = _nearest(change, row, rules, FARTHEST * float(row["unit_ticks"]))
        if found is not None:
            yield f"{found[0]:.3f} ticks {word} had been expected: {found[1]}"
    for said, name, value in (
        ("nothing had been held", "inventory", 0),
        ("a lot had been earned", "earned_lots", max(1, int(row["earned_lots"]))),
        ("crossing had earned to open", "may_cross", True),
        ("no price had been left", "left_bid", 0),
        ("trading had not been halted", "halted", False),
        ("the engine had kept up", "degraded", False),
        ("opening had not been barred", "barred", 0),
        ("the account's limits had left room", "room", 0),
        ("no roll had been ahead", "carry_buy", 0.0),
    ):
        twin = _TWINS.get(name)
        if row[name] == value and (twin is None or row[twin] == value):
            continue
        other = row.copy()
        other[name] = value
        if twin is not None:
            other[twin] = value
        again = decided_again(other, rules)
        if any(again[n] != row[n] for n in ANSWER):
            yield f"{said}: {_answer(again)} ({Reason(int(again['reason_code'])).name.lower()})"


def _more_expected(row: Any, sign: float, ticks: float) -> Any:
    """The row with so many ticks more, or less, of an expected move at its horizon."""
    other = row.copy()
    other["mean"][int(row["horizon"])] += sign * ticks / float(row["unit_ticks"])
    return other


def _nearest(
    change: Callable[[float], Any], row: Any, rules: Rules, farthest: float
) -> tuple[float, str] | None:
    """The smallest change that asks for another action, to a thousandth of it, and that action; None where none is."""

    def differs(x: float) -> bool:
        return bool(decided_again(change(x), rules)["action"] != row["action"])

    high = farthest / 2.0**16
    while not differs(high):
        high *= 2.0
        if high > farthest:
            return None
    low = high / 2.0
    while high - low > 1e-3 * high:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if differs(middle) else (middle, high)
    again = decided_again(change(high), rules)
    return high, f"{_answer(again)} ({Reason(int(again['reason_code'])).name.lower()})"


MEANING = {
    Reason.NO_EDGE: "no order is worth more than nothing after all costs",
    Reason.CROSS_EDGE: "crossing pays after half spread, slip, fees and reversion",
    Reason.POST_EDGE: "resting pays after fees, adverse selection and what such gains have been worth",
    Reason.CHASE: "the touch has left the resting order by more than a tick, and it is worth more where the touch is",
    Reason.CANCEL_TTL: "the resting order outlived its time",
    Reason.CANCEL_EDGE_GONE: "what the resting order was worth is gone",
    Reason.KEEP_RESTING: "the resting order is worth its place in the queue",
    Reason.IN_FLIGHT: "an order or cancel is on its way; nothing is sent before its report",
    Reason.INVENTORY: "what is held turned the forecast's edge, and the other way nothing pays",
    Reason.WARMUP: "the model's state has not seen its burn-in",
    Reason.STALE: "no trustworthy book: nothing of ours may rest",
    Reason.DEGRADED: "the engine was behind: size is 0 until it has caught up",
    Reason.CONTEXT: "the slow context multiplies size by 0",
    Reason.SESSION: "halted, in an auction, or closed",
    Reason.POSITION_LIMIT: "as much is held as may be",
    Reason.ORDER_RATE: "as many orders were sent in this minute as may be",
    Reason.TURNOVER_CAP: "as much was traded in this minute or hour as may be",
    Reason.DAILY_LOSS: "the day's loss limit is passed: everything is closed",
    Reason.DRAWDOWN: "the drawdown limit is passed: everything is closed",
    Reason.KILL_SWITCH: "the kill switch was pulled",
    Reason.TOO_SMALL: "the size that depth and limits leave is below one lot",
    Reason.HALTED: "risk has halted trading",
    Reason.COOL_DOWN: "too few events since the stream was broken",
    Reason.MOVE_EDGE: "the resting order outlived its time and is worth more at another price",
    Reason.WITHDRAWN: "resting would pay only at a price that was withdrawn from",
    Reason.OWN_RULE: "a rule of your own asked for this, or for nothing",
    Reason.REJECTS: "the venue refused so many orders that nothing is opened for a while",
    Reason.LATENCY: "decisions or the venue's answers came too late: nothing is opened for a while",
    Reason.NO_RATE: "no conversion rate into the account's currency may be trusted: nothing is opened",
    Reason.GROSS_EXPOSURE: "the account's gross exposure, over all instruments, is at its limit or beyond it",
    Reason.NET_EXPOSURE: "the account's net exposure, over all instruments, is at its limit or beyond it",
    Reason.ACCOUNT_LOSS: "the account's loss limit of the day, over all instruments, is passed: everything is closed",
    Reason.MODEL: "the model that serves has failed, and nothing stands by: nothing is opened",
    Reason.LEASE: "the lease on the account was in doubt, or lost to another engine: nothing is opened",
    Reason.PLANNED: "the planner has looked ahead and chosen this, or to wait",
    Reason.MARGIN: "the margin that the venue leaves free is too little",
    Reason.NOT_EARNED: "lots brought less than was believed of them: nothing is opened until that is earned back",
}
