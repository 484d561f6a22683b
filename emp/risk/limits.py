"""Intent to approved or refused: hard limits, checked on every event in the compiled path (D.3, D.4, H.4).

Nothing here is learned and nothing is tuned: these are limits that the owner sets, and estimates cannot move
them. A breach of a loss limit trips the kill switch: everything is cancelled, the position is closed, and
trading stays halted until the owner starts it again.
"""

from typing import Any

import numpy as np

from emp.core.codes import Action, Reason, Session
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.risk.portfolio import PLENTY, ROOM
from emp.risk.verdict import NOTHING, VERDICT, give_verdict

HOLD, CANCEL, FLATTEN = int(Action.HOLD), int(Action.CANCEL), int(Action.FLATTEN)
REPLACE = int(Action.REPLACE)
CLOSED_SESSIONS = (int(Session.AUCTION_OPEN), int(Session.HALT), int(Session.CLOSED))

MINUTE_NS = 60_000_000_000
HOUR_NS = 60 * MINUTE_NS

BURST = 0.5
"""Share of a limit that a bucket holds at once; the rest it earns back over the period."""

LIMITS = np.dtype(
    [
        ("max_position", "i8"),  # lots, either side
        ("max_daily_loss", "f8"),  # ticks times lots since the trading day began
        ("max_drawdown", "f8"),  # ticks times lots below the highest pnl of the run
        ("orders_per_minute", "f8"),
        ("turnover_per_minute", "f8"),  # lots
        ("turnover_per_hour", "f8"),
        ("stale_after_ns", "i8"),
        ("warmup_events", "i8"),  # of the model's state
        ("cooldown_events", "i8"),  # of a market whose stream was broken
    ],
    align=True,
)

RISK = np.dtype(
    [
        ("halted", "?"),  # by the kill switch; only flattening is allowed
        ("halt_reason", "i4"),
        ("degraded", "?"),  # by the bus: size 0
        ("context_mult", "f8"),  # slow context: 0, 0.3 or 1
        ("ts", "i8"),  # of the last refill of the buckets
        ("orders", "f8"),  # used from each leaky bucket
        ("minute_lots", "f8"),
        ("hour_lots", "f8"),
        ("barred", "i4"),  # Reason for which nothing may be opened, by a control input; 0 none
        *ROOM,
        *VERDICT,
    ],
    align=True,
)


def new_risk(n: int = 1) -> Array:
    """Fresh risk state of `n` instruments: nothing halted, context neutral."""
    state = np.zeros(n, RISK)
    state["context_mult"] = 1.0
    state["room_buy"] = state["room_sell"] = PLENTY
    return state


@kernel
def leak(r: Any, limits: Any, ts: int) -> None:
    """Let time empty the buckets. Each holds half its limit and leaks half per period (`BURST`), so that no
    window of a period's length, wherever it begins, can see more than the limit.
    """
    waited = max(0, ts - r.ts) if r.ts > 0 else 0
    r.ts = ts
    r.orders = max(0.0, r.orders - BURST * limits.orders_per_minute * waited / MINUTE_NS)
    r.minute_lots = max(0.0, r.minute_lots - BURST * limits.turnover_per_minute * waited / MINUTE_NS)
    r.hour_lots = max(0.0, r.hour_lots - BURST * limits.turnover_per_hour * waited / HOUR_NS)


@kernel
def loss_breach(limits: Any, account: Any) -> int:
    """The loss limit that the account has passed, as a Reason; 0 where none."""
    if account.pnl - account.day_start < -limits.max_daily_loss:
        return Reason.DAILY_LOSS.value
    if account.pnl - account.peak < -limits.max_drawdown:
        return Reason.DRAWDOWN.value
    return 0


@kernel
def block_reason(r: Any, limits: Any, session_id: int, row: Any) -> int:
    """Why nothing of ours may be in the market now, as a Reason; 0 where it may."""
    if r.halted:
        return Reason.HALTED.value
    if r.degraded:
        return Reason.DEGRADED.value
    if r.context_mult <= 0.0:
        return Reason.CONTEXT.value
    return market_block_reason(limits, session_id, row)


@kernel
def market_block_reason(limits: Any, session_id: int, row: Any) -> int:
    """Why nobody with our model should be in the market now, whatever our account: as a Reason; 0 where one may."""
    if session_id in CLOSED_SESSIONS:
        return Reason.SESSION.value
    if row.disturbed and row.since_reset <= limits.cooldown_events:
        return Reason.COOL_DOWN.value
    if row.state_events <= limits.warmup_events:
        return Reason.WARMUP.value
    return 0


@kernel
def bar(r: Any) -> int:
    """Why nothing may be opened, while what is held may be closed: as a Reason; 0 where it may."""
    return int(r.barred if r.barred != 0 else r.account_bar)


@kernel
def closes(account: Any, side: int, qty: int) -> bool:
    """Whether so many lots on that side can only make the position smaller."""
    return bool(side * account.position < 0 and qty <= abs(account.position))


@kernel
def account_room(r: Any, side: int) -> int:
    """Lots that the account's limits leave on a side."""
    return int(r.room_buy if side > 0 else r.room_sell)


@kernel
def told_room(lots: int) -> int:
    """Room as a row tells it: 0 says that nothing limits it, as in rows that were written before there was a limit."""
    if lots >= PLENTY:
        return 0
    return lots if lots > 0 else -1


@kernel
def rate_limit_reached(r: Any, limits: Any) -> int:
    """Reason.ORDER_RATE where no further order may be sent now; 0 where one may."""
    return Reason.ORDER_RATE.value if r.orders + 1.0 > BURST * limits.orders_per_minute else 0


@kernel
def limit_reached(r: Any, limits: Any, account: Any, side: int) -> int:
    """Which limit leaves no room for another order on that side, as a Reason; 0 where none."""
    if side * account.position >= limits.max_position:
        return Reason.POSITION_LIMIT.value
    if account_room(r, side) < 1:
        return int(r.room_reason[0 if side > 0 else 1])
    reason = rate_limit_reached(r, limits)
    if reason != 0:
        return reason
    if r.minute_lots + 1.0 > BURST * limits.turnover_per_minute:
        return Reason.TURNOVER_CAP.value
    if r.hour_lots + 1.0 > BURST * limits.turnover_per_hour:
        return Reason.TURNOVER_CAP.value
    return 0


@kernel
def allowed_lots(r: Any, limits: Any, account: Any, side: int, qty: int) -> int:
    """The most of `qty` that every limit leaves, after the slow context has scaled it."""
    lots = qty * r.context_mult
    lots = min(lots, limits.max_position - side * account.position, account_room(r, side))
    lots = min(lots, BURST * limits.turnover_per_minute - r.minute_lots)
    return int(min(lots, BURST * limits.turnover_per_hour - r.hour_lots))


@kernel
def hold(row: Any, reason: int) -> None:
    """Turn the row's action into a hold."""
    row.action, row.reason_code, row.qty = HOLD, reason, 0


@kernel
def record_limits(r: Any, account: Any, session_id: int, row: Any) -> None:
    """Copy what the limits are held against into the row, so that the verdict can be computed again."""
    row.context_mult = r.context_mult
    row.day_pnl, row.drawdown = account.pnl - account.day_start, account.pnl - account.peak
    row.session_id = session_id
    row.orders_used, row.minute_lots_used, row.hour_lots_used = r.orders, r.minute_lots, r.hour_lots
    row.halted, row.degraded = r.halted, r.degraded
    row.barred, row.room = bar(r), told_room(account_room(r, row.side))


@kernel
def approve(r: Any, limits: Any, account: Any, session_id: int, resting: bool, row: Any) -> None:
    """Approve the row's action, shrink it, or turn it into a hold, a cancel or a flatten with the reason.

    Args:
        r: RISK record.
        limits: LIMITS record.
        account: ACCOUNT record, marked to this event.
        session_id: codes.Session of now.
        resting: whether an order of ours rests; it is withdrawn where nothing of ours may be in the market.
        row: DECISION record as `decide` left it, with the ages of the stream and of the model's state; what else
            the verdict rests on is written here.
    """
    leak(r, limits, row.ts)
    record_limits(r, account, session_id, row)
    r.approved = NOTHING
    breach = loss_breach(limits, account)
    if breach == 0:
        breach = r.account_breach
    # who merely halts keeps what he holds, but not beyond a loss limit
    if breach != 0 and (not r.halted or r.halt_reason == Reason.HALTED.value):
        r.halted = True
        r.halt_reason = breach
        row.action, row.reason_code, row.qty = FLATTEN, breach, abs(account.position)
        return
    if row.action == CANCEL:
        return
    reason = block_reason(r, limits, session_id, row)
    if reason == 0 and row.barred != 0 and not may_pass(account, resting, row):
        reason = row.barred
    if reason != 0 and resting:
        row.action, row.reason_code, row.qty = CANCEL, reason, row.resting_qty
    elif reason != 0:
        hold(row, reason)
    elif row.action == REPLACE:
        approve_replacement(r, limits, account, row)
    elif row.action != HOLD:
        approve_order(r, limits, account, row)
    if row.action != HOLD and row.action != CANCEL:
        give_verdict(r, row)


@kernel
def may_pass(account: Any, resting: bool, row: Any) -> bool:
    """Whether the row's order, and the one that rests, may be in the market while nothing may be opened: they close.

    An order that closes is cut to what is held.
    """
    if resting and not closes(account, row.resting_side, row.resting_qty):
        return False
    if row.action == HOLD:
        return True
    row.qty = min(row.qty, abs(account.position))
    return bool(closes(account, row.side, row.qty))


@kernel
def approve_order(r: Any, limits: Any, account: Any, row: Any) -> None:
    """Let a new order pass at the size that every limit leaves, and charge the buckets for it."""
    reason = limit_reached(r, limits, account, row.side)
    if reason != 0:
        hold(row, reason)
        return
    row.qty = allowed_lots(r, limits, account, row.side, row.qty)
    if row.qty < 1:
        hold(row, Reason.TOO_SMALL.value)
        return
    r.orders += 1.0
    r.minute_lots += row.qty
    r.hour_lots += row.qty


@kernel
def approve_replacement(r: Any, limits: Any, account: Any, row: Any) -> None:
    """Let a resting order be moved or resized as far as every limit leaves, or stay where it is.

    Fewer lots at the same price are always allowed. Anything else is an order as far as the rate goes; what it adds
    to the lots that rest, and were charged when they were posted, is a new order's size. Lots that the position
    limit leaves no room for any more are taken off.
    """
    more = row.qty - row.resting_qty
    if row.px == row.resting_px and more < 0:
        return
    reason = limit_reached(r, limits, account, row.side) if more > 0 else rate_limit_reached(r, limits)
    if reason != 0:
        hold(row, reason)
        return
    added = allowed_lots(r, limits, account, row.side, more) if more > 0 else 0
    most = min(limits.max_position - row.side * account.position, account_room(r, row.side))
    row.qty = min(row.resting_qty + min(more, 0) + max(added, 0), most)
    if row.qty < 1 or (row.px == row.resting_px and row.qty == row.resting_qty):
        hold(row, Reason.TOO_SMALL.value)
        return
    r.orders += 1.0
    r.minute_lots += max(0, row.qty - row.resting_qty)
    r.hour_lots += max(0, row.qty - row.resting_qty)
