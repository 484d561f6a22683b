"""A rule that moves its order as often as the market lets it: what an order message costs, with nothing else to see."""

from typing import Any, NamedTuple

from emp.core.codes import Action, Reason, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.decision.port import register

HOLD, POST, REPLACE = int(Action.HOLD), int(Action.POST), int(Action.REPLACE)
NO_EDGE, POST_EDGE, MOVE_EDGE = int(Reason.NO_EDGE), int(Reason.POST_EDGE), int(Reason.MOVE_EDGE)
NONE, RESTING = int(WorkingState.NONE), int(WorkingState.RESTING)
BEHIND = 3
"""Ticks behind the best bid: far enough that next to nothing fills."""


class RestlessRule(NamedTuple):
    """Bid for one lot behind the market, and move the bid by a tick whenever it rests; or hold, the same work done."""

    acts: Array  # bool[1]


@kernel
def decide_restlessly(
    rule: RestlessRule,
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
    near = event.bid_px[0] - BEHIND
    row.side, row.qty, row.px = 1, 1, near if working.px != near else near - 1
    row.action, row.reason_code = HOLD, NO_EDGE
    if rule.acts[0] and working.state == NONE:
        row.action, row.reason_code = POST, POST_EDGE
    elif rule.acts[0] and working.state == RESTING:
        row.action, row.reason_code = REPLACE, MOVE_EDGE


register(RestlessRule, decide_restlessly)
