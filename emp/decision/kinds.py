"""Which lots bring what was believed of them: by reason, kind of action, place in the queue, and hour.

A lot is of the kind of the order that opened it, as its last placement was: at a touch of 40 lots it stood behind 40.
Lots of one kind share their mean price and belief; where a part of a position is closed, that part of each kind is. So
over the kinds of one question opened and closed lots, beliefs and outcomes add up to those of `outcomes`.
"""

from typing import Any

import numpy as np

from emp.core.codes import Action, Reason
from emp.core.numba.jit import inlined, kernel

CROSS = int(Action.CROSS)
CROSS_EDGE, POST_EDGE, CHASE = int(Reason.CROSS_EDGE), int(Reason.POST_EDGE), int(Reason.CHASE)
MOVE_EDGE, OWN_RULE = int(Reason.MOVE_EDGE), int(Reason.OWN_RULE)

HOUR_NS = 3_600_000_000_000

QUESTIONS: dict[str, tuple[str, ...]] = {
    "reason": ("other", "cross_edge", "post_edge", "chase", "move_edge", "own_rule"),
    "action": ("other", "cross", "improve", "join", "behind"),
    "queue": ("other", "none, crossing", "0", "1-9", "10-99", "100-999", "1000-"),
    "hour": tuple(f"{hour:02d}" for hour in range(24)),
}
"""Kinds by question; hours are UTC, queues lots ahead when the order was placed. `other` is what no decision placed."""

CROSSING = QUESTIONS["action"].index("cross")
"""Kind of action of an order that crossed."""

_REASON, _ACTION = 0, len(QUESTIONS["reason"])
_QUEUE = _ACTION + len(QUESTIONS["action"])
_HOUR = _QUEUE + len(QUESTIONS["queue"])
KINDS = _HOUR + len(QUESTIONS["hour"])

PLACED = np.dtype([("reason", "i8"), ("action", "i8"), ("queue", "i8")], align=True)
"""Kinds of the order at work, by question."""

KIND = np.dtype(
    [
        ("opened", "i8"),  # lots
        ("open", "f8"),  # of them not closed
        ("entry", "f8"),  # their mean price, fees against us
        ("belief", "f8"),  # mean value believed of them
        ("closed", "f8"),
        ("believed", "f8"),  # ticks times lots, over closed lots
        ("brought", "f8"),
        ("lots", "f8"),  # of them, and brought less believed, closed in the round trip that is under way
        ("missed", "f8"),
        # over round trips that had some, for intervals: how many, sums, squares and products
        ("trips", "i8"),
        ("trip_lots", "f8"),
        ("trip_missed", "f8"),
        ("lots2", "f8"),
        ("missed2", "f8"),
        ("missed_lots", "f8"),
    ],
    align=True,
)


@kernel
def place(placed: Any, row: Any) -> None:
    """Note the kind of an order that leaves now: of a DECISION whose action is CROSS, POST or REPLACE."""
    placed.reason = _reason(row.reason_code)
    if row.action == CROSS:
        placed.action, placed.queue = CROSSING, 1
        return
    better = row.side * (row.px - (row.bid if row.side > 0 else row.ask))
    if better > 0:
        placed.action, ahead = 2, 0
    elif better == 0:
        placed.action, ahead = 3, row.bid_sz if row.side > 0 else row.ask_sz
    else:
        placed.action, ahead = 4, row.queue_ahead
    placed.queue = 2
    while ahead > 0 and placed.queue < 6:
        placed.queue += 1
        ahead //= 10


@inlined
def _reason(code: int) -> int:
    if code == CROSS_EDGE:
        return 1
    if code == POST_EDGE:
        return 2
    if code == CHASE:
        return 3
    if code == MOVE_EDGE:
        return 4
    return 5 if code == OWN_RULE else 0


@kernel
def open_kinds(kinds: Any, placed: Any, qty: int, px: float, belief: float, ts: int) -> None:
    """Take in `qty` lots that were opened at `px`, the fee per lot added against us."""
    hour = (ts // HOUR_NS) % 24
    for k in (_REASON + placed.reason, _ACTION + placed.action, _QUEUE + placed.queue, _HOUR + hour):
        one = kinds[k]
        total = one.open + qty
        one.entry = (one.open * one.entry + qty * px) / total
        one.belief = (one.open * one.belief + qty * belief) / total
        one.open = total
        one.opened += qty


@kernel
def close_kinds(kinds: Any, side: int, part: float, px: float, fee: float) -> None:
    """Close a part, 0 to 1, of what is open by fills of `side` at `px`, `fee` a lot."""
    for k in range(KINDS):
        one = kinds[k]
        if one.open > 0.0:
            lots = part * one.open
            one.closed += lots
            one.believed += lots * one.belief
            brought = lots * (-side * (px - one.entry) - fee)
            one.brought += brought
            one.lots += lots
            one.missed += brought - lots * one.belief
            one.open = 0.0 if part == 1.0 else one.open - lots


@kernel
def finance_kinds(kinds: Any, cheaper: float) -> None:
    """Let what is open count as entered so many ticks cheaper: what a roll brought a lot, signed as it is held."""
    for k in range(KINDS):
        if kinds[k].open > 0.0:
            kinds[k].entry -= cheaper


@kernel
def end_kinds(kinds: Any) -> None:
    """A round trip has ended: what it brought and missed, by kind, is one outcome each."""
    for k in range(KINDS):
        one = kinds[k]
        if one.lots > 0.0:
            one.trips += 1
            one.trip_lots += one.lots
            one.trip_missed += one.missed
            one.lots2 += one.lots * one.lots
            one.missed2 += one.missed * one.missed
            one.missed_lots += one.missed * one.lots
            one.lots = one.missed = 0.0


@kernel
def drop_open_kinds(kinds: Any) -> None:
    """Forget what is open, and the round trip that it was part of."""
    for k in range(KINDS):
        one = kinds[k]
        one.open = 0.0
        one.lots = one.missed = 0.0


def kinds_of(question: str) -> slice:
    """Where the kinds of a question stand, in the order of QUESTIONS."""
    begin = {"reason": _REASON, "action": _ACTION, "queue": _QUEUE, "hour": _HOUR}[question]
    return slice(begin, begin + len(QUESTIONS[question]))
