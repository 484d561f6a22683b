"""Rolls as the engine books them: inputs that are recorded before they are applied, so that a restart and a replay do
the same (`Control`: `terms`, `roll`, `finance`).
"""

import msgspec

from emp.core.contracts import Control
from emp.core.records import Array

FINANCING_ACTIONS = frozenset({"terms", "roll", "finance"})

FINANCING_NOTE = "financing"
"""Kind of the ledger's note of what a roll has brought or cost: `lots` held, `received` ticks times lots."""

_TERMS = {"long": "rate_long", "short": "rate_short", "minute": "at_minute", "triple": "triple"}


class Received(msgspec.Struct, frozen=True):
    """What a roll has brought; what it has cost is below 0."""

    instrument: int  # index
    lots: int  # signed, as held
    ticks: float  # times lots
    ts: int  # of the roll


def take_financing(financing: Array, account: Array, control: Control) -> float:
    """Apply one input to the FINANCING[1] and ACCOUNT[1] of its instrument; what was received, ticks times lots."""
    if control.action == "terms":
        financing[_TERMS[control.reason]] = control.value
        financing["told"] = False
    elif control.action == "roll":
        financing["roll_ns"], financing["told"] = control.ts, control.reason == "long"  # which comes last
        financing[control.reason] = control.value
    elif control.action == "finance":
        received = book_roll(account, float(financing["long"][0]), float(financing["short"][0]))
        financing["roll_ns"], financing["told"] = 0, False
        return received
    return 0.0


def book_roll(account: Array, long: float, short: float) -> float:
    """Let what an ACCOUNT[1] holds receive `long` or `short` ticks a lot; what it came to, ticks times lots."""
    lots = int(account["position"][0])
    received = lots * long if lots > 0 else -lots * short
    account["financing"] += received
    return received
