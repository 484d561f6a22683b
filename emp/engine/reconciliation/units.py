"""What a tick and a lot of an instrument are may change between two runs of an account: what is counted in them must
not be read as counted in others.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from emp.core.errors import UsageError
from emp.core.instrument import Instrument
from emp.journal.account_file import Carried, Claimed

UNITS = ("tick", "lot", "point_value")
"""Fields of an instrument that ledger rows are counted in."""


def changed_units(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which units of an instrument's facts are not what they were, in words; "" where all are, or nobody told them."""
    told = [(name, before[name], now[name]) for name in UNITS if name in before]
    return ", ".join(
        f"{name.replace('_', ' ')} {was:g}, now {to:g}" for name, was, to in told if was and was != to
    )


def in_units(state: Carried, one: Instrument) -> Carried:
    """What an account's run has left of an instrument, counted in the ticks and lots of now. What outcomes have earned
    is in ticks of before, and begins anew.

    Raises UsageError where what is held is no whole number of lots now.
    """
    if not state.tick or all(getattr(state, name) == getattr(one, name) for name in UNITS):
        return state
    money = state.tick * state.point_value / (one.tick * one.point_value)
    lots = state.position * state.lot / one.lot
    if abs(lots - round(lots)) > 1e-9:
        raise UsageError(
            f"{one.name}: {state.position:+d} lots of {state.lot:g} are held, and a lot is {one.lot:g} now: that is no"
            " whole number of them; close the position with the catalogue as it was (`emp run --flat`)"
        )
    return msgspec.structs.replace(
        state,
        claims=_claims_in_units(state, one, money),
        position=round(lots),
        value=state.value * money,
        day_pnl=state.day_pnl * money,
        drawdown=state.drawdown * money,
        price=state.price * state.tick / one.tick,
        tick=one.tick,
        lot=one.lot,
        point_value=one.point_value,
        earned={},
    )


def _claims_in_units(state: Carried, one: Instrument, money: float) -> list[Claimed]:
    """Claims in lots and ticks of now; none where they are no whole numbers: then the market says what they cost."""
    lot, tick = state.lot / one.lot, state.tick / one.tick
    counted = [n for claim in state.claims for n in (claim.qty * lot, claim.filled * lot, claim.px * tick)]
    if any(abs(n - round(n)) > 1e-9 * max(1.0, abs(n)) for n in counted):
        return []
    return [
        msgspec.structs.replace(
            claim,
            qty=round(claim.qty * lot),
            filled=round(claim.filled * lot),
            px=round(claim.px * tick),
            fee=claim.fee * money,
        )
        for claim in state.claims
    ]
