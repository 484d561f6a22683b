"""What is known of an order, and how its state, identity and price are read from a report."""

import hashlib
from typing import NamedTuple

import msgspec

from emp.access.fix.message import Message
from emp.access.fix.text import FieldError, Scale, number
from emp.core.codes import OrderStatus

DERIVED = (37, 150, 39, 14, 151, 6, 60)
"""Tags of which an execID is derived."""

STATUS = {
    "0": OrderStatus.NEW,
    "1": OrderStatus.PARTIALLY_FILLED,
    "2": OrderStatus.FILLED,
    "3": OrderStatus.CANCELED,
    "4": OrderStatus.CANCELED,
    "5": OrderStatus.REPLACED,
    "6": OrderStatus.PENDING_CANCEL,
    "7": OrderStatus.CANCELED,
    "8": OrderStatus.REJECTED,
    "A": OrderStatus.PENDING_NEW,
    "C": OrderStatus.EXPIRED,
    "E": OrderStatus.PENDING_REPLACE,
}
"""OrdStatus (39); a value that is not here is UNKNOWN."""


class Order(msgspec.Struct):
    """What is known of one of our orders."""

    instrument: str
    side: int
    px: int
    qty: int
    status: OrderStatus = OrderStatus.PENDING_NEW
    filled: int = 0
    average: float = 0.0  # ticks
    venue_id: str = ""  # 37
    immediate: bool = False


class Figures(NamedTuple):
    """The numbers of a report, in lots and ticks; read before anything is done with any of them."""

    filled: int | None  # CumQty, None where absent
    average: float
    leaves: int
    last_qty: int
    last_px: int | None  # None where absent
    qty: int
    px: int
    fee: float  # ticks times lots


NOTHING = Figures(None, 0.0, 0, 0, None, 0, 0, 0.0)
"""The figures of a report on something that is none of ours."""

CORRECTIONS = frozenset({"G", "H"})
"""ExecTypes (150) that change fills told before: trade correct, trade cancel."""


def read_figures(message: Message, scale: Scale, fee_tag: int) -> Figures:
    """All numbers of a report; FieldError where one is no number, negative, or no whole number of lots.

    The fee is the venue's own field in ticks times lots, else its commission (12, absolute, in money).
    """
    quantities = [scale.lots(message.get(tag)) for tag in (14, 151, 32, 38)]
    if min(quantities) < 0:
        raise FieldError(f"a quantity of {min(quantities)} lots cannot be")
    filled, leaves, last_qty, qty = quantities
    money = number(message.get(fee_tag or 12))
    unit = 1.0 if fee_tag else scale.instrument.tick * scale.instrument.point_value
    return Figures(
        filled=None if message.get(14) is None else filled,
        average=scale.average(message.get(6)),
        leaves=leaves,
        last_qty=last_qty,
        last_px=None if message.get(31) is None else scale.ticks(message.get(31)),
        qty=qty,
        px=scale.ticks(message.get(44)),
        fee=float(money or 0) / unit,
    )


def fill_price(figures: Figures, order: Order, before: tuple[int, float]) -> int:
    """Price of the last fill: 31, else what the average moved by; the order's own where nothing filled."""
    if figures.last_px is not None and figures.last_qty > 0:
        return figures.last_px
    filled, average = before
    if order.filled > filled and order.average > 0.0:
        return round((order.average * order.filled - average * filled) / (order.filled - filled))
    return order.px


def derived_id(message: Message, tags: tuple[int, ...]) -> str:
    """An execID made of the values of some tags."""
    values = b"\x01".join(message.get(tag) or b"" for tag in tags)
    return "D" + hashlib.sha256(values).hexdigest()[:24]
