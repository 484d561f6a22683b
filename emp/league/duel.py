"""A match with two engines in it: the second thinks between two events of the first, in the same market.

What the compiled loop (`emp.engine.trade`) does for the first engine, the venue does here for the second: it is shown
the same rows, takes its reports, decides, and its commands go into the same book. So a copy of an engine can sit
opposite it.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.venue import EVENT_CAME, NOTHING_LEFT, Kernels, register
from emp.core.codes import Action, WorkingState
from emp.core.messages import MESSAGE
from emp.core.numba.jit import kernel
from emp.core.records import DECISION, Array
from emp.engine.desk import Desk
from emp.engine.policy import Policy
from emp.engine.step import COMMAND, step
from emp.engine.trade import (
    ROOM,
    act_on_row,
    new_progress,
    scratch_event,
    take_report,
    withdraw_silent,
)
from emp.league.contest import Contest, is_over, next_row
from emp.risk.verdict import take_verdict
from emp.sim.world.venue import (
    forget_told,
    reactive_again,
    reactive_idle,
    reactive_report,
    reactive_send,
    show_row,
)

RESTING = int(WorkingState.RESTING)
CROSS, POST, REPLACE, FLATTEN = (int(a) for a in (Action.CROSS, Action.POST, Action.REPLACE, Action.FLATTEN))


class Second(NamedTuple):
    """The second engine, and its scratch."""

    desk: Desk
    policy: Policy
    order: Array  # execution.order.ORDER[1]
    event: Array  # EVENT[1]
    row: Array  # DECISION[1]
    laps: Array  # int32[1, 3]
    log: Array  # MESSAGE[> ROOM]
    progress: Array  # PROGRESS[1]
    stopped: Array  # bool[1]: it needs Python, so the match is void


class Duel(NamedTuple):
    """A contest whose second engine thinks here."""

    table: Contest
    second: Second


def second_of(desk: Desk, policy: Policy, order: Array) -> Second:
    """A second engine of one instrument."""
    scratch = np.zeros(1, DECISION), np.zeros((1, 3), np.int32), np.zeros(ROOM + 8, MESSAGE)
    return Second(desk, policy, order, scratch_event(), *scratch, new_progress(), np.zeros(1, bool))


@kernel
def _think(venue: Any, me: Any, event: Any) -> None:
    """Let the second engine hear its reports, decide on the row in `event`, and send what it wants."""
    desk, o, d, row = me.desk, me.order[0], me.progress[0], me.row[0]
    account, working = desk.account[0], desk.working[0]
    me.event[0] = event[0]
    forget_told(venue)
    come, due = show_row(venue, True, 0, me.event)
    d.messages = 0
    for k in range(due):
        if not take_report(venue, k, o, account, working, me.log, d):
            me.stopped[0] = True
            return
    if come != EVENT_CAME:
        return
    until = desk.perception[0].ts_event + desk.limits[0].stale_after_ns
    if working.state == RESTING and me.event[0].ts > until:
        withdraw_silent(venue, o, working, until + 1, me.log, d)
    result = step(desk, me.policy, me.event[0], row, me.laps[0])
    d.events += 1
    if result == COMMAND:
        opens = row.action == CROSS or row.action == POST or row.action == REPLACE
        if row.action == FLATTEN or (opens and not take_verdict(desk.risk[0], row)):
            me.stopped[0] = True
            return
        act_on_row(venue, o, working, row, me.log, d)


@kernel
def duel_advance(m: Any, until_ns: int, event: Any) -> tuple[int, int]:
    """See `emp.access.venue.advance`."""
    table = m.table
    if is_over(table) or m.second.stopped[0]:
        return NOTHING_LEFT, 0
    first = table.engines[0]
    forget_told(first)
    came = next_row(table, until_ns, event[0])
    if came:
        _think(table.engines[1], m.second, event)
    return show_row(first, came, until_ns, event)


@kernel
def duel_report(m: Any, k: int, message: Any) -> None:
    """See `emp.access.venue.report`."""
    reactive_report(m.table.engines[0], k, message)


@kernel
def duel_send(m: Any, message: Any) -> bool:
    """See `emp.access.venue.send`."""
    return bool(reactive_send(m.table.engines[0], message))


@kernel
def duel_idle(m: Any) -> bool:
    """See `emp.access.venue.idle`."""
    return bool(reactive_idle(m.table.engines[0]))


@kernel
def duel_again(m: Any) -> bool:
    """See `emp.access.venue.again`."""
    return bool(reactive_again(m.table.engines[0]))


register(Duel, Kernels(duel_advance, duel_report, duel_send, duel_idle, duel_again))
