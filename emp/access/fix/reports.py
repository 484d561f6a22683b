"""What is known of an order, and how its state, identity and price are read from a report."""

import hashlib
import math
from typing import NamedTuple

import msgspec

from emp.access.fix.message import Message, readable
from emp.access.fix.text import FieldError, Scale, number
from emp.core.codes import AssetClass, OrderStatus

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
    average: float = 0.0  # ticks; NaN where fills were told without any
    venue_id: str = ""  # 37
    immediate: bool = False
    fills: dict[str, tuple[int, int]] = {}  # execID -> (lots, ticks) of the fills told one by one
    disputed: bool = False  # a report on it could not be used: what the venue says next is what stands
    fresh_px: int = 0  # ticks, of what filled by its newest report; 0 where that told no price of a fill


class Figures(NamedTuple):
    """The numbers of a report, in lots and ticks; read before anything is done with any of them."""

    filled: int | None  # CumQty, None where absent
    average: float  # NaN where the report gives none
    leaves: int
    last_qty: int
    last_px: int | None  # None where absent
    qty: int
    px: int
    fee: float  # ticks times lots


NOTHING = Figures(None, math.nan, 0, 0, None, 0, 0, 0.0)
"""The figures of a report on something that is none of ours."""

CORRECTIONS = frozenset({"G", "H"})
"""ExecTypes (150) that change fills told before: trade correct, trade cancel."""


def require_what_counts(message: Message) -> None:
    """FieldError where a report does not say what happened: without ExecType (150), OrdStatus (39), or, where
    something has filled, CumQty (14).
    """
    missing = [tag for tag in (150, 39) if message.get(tag) is None]
    if message.text(150) not in CORRECTIONS and message.get(14) is None:
        missing += [14] * (message.text(39) in ("1", "2") or message.text(150) == "F")
    if missing:
        raise FieldError(f"a report without {', '.join(f'tag {tag}' for tag in missing)}")


def read_figures(message: Message, scale: Scale, fee_tag: int) -> Figures:
    """All numbers of a report; FieldError where one is no number, no whole number of lots, or cannot be.

    Quantities are never negative, and prices only those of spreads between futures. A fill at 0 cannot be either; an
    average of 0 of lots that have filled is what some send who do not know it, and as good as none. The fee is the
    venue's own field in ticks times lots, else its commission (12, absolute, in money).
    """
    quantities = [scale.lots(message.get(tag)) for tag in (14, 151, 32, 38)]
    if min(quantities) < 0:
        raise FieldError(f"a quantity of {min(quantities)} lots cannot be")
    filled, leaves, last_qty, qty = quantities
    average = math.nan if message.get(6) is None else scale.average(message.get(6))
    last_px = None if message.get(31) is None else scale.ticks(message.get(31))
    px = scale.ticks(message.get(44))
    if scale.instrument.asset_class is not AssetClass.FX_FUT:
        if min(px, last_px or 0) < 0 or average < 0 or (last_px == 0 and last_qty > 0):
            raise FieldError(f"a price of {readable(message.get(31) or message.get(6) or b'')} cannot be")
        if filled and average == 0.0:
            average = math.nan
    money = number(message.get(fee_tag or 12))
    unit = 1.0 if fee_tag else scale.instrument.tick * scale.instrument.point_value
    return Figures(
        filled=None if message.get(14) is None else filled,
        average=average,
        leaves=leaves,
        last_qty=last_qty,
        last_px=last_px,
        qty=qty,
        px=px,
        fee=float(money or 0) / unit,
    )


def told_price(figures: Figures, order: Order, before: tuple[int, float]) -> int | None:
    """Price of what filled since `before`, in whole ticks: 31 where it is of all of that, else what the average
    moved by; None where nothing filled, or neither is told.
    """
    more = order.filled - before[0]
    moved = more > 0 and math.isfinite(_moved(order, before))
    if figures.last_px is not None and figures.last_qty > 0 and not (moved and figures.last_qty != more):
        return figures.last_px
    return round(_moved(order, before)) if moved else None


def splits(message: Message, figures: Figures, order: Order, before: tuple[int, float], tick: float) -> bool:
    """Whether what filled since `before` had several prices, so that no whole number of ticks says its cost.

    That is: by more than the digits of AvgPx (6) explain.
    """
    more = order.filled - before[0]
    if math.isnan(
        before[1]
    ):  # what a report without an average left open is settled by the next that has one
        return not math.isnan(order.average)
    if more <= 0 or math.isnan(order.average) or (figures.last_px is not None and figures.last_qty == more):
        return False
    exact = _moved(order, before)
    return abs(exact - round(exact)) > _blur(message, order, more, tick)


def sharp_price(
    message: Message, figures: Figures, order: Order, before: tuple[int, float], tick: float
) -> int:
    """LastPx (31) of what has just filled (32), else what the average moved by, where the digits of AvgPx (6) leave no
    more than a hundredth of that open; 0 where neither tells it.
    """
    if figures.last_px is not None and figures.last_qty > 0:
        return figures.last_px
    px, more = told_price(figures, order, before), order.filled - before[0]
    if px is None or _blur(message, order, more, tick) > abs(px) / 100:
        return 0
    return px


def _blur(message: Message, order: Order, more: int, tick: float) -> float:
    """How many ticks the digits of AvgPx (6) leave open in the price of the `more` lots that filled last."""
    digits = len((message.get(6) or b"").partition(b".")[2])
    return 10.0**-digits / tick * order.filled / more


def _moved(order: Order, before: tuple[int, float]) -> float:
    """Price per lot of what filled since `before`, by how CumQty and AvgPx moved."""
    filled, average = before
    return (order.average * order.filled - average * filled) / (order.filled - filled)


def average_after(figures: Figures, filled: int, average: float) -> float:
    """AvgPx in ticks of an order that had `filled` lots at `average` before this report.

    Where the report gives none (6), it follows from the fill that it tells; NaN where that is not all that is new.
    """
    if not figures.filled:
        return 0.0
    if not math.isnan(figures.average):
        return figures.average
    more = figures.filled - filled
    if more == 0:
        return average
    if figures.last_px is None or figures.last_qty != more:
        return math.nan
    return (filled * average + more * figures.last_px) / figures.filled if filled else float(figures.last_px)


def note_fill(order: Order, message: Message, figures: Figures) -> None:
    """Remember a fill by its execID, for one that takes it back; one that a trade correction replaces is forgotten."""
    kind, name = message.text(150), message.text(17)
    if kind in CORRECTIONS:
        order.fills.pop(message.text(19), None)
    if kind not in ("H", "I") and name and figures.last_qty > 0 and figures.last_px is not None:
        order.fills[name] = figures.last_qty, figures.last_px


def stands(order: Order | None, message: Message, figures: Figures) -> Figures:
    """The figures of a trade cancelled or corrected (150=H, G), with the CumQty and AvgPx that stand after it.

    Where the venue does not give both, they follow from the fill that ExecRefID (19) names. FieldError where that
    is none that is known, or where a correction does not say by what.
    """
    filled, average = figures.filled, figures.average
    if filled is None or math.isnan(average):
        if order is None or message.text(19) not in order.fills:
            raise FieldError(
                "a cancelled or corrected trade without CumQty (14) and AvgPx (6), on no fill that is known (19)"
            )
        filled, average = _without(order, message, figures)
    leaves = figures.leaves
    if message.get(151) is None and order is not None and not order.status.terminal:
        leaves = max(0, order.qty - filled)
    return figures._replace(filled=filled, average=average, leaves=leaves)


def _without(order: Order, message: Message, figures: Figures) -> tuple[int, float]:
    """(filled, average) where the fill that 19 names is gone, or is another (31, 32)."""
    lots, px = order.fills[message.text(19)]
    told = sum(qty for qty, _ in order.fills.values()) == order.filled
    cost = sum(qty * at for qty, at in order.fills.values()) if told else order.average * order.filled
    if math.isnan(cost):
        raise FieldError("a cancelled or corrected trade of an order whose cost was never told")
    filled, cost = order.filled - lots, cost - lots * px
    if message.text(150) == "G":
        if figures.last_px is None or figures.last_qty <= 0:
            raise FieldError(
                "a corrected trade without CumQty (14) and AvgPx (6), LastQty (32) and LastPx (31)"
            )
        filled, cost = filled + figures.last_qty, cost + figures.last_qty * figures.last_px
    if filled < 0 or (figures.filled is not None and figures.filled != filled):
        raise FieldError(f"{figures.filled} lots do not stand after a trade of {lots} of {order.filled}")
    return filled, cost / filled if filled else 0.0


def derived_id(message: Message, tags: tuple[int, ...]) -> str:
    """An execID made of the values of some tags."""
    values = b"\x01".join(message.get(tag) or b"" for tag in tags)
    return "D" + hashlib.sha256(values).hexdigest()[:24]
