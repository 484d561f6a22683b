"""Limits over all instruments of an account as the compiled step has them: what is worth what, and which rate it takes.

Prices of an instrument are in the last of its currencies. Its rate into the account's is 1 where that is the same, else
the mid of an instrument of the run that is the spot pair of the two, else what a control input (`rate`) tells.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from emp.core.codes import AssetClass
from emp.core.contracts import Control
from emp.core.errors import UsageError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.risk.portfolio import NO_LIMIT, TOLD, lot_worth, new_exposures, new_portfolio

FOREVER_NS = np.iinfo(np.int64).max


class AccountLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The owner's limits over all instruments, in the account's currency; 0 is no limit."""

    currency: str = ""
    max_gross: float = 0.0
    max_net: float = 0.0
    max_daily_loss: float = 0.0
    halt_at: float = 1.25  # multiple of an exposure limit at which everything is closed
    rate_max_age_ns: int = 3_600_000_000_000
    min_margin_level: float = 0.0  # least equity over used margin at which anything is opened
    equity: float = 0.0  # at the start, where no venue states it; 0: the venue must
    margin_max_age_ns: int = 60_000_000_000  # after which what a venue stated says nothing

    @property
    def any(self) -> bool:
        """Whether there is a limit."""
        return bool(self.max_gross or self.max_net or self.max_daily_loss or self.min_margin_level)


def portfolio_record(limits: AccountLimits) -> Array:
    """PORTFOLIO[1] of the limits."""
    folio = new_portfolio()
    folio["limited"], folio["halt_at"] = limits.any, limits.halt_at
    for name in ("max_gross", "max_net"):
        folio[name] = getattr(limits, name) or NO_LIMIT
    folio["max_loss"] = limits.max_daily_loss or NO_LIMIT
    folio["margin_level"], folio["equity"] = limits.min_margin_level, limits.equity
    folio["margin_max_age_ns"] = limits.margin_max_age_ns
    if limits.equity:  # nobody states it again: it is true for ever, but for what we earn and use
        folio["stated_ns"], folio["margin_max_age_ns"] = 1, FOREVER_NS
    return folio


def exposure_records(instruments: Sequence[Instrument], limits: AccountLimits) -> Array:
    """EXPOSURE[n] of the instruments; UsageError where nothing says in which money one's prices are."""
    exposures = new_exposures(len(instruments))
    if not limits.any:
        return exposures
    for x, one in zip(exposures, instruments, strict=True):
        quote = quote_currency(one)
        x["unit"], x["max_age_ns"] = one.tick * one.point_value, limits.rate_max_age_ns
        x["margin"] = one.margin
        if quote == limits.currency:
            continue
        x["source"], x["rate"] = TOLD, 0.0
        for j, other in enumerate(instruments):
            if _is_pair(other, quote, limits.currency):
                x["source"], x["scale"] = j, other.tick
                x["inverse"] = other.currencies[0] == limits.currency
                break
    return exposures


def quote_currency(one: Instrument) -> str:
    """The money that an instrument's prices are in."""
    if not one.currencies:
        raise UsageError(
            f"limits of the account: nothing says in which money prices of {one.name} are: give its 'currencies' in a"
            " catalogue, that one last"
        )
    return one.currencies[-1]


def _is_pair(one: Instrument, a: str, b: str) -> bool:
    return one.asset_class is AssetClass.FX_SPOT and one.currencies in ((a, b), (b, a))


def needs_rates(instruments: Sequence[Instrument], exposures: Array) -> tuple[str, ...]:
    """Currencies whose rates must be told."""
    told = np.flatnonzero(exposures["source"] == TOLD)
    return tuple(dict.fromkeys(quote_currency(instruments[i]) for i in told))


def tell_rate(
    instruments: Sequence[Instrument], exposures: Array, currency: str, rate: float, ts: int
) -> None:
    """Take a rate that was told: the account's currency per unit of another."""
    for x, one in zip(exposures, instruments, strict=True):
        if x["source"] == TOLD and quote_currency(one) == currency:
            x["rate"], x["rate_ts"] = rate, ts


def state_margin(instruments: Sequence[Instrument], folio: Array, exposures: Array, control: Control) -> None:
    """Take what a venue states of margin: a control input `margin`, whose `reason` says what its value is.

    `lot`: what a lot of an instrument asks, in the account's currency, at its newest mid; without one it is not taken.
    `equity`, then `used`: of the whole account; `used` completes the statement.
    """
    if control.reason == "lot":
        for x, one in zip(exposures, instruments, strict=True):
            lot = lot_worth(x)
            if one.name == control.instrument and lot > 0.0:
                x["margin"] = control.value / lot
    elif control.reason == "equity":
        folio["equity"] = control.value
    elif control.reason == "used":
        folio["stated_used"], folio["stated_ns"] = control.value, max(1, control.ts)
        folio["used_then"], folio["pnl_then"] = folio["used"], folio["pnl"]
