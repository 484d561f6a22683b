"""What our lots were believed to bring beside what they brought (D.1; design, beliefs and outcomes).

A lot is held from its fill until the fill that closes it; the lots of one side share their mean price, belief and time.
Its outcome, in ticks, is all it brought: both prices, both fees. Its belief is what the rule gave for its order at the
last decision before it filled. A round trip goes from flat to flat: when it begins nobody can know its sum, so round
trips, not lots, are what a test may bet on.
"""

from typing import Any

import numpy as np

from emp.core.codes import Action, Reason
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.decision.kinds import (
    KIND,
    KINDS,
    PLACED,
    close_kinds,
    drop_open_kinds,
    end_kinds,
    finance_kinds,
    open_kinds,
    place,
)
from emp.decision.standing import worth
from emp.decision.student import student_quantile

CROSS, POST, REPLACE = int(Action.CROSS), int(Action.POST), int(Action.REPLACE)
KEEP_RESTING, PLANNED = int(Reason.KEEP_RESTING), int(Reason.PLANNED)

TRIP = np.dtype([("lots", "f8"), ("brought", "f8"), ("believed", "f8")], align=True)
"""Sums over the closed lots of a round trip: ticks times lots, and lots."""

LOTS = np.dtype(
    [
        ("position", "i8"),  # lots, signed, as the account last said
        ("cash", "f8"),
        ("fees", "f8"),
        ("financing", "f8"),
        ("entry", "f8"),  # mean price of the open lots, their fees on top, less what rolls have brought
        ("belief", "f8"),  # mean value believed of them
        ("since", "f8"),  # mean time of their fills, ns
        ("value", "f8"),  # of the order at work, as last believed
        ("moved", "i8"),  # lots, signed, that the last look found filled
        ("moved_px", "f8"),  # their mean price, fees against us
        ("trip", TRIP),  # since the position was last flat
        ("last", TRIP),  # the one that ended last
        ("trips", "i8"),
        ("lots", "i8"),  # closed
        ("believed", "f8"),  # ticks times lots, over closed lots
        ("brought", "f8"),
        ("held_ns", "f8"),  # ns times lots
        # over round trips, for intervals and slope: lots, what was brought, and brought less believed
        ("trip_lots", "f8"),
        ("trip_brought", "f8"),
        ("trip_missed", "f8"),
        ("lots2", "f8"),
        ("brought2", "f8"),
        ("brought_lots", "f8"),
        ("missed2", "f8"),
        ("missed_lots", "f8"),
        ("trip_believed", "f8"),
        ("believed2", "f8"),
        ("brought_believed", "f8"),
        ("placed", PLACED),  # of the order at work
        ("kinds", KIND, (KINDS,)),
    ],
    align=True,
)
"""Open lots, and the sums of the closed ones."""


def new_lots(n: int = 1) -> Array:
    """LOTS[n]: flat, nothing closed."""
    return np.zeros(n, LOTS)


@kernel
def note_belief(o: Any, st: Any, row: Any) -> None:
    """Note what is believed of the order at work, or of the one that leaves now: what the rule counts its gain as."""
    if row.action == CROSS or row.action == POST or row.action == REPLACE or row.reason_code == KEEP_RESTING:
        planned = row.reason_code == PLANNED  # it is held to what was imagined, nothing taken off
        o.value = row.gain if planned else worth(st, row.gain) - st.error
        if row.reason_code != KEEP_RESTING:
            place(o.placed, row)


@kernel
def take_fills(o: Any, account: Any, ts: int) -> bool:
    """Take what was filled since the account was last looked at; whether a round trip has ended (`last` has it).

    Args:
        o: LOTS record.
        account: ACCOUNT record.
        ts: ns, of the event at which it is looked at.
    """
    if account.financing != o.financing:
        _finance(o, account.financing - o.financing)
        o.financing = account.financing
    moved = account.position - o.position
    fee, cash = account.fees - o.fees, account.cash - o.cash
    before = o.position
    o.position, o.cash, o.fees, o.moved = account.position, account.cash, account.fees, moved
    if moved == 0:
        return False
    side, qty = (1, moved) if moved > 0 else (-1, -moved)
    px, per_lot = -cash / moved, fee / qty
    o.moved_px = px + side * per_lot
    ended = False
    if before * side < 0:
        closing = min(qty, abs(before))
        _close(o, closing, -side * (px - o.entry) - per_lot, ts)
        close_kinds(o.kinds, side, closing / abs(before), px, per_lot)
        qty -= closing
        ended = closing == abs(before)
        if ended:
            _end_trip(o)
    if qty > 0:
        _open(o, max(0, before * side), qty, o.moved_px, ts)
        open_kinds(o.kinds, o.placed, qty, o.moved_px, o.value, ts)
    return ended


@kernel
def _finance(o: Any, received: float) -> None:
    """Let open lots have what a roll brought, or cost, all of them: as if they had been bought so much cheaper.

    Where nothing is open any more (what was held closed between the roll and this look) it belongs to no open lot.
    """
    if o.position == 0:
        return
    cheaper = received / o.position
    o.entry -= cheaper
    finance_kinds(o.kinds, cheaper)


@kernel
def _close(o: Any, qty: int, brought: float, ts: int) -> None:
    o.lots += qty
    o.believed += qty * o.belief
    o.brought += qty * brought
    o.held_ns += qty * (ts - o.since)
    o.trip.lots += qty
    o.trip.brought += qty * brought
    o.trip.believed += qty * o.belief


@kernel
def _end_trip(o: Any) -> None:
    lots, brought = o.trip.lots, o.trip.brought
    missed = brought - o.trip.believed
    o.trips += 1
    o.trip_lots += lots
    o.trip_brought += brought
    o.trip_missed += missed
    o.lots2 += lots * lots
    o.brought2 += brought * brought
    o.brought_lots += brought * lots
    o.missed2 += missed * missed
    o.missed_lots += missed * lots
    o.trip_believed += o.trip.believed
    o.believed2 += o.trip.believed * o.trip.believed
    o.brought_believed += brought * o.trip.believed
    o.last.lots, o.last.brought, o.last.believed = lots, brought, o.trip.believed
    o.trip.lots = o.trip.brought = o.trip.believed = 0.0
    end_kinds(o.kinds)


@kernel
def _open(o: Any, had: int, qty: int, px: float, ts: int) -> None:
    total = had + qty
    o.entry = (had * o.entry + qty * px) / total
    o.belief = (had * o.belief + qty * o.value) / total
    o.since = (had * o.since + qty * float(ts)) / total


@kernel
def drop_open_lots(o: Any) -> None:
    """Forget what is open: no outcome comes of it."""
    o.position = 0
    drop_open_kinds(o.kinds)
    o.trip.lots = o.trip.brought = o.trip.believed = 0.0


def per_lot(
    total: float,
    squares: float,
    products: float,
    lots: float,
    lots2: float,
    trips: int,
    error: float = 0.05,
) -> tuple[float, float]:
    """Mean per lot over round trips, and the half width of its interval (95 % unless said; NaN below five trips).

    A ratio of sums, its variance by linearisation (Cochran, Sampling Techniques, 1977, 6.3): trips are the blocks.

    Args:
        total, squares, products: sums over trips of the value, its square, and its product with the trip's lots.
        lots, lots2: sums of the lots and of their squares.
        error: how often the interval may miss, both sides together.
    """
    if lots <= 0.0:
        return float("nan"), float("nan")
    mean = total / lots
    if trips < 5:
        return mean, float("nan")
    residual = max(0.0, squares - 2.0 * mean * products + mean * mean * lots2)
    t = student_quantile(0.5 * error, trips - 1)
    return mean, float(t * np.sqrt(residual * trips / (trips - 1.0)) / lots)
