"""One player alone in a market, decided every so many events: the same player in a simulated market or a surrogate.

A world runs whatever flow it was given (`sim/world/tape.py`), so a rollout does not know which of them it is in. A
player sees the book, sends its orders, and they reach the book before the market goes on to the next decision.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emp.core.ids import generator
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.league.match import KEEP
from emp.league.seats import FEATURES, VIEW, decide, look
from emp.sim.book.book import BEST
from emp.sim.capacity.trade import two_sided
from emp.sim.world.desk import World, decision_ns, deliver, new_desk, run_desk
from emp.sim.world.market import Market

PATH = np.dtype(
    [
        ("mid", "f8"),  # ticks; the last one that was there
        ("position", "f8"),  # lots
        ("cash", "f8"),  # less fees, ticks times lots
        ("lots", "f8"),  # traded so far
        ("maker_lots", "f8"),
        ("spread", "f8"),  # ticks
    ],
    align=True,
)
"""What is true at the venue as a decision is made."""


@kernel
def write_path(world: Any, row: Any, before: Any) -> None:
    """Write a PATH row; where a side has no price, mid and spread are those of the row before."""
    b, d = world.flow.book, world.desk[0]
    if two_sided(b):
        row.mid = 0.5 * (b[BEST] + b[BEST + 1])
        row.spread = b[BEST + 1] - b[BEST]
    else:
        row.mid, row.spread = before.mid, before.spread
    row.position = d.position
    row.cash = d.cash - d.fees
    row.lots = d.maker_lots + d.taker_lots
    row.maker_lots = d.maker_lots


@kernel
def choose(world: Any, me: Any, v: Any, done: float, x: Any) -> int:
    """Let the player decide on the book as it is; return when the last of its orders is there, ns."""
    b, s, d = world.flow.book, world.flow.state[0], world.desk[0]
    deliver(world, s.now)
    act = decision_ns(world)
    if two_sided(b):
        look(b, v, KEEP)
        decide(world, me, v, act, done, x)
    return max(s.now, int(d.last_in))


@kernel
def roll(world: Any, me: Any, v: Any, decisions: int, every: int, x: Any, path: Any) -> None:
    """Decide `decisions` times, once every `every` events of the flow; `path` gets a PATH row more than that."""
    for t in range(decisions + 1):
        write_path(world, path[t], path[max(0, t - 1)])
        if t == decisions:
            return
        there = choose(world, me, v, (t + 1) / decisions, x)
        n = run_desk(world, there, every)
        run_desk(world, 2**62, every - n)


Start = Callable[[Market, Array], Any]
"""Given a state of the market and uint64[1] of luck: the flow that goes on from it."""


def simulated(state: Market, luck: Array) -> Any:
    """The simulated market itself, from a clone of a state."""
    flow = state.clone().flow
    flow.rng[:] = luck
    return flow


def rollouts(
    states: Sequence[Market],
    me: Array,
    start: Start,
    *,
    episodes: int,
    decisions: int,
    every: int,
    latency: Array,
    fees: tuple[float, float],
    seed: int,
    first: int = 0,
) -> Array:
    """Play a SEAT, shape (1,), alone; PATH, shape (episodes, decisions + 1).

    Episode `k` begins in state `k % len(states)`; seed and k name its luck, so two worlds meet the same draws of
    latency.
    """
    out = np.zeros((episodes, decisions + 1), PATH)
    x = np.zeros(len(FEATURES))
    for k in range(episodes):
        luck = generator(seed, "rollout", first + k).integers(0, 2**63, 2, dtype=np.uint64)
        flow = start(states[(first + k) % len(states)], luck[:1])
        world = World(flow, new_desk(*fees), latency, luck[1:].copy())
        roll(world, me[0], np.zeros(1, VIEW)[0], decisions, every, x, out[k])
    return out
