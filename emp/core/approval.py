"""What may be sent: orders that risk has approved, and what can only withdraw or ask.

An intent is a `NewOrder` or a `Replace`: anybody may make one, and nobody may send it. `emp.risk.approval` alone turns
intents into `Approved` ones; every access takes those and refuses the rest.
"""

from collections.abc import Callable
from typing import NoReturn, final

from emp.core.contracts import CancelOrder, Command, NewOrder, QueryOrder, Replace

Intent = NewOrder | Replace
"""An order, or a change of one, that somebody would like to send."""

_SEAL = object()


@final
class Approved:
    """An intent that risk has approved; it cannot be made, changed or derived outside `emp.risk.approval`.

    Attributes:
        intent: what was approved.
        closing: whether it can only make a position smaller: made on the way to flat, which nothing bars.
    """

    __slots__ = ("closing", "intent")

    intent: Intent
    closing: bool

    def __init__(self, seal: object, intent: Intent, *, closing: bool) -> None:
        if seal is not _SEAL:
            raise TypeError("an approved order is made by emp.risk.approval alone")
        object.__setattr__(self, "intent", intent)
        object.__setattr__(self, "closing", closing)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an approved order does not change ({name})")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("an approved order has no other kinds")

    def __repr__(self) -> str:
        return f"Approved({self.intent!r}, closing={self.closing})"


Cleared = Approved | CancelOrder | QueryOrder
"""What may be sent: an approved order, or what adds no risk and needs no approval."""

Approve = Callable[[Intent, bool], Approved]

_claimed = False


def claim() -> Approve:
    """The one way to make approved orders: (intent, closing) -> Approved. RuntimeError where it is claimed already;
    `emp.risk.approval` claims it when it is imported.
    """
    global _claimed
    if _claimed:
        raise RuntimeError("approval of orders is claimed already: emp.risk.approval alone approves")
    _claimed = True
    return lambda intent, closing: Approved(_SEAL, intent, closing=closing)


def command_of(cleared: Cleared) -> Command:
    """The command inside; TypeError for anything that risk has not approved, before a byte of it leaves."""
    if isinstance(cleared, Approved):
        return cleared.intent
    if isinstance(cleared, CancelOrder | QueryOrder):
        return cleared
    raise TypeError(f"not approved by risk, not sent: {cleared!r}")
