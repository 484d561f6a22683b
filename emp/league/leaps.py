"""Leaps of the simulator to learn from: what a decision saw, and what the market did until the next one.

Both ends of a leap are decisions' moments: the input is read as soon as the player's orders are there, before the
market goes on, and what came is read `every` events after the decision. Leaps between one-sided books are left out.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emp.core.ids import generator
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.league.rollouts import choose, simulated
from emp.league.seats import FEATURES, VIEW
from emp.sim.book.book import BEST, BUY, LIVE, LO, MASK, OWN_LIVE, PX, QTY, ahead_of, level_qty, next_level
from emp.sim.capacity.trade import two_sided
from emp.sim.flow.params import QUEUE_REACTIVE
from emp.sim.surrogate.encode import EMPTY_LOTS, FAR, displaced, encode, long_order, scale_of
from emp.sim.world.desk import World, new_desk, run_desk
from emp.sim.world.market import Market
from emp.train.data.leaps import (
    AHEAD,
    BURST,
    DISPLACED,
    DURATION,
    FULL,
    GAP,
    LEAP,
    LEVELS,
    NONE,
    PACE,
    PART,
    SIGNS,
    SPLIT,
    SPREAD,
)
from emp.train.data.leaps import (
    LIVE as ORDERS,
)
from emp.train.data.leaps import (
    QTY as QUANTITY,
)


@kernel
def _before(world: Any, slots: Any, was: Any) -> None:
    """Handle, lots and lots ahead of our two orders: int64[2, 3]."""
    b, d = world.flow.book, world.desk[0]
    for side in range(2):
        was[side, 0] = d.orders[slots[side]].handle if slots[side] >= 0 else 0
        if was[side, 0] != 0:
            was[side, 1] = b[was[side, 0] + QTY]
            was[side, 2] = ahead_of(b, was[side, 0])


@kernel
def _fates(world: Any, slots: Any, was: Any, row: Any) -> None:
    """What became of our two orders, and the share that is left before those that were not filled."""
    b, d = world.flow.book, world.desk[0]
    for side in range(2):
        row.fill[side] = -1
        if was[side, 0] == 0:
            continue
        h = int(d.orders[slots[side]].handle)
        if h == 0:
            row.fill[side] = FULL
        elif b[h + QTY] < was[side, 1]:
            row.fill[side] = PART
        else:
            row.fill[side] = NONE
            if was[side, 2] > 0:
                row.real[AHEAD + side] = ahead_of(b, h) / was[side, 2]


@kernel
def _levels(world: Any, side: int, slot: int, unit: float, lots: float, row: Any) -> None:
    """Log quantities of others, and log distances, of a side's best prices."""
    b, d = world.flow.book, world.desk[0]
    mine = int(d.orders[slot].handle) if slot >= 0 else 0
    px = int(b[BEST + side])
    end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
    before = px
    for k in range(LEVELS):
        node = LEVELS - 1 - k if side == BUY else LEVELS + k
        if px == end:
            if k > 0:
                row.real[GAP + node] = np.log1p(FAR)
            continue
        qty = float(level_qty(b, side, px))
        if mine != 0 and b[mine + PX] == px:
            qty -= b[mine + QTY]
        row.real[QUANTITY + node] = np.log(max(EMPTY_LOTS, qty) / lots)
        if k > 0:
            row.real[GAP + node] = np.log1p(min(FAR, abs(px - before) / unit))
        before = px
        px = next_level(b, side, px)


@kernel
def _came(world: Any, scale: Any, mid: float, unit: float, began: int, slots: Any, row: Any) -> None:
    """Write what the market did; `unit` is that of the leap's beginning."""
    b, s, p = world.flow.book, world.flow.state[0], world.flow.params[0]
    now = scale.unit * s.level
    after = 0.5 * (b[BEST] + b[BEST + 1])
    row.move = (after - mid) / unit
    row.real[SPREAD] = np.log((b[BEST + 1] - b[BEST]) / now)
    row.real[DURATION] = np.log(max(1e-6, (s.now - began) * 1e-9 * s.speed / scale.duration))
    row.real[ORDERS] = np.log(max(1, b[LIVE] - b[OWN_LIVE]) / scale.live)
    row.real[BURST] = s.burst[2]
    row.real[PACE] = s.pace[3] - p.pace_start
    for k in range(3):
        row.real[SIGNS + k] = s.own[1 + k]
    qr = p.model == QUEUE_REACTIVE
    row.real[SPLIT] = long_order(s) if qr else 0.0
    for k in range(2):
        row.real[DISPLACED + k] = displaced(s, after, 3 + k, now) if qr else 0.0
    for side in range(2):
        _levels(world, side, slots[side], now, scale.lots, row)


@kernel
def collect_leaps(
    world: Any, me: Any, v: Any, decisions: int, every: int, x: Any, scale: Any, rows: Any
) -> int:
    """Play one episode; `rows` (LEAP) gets its leaps. Returns how many there are."""
    b, s = world.flow.book, world.flow.state[0]
    slots, was = np.zeros(2, np.int64), np.zeros((2, 3), np.int64)
    n = 0
    for t in range(decisions):
        there = choose(world, me, v, (t + 1) / decisions, x)
        done = run_desk(world, there, every)
        good = two_sided(b) and done < every
        row = rows[n]
        mid, unit, began = 0.5 * (b[BEST] + b[BEST + 1]), scale.unit * s.level, s.now
        if good:
            row.real[:] = np.nan
            encode(world, scale, float(max(1, b[LIVE] - b[OWN_LIVE])), row.x, slots)
            _before(world, slots, was)
        run_desk(world, 2**62, every - done)
        if good and two_sided(b):
            _came(world, scale, mid, unit, began, slots, row)
            _fates(world, slots, was, row)
            n += 1
    return n


def market_scale(states: Sequence[Market], every: int) -> Array:
    """SCALE of a market from states of it: medians, and the mean time of `every` events."""
    found = np.zeros((len(states), 4))
    for k, state in enumerate(states):
        book, s = state.book, state.state[0]
        bid, ask = int(book[BEST]), int(book[BEST + 1])
        lots = 0.5 * (level_qty(book, 0, bid) + level_qty(book, 1, ask))
        ahead = state.clone()
        ahead.run(2**62, every)
        speed = float(s["speed"])
        seconds = (ahead.now_ns - state.now_ns) * 1e-9 * speed
        found[k] = (ask - bid) / float(s["level"]), lots, int(book[LIVE]), seconds
    unit, lots, live, seconds = np.median(found, axis=0)
    return scale_of(float(unit), float(max(1.0, lots)), float(live), float(seconds))


def gather(
    states: Sequence[Market],
    players: Callable[[int, np.random.Generator], Array],
    scale: Array,
    *,
    episodes: int,
    decisions: int,
    every: int,
    latency: Array,
    fees: tuple[float, float],
    seed: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Array:
    """LEAP rows of `episodes` episodes; `players(k, rng)` is the SEAT, shape (1,), that plays the k-th."""
    rows = np.zeros(episodes * decisions, LEAP)
    x, n = np.zeros(len(FEATURES)), 0
    for k in range(episodes):
        rng = generator(seed, "leaps", k)
        luck = rng.integers(0, 2**63, 2, dtype=np.uint64)
        flow = simulated(states[int(rng.integers(len(states)))], luck[:1])
        world = World(flow, new_desk(*fees), latency, luck[1:].copy())
        me = players(k, rng)
        n += collect_leaps(world, me[0], np.zeros(1, VIEW)[0], decisions, every, x, scale[0], rows[n:])
        progress((k + 1) / episodes)
    return rows[:n]
