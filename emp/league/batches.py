"""Rollouts of a player in a learned surrogate: batches of worlds that decide together and leap together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.ids import generator
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.league.rollouts import PATH, choose, write_path
from emp.league.seats import FEATURES, VIEW
from emp.sim.surrogate.artifact import Learned
from emp.sim.surrogate.encode import encode
from emp.sim.surrogate.leap import leap, new_batch, seat, world_of
from emp.sim.surrogate.network import forward, new_room
from emp.sim.world.desk import SLOTS, run_desk
from emp.sim.world.market import Market
from emp.train.data.leaps import MOVES

BATCH = 128
"""Worlds that leap together."""


class Terms(NamedTuple):
    """What is the same for all worlds of a batch, and scratch."""

    params: Array  # LAW, shape (1,)
    latency: Array  # LATENCY, shape (1,)
    scale: Array  # SCALE, shape (1,)
    x: Array  # float64[FEATURES], the players' scratch
    odds: Array  # float32[MOVES]
    own: Array  # int64[SLOTS, 3]


@kernel
def decide_all(batch: Any, terms: Any, me: Any, views: Any, done: float, room: Any) -> None:
    """Let the player decide in all worlds, let its orders arrive, and write the network's inputs."""
    for i in range(len(batch.states)):
        world = world_of(batch, terms.params, terms.latency, i)
        there = choose(world, me, views[i], done, terms.x)
        run_desk(world, there, 1 << 30)
        latent = batch.latents[i]
        encode(world, terms.scale[0], latent.live, room.x[i], latent.slots)


@kernel
def leap_all(batch: Any, terms: Any, room: Any, tables: Any, every: int) -> None:
    """Let all worlds leap by the network's outputs."""
    for i in range(len(batch.states)):
        world = world_of(batch, terms.params, terms.latency, i)
        leap(world, batch.latents[i], room.y[i], tables, terms.scale[0], every, terms.odds, terms.own)


@kernel
def roll_batch(
    batch: Any, terms: Any, me: Any, views: Any, every: int, net: Any, room: Any, tables: Any, path: Any
) -> None:
    """Play an episode in every world of a batch; `path` is PATH[worlds, decisions + 1]."""
    n, decisions = path.shape[0], path.shape[1] - 1
    for t in range(decisions + 1):
        for i in range(n):
            world = world_of(batch, terms.params, terms.latency, i)
            write_path(world, path[i, t], path[i, max(0, t - 1)])
        if t == decisions:
            return
        decide_all(batch, terms, me, views, (t + 1) / decisions, room)
        forward(net, room, n)
        leap_all(batch, terms, room, tables, every)


def learned_rollouts(
    learned: Learned,
    params: Array,
    states: Sequence[Market],
    me: Array,
    *,
    episodes: int,
    decisions: int,
    latency: Array,
    fees: tuple[float, float],
    seed: int,
) -> Array:
    """Play a SEAT, shape (1,), in a surrogate: PATH, as `league.rollouts.rollouts` gives it for the simulator.

    `params` is the LAW of the market. Episode k begins in state k % len(states).
    """
    network, tables, every = learned.network(), learned.tables(), learned.manifest.every
    out = np.zeros((episodes, decisions + 1), PATH)
    scratch = np.zeros(len(FEATURES)), np.zeros(MOVES, np.float32), np.zeros((SLOTS, 3), np.int64)
    terms = Terms(params, latency, learned.scale, *scratch)
    for first in range(0, episodes, BATCH):
        n = min(BATCH, episodes - first)
        luck = generator(seed, "surrogate", first).integers(0, 2**63, (n, 2), dtype=np.uint64)
        batch, room, views = new_batch(n), new_room(n), np.zeros(n, VIEW)
        seat(batch, [states[(first + i) % len(states)] for i in range(n)], luck, fees)
        roll_batch(batch, terms, me[0], views, every, network, room, tables, out[first : first + n])
    return out
