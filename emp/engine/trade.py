"""The engine and a venue in one compiled loop: events in, commands out, reports in, and a log of what was said.

The venue is one of the kinds that `emp.access.venue` knows, chosen by its type: a recording with the paper queue, a
simulated market that answers. What the loop does with an action is what `Engine.act` does, and what it does with a
report is what `Engine.on_report` does, for the one order that the rule has at work. It stops where Python must go on:
to close a position, or where a report cannot be of that order. With `by_hand` it stops at everything that Python would
have to do.
"""

from typing import Any

import numpy as np

from emp.access.venue import (
    NO_EVENT,
    NOTHING_LEFT,
    NOTHING_SHOWN,
    advance,
    again,
    idle,
    report,
    send,
)
from emp.core.codes import Action, Reason, WorkingState
from emp.core.messages import CANCEL as CANCEL_MESSAGE
from emp.core.messages import NEW as NEW_MESSAGE
from emp.core.messages import REPLACE as REPLACE_MESSAGE
from emp.core.messages import TIMER
from emp.core.numba.hold import opened
from emp.core.numba.jit import kernel
from emp.core.numba.lend import lent
from emp.core.records import EVENT, Array
from emp.engine.step import COMMAND, QUIET, ask, step
from emp.execution.order import apply, note_sent
from emp.risk.verdict import take_verdict

RESTING = int(WorkingState.RESTING)
CROSS, POST, REPLACE = int(Action.CROSS), int(Action.POST), int(Action.REPLACE)
FLATTEN = int(Action.FLATTEN)
STALE = int(Reason.STALE)

REPORT = 3  # reports of the venue are due before the next event
SILENCE = 4  # before the next event the feed was silent for so long that a resting order must go
OVER = 6  # the market has no event left
DOUBT = 7  # a report that Python must look at: it is the last of the log, and was not applied

NEVER = 2**62
ROOM = 1100
"""Messages that one event can make: as many reports as a venue hands out at once, and a few commands."""

PROGRESS = np.dtype(
    [
        ("events", "i8"),  # processed in this call
        ("rows", "i8"),  # written
        ("messages", "i8"),  # logged
        ("due", "i8"),  # reports that wait: with REPORT all of them, with DOUBT those behind the one in doubt
        (
            "calm",
            "i8",
        ),  # messages logged when last nothing of ours was at work, on its way or to be told; -1 never
        ("actions", "i8"),  # rows that asked for something
        ("took", "i8"),  # commands logged
        ("before", "i8"),  # events processed before this call, for the log
        ("most", "i8"),  # events to process at most in this call
        ("place", "i8"),  # of the instrument in the engine
    ],
    align=True,
)
"""What `trade` has done."""


def new_progress() -> Array:
    """PROGRESS[1]."""
    return np.zeros(1, PROGRESS)


def scratch_event() -> Array:
    """EVENT[1] for the event at hand."""
    return np.zeros(1, EVENT)


@kernel
def trade(
    held: Any,
    venue: Any,
    order: Any,
    event: Any,
    rows: Any,
    laps: Any,
    log: Any,
    progress: Any,
    by_hand: bool,
) -> int:
    """Run engine and venue until Python must do something, or there is no room or no event left.

    Args:
        held: `Engine.held`.
        venue: of a type that `emp.access.venue` knows; one instrument, that of `place`.
        order: execution.order.ORDER[1].
        event: EVENT[1], scratch.
        rows, laps: DECISION[n] and int32[n, 3], filled from 0; the loop ends where they are full.
        log: MESSAGE[> ROOM], filled from 0.
        progress: PROGRESS[1]; `before`, `most` and `place` are the caller's, the rest is written.
        by_hand: stop at commands, reports and silence too, and leave them to the caller.

    Returns:
        QUIET where `rows`, `log` or the events asked for are full; OVER; COMMAND (to flatten, or by hand); REPORT or
        SILENCE (by hand); DOUBT.
    """
    desk, policy, asked = opened(held)
    venue, order, event = lent(venue), lent(order), lent(event)
    rows, laps, log, progress = lent(rows), lent(laps), lent(log), lent(progress)
    d, o = progress[0], order[0]
    d.events = d.rows = d.messages = d.due = d.actions = d.took = 0
    d.calm = 0 if not o.open and idle(venue) else -1
    i = d.place
    while d.events < d.most and d.rows < rows.size and d.messages + ROOM < log.size:
        resting = desk.working[i].state == RESTING
        until = desk.perception[i].ts_event + desk.limits[i].stale_after_ns if resting else NEVER
        come, due = advance(venue, until, event)
        if due > 0:
            if by_hand:
                d.due = due
                return REPORT
            for k in range(due):
                if not take_report(venue, k, o, desk.account[i], desk.working[i], log, d):
                    d.due = due - k - 1
                    return DOUBT
        if come == NOTHING_LEFT:
            return OVER
        if come == NOTHING_SHOWN:
            continue
        resting = desk.working[i].state == RESTING  # it may have begun to rest, or ended, meanwhile
        until = desk.perception[i].ts_event + desk.limits[i].stale_after_ns
        if resting and (come == NO_EVENT or event[0].ts > until):
            once_more = come != NO_EVENT and again(venue)
            if by_hand or o.immediate:
                return SILENCE
            withdraw_silent(venue, o, desk.working[i], until + 1, log, d)
            if once_more:
                continue
        if come == NO_EVENT:
            continue
        result = step(desk, policy, event[0], rows[d.rows], laps[d.rows])
        d.events += 1
        if result != QUIET:
            d.rows += 1
        if result == COMMAND:
            d.actions += 1
            row = rows[d.rows - 1]
            opens = row.action == CROSS or row.action == POST or row.action == REPLACE
            # what risk did not approve is left to Python, which refuses it
            if by_hand or row.action == FLATTEN or (opens and not take_verdict(desk.risk[i], row)):
                ask(row, asked)
                return COMMAND
            act_on_row(venue, o, desk.working[i], row, log, d)
        if not o.open and idle(venue):
            d.calm = d.messages
    return QUIET


@kernel
def take_report(venue: Any, k: int, o: Any, account: Any, working: Any, log: Any, d: Any) -> bool:
    """Log a report and apply it; False where Python must look at it."""
    message = log[d.messages]
    report(venue, k, message)
    message.at = d.before + d.events
    d.messages += 1
    return apply(o, message, account, working)


@kernel
def _give(venue: Any, o: Any, working: Any, log: Any, d: Any) -> None:
    """Number the command that is written at the end of the log, note it and send it."""
    message = log[d.messages]
    o.sequence += 1
    message.id, message.at = o.sequence, d.before + d.events
    d.messages += 1
    d.took += 1
    note_sent(o, message, working)
    send(venue, message)


@kernel
def act_on_row(venue: Any, o: Any, working: Any, row: Any, log: Any, d: Any) -> None:
    """Turn a row's approved action into a command, as `Engine.act` does."""
    m = log[d.messages]
    m.ts, m.reason, m.seq, m.px, m.side = row.ts, row.reason_code, row.seq, row.px, row.side
    if row.action == CROSS or row.action == POST:
        m.kind, m.qty, m.immediate, m.orig = NEW_MESSAGE, row.qty, row.action == CROSS, 0
    elif row.action == REPLACE:
        if not o.open or working.state != RESTING or o.cancel != 0:
            return
        m.kind, m.qty, m.immediate, m.orig = REPLACE_MESSAGE, o.filled + row.qty, False, o.id
        m.side = o.side
    else:
        if not o.open or o.immediate or o.cancel != 0:
            return
        m.kind, m.orig = CANCEL_MESSAGE, o.id
    _give(venue, o, working, log, d)


@kernel
def withdraw_silent(venue: Any, o: Any, working: Any, now_ns: int, log: Any, d: Any) -> None:
    """What `Engine.on_timer` does for a feed gone silent: the timer is logged, and the order that rests withdrawn."""
    m = log[d.messages]
    m.kind, m.ts, m.at = TIMER, now_ns, d.before + d.events
    d.messages += 1
    m = log[d.messages]
    m.kind, m.orig, m.ts, m.reason = CANCEL_MESSAGE, o.id, now_ns, STALE
    _give(venue, o, working, log, d)
