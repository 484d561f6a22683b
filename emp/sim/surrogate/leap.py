"""Worlds that a learned surrogate carries from decision to decision, many at once.

A `FlowLeap` is a flow like any other to a desk: orders take their time to it, stand in its book, are filled and
reported. Its next event is never due, since a leap is made for a whole batch: when all worlds have been decided in,
`leap` draws what happens to each. The fills come half-way through a leap, so that they are known before the next
decision.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.simd import aligned
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    FILL,
    LIVE,
    LO,
    MASK,
    OWN_LIVE,
    POST_ONLY,
    SELL,
    clear_trade,
    level_qty,
    new_book,
    next_level,
)
from emp.sim.book.matching import submit
from emp.sim.flow.state import STATE
from emp.sim.surrogate.outcome import LATENT, draw_outcome
from emp.sim.surrogate.settle import duration_ns, execute, settle
from emp.sim.world.desk import DESK, SLOTS, World, collect, new_desk, own_live, reap
from emp.sim.world.market import Market
from emp.sim.world.tape import NEVER, register
from emp.train.data.leaps import LEVELS

TICKS, ORDERS = 2048, 128
FILLS = 64
"""Of a surrogate's book: one order a price, and ours."""


class FlowLeap(NamedTuple):
    """`FlowWorld`, without a flow's clock."""

    book: Array
    fills: Array
    state: Array
    params: Array
    rng: Array


@kernel
def never(flow: Any) -> None:
    """Nothing happens by itself."""
    flow.state[0].next = NEVER


register(FlowLeap, never)


class Batch(NamedTuple):
    """Many worlds: row i of each array is the i-th's."""

    books: Array  # int32[n, words]
    fills: Array  # FILL[n, FILLS]
    states: Array  # STATE[n]
    luck: Array  # uint64[n, 2]: of the market, of the desk
    desks: Array  # DESK[n]
    latents: Array  # LATENT[n]


def new_batch(n: int) -> Batch:
    """Room for `n` worlds; `seat` fills it."""
    words = len(new_book(1_000, TICKS, ORDERS))
    return Batch(
        np.zeros((n, words), np.int32),
        np.zeros((n, FILLS), FILL),
        aligned(np.zeros(n, STATE)),
        np.zeros((n, 2), np.uint64),
        np.zeros(n, DESK),
        np.zeros(n, LATENT),
    )


@kernel
def copy_side(source: Any, b: Any, fills: Any, side: int) -> None:
    """Show the best LEVELS prices of a side of another book, one order a price."""
    px = int(source[BEST + side])
    end = int(source[LO]) + (0 if side == BUY else int(source[MASK]))
    for _ in range(LEVELS):
        if px == end:
            return
        submit(b, fills, side, px, level_qty(source, side, px), POST_ONLY, 0, 0)
        px = next_level(source, side, px)


def seat(batch: Batch, states: Sequence[Market], luck: Array, fees: tuple[float, float]) -> None:
    """Let world i begin where `states[i]` stands, with the luck of row i (uint64[n, 2]) and a flat desk."""
    for i, state in enumerate(states):
        book = state.book
        middle = (int(book[BEST]) + int(book[BEST + 1])) >> 1
        _empty(batch.books[i], middle - TICKS // 2)
        batch.states[i] = state.state[0]
        batch.states[i]["next"] = NEVER
        copy_side(book, batch.books[i], batch.fills[i], BUY)
        copy_side(book, batch.books[i], batch.fills[i], SELL)
        batch.latents[i]["live"] = max(1, int(book[LIVE]) - int(book[OWN_LIVE]))
        batch.desks[i] = new_desk(*fees)[0]
    batch.luck[: len(states)] = luck


_TEMPLATE = new_book(1_000, TICKS, ORDERS)


def _empty(book: Array, lo: int) -> None:
    book[:] = _TEMPLATE
    book[LO] = book[BEST] = lo
    book[BEST + 1] = lo + TICKS - 1


@kernel
def world_of(batch: Any, params: Any, latency: Any, i: int) -> Any:
    """The i-th world."""
    flow: Any = FlowLeap(batch.books[i], batch.fills[i], batch.states[i : i + 1], params, batch.luck[i, 0:1])
    return World(flow, batch.desks[i : i + 1], latency, batch.luck[i, 1:2])


@kernel
def leap(world: Any, latent: Any, y: Any, tables: Any, scale: Any, every: int, odds: Any, own: Any) -> None:
    """Carry a world, whose orders have arrived, to its next decision; `y` is the network's output for it.

    `odds` float32[MOVES] and `own` int64[SLOTS, 3] are scratch.
    """
    b, s, d = world.flow.book, world.flow.state[0], world.desk[0]
    draw_outcome(y, tables, latent, odds, world.flow.rng)
    began, mid = int(s.now), 0.5 * (b[BEST] + b[BEST + 1])
    lasts = duration_ns(latent, scale, s)
    s.now = began + lasts // 2
    clear_trade(b)
    execute(world, latent)
    collect(world)
    s.now = began + lasts
    settle(world, latent, scale, mid, began, every, own)
    if b[OWN_LIVE] != own_live(d):
        reap(world)


__all__ = ["SLOTS", "Batch", "FlowLeap", "leap", "new_batch", "seat", "world_of"]
