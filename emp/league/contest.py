"""A match with the engine in it: its rule trades through the venue port beside players of the league.

The engine's compiled loop (`emp.engine.trade`) drives the market: between two of its events the others' commands reach
the same book, and once in so many events of the flow they decide, as in `emp.league.match`. The engine decides on every
event that it is shown. Orders of all stand in the same first-in-first-out queues.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.venue import NOTHING_LEFT, Kernels, register
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.rng import uniform
from emp.core.records import Array
from emp.league.match import KEEP
from emp.league.seats import IDLE, decide, look
from emp.sim.book.book import BEST, N_FILLS, OWN_LIVE
from emp.sim.book.view import mark_visible, write_event
from emp.sim.capacity.trade import two_sided
from emp.sim.world.desk import arrive, book_fills, decision_ns, deliver, own_live, reap
from emp.sim.world.market import flow_event, show_book
from emp.sim.world.venue import (
    US,
    Reactive,
    arrive_ours,
    book_ours,
    forget_told,
    reactive_again,
    reactive_idle,
    reactive_report,
    reactive_send,
    reap_ours,
    show_row,
)

OTHERS = 3
"""Players beside the engine."""
NOBODY, ENGINE = -1, OTHERS
"""Who has booked already, where it is none of the others by its number."""

PACE = np.dtype(
    [
        ("decisions", "i8"),  # of an episode
        ("every", "i8"),  # events of the flow between them
        ("events", "i8"),  # of the flow since the last
        ("made", "i8"),
        # of the engine
        ("maker_fills", "i8"),
        ("ahead", "i8"),  # lots before it at its fills as maker, summed
        ("position", "f8"),  # summed over decisions
        ("square", "f8"),
    ],
    align=True,
)


class Contest(NamedTuple):
    """A simulated market, the engine's account in it, and the other players."""

    ours: Reactive
    worlds: Any  # a World for each of the others, with desks of owners after US
    seats: Array  # SEAT[OTHERS]
    seen: Array  # VIEW[1]
    pace: Array  # PACE[1]
    held: Array  # float64[OTHERS, 2]: position and its square, summed over decisions
    x: Array  # float64[FEATURES], scratch


@kernel
def _book_all(m: Any, at: int, but: int) -> None:
    """Have everybody book the logged fills, but for whose order it was that arrived, and empty the log."""
    b, p = m.ours.flow.book, m.pace[0]
    for i in range(b[N_FILLS]):
        f = m.ours.flow.fills[i]
        if f.maker == US:
            p.maker_fills += 1
            p.ahead += f.ahead
    if but != ENGINE:
        book_ours(m.ours, at)
    for i in range(OTHERS):
        if i != but:
            book_fills(m.worlds[i])
    b[N_FILLS] = 0


@kernel
def _reap_all(m: Any, at: int) -> None:
    """Tell everybody of orders that left the book without a trade."""
    live = m.ours.venue[0].resting
    for i in range(OTHERS):
        live += own_live(m.worlds[i].desk[0])
    if m.ours.flow.book[OWN_LIVE] != live:
        reap_ours(m.ours, at)
        for i in range(OTHERS):
            reap(m.worlds[i])


@kernel
def _decide_all(m: Any) -> None:
    """Let the others decide on the book as it is."""
    b, s, v, p = m.ours.flow.book, m.ours.flow.state[0], m.seen[0], m.pace[0]
    p.made += 1
    p.events = 0
    good = two_sided(b)
    if good:
        look(b, v, KEEP)
    held = float(m.ours.venue[0].position)
    p.position += held
    p.square += held * held
    for i in range(OTHERS):
        me, w = m.seats[i], m.worlds[i]
        held = float(w.desk[0].position)
        m.held[i, 0] += held
        m.held[i, 1] += held * held
        if me.kind == IDLE:
            continue
        deliver(w, s.now)
        act = decision_ns(w)
        heard = uniform(w.rng) >= me.deaf
        if good and heard:
            decide(w, me, v, act, p.made / p.decisions, m.x)


@kernel
def _first(worlds: Any, until_ns: int) -> tuple[int, int]:
    """Whose command is the first of the others' to arrive by `until_ns`, and when; -1 where none does."""
    due, who = until_ns, -1
    for i in range(OTHERS):
        d = worlds[i].desk[0]
        if d.in_n > 0 and d.inbox[d.in_first].due < due + (who < 0):
            due, who = d.inbox[d.in_first].due, i
    return who, due


@kernel
def _next_row(m: Any, until_ns: int, row: Any) -> bool:
    """Let the market and everybody's orders go on to the next book that is written into `row`, or to `until_ns`."""
    v, flow, p = m.ours.venue[0], m.ours.flow, m.pace[0]
    b, s = flow.book, flow.state[0]
    came_of_us = m.ours.arrivals[v.in_first] if v.in_n > 0 else until_ns
    who, due = _first(m.worlds, min(came_of_us, until_ns))
    if s.next <= due:
        flow_event(borrowed(flow))
        write_event(borrowed(b), row, s.now, s.seq, 0)
        mark_visible(row, m.ours.last[0])
        _book_all(m, s.now, NOBODY)
        _reap_all(m, s.now)
        p.events += 1
        if p.events >= p.every:
            _decide_all(m)
        return True
    if who >= 0:
        arrive(m.worlds[who])
        at = s.now
    elif v.in_n > 0 and came_of_us <= until_ns:
        at = arrive_ours(m.ours)
        who = ENGINE
    else:
        return False
    _book_all(m, at, who)
    _reap_all(m, at)
    show_book(b, s, row, at, m.ours.last)
    return True


@kernel
def contest_advance(m: Any, until_ns: int, event: Any) -> tuple[int, int]:
    """See `emp.access.venue.advance`; over once all decisions are made and both sides have a price."""
    p = m.pace[0]
    if p.made >= p.decisions and two_sided(m.ours.flow.book):
        return NOTHING_LEFT, 0
    forget_told(m.ours)
    return show_row(m.ours, _next_row(m, until_ns, event[0]), until_ns, event)


@kernel
def contest_report(m: Any, k: int, message: Any) -> None:
    """See `emp.access.venue.report`."""
    reactive_report(m.ours, k, message)


@kernel
def contest_send(m: Any, message: Any) -> bool:
    """See `emp.access.venue.send`."""
    return bool(reactive_send(m.ours, message))


@kernel
def contest_idle(m: Any) -> bool:
    """See `emp.access.venue.idle`."""
    return bool(reactive_idle(m.ours))


@kernel
def contest_again(m: Any) -> bool:
    """See `emp.access.venue.again`."""
    return bool(reactive_again(m.ours))


register(Contest, Kernels(contest_advance, contest_report, contest_send, contest_idle, contest_again))


def worth_at_touch(m: Contest | Reactive) -> float:
    """What the engine's account comes to, ticks times lots: what is held counts at the touch that would take it."""
    ours = m.ours if isinstance(m, Contest) else m
    v, b = ours.venue[0], ours.flow.book
    position = int(v["position"])
    touch = int(b[BEST]) if position > 0 else int(b[BEST + 1])
    return float(v["cash"] - v["fees"]) + position * touch - abs(position) * float(v["taker_fee"])
