"""What a breach of risk says: which limit was passed, by what, or whose word stopped the trading."""

from emp.core.codes import Reason
from emp.core.contracts import Control, OrderUpdate, RiskBreach
from emp.core.records import Array
from emp.engine.desk import Desk
from emp.engine.limits import EngineLimits

BREACHES = frozenset({Reason.ACCOUNT_LOSS, Reason.GROSS_EXPOSURE, Reason.NET_EXPOSURE})
"""Reasons for which everything is closed, not one instrument alone."""


def limit_breach(
    desk: Desk, limits: EngineLimits, i: int, instrument: str, reason: Reason, ts: int
) -> RiskBreach:
    """The limit of instrument `i`, or of the account, for which the compiled step asked to flatten."""
    if reason in BREACHES:
        return account_breach(desk.portfolio, reason, ts)
    account = desk.account[i]
    daily = reason is Reason.DAILY_LOSS
    return RiskBreach(
        reason=reason.name.lower(),
        metric="daily_pnl" if daily else "drawdown" if reason is Reason.DRAWDOWN else "pnl",
        value=float(account["pnl"] - (account["day_start"] if daily else account["peak"])),
        limit=-(limits.max_daily_loss if daily else limits.max_drawdown),
        ts=ts,
        instrument=instrument,
    )


def account_breach(folio: Array, reason: Reason, ts: int) -> RiskBreach:
    """What has been passed, of PORTFOLIO[1]."""
    metric, value, limit = {
        Reason.ACCOUNT_LOSS: ("account_daily_pnl", "day_pnl", -float(folio["max_loss"][0])),
        Reason.GROSS_EXPOSURE: (
            "gross_exposure",
            "gross",
            float(folio["halt_at"][0] * folio["max_gross"][0]),
        ),
        Reason.NET_EXPOSURE: ("net_exposure", "net", float(folio["halt_at"][0] * folio["max_net"][0])),
    }[reason]
    return RiskBreach(
        reason=reason.name.lower(), metric=metric, value=float(folio[value][0]), limit=limit, ts=ts
    )


def kill_breach(control: Control) -> RiskBreach:
    """The kill switch was pulled from outside."""
    return RiskBreach(
        reason=control.reason,
        metric="kill_switch",
        value=1.0,
        limit=0.0,
        ts=control.ts,
        instrument=control.instrument,
    )


def position_breach(instrument: str, lots: int, ts: int) -> RiskBreach:
    """The venue holds lots that no order of ours explains."""
    return RiskBreach(
        reason="position_differs",
        metric="position",
        value=float(lots),
        limit=0.0,
        ts=ts,
        instrument=instrument,
    )


def order_breach(reason: str, update: OrderUpdate) -> RiskBreach:
    """A report that cannot be true of the order that it names."""
    return RiskBreach(
        reason=reason,
        metric="order_state",
        value=float(update.filled),
        limit=0.0,
        ts=update.ts,
        instrument=update.instrument,
    )
