"""Money and position of one instrument: compiled, because the hot path marks them at every event."""

from typing import Any

from emp.core.numba.jit import kernel


@kernel
def apply_fill(account: Any, side: int, qty: int, px: int, fee: float) -> None:
    """Book a fill into an ACCOUNT record; `pnl` follows at the next mark.

    `side` is +1 for a buy, -1 for a sell; `qty` lots > 0; `px` in ticks; `fee` in ticks times lots.
    """
    account.position += side * qty
    account.cash -= side * qty * px
    account.fees += fee
    account.traded += qty
    account.fills += 1


@kernel
def correct_fill(account: Any, side: int, qty: int, px_from: float, px_to: int, fee: float) -> None:
    """Book that `qty` lots, booked at `px_from` before, were a fill of their own at `px_to` with this fee."""
    account.cash += side * qty * (px_from - px_to)
    account.fees += fee
    account.fills += 1


@kernel
def mark(account: Any, mid2: int, day: int) -> None:
    """Mark an ACCOUNT record to the mid; `mid2` is bid + ask in ticks, `day` the trading day's number.

    A new day starts from its own first mark: what a position that is held over night gains or loses in between belongs
    to no day's loss limit. It is added up in `overnight`, and the drawdown limit sees it at once. An earlier day than
    the last is none: a clock that was ahead would forget the day's loss once more when it is set right.
    """
    before = account.pnl
    account.pnl = account.cash + account.position * (0.5 * mid2) - account.fees + account.financing
    if day != account.day and (account.day == 0 or day > account.day):
        account.day_start = before
        if account.day != 0:
            account.overnight += account.pnl - before
            account.day_start = account.pnl
        account.day = day
    if account.pnl > account.peak:
        account.peak = account.pnl
