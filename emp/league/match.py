"""Matches: four players in one simulated market, their orders in the same first-in-first-out queues.

Each has a desk, latencies and random numbers of its own, so a change of one player changes what the others meet in
the book and not what they draw. An episode starts from a clone of a state of the market with the flow's random
numbers of its own: whoever sits down, it is the same episode, and a player put in another's place is compared by
common random numbers (a copy of it brings a difference of exactly 0).
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.core.errors import EmpError, UsageError
from emp.core.ids import generator
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.rng import uniform
from emp.core.records import Array
from emp.league.seats import FEATURES, IDLE, SEAT, VIEW, decide, look
from emp.sim.book.book import BEST, N_FILLS, OWN_LIVE, u
from emp.sim.capacity.trade import two_sided
from emp.sim.world.desk import (
    World,
    arrive,
    book_fills,
    decision_ns,
    deliver,
    new_desk,
    own_live,
    reap,
)
from emp.sim.world.latency import LatencyConfig, latency_record
from emp.sim.world.market import Market
from emp.sim.world.tape import next_event

SEATS = 4
KEEP = 0.95
"""Of the average spread and mid, from one decision to the next."""

OUTCOME = np.dtype(
    [
        ("pnl", "f8"),  # ticks times lots after fees; what is held counts at the touch that would take it
        ("lots", "f8"),  # traded
        ("maker_lots", "f8"),
        ("maker_fills", "f8"),
        ("posted_lots", "f8"),
        ("ahead", "f8"),  # lots before us at our fills as maker, summed over fills
        ("position", "f8"),  # mean over decisions, lots
        ("square", "f8"),  # mean of its square
        ("hours", "f8"),
        ("lost", "f8"),  # commands and reports that found a ring full: 0
    ],
    align=True,
)


class Table(NamedTuple):
    """What stays the same for all matches in one market."""

    params: Array  # FLOW, shape (1,)
    fees: tuple[float, float] = (0.0, 0.0)  # of maker and taker, ticks per lot
    decisions: int = 100  # of an episode
    every: int = 20  # market events between decisions
    start_px: int = 100_000
    latency: LatencyConfig = LatencyConfig()


@kernel
def _settle(worlds: Any) -> None:
    """Let every desk book its part of the logged fills."""
    for i in range(SEATS):
        book_fills(worlds[i])
    worlds[0].flow.book[N_FILLS] = 0


@kernel
def _first(worlds: Any, until_ns: int) -> int:
    """The seat whose next command is the first to arrive by `until_ns`, -1 where none does."""
    due, who = until_ns, -1
    for i in range(SEATS):
        d = worlds[i].desk[0]
        if d.in_n > 0 and d.inbox[d.in_first].due < due + (who < 0):
            due, who = d.inbox[d.in_first].due, i
    return who


@kernel
def _due(worlds: Any, who: int, until_ns: int) -> int:
    """When that command arrives."""
    if who < 0:
        return until_ns
    d = worlds[who].desk[0]
    return int(d.inbox[d.in_first].due)


@kernel
def run_seats(worlds: Any, until_ns: int, n_max: int) -> int:
    """Let market and desks go on until `until_ns` or `n_max` market events, in order of time; return the events."""
    flow = borrowed(worlds[0].flow)
    b, s = flow.book, flow.state[0]
    n = 0
    who = _first(worlds, until_ns)
    due = _due(worlds, who, until_ns)
    while n < n_max:
        if who >= 0 and due <= s.next:
            arrive(worlds[who])
            for i in range(SEATS):
                if i != who:
                    book_fills(worlds[i])
            b[N_FILLS] = 0
            who = _first(worlds, until_ns)
            due = _due(worlds, who, until_ns)
        elif s.next <= until_ns:
            next_event(flow)
            n += 1
            if b[u(N_FILLS)] != 0:
                _settle(worlds)
        else:
            break
    live = 0
    for i in range(SEATS):
        live += own_live(worlds[i].desk[0])
    if b[OWN_LIVE] != live:
        for i in range(SEATS):
            reap(worlds[i])
    return n


@kernel
def take_turn(world: Any, me: Any, v: Any, good: bool, done: float, x: Any) -> None:
    """Let a player hear its reports and decide, if both sides of the book have a price (`good`)."""
    if me.kind == IDLE:
        return
    deliver(world, world.flow.state[0].now)
    act = decision_ns(world)
    heard = uniform(world.rng) >= me.deaf
    if good and heard:
        decide(world, me, v, act, done, x)


@kernel
def _close(world: Any, out: Any, decisions: int, began: int) -> None:
    b, d = world.flow.book, world.desk[0]
    touch = b[BEST] if d.position > 0 else b[BEST + 1]
    out.pnl = d.cash - d.fees + d.position * touch - abs(d.position) * d.taker_fee
    out.lots = d.maker_lots + d.taker_lots
    out.maker_lots = d.maker_lots
    out.maker_fills = d.maker_fills
    out.posted_lots = d.posted_lots
    out.ahead = d.ahead_sum
    out.position /= decisions
    out.square /= decisions
    out.hours = (world.flow.state[0].now - began) / 3.6e12
    out.lost = d.overflow


@kernel
def play(worlds: Any, seats: Any, view: Any, decisions: int, every: int, x: Any, out: Any) -> None:
    """Play one episode; `out` (OUTCOME, shape (SEATS,)), zeroed, gets what each player made of it."""
    flow = worlds[0].flow
    b, s, v = flow.book, flow.state[0], view[0]
    began = s.now
    for t in range(decisions):
        run_seats(worlds, 2**62, every)
        good = two_sided(b)
        if good:
            look(b, v, KEEP)
        for i in range(SEATS):
            me, w = seats[i], worlds[i]
            d = w.desk[0]
            out[i].position += d.position
            out[i].square += float(d.position) * d.position
            take_turn(w, me, v, good, (t + 1) / decisions, x)
    while not two_sided(b):
        run_seats(worlds, 2**62, 10)
    for i in range(SEATS):
        _close(worlds[i], out[i], decisions, began)


def states(table: Table, seed: int, n: int, between: int = 2_000) -> list[Market]:
    """`n` states of one undisturbed market, `between` events apart."""
    if n < 1:
        raise UsageError(f"a match needs at least one state of the market, was {n}")
    market = Market(table.params, seed, table.start_px, ticks=4096, orders=4096)
    market.run(2**62, 10_000)
    out = []
    for _ in range(n):
        market.run(2**62, between)
        while not two_sided(market.book):
            market.run(2**62, 10)
        out.append(market.clone())
    return out


def slower(latency: LatencyConfig, times: float) -> LatencyConfig:
    """The same latencies with medians and compute time `times` as long."""
    legs = {
        name: msgspec.structs.replace(leg, median_us=leg.floor_us + times * (leg.median_us - leg.floor_us))
        for name in ("feed", "entry", "modify", "cancel", "report")
        for leg in [getattr(latency, name)]
    }
    return msgspec.structs.replace(latency, compute_us=times * latency.compute_us, **legs)


def match(table: Table, state: Market, seats: Array, seed: int, latency: Array | None = None) -> Array:
    """Seat four players (SEAT, shape (SEATS,)) in a clone of `state`; return OUTCOME, shape (SEATS,).

    Args:
        seed: of the flow from here on and of the desks' latencies, a stream per seat.
        latency: LATENCY, shape (1,), instead of the table's.

    Raises:
        UsageError: not SEATS records.
    """
    if len(seats) != SEATS or seats.dtype != SEAT:
        raise UsageError(f"a match has {SEATS} seats, got {len(seats)}")
    legs = latency_record(table.latency) if latency is None else latency
    luck = generator(seed, "match").integers(0, 2**63, SEATS + 1, dtype=np.uint64)
    flow = state.clone().flow
    flow.rng[:] = luck[SEATS:]
    worlds = tuple(
        World(flow, new_desk(*table.fees, owner=i + 1), legs, luck[i : i + 1].copy()) for i in range(SEATS)
    )
    out = np.zeros(SEATS, OUTCOME)
    play(worlds, seats, np.zeros(1, VIEW), table.decisions, table.every, np.zeros(len(FEATURES)), out)
    if out["lost"].any():
        raise EmpError("match: a player sent more at once than a line to the venue holds")
    return out
