"""Position and money of one instrument, kept in integers of ticks and lots where they are integers."""

from typing import Any

from emp.core.jit import kernel


@kernel
def apply_fill(account: Any, side: int, qty: int, px: int, fee: float) -> None:
    """Book a fill.

    Args:
        account: ACCOUNT record.
        side: +1 bought, -1 sold.
        qty: lots, positive.
        px: ticks.
        fee: ticks times lots paid; negative is a rebate.
    """
    account.position += side * qty
    account.cash -= float(side * qty * px)
    account.fees += fee
    account.traded += qty
    account.fills += 1


@kernel
def mark(account: Any, mid2: int, day: int) -> None:
    """Mark to the mid (mid2 = bid + ask, in ticks) and keep the day's start and the run's peak.

    A new trading day starts from the last mark of the day before, so that a gap between days counts as a loss
    or gain of the new day.
    """
    if day != account.day:
        account.day = day
        account.day_start = account.pnl
    account.pnl = account.cash + 0.5 * float(account.position * mid2) - account.fees
    account.peak = max(account.peak, account.pnl)
