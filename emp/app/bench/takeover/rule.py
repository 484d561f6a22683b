"""A rule that trades all the time: it bids and offers in turn, moves with the touch, and crosses now and then."""

from typing import Any, NamedTuple

from emp.core.codes import Action, Reason, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.decision.port import register

HOLD, CROSS, POST, REPLACE = int(Action.HOLD), int(Action.CROSS), int(Action.POST), int(Action.REPLACE)
NO_EDGE, POST_EDGE, MOVE_EDGE = int(Reason.NO_EDGE), int(Reason.POST_EDGE), int(Reason.MOVE_EDGE)
CROSS_EDGE = int(Reason.CROSS_EDGE)
NONE, RESTING = int(WorkingState.NONE), int(WorkingState.RESTING)
MOST = 3
"""Lots held at most, either way."""


class BusyRule(NamedTuple):
    """See the module's docstring."""

    acts: Array  # bool[1]


@kernel
def decide_busily(
    rule: BusyRule,
    i: int,
    event: Any,
    sigma_ticks: float,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    standing: Any,
    row: Any,
) -> None:
    """Choose an action for one event; see `emp.decision.port.decide` for the arguments."""
    side = 1 if (event.seq >> 4) & 1 else -1
    if account.position >= MOST:
        side = -1
    elif account.position <= -MOST:
        side = 1
    row.action, row.reason_code, row.qty = HOLD, NO_EDGE, 1
    row.side, row.px = side, event.bid_px[0] if side > 0 else event.ask_px[0]
    if not rule.acts[0]:
        return
    if working.state == NONE and event.seq % 16 == 0:
        row.action, row.reason_code = CROSS, CROSS_EDGE
        row.px = event.ask_px[0] if side > 0 else event.bid_px[0]
    elif working.state == NONE and event.seq % 4 == 0:
        row.action, row.reason_code = POST, POST_EDGE
    elif working.state == RESTING and event.seq % 8 == 0:
        row.side = working.side
        row.px = event.bid_px[0] if working.side > 0 else event.ask_px[0]
        if row.px != working.px:
            row.action, row.reason_code = REPLACE, MOVE_EDGE


register(BusyRule, decide_busily)
