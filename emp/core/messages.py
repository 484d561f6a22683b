"""Commands, reports and timers as array records: what `core.contracts` says in words, for compiled loops."""

from typing import Any

import numpy as np

from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Command, Control, NewOrder, Replace
from emp.core.ids import cl_ord_id

NEW, CANCEL, REPLACE, REPORT, TIMER = 1, 2, 3, 4, 5  # MESSAGE.kind

STATUSES = tuple(OrderStatus)
"""What MESSAGE.status indexes."""

REASONS = tuple(Reason)
"""By their numbers, which run from 0: the look-up of an enumeration takes longer than a decision."""

MESSAGE = np.dtype(
    [
        ("kind", "i4"),
        ("status", "i4"),  # of a report: index in STATUSES
        ("text", "i4"),  # of a report: the venue's own number for what it says
        ("reason", "i4"),  # codes.Reason
        ("side", "i4"),
        ("immediate", "?"),
        ("maker", "?"),
        ("at", "i8"),  # events that had been processed before
        ("id", "i8"),  # of the command, or the one that the report is about
        (
            "orig",
            "i8",
        ),  # of a cancel or replacement: the order's; of a report: the replacement in force, or 0
        ("qty", "i8"),  # of a command; of a report: cumulative lots
        ("px", "i8"),
        ("ts", "i8"),
        ("seq", "i8"),  # of the decision that asked for it; of a report: its number
        ("leaves", "i8"),
        ("ahead", "i8"),  # lots ahead, -1 unknown
        ("more", "i8"),  # whatever else the text of a report needs
        ("fee", "f8"),
    ],
    align=True,
)
"""A command, a report, or a timer that acted. Ids are the numbers of a run's commands, from 1."""

Row = tuple[Any, ...]
"""A MESSAGE as Python numbers, in the order of its fields: `rows.tolist()` gives them all at once."""

(
    KIND,
    STATUS,
    TEXT,
    REASON,
    SIDE,
    IMMEDIATE,
    MAKER,
    AT,
    ID,
    ORIG,
    QTY,
    PX,
    TS,
    SEQ,
    LEAVES,
    AHEAD,
    MORE,
    FEE,
) = range(len(MESSAGE.names or ()))


def command_of(row: Row, run: str, instrument: str) -> Command:
    """The command that a MESSAGE is."""
    name, reason = cl_ord_id(run, row[ID]), REASONS[row[REASON]]
    if row[KIND] == CANCEL:
        return CancelOrder(
            cl_ord_id=name,
            orig=cl_ord_id(run, row[ORIG]),
            instrument=instrument,
            ts=row[TS],
            reason=reason,
        )
    if row[KIND] == REPLACE:
        return Replace(
            cl_ord_id=name,
            orig=cl_ord_id(run, row[ORIG]),
            instrument=instrument,
            side=row[SIDE],
            qty=row[QTY],
            px=row[PX],
            ts=row[TS],
            reason=reason,
            decision_seq=row[SEQ],
        )
    return NewOrder(
        cl_ord_id=name,
        instrument=instrument,
        side=row[SIDE],
        qty=row[QTY],
        px=row[PX],
        immediate=row[IMMEDIATE],
        ts=row[TS],
        reason=reason,
        decision_seq=row[SEQ],
    )


def timer_of(row: Row, instrument: str = "") -> Control:
    """The timer that a MESSAGE is, of an instrument or of all."""
    return Control(action="timer", ts=row[TS], instrument=instrument)
