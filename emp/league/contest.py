"""A match with an engine in it: its rule trades through the venue port beside players of the league.

The engine's compiled loop (`emp.engine.trade`) drives the market: between two of its events the others' commands reach
the same book, and once in so many events of the flow they decide, as in `emp.league.match`. The engine decides on every
event that it is shown. Orders of all stand in the same first-in-first-out queues.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.access.venue import NOTHING_LEFT, Kernels, register
from emp.core.messages import CANCEL as CANCEL_MESSAGE
from emp.core.messages import REPLACE
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.league.match import KEEP, take_turn
from emp.league.seats import look
from emp.sim.book.book import BEST, N_FILLS, OWN_LIVE
from emp.sim.book.view import mark_visible, write_event
from emp.sim.capacity.trade import two_sided
from emp.sim.world.desk import arrive, book_fills, own_live, reap
from emp.sim.world.latency import CANCEL, ENTRY, FEED, MODIFY, draw_latency
from emp.sim.world.market import flow_event, show_book
from emp.sim.world.venue import (
    Reactive,
    arrive_ours,
    book_ours,
    forget_told,
    reactive_again,
    reactive_idle,
    reactive_report,
    reap_ours,
    send_at,
    show_row,
)

NOBODY = -1
"""Who has booked already, where nobody's order arrived. Engines count from 0, the others after them."""

PACE = np.dtype(
    [
        ("decisions", "i8"),  # of an episode
        ("every", "i8"),  # events of the flow between them
        ("events", "i8"),  # of the flow since the last
        ("made", "i8"),
    ],
    align=True,
)

TALLY = np.dtype(
    [
        ("maker_fills", "i8"),
        ("ahead", "i8"),  # lots before it at its fills as maker, summed
        ("position", "f8"),  # summed over decisions
        ("square", "f8"),  # of the position, summed over decisions
    ],
    align=True,
)


class Contest(NamedTuple):
    """A simulated market, the engines' accounts in it, and the other players."""

    engines: Any  # a Reactive for each engine, all of one flow; the first is the one that drives the market
    worlds: Any  # a World for each of the others, of the same flow
    seats: Array  # SEAT[others]
    seen: Array  # VIEW[1]
    pace: Array  # PACE[1]
    tally: Array  # TALLY[engines and others]; fills of engines alone
    x: Array  # float64[FEATURES], scratch


@kernel
def _book_all(m: Any, at: int, but: int) -> None:
    """Have everybody book the logged fills, but for whose order it was that arrived, and empty the log."""
    n = len(m.engines)
    b, fills = m.engines[0].flow.book, m.engines[0].flow.fills
    for e in range(n):
        owner = m.engines[e].venue[0].owner
        for i in range(b[N_FILLS]):
            if fills[i].maker == owner:
                m.tally[e].maker_fills += 1
                m.tally[e].ahead += fills[i].ahead
        if e != but:
            book_ours(m.engines[e], at)
    for i in range(len(m.worlds)):
        if n + i != but:
            book_fills(m.worlds[i])
    b[N_FILLS] = 0


@kernel
def _reap_all(m: Any, at: int) -> None:
    """Tell everybody of orders that left the book without a trade."""
    live = 0
    for e in range(len(m.engines)):
        live += m.engines[e].venue[0].resting
    for i in range(len(m.worlds)):
        live += own_live(m.worlds[i].desk[0])
    if m.engines[0].flow.book[OWN_LIVE] != live:
        for e in range(len(m.engines)):
            reap_ours(m.engines[e], at)
        for i in range(len(m.worlds)):
            reap(m.worlds[i])


@kernel
def _hold(tally: Any, position: int) -> None:
    tally.position += position
    tally.square += float(position) * position


@kernel
def _decide_all(m: Any) -> None:
    """Let the others decide on the book as it is."""
    v, p = m.seen[0], m.pace[0]
    b, n = m.engines[0].flow.book, len(m.engines)
    p.made += 1
    p.events = 0
    good = two_sided(b)
    if good:
        look(b, v, KEEP)
    for e in range(n):
        _hold(m.tally[e], m.engines[e].venue[0].position)
    for i in range(len(m.worlds)):
        _hold(m.tally[n + i], m.worlds[i].desk[0].position)
        take_turn(m.worlds[i], m.seats[i], v, good, p.made / p.decisions, m.x)


@kernel
def _first(m: Any, until_ns: int) -> tuple[int, int]:
    """Whose command is the first to arrive by `until_ns`, and when; NOBODY where none does."""
    due, who, n = until_ns, NOBODY, len(m.engines)
    for e in range(n):
        v = m.engines[e].venue[0]
        if v.in_n > 0 and m.engines[e].arrivals[v.in_first] < due + (who < 0):
            due, who = m.engines[e].arrivals[v.in_first], e
    for i in range(len(m.worlds)):
        d = m.worlds[i].desk[0]
        if d.in_n > 0 and d.inbox[d.in_first].due < due + (who < 0):
            due, who = d.inbox[d.in_first].due, n + i
    return who, due


@kernel
def next_row(m: Any, until_ns: int, row: Any) -> bool:
    """Let the market and everybody's orders go on to the next book that is written into `row`, or to `until_ns`."""
    flow, last, p, n = m.engines[0].flow, m.engines[0].last, m.pace[0], len(m.engines)
    b, s = flow.book, flow.state[0]
    who, due = _first(m, until_ns)
    if s.next <= due:
        flow_event(borrowed(flow))
        write_event(borrowed(b), row, s.now, s.seq, 0)
        mark_visible(row, last[0])
        _book_all(m, s.now, NOBODY)
        _reap_all(m, s.now)
        p.events += 1
        if p.events >= p.every:
            _decide_all(m)
        return True
    if who == NOBODY:
        return False
    if who < n:
        at = arrive_ours(m.engines[who])
        s.now = max(s.now, at)  # what others are told of it leaves then
    else:
        arrive(m.worlds[who - n])
        at = s.now
    _book_all(m, at, who)
    _reap_all(m, at)
    show_book(b, s, row, at, last)
    return True


@kernel
def is_over(m: Any) -> bool:
    """Whether all decisions are made and both sides have a price, at which what is held can be counted."""
    return bool(m.pace[0].made >= m.pace[0].decisions and two_sided(m.engines[0].flow.book))


@kernel
def contest_advance(m: Any, until_ns: int, event: Any) -> tuple[int, int]:
    """See `emp.access.venue.advance`."""
    if is_over(m):
        return NOTHING_LEFT, 0
    ours = m.engines[0]
    forget_told(ours)
    return show_row(ours, next_row(m, until_ns, event[0]), until_ns, event)


@kernel
def send_as_others(ours: Any, message: Any) -> bool:
    """Put an engine's command on its way as late as anybody's here: feed, time to compute, its own leg."""
    leg = MODIFY if message.kind == REPLACE else CANCEL if message.kind == CANCEL_MESSAGE else ENTRY
    load = ours.flow.state[0].load
    late = draw_latency(ours.latency[0], FEED, load, ours.rng) + int(ours.latency[0].compute_ns)
    return bool(send_at(ours, message, ours.venue[0].seen + late, leg))


@kernel
def contest_report(m: Any, k: int, message: Any) -> None:
    """See `emp.access.venue.report`."""
    reactive_report(m.engines[0], k, message)


@kernel
def contest_send(m: Any, message: Any) -> bool:
    """See `emp.access.venue.send`."""
    return bool(send_as_others(m.engines[0], message))


@kernel
def contest_idle(m: Any) -> bool:
    """See `emp.access.venue.idle`."""
    return bool(reactive_idle(m.engines[0]))


@kernel
def contest_again(m: Any) -> bool:
    """See `emp.access.venue.again`."""
    return bool(reactive_again(m.engines[0]))


register(Contest, Kernels(contest_advance, contest_report, contest_send, contest_idle, contest_again))


def worth_at_touch(ours: Reactive) -> float:
    """What an engine's account comes to, ticks times lots: what is held counts at the touch that would take it."""
    v, b = ours.venue[0], ours.flow.book
    position = int(v["position"])
    touch = int(b[BEST]) if position > 0 else int(b[BEST + 1])
    return float(v["cash"] - v["fees"]) + position * touch - abs(position) * float(v["taker_fee"])
