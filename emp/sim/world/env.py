"""A Gymnasium environment: trade one instrument inside the simulated market.

Two action sets, the planner's and the maker's:

- `discrete`: 9 actions, {cross, post, hold} for buying and selling: 0 hold, 1 cross buy, 2 cross sell,
  3 post bid, 4 post ask, 5 post both, 6 withdraw bids, 7 withdraw asks, 8 withdraw all.
- `quotes`: a box of 3: distance of our bid and of our ask from the touch in half spreads (-1 joins the best
  price, towards 1 stands deeper, up to MAX_DEPTH spreads), and the share of the lot size that is quoted.

Every step decides on an observation that is a feed latency old, is charged the strategy's own compute time,
and reaches the book after the entry leg. The reward is the change of worth (cash, position at mid, less fees)
in ticks per lot, less a charge on squared position.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from emp.core.errors import UsageError
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.rng import seeded
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, IOC, LO, MASK, POST_ONLY, SELL, new_fills
from emp.sim.flow.shipped import shipped_flow
from emp.sim.world.desk import (
    FREE,
    RESTING,
    SLOTS,
    World,
    decision_ns,
    deliver,
    desk_cancel,
    desk_new,
    desk_replace,
    new_desk,
    run_desk,
    worth,
)
from emp.sim.world.latency import LatencyConfig, latency_record
from emp.sim.world.market import Market
from emp.sim.world.observation import OBSERVATIONS, write_observation

HOLD, CROSS_BUY, CROSS_SELL, POST_BID, POST_ASK, POST_BOTH, DROP_BID, DROP_ASK, DROP_ALL = range(9)
ACTIONS = 9
MAX_DEPTH = 5.0
WARMUP = 2_000


@kernel
def _drop(world: Any, now: int, side: int, keep_px: int) -> bool:
    """Withdraw resting orders of a side that are not at `keep_px`; return whether one is kept or under way."""
    d = world.desk[0]
    kept = False
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE or o.side != side:
            continue
        if o.state == RESTING and o.px != keep_px:
            desk_cancel(world, now, slot)
        else:
            kept = True
    return kept


@kernel
def _move(world: Any, now: int, side: int, px: int, size: int, limit: int) -> None:
    """Stand at a price with a size: replace what rests elsewhere, post where nothing does."""
    d = world.desk[0]
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE or o.side != side:
            continue
        if o.state == RESTING and size <= 0:
            desk_cancel(world, now, slot)
        elif o.state == RESTING and (o.px != px or o.leaves > size):
            desk_replace(world, now, slot, px, size)
        return
    if size > 0 and d.seen_position * (1 - 2 * side) + size <= limit:
        desk_new(world, now, side, px, size, POST_ONLY)


@kernel
def _post(world: Any, now: int, side: int, px: int, size: int, limit: int) -> None:
    if _drop(world, now, side, px):
        return
    sign = 1 - 2 * side
    if size > 0 and world.desk[0].seen_position * sign + size <= limit:
        desk_new(world, now, side, px, size, POST_ONLY)


@kernel
def _cross(world: Any, now: int, side: int, px: int, size: int, limit: int) -> None:
    if world.desk[0].seen_position * (1 - 2 * side) + size <= limit:
        desk_new(world, now, side, px, size, IOC)


@kernel
def act_discrete(world: Any, now: int, action: int, bid: int, ask: int, size: int, limit: int) -> None:
    """Carry out one of the nine actions at the prices that were seen."""
    nowhere = -(2**60)
    if action == CROSS_BUY:
        _cross(world, now, BUY, ask, size, limit)
    elif action == CROSS_SELL:
        _cross(world, now, SELL, bid, size, limit)
    if action in (POST_BID, POST_BOTH):
        _post(world, now, BUY, bid, size, limit)
    if action in (POST_ASK, POST_BOTH):
        _post(world, now, SELL, ask, size, limit)
    if action in (DROP_BID, DROP_ALL):
        _drop(world, now, BUY, nowhere)
    if action in (DROP_ASK, DROP_ALL):
        _drop(world, now, SELL, nowhere)


@kernel
def act_quotes(world: Any, now: int, action: Any, bid: int, ask: int, size: int, limit: int) -> None:
    """Keep one bid and one ask at the wanted distances."""
    spread = ask - bid
    share = 0.5 * (min(1.0, max(-1.0, action[2])) + 1.0)
    qty = int(np.ceil(share * size)) if share > 0.05 else 0
    for side in range(2):
        away = 0.5 * (min(1.0, max(-1.0, action[side])) + 1.0) * MAX_DEPTH * spread
        px = (bid if side == BUY else ask) - (1 - 2 * side) * int(away)
        _move(world, now, side, px, qty, limit)


@kernel
def step_world(
    world: Any, discrete: bool, choice: int, quotes: Any, every: int, size: int, limit: int, obs: Any
) -> float:
    """Decide, let `every` events happen, observe; return the worth. The decision saw the book before it."""
    world = borrowed(world)
    b, s = world.flow.book, world.flow.state[0]
    bid, ask = int(b[BEST]), int(b[BEST + 1])
    good = bid != b[LO] and ask != b[LO] + b[MASK]
    act = decision_ns(world)
    run_desk(world, act, 1 << 30)
    deliver(world, act)
    if good:
        if discrete:
            act_discrete(world, act, choice, bid, ask, size, limit)
        else:
            act_quotes(world, act, quotes, bid, ask, size, limit)
    run_desk(world, 2**62, every)
    deliver(world, s.now)
    write_observation(world, obs)
    return worth(world)


class MarketEnv(gymnasium.Env[Array, Any]):
    """One market, one trader. `params` is a FLOW record; without one, the calibrated flow that is shipped.

    `fees` are the maker's and the taker's, in ticks per lot.
    """

    def __init__(
        self,
        params: Array | None = None,
        actions: str = "discrete",
        every: int = 10,
        steps: int = 1_000,
        size: int = 1,
        limit: int = 10,
        fees: tuple[float, float] = (0.0, 0.0),
        inventory_charge: float = 0.0,
        latency: LatencyConfig | None = None,
        start_px: int = 100_000,
    ) -> None:
        self.metadata = {"render_modes": []}
        if actions not in ("discrete", "quotes"):
            raise UsageError(f"unknown action set {actions!r}: choose discrete or quotes")
        self._params = shipped_flow() if params is None else params
        self._discrete = actions == "discrete"
        self._every, self._steps, self._size, self._limit = every, steps, size, limit
        self._fees = fees
        self._charge = inventory_charge
        self._latency = latency_record(latency or LatencyConfig())
        self._start_px = start_px
        self.action_space: spaces.Space[Any] = (
            spaces.Discrete(ACTIONS) if self._discrete else spaces.Box(-1.0, 1.0, (3,), np.float32)
        )
        self.observation_space = spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
        self._world: World | None = None
        self._done = 0
        self._worth = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start a new market; the same seed starts the same one."""
        super().reset(seed=seed)
        draw = int(self.np_random.integers(2**31))
        market = Market(self._params, draw, self._start_px)
        market.run(2**62, WARMUP)
        flow = market.flow._replace(fills=new_fills(256))
        self._world = World(flow, new_desk(*self._fees), self._latency, seeded(draw, "env"))
        self._done, self._worth = 0, 0.0
        obs = np.zeros(OBSERVATIONS, np.float32)
        write_observation(self._world, obs)
        return obs, {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Act, let the market go on, and see what came of it."""
        world = self._world
        if world is None:
            raise UsageError("reset the environment before the first step")
        obs = np.zeros(OBSERVATIONS, np.float32)
        choice = int(action) if self._discrete else 0
        quotes = np.zeros(3) if self._discrete else np.asarray(action, np.float64)
        value = step_world(world, self._discrete, choice, quotes, self._every, self._size, self._limit, obs)
        position = int(world.desk["position"][0])
        reward = (value - self._worth) / self._size - self._charge * (position / self._limit) ** 2
        self._worth = float(value)
        self._done += 1
        info = {"position": position, "worth": self._worth, "now_ns": int(world.flow.state["now"][0])}
        return obs, float(reward), False, self._done >= self._steps, info


def vector_env(n: int, **options: Any) -> "gymnasium.vector.SyncVectorEnv":
    """`n` independent markets behind Gymnasium's vector interface; a step costs microseconds, so one process."""
    return gymnasium.vector.SyncVectorEnv([lambda: MarketEnv(**options) for _ in range(n)])


gymnasium.register(id="emp/Market-v0", entry_point="emp.sim.world.env:MarketEnv")
