"""Limits over all instruments of an account, in its currency: exposure, the loss of the day, margin.

What an instrument holds is worth `position x |mid| x unit x rate` in the account's currency: `unit` is money of the
quote currency per tick and lot, `rate` the account's currency per unit of it. Below zero a lot is at stake by the
size of its price; at zero it counts as one tick, so that no limit lets any number of them through. A rate comes from
the mid of an instrument of the run that is the pair of the two, or was told by a control input. Without one, or where
it is older than it may be, nothing is opened that could add risk anywhere.

Orders that open are held below the limits, whatever else may fill meanwhile; prices may carry what is held beyond them.
Beyond `halt_at` times an exposure limit, or beyond the loss of the day, everything is closed.
"""

from typing import Any

import numpy as np

from emp.core.codes import Reason, WorkingState
from emp.core.numba.jit import inlined, kernel
from emp.core.records import Array

NONE = int(WorkingState.NONE)
SAME, TOLD = -2, -1  # EXPOSURE.source: the account's own currency; rates come as control inputs
NO_LIMIT = np.inf
PLENTY = 2**31 - 1
"""Lots that no limit holds below anything."""

PORTFOLIO = np.dtype(
    [
        ("limited", "?"),  # whether there is any limit below
        ("max_gross", "f8"),  # account currency; infinite where there is none
        ("max_net", "f8"),
        ("max_loss", "f8"),  # of the day
        ("halt_at", "f8"),  # multiple of an exposure limit at which everything is closed
        ("margin_level", "f8"),  # least equity over used margin at which anything is opened; 0: no such limit
        ("equity", "f8"),  # account currency, as stated last: by the venue, or by the owner
        ("stated_used", "f8"),  # margin that was used then, by all that the account holds
        ("stated_ns", "i8"),  # when that was; 0: never
        ("margin_max_age_ns", "i8"),  # of a statement
        ("used_then", "f8"),  # what we held to be used at our rates when it came, and what we had earned
        ("pnl_then", "f8"),
        ("gross", "f8"),  # account currency, of what is held
        ("net", "f8"),
        ("day_pnl", "f8"),
        ("pnl", "f8"),  # of the run
        ("used", "f8"),  # margin of what is held and may fill, at our rates
        ("unconverted", "i4"),  # instruments with something at stake and no rate that may be trusted
    ],
    align=True,
)

EXPOSURE = np.dtype(
    [
        ("unit", "f8"),  # quote currency per tick and lot
        ("source", "i4"),  # of the rate: SAME, TOLD, or the index of the instrument whose mid it is
        ("inverse", "?"),  # the account's currency is that instrument's base
        ("scale", "f8"),  # price of one of that instrument's ticks
        ("margin", "f8"),  # share of an exposure that a venue asks as margin; 0 where that is not known
        ("max_age_ns", "i8"),  # of a rate
        ("rate", "f8"),  # account currency per unit of quote currency; 0 before any is known
        ("rate_ts", "i8"),
        ("mid", "f8"),  # ticks, at the instrument's last event; not a number before any
        ("value", "f8"),  # account currency, signed, of what is held
        ("working", "f8"),  # the same of what may still fill
        ("day_pnl", "f8"),
        ("pnl", "f8"),
    ],
    align=True,
)

ROOM = (
    ("room_buy", "i8"),  # lots that may be bought before a limit of the account is reached
    ("room_sell", "i8"),
    ("room_reason", "i4", (2,)),  # which limit that is, buying and selling
    ("account_bar", "i4"),  # Reason for which nothing may be opened; 0 none
    ("account_breach", "i4"),  # Reason for which everything must be closed; 0 none
)
"""Fields of RISK that hold the verdict on an instrument."""


def new_portfolio() -> Array:
    """PORTFOLIO[1] without a limit."""
    folio = np.zeros(1, PORTFOLIO)
    for name in ("max_gross", "max_net", "max_loss"):
        folio[name] = NO_LIMIT
    folio["halt_at"] = 1.0
    return folio


def new_exposures(n: int) -> Array:
    """EXPOSURE[n] in the account's own currency."""
    exposures = np.zeros(n, EXPOSURE)
    exposures["source"], exposures["unit"], exposures["rate"], exposures["mid"] = SAME, 1.0, 1.0, np.nan
    return exposures


@kernel
def note_rates(exposures: Any, i: int, mid: float, ts: int) -> None:
    """Take rates from the mid (ticks) of instrument `i`."""
    for j in range(exposures.size):
        if exposures[j].source == i and mid > 0.0:
            price = mid * exposures[j].scale
            exposures[j].rate = 1.0 / price if exposures[j].inverse else price
            exposures[j].rate_ts = ts


@inlined
def lot_worth(x: Any) -> float:
    """Account currency that a lot counts as; 0 before a price and a rate are known."""
    if np.isnan(x.mid):
        return 0.0
    return float(max(abs(x.mid), 1.0) * x.unit * x.rate)


@kernel
def value(x: Any, account: Any, working: Any) -> None:
    """Convert what an instrument holds, what may still fill and the day's gain; at the last rate that was known."""
    lot = lot_worth(x)
    x.value = account.position * lot
    x.working = working.side * working.leaves * lot if working.state != NONE else 0.0
    x.day_pnl = (account.pnl - account.day_start) * x.unit * x.rate
    x.pnl = account.pnl * x.unit * x.rate


@kernel
def is_converted(x: Any, ts: int) -> bool:
    """Whether an instrument's rate may be trusted at `ts`."""
    return bool(x.source == SAME or (x.rate > 0.0 and ts - x.rate_ts <= x.max_age_ns))


@kernel
def at_stake(account: Any, working: Any) -> bool:
    """Whether an instrument's rate matters to the account's sums."""
    return bool(account.position != 0 or working.state != NONE or account.pnl != account.day_start)


@kernel
def worst(x: Any) -> float:
    """The largest exposure of an instrument, whether or not what works fills."""
    return max(abs(x.value), abs(x.value + x.working))


@kernel
def watch_portfolio(
    folio: Any, exposures: Any, accounts: Any, workings: Any, i: int, mid: float, ts: int, r: Any
) -> None:
    """Value the account at an event of instrument `i`, and write into its RISK record how much may be opened.

    Args:
        folio: PORTFOLIO record.
        exposures, accounts, workings: EXPOSURE[n], ACCOUNT[n], WORKING[n].
        i: the instrument of the event; its account is marked to it.
        mid: ticks.
        ts: of the event, ns.
        r: RISK record of the instrument.
    """
    note_rates(exposures, i, mid, ts)
    exposures[i].mid = mid
    folio.gross = folio.net = folio.day_pnl = folio.pnl = folio.used = 0.0
    folio.unconverted = 0
    others, buys, sells = 0.0, 0.0, 0.0
    for j in range(exposures.size):
        x = exposures[j]
        value(x, accounts[j], workings[j])
        folio.gross += abs(x.value)
        folio.net += x.value
        folio.day_pnl += x.day_pnl
        folio.pnl += x.pnl
        folio.used += worst(x) * x.margin
        # since the start: nobody knows what it is worth
        unseen = np.isnan(x.mid) and accounts[j].position != 0
        if unseen or (at_stake(accounts[j], workings[j]) and not is_converted(x, ts)):
            folio.unconverted += 1
        if j != i:
            others += worst(x)
            buys += x.value + max(0.0, x.working)
            sells += x.value + min(0.0, x.working)
    r.account_breach = breach(folio)
    r.account_bar = 0
    if folio.unconverted > 0 or not is_converted(exposures[i], ts):
        r.account_bar = Reason.NO_RATE.value
    elif not knows_margin(folio, exposures[i], ts):
        r.account_bar = Reason.MARGIN.value
    lot = lot_worth(exposures[i])
    held = accounts[i].position
    free = free_margin(folio) + worst(exposures[i]) * exposures[i].margin
    r.room_buy = room(folio, others, buys, lot, held, free, exposures[i].margin, r.room_reason, 0)
    r.room_sell = room(folio, others, -sells, lot, -held, free, exposures[i].margin, r.room_reason, 1)


@kernel
def knows_margin(folio: Any, x: Any, ts: int) -> bool:
    """Whether it is known what an instrument's lots ask as margin, and how much is used, as far as there is a limit."""
    return bool(
        folio.margin_level <= 0.0
        or (x.margin > 0.0 and folio.stated_ns != 0 and ts - folio.stated_ns <= folio.margin_max_age_ns)
    )


@kernel
def free_margin(folio: Any) -> float:
    """Margin that may still be used, account currency: of the equity at the level that must stay, less what is used.

    What was stated last is carried on by what we have earned, and come to use at our rates, since then; so nothing that
    we open between two statements is forgotten. Infinite where there is no limit.
    """
    if folio.margin_level <= 0.0:
        return NO_LIMIT
    equity = folio.equity + folio.pnl - folio.pnl_then
    used = folio.stated_used + folio.used - folio.used_then
    return float(max(0.0, equity) / folio.margin_level - used)


@kernel
def breach(folio: Any) -> int:
    """The limit of the account that is passed, as a Reason; 0 where none."""
    if folio.day_pnl < -folio.max_loss:
        return Reason.ACCOUNT_LOSS.value
    if folio.gross > folio.halt_at * folio.max_gross:
        return Reason.GROSS_EXPOSURE.value
    if abs(folio.net) > folio.halt_at * folio.max_net:
        return Reason.NET_EXPOSURE.value
    return 0


@kernel
def room(
    folio: Any,
    others: float,
    net: float,
    lot: float,
    held: int,
    free: float,
    margin: float,
    reasons: Any,
    which: int,
) -> int:
    """Lots that may be added on a side, and which limit says so; what closes is never barred.

    Args:
        folio: PORTFOLIO record.
        others: gross exposure of the other instruments at worst.
        net: their net exposure on this side at worst: positive where it already leans to it.
        lot: account currency per lot.
        held: lots, positive where they are on this side.
        free: margin that is left, without what this instrument uses.
        margin: share of an exposure that is asked.
        reasons: receives the Reason at `which`.
        which: 0 buying, 1 selling.
    """
    if lot <= 0.0:
        reasons[which] = Reason.NO_RATE.value
        return max(0, -held)
    gross_lots = (folio.max_gross - others) / lot
    net_lots = (folio.max_net - net) / lot
    lots = min(gross_lots, net_lots)
    reasons[which] = Reason.GROSS_EXPOSURE.value if gross_lots <= net_lots else Reason.NET_EXPOSURE.value
    if margin > 0.0 and max(0.0, free) / (margin * lot) < lots:
        lots = max(0.0, free) / (margin * lot)
        reasons[which] = Reason.MARGIN.value
    # `lots` is how much may stand on this side in all; a sum in money may miss a whole lot by a rounding
    left = np.floor(min(lots, 2.0 * PLENTY) + 1e-9) - held
    return int(min(max(left, -held, 0.0), PLENTY))
