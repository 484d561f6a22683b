"""Order entry: what the FIX venue takes as an order or a replacement, and why it refuses everything else."""

from typing import Final

from emp.access.fix.message import Message
from emp.access.fix.text import FieldError, Scale, number, utc_ns
from emp.core.codes import Reason
from emp.core.contracts import NewOrder, Replace

MOST_LOTS: Final = 1_000_000
"""Largest order taken, in lots."""

UNKNOWN_SYMBOL, TOO_LARGE, DUPLICATE, UNSUPPORTED, WRONG_QUANTITY, OTHER = 1, 3, 6, 11, 13, 99
"""OrdRejReason (103)."""

_ONCE = (11, 54, 38, 40, 44, 59, 60, 55, 48, 18)
_IMMEDIATE = {b"3": True, b"0": False, b"1": False, None: False}


class OrderRefused(Exception):  # noqa: N818  the venue's answer, not a failure of ours
    """The order is not taken; `reason` is OrdRejReason (103)."""

    def __init__(self, reason: int, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def read_order(message: Message, instrument: str, scale: Scale | None, *, time_in_force: bool) -> NewOrder:
    """The order that a 35=D asks for, in ticks and lots; OrderRefused with the reason it is not one.

    `scale` is None for a symbol that the venue does not list; without `time_in_force` tag 59 means nothing and
    every order may rest.
    """
    _refuse_repeats(message)
    if not message.text(11):
        raise OrderRefused(OTHER, "ClOrdID (11) is missing")
    if scale is None:
        raise OrderRefused(UNKNOWN_SYMBOL, "unknown symbol")
    side = {b"1": 1, b"2": -1}.get(message.get(54) or b"")
    if side is None:
        raise OrderRefused(UNSUPPORTED, "Side (54) must be 1 or 2")
    if message.get(40) != b"2":
        raise OrderRefused(UNSUPPORTED, "OrdType (40) must be 2: limit orders only")
    if time_in_force and message.get(59) not in _IMMEDIATE:
        raise OrderRefused(UNSUPPORTED, "TimeInForce (59) must be 0, 1 or 3")
    when = utc_ns(message.get(60))
    if when < 0:
        raise OrderRefused(OTHER, "TransactTime (60) is missing or malformed")
    return NewOrder(
        cl_ord_id=message.text(11),
        instrument=instrument,
        side=side,
        qty=_lots(message, scale),
        px=_ticks(message, scale),
        immediate=time_in_force and _IMMEDIATE[message.get(59)],
        ts=when,
        reason=Reason.NO_EDGE,
        decision_seq=0,
    )


def may_take(message: Message, order: NewOrder) -> bool:
    """Whether an order that may rest takes what it crosses: unless ExecInst (18) says post-only (6)."""
    return not order.immediate and b"6" not in (message.get(18) or b"").split(b" ")


def read_replacement(message: Message, order: NewOrder, scale: Scale) -> Replace:
    """The change to `order` that a 35=G asks for; OrderRefused where it is none, or would make it another order.

    Side, type and time may be left out, as some dialects do.
    """
    _refuse_repeats(message)
    if not message.text(11):
        raise OrderRefused(OTHER, "ClOrdID (11) is missing")
    if message.get(54) not in (None, b"1" if order.side > 0 else b"2"):
        raise OrderRefused(OTHER, "Side (54) is not the order's")
    if message.get(40) not in (None, b"2"):
        raise OrderRefused(UNSUPPORTED, "OrdType (40) must be 2: limit orders only")
    return Replace(
        cl_ord_id=message.text(11),
        orig=order.cl_ord_id,
        instrument=order.instrument,
        side=order.side,
        qty=_lots(message, scale),
        px=_ticks(message, scale),
        ts=max(0, utc_ns(message.get(60))),
        reason=Reason.NO_EDGE,
        decision_seq=0,
    )


def _refuse_repeats(message: Message) -> None:
    """Refuse what says one thing twice."""
    twice = next((tag for tag in _ONCE if sum(found == tag for found, _ in message.fields) > 1), 0)
    if twice:
        raise OrderRefused(OTHER, f"tag {twice} appears more than once")


def _lots(message: Message, scale: Scale) -> int:
    """OrderQty (38) in lots."""
    try:
        asked, lots = number(message.get(38)), scale.lots(message.get(38))
    except FieldError:
        asked, lots = None, 0
        if message.get(38) is not None and (message.get(38) or b"").isdigit():
            raise OrderRefused(TOO_LARGE, f"OrderQty (38) is above {MOST_LOTS} lots") from None
    if asked is None:
        raise OrderRefused(WRONG_QUANTITY, "OrderQty (38) is missing or malformed")
    if asked <= 0 or number(scale.qty(lots)) != asked:
        raise OrderRefused(
            WRONG_QUANTITY, f"OrderQty (38) must be a positive multiple of {scale.qty(1).decode()}"
        )
    if lots > MOST_LOTS:
        raise OrderRefused(TOO_LARGE, f"OrderQty (38) is above {MOST_LOTS} lots")
    return lots


def _ticks(message: Message, scale: Scale) -> int:
    """Price (44) in ticks."""
    try:
        asked, ticks = number(message.get(44)), scale.ticks(message.get(44))
    except FieldError:
        asked, ticks = None, 0
    if asked is None:
        raise OrderRefused(OTHER, "Price (44) is missing or malformed")
    if asked <= 0 or number(scale.px(ticks)) != asked:
        raise OrderRefused(
            OTHER, f"Price (44) must be a positive multiple of the tick, {scale.px(1).decode()}"
        )
    return ticks
