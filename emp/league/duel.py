"""A match with two engines in it: the second thinks between two events of the first, in the same market.

What the compiled loop (`emp.engine.trade`) does for the first engine, the venue does here for the second: it is shown
the same rows, takes its reports, decides, and its commands go into the same book. So a copy of an engine can sit
opposite it.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.venue import EVENT_CAME, NOTHING_LEFT, NOTHING_SHOWN, Kernels, register
from emp.core.codes import Action, WorkingState
from emp.core.messages import MESSAGE
from emp.core.numba.jit import kernel
from emp.core.records import DECISION, Array
from emp.engine.desk import Desk
from emp.engine.policy import Policy
from emp.engine.step import COMMAND, step
from emp.engine.trade import (
    NEVER,
    ROOM,
    act_on_row,
    new_progress,
    scratch_event,
    take_report,
    withdraw_silent,
)
from emp.league.contest import Contest, is_over, next_row, send_as_others
from emp.risk.verdict import take_verdict
from emp.sim.world.venue import (
    Reactive,
    forget_told,
    reactive_again,
    reactive_idle,
    reactive_report,
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


class Sending(NamedTuple):
    """A venue that sends as late as anybody at the table."""

    ours: Reactive


class Duel(NamedTuple):
    """A contest whose second engine thinks here."""

    table: Contest
    second: Second


def second_of(desk: Desk, policy: Policy, order: Array) -> Second:
    """A second engine of one instrument."""
    scratch = np.zeros(1, DECISION), np.zeros((1, 3), np.int32), np.zeros(ROOM + 8, MESSAGE)
    return Second(desk, policy, order, scratch_event(), *scratch, new_progress(), np.zeros(1, bool))


@kernel
def _silent_at(desk: Any) -> int:
    """When an order that rests must go, if the feed says nothing until then; NEVER where none rests."""
    if desk.working[0].state != RESTING:
        return NEVER
    return int(desk.perception[0].ts_event + desk.limits[0].stale_after_ns)


@kernel
def _think(m: Any, came: bool, until: int, event: Any) -> None:
    """Let the second engine hear its reports, decide on the row in `event` where one came, and send what it wants."""
    me, venue = m.second, Sending(m.table.engines[1])
    desk, o, d, row = me.desk, me.order[0], me.progress[0], me.row[0]
    account, working = desk.account[0], desk.working[0]
    me.event[0] = event[0]
    forget_told(m.table.engines[1])
    come, due = show_row(m.table.engines[1], came, until, me.event)
    d.messages = 0
    for k in range(due):
        if not take_report(venue, k, o, account, working, me.log, d):
            me.stopped[0] = True
            return
    silent = _silent_at(desk)
    if (not came and until >= silent) or (come == EVENT_CAME and me.event[0].ts > silent):
        withdraw_silent(venue, o, working, silent + 1, me.log, d)
    if come != EVENT_CAME:
        return
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
    first, until = table.engines[0], min(until_ns, _silent_at(m.second.desk))
    came = next_row(table, until, event[0])
    _think(m, came, until, event)
    if not came and until < until_ns:  # nothing for the first yet
        return NOTHING_SHOWN, 0
    forget_told(first)
    return show_row(first, came, until, event)


@kernel
def duel_report(m: Any, k: int, message: Any) -> None:
    """See `emp.access.venue.report`."""
    reactive_report(m.table.engines[0], k, message)


@kernel
def duel_send(m: Any, message: Any) -> bool:
    """See `emp.access.venue.send`."""
    return bool(send_as_others(m.table.engines[0], message))


@kernel
def duel_idle(m: Any) -> bool:
    """See `emp.access.venue.idle`."""
    return bool(reactive_idle(m.table.engines[0]))


@kernel
def duel_again(m: Any) -> bool:
    """See `emp.access.venue.again`."""
    return bool(reactive_again(m.table.engines[0]))


@kernel
def _no_advance(_: Any, __: int, ___: Any) -> tuple[int, int]:
    return NOTHING_LEFT, 0


@kernel
def _report_of(m: Any, k: int, message: Any) -> None:
    reactive_report(m.ours, k, message)


@kernel
def _send_of(m: Any, message: Any) -> bool:
    return bool(send_as_others(m.ours, message))


@kernel
def _idle_of(m: Any) -> bool:
    return bool(reactive_idle(m.ours))


@kernel
def _again_of(_: Any) -> bool:
    return False


register(Duel, Kernels(duel_advance, duel_report, duel_send, duel_idle, duel_again))
register(Sending, Kernels(_no_advance, _report_of, _send_of, _idle_of, _again_of))
