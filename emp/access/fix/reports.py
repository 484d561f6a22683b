"""What is known of an order, and how its state, identity and price are read from a report."""

import hashlib

import msgspec

from emp.access.fix.message import Message
from emp.access.fix.text import Scale
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
    "E": OrderStatus.NEW,
}
"""OrdStatus (39); a value that is not here is UNKNOWN."""


class ReplaceOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Change price and quantity of a resting order; the new id names it from then on."""

    cl_ord_id: str
    orig: str
    instrument: str
    side: int
    qty: int
    px: int
    ts: int


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


def fill_price(message: Message, scale: Scale, order: Order, before: tuple[int, float]) -> int:
    """Price of the last fill: 31, else what the average moved by; the order's own where nothing filled."""
    if message.get(31) is not None and scale.lots(message.get(32)) > 0:
        return scale.ticks(message.get(31))
    filled, average = before
    if order.filled > filled and order.average > 0.0:
        return round((order.average * order.filled - average * filled) / (order.filled - filled))
    return order.px


def derived_id(message: Message, tags: tuple[int, ...]) -> str:
    """An execID made of the values of some tags."""
    values = b"\x01".join(message.get(tag) or b"" for tag in tags)
    return "D" + hashlib.sha256(values).hexdigest()[:24]
