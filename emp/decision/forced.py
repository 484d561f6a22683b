"""The built-in rule with one decision taken out of its hands: what a person asks "what if" about.

At one event the action is the one that is given; at every other event, and in the head, `decide_by_value` decides.
Whatever is given goes through risk like any action.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.codes import Action, Reason
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.decision.port import register
from emp.decision.queue import lots_ahead
from emp.decision.rule import ValueRule, decide_by_value, resting_gain

HOLD, CROSS, POST = int(Action.HOLD), int(Action.CROSS), int(Action.POST)
CANCEL, REPLACE = int(Action.CANCEL), int(Action.REPLACE)
NO_EDGE, KEEP_RESTING = int(Reason.NO_EDGE), int(Reason.KEEP_RESTING)
CROSS_EDGE, POST_EDGE = int(Reason.CROSS_EDGE), int(Reason.POST_EDGE)
CANCEL_TTL, MOVE_EDGE = int(Reason.CANCEL_TTL), int(Reason.MOVE_EDGE)

FORCED = np.dtype(
    [
        ("given", "?"),
        ("seq", "i8"),  # of the event at which it is given
        ("action", "i8"),  # codes.Action: HOLD, CROSS, POST, CANCEL or REPLACE
        ("side", "i8"),  # +1 buy, -1 sell, of an order that is sent or moved
        ("px", "i8"),
        ("qty", "i8"),  # lots; 0: what the rule would have sent, at least one
    ],
    align=True,
)
"""An action that is given, once."""


class ForcedRule(NamedTuple):
    """`ValueRule`, and one action given to it."""

    costs: Array  # COSTS[instruments]
    forced: Array  # FORCED[1]


def nothing_forced() -> Array:
    """FORCED[1]: the rule decides every time."""
    return np.zeros(1, FORCED)


@kernel
def decide_forced(
    rule: ForcedRule,
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
    """Decide by value, and put the given action in its place; see `emp.decision.port.decide` for the arguments."""
    decide_by_value(ValueRule(rule.costs), i, event, sigma_ticks, f, e, account, working, standing, row)
    given = rule.forced[0]
    if given.given and row.seq == given.seq and not standing.one_lot:
        _put(given, rule.costs[i], event, e, working, row)


@kernel
def _put(given: Any, costs: Any, event: Any, e: Any, working: Any, row: Any) -> None:
    row.action = given.action
    if given.action == HOLD:
        row.reason_code = NO_EDGE
        row.qty = 0
        if row.resting_qty > 0:
            row.reason_code, row.qty = KEEP_RESTING, working.leaves
        return
    if given.action == CANCEL:
        row.side, row.px, row.qty, row.reason_code = working.side, working.px, working.leaves, CANCEL_TTL
        return
    row.side, row.px = given.side, given.px
    row.qty = given.qty if given.qty > 0 else max(1, row.qty)
    if given.action == CROSS:
        row.reason_code, row.queue_ahead = CROSS_EDGE, 0
        row.gain = given.side * row.edge_ticks - row.cost_to_take
        return
    row.reason_code = MOVE_EDGE if given.action == REPLACE else POST_EDGE
    row.queue_ahead = lots_ahead(event, given.side, given.px, -1)
    row.gain = resting_gain(event, e, costs, given.side, row.edge_ticks, given.px)


register(ForcedRule, decide_forced)
