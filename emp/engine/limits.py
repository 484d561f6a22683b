"""The owner's limits, and the records of them that the compiled step reads."""

from collections.abc import Sequence

import msgspec
import numpy as np

from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.core.sessions import session_table
from emp.decision.rule import COSTS
from emp.engine.breakers import BreakerLimits
from emp.engine.desk import Desk, new_desk, pad_sessions
from emp.engine.portfolio import AccountLimits, exposure_records, portfolio_record
from emp.risk.limits import LIMITS

DAY_NS = 86_400_000_000_000
CALENDAR_DAYS = 35
"""Days of trading calendar laid out ahead; when events run past them, the next are added."""


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The owner's limits, per instrument; money in ticks times lots."""

    max_position_lots: int = 10
    max_order_lots: int = 5
    max_daily_loss: float = 2_000.0
    max_drawdown: float = 2_000.0
    orders_per_minute: float = 120.0
    turnover_per_minute: float = 200.0
    turnover_per_hour: float = 4_000.0
    stale_after_ns: int = 5_000_000_000
    depth_share: float = 0.02
    order_timeout_ns: int = 2_000_000_000
    warmup_events: int = 0  # at least; the model may ask for more
    cooldown_events: int = 0
    state_ttl_ns: int = 60_000_000_000
    breakers: BreakerLimits = BreakerLimits()
    account: AccountLimits = AccountLimits()


def fresh_desk(instruments: Sequence[Instrument], limits: EngineLimits) -> Desk:
    """A desk with the owner's limits, and no model behind it yet."""
    return new_desk(
        instruments,
        [session_table(i, 0, DAY_NS) for i in instruments],
        limits.state_ttl_ns,
        limit_records(limits, len(instruments)),
        cost_records(instruments, limits),
        portfolio_record(limits.account),
        exposure_records(instruments, limits.account),
    )


def lay_out_calendar(desk: Desk, instruments: Sequence[Instrument], first_ns: int, last_ns: int) -> Desk:
    """The same desk with trading calendars that cover events from `first_ns` to CALENDAR_DAYS after `last_ns`."""
    end_ns = last_ns + CALENDAR_DAYS * DAY_NS
    tables = [session_table(i, first_ns - DAY_NS, end_ns) for i in instruments]
    desk.facts["calendar_end_ns"] = end_ns
    np.minimum(desk.perception["session_row"], 0, out=desk.perception["session_row"])
    return desk._replace(sessions=pad_sessions(tables))


def limit_records(limits: EngineLimits, n: int) -> Array:
    """LIMITS[n] from the owner's limits; the burn-in is the model's to add."""
    records = np.zeros(n, LIMITS)
    records["max_position"] = limits.max_position_lots
    records["max_daily_loss"] = limits.max_daily_loss
    records["max_drawdown"] = limits.max_drawdown
    records["orders_per_minute"] = limits.orders_per_minute
    records["turnover_per_minute"] = limits.turnover_per_minute
    records["turnover_per_hour"] = limits.turnover_per_hour
    records["stale_after_ns"] = limits.stale_after_ns
    records["cooldown_events"] = limits.cooldown_events
    return records


def cost_records(instruments: Sequence[Instrument], limits: EngineLimits) -> Array:
    """COSTS[n] from the instruments' facts and the owner's limits; k of sigma is the model's to add."""
    records = np.zeros(len(instruments), COSTS)
    records["taker_fee"] = [i.taker_fee for i in instruments]
    records["maker_fee"] = [i.maker_fee for i in instruments]
    records["max_order"] = limits.max_order_lots
    records["max_position"] = limits.max_position_lots
    records["depth_share"] = limits.depth_share
    return records
