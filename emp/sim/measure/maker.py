"""A naive two-sided maker: joins both best prices with a fixed size and follows them, inside a position limit.

It knows nothing. What it earns is the market's answer to "does resting pay for itself here?": under
zero-intelligence flow it does, where flow knows something it does not.
"""

from typing import Any

import msgspec
import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.rng import seeded
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, LO, MASK, POST_ONLY, SELL
from emp.sim.world.desk import (
    FREE,
    RESTING,
    SLOTS,
    World,
    decision_ns,
    deliver,
    desk_cancel,
    desk_new,
    new_desk,
    run_desk,
)
from emp.sim.world.latency import LatencyConfig, latency_record
from emp.sim.world.market import Market
from emp.sim.world.observation import OBSERVATIONS, write_observation
from emp.sim.world.tape import TapeMarket


class MakerResult(msgspec.Struct):
    """What a maker did; money in ticks times lots."""

    pnl: float
    fees: float
    lots: int
    maker_fills: int
    posted_lots: int
    events: int
    path: Array  # float64 (decisions, 4), before each: mid, position, cash less fees, lots traded so far
    mean_ahead: float

    @property
    def per_lot(self) -> float:
        """Ticks earned per lot traded, after fees."""
        return self.pnl / self.lots if self.lots else 0.0

    def markout(self, decisions: int) -> tuple[float, int]:
        """What all fills were worth `decisions` after the one they came before, at mid; and their lots.

        In ticks times lots, after fees. Fills of the last `decisions` are left out.
        """
        mid, position, cash, lots = self.path.T
        bought, paid = np.diff(position), -np.diff(cash)
        n = len(bought) - decisions
        if n <= 0:
            return 0.0, 0
        later = mid[1 + decisions :]
        return float(np.sum(bought[:n] * later - paid[:n])), int(lots[n] - lots[0])


@kernel
def quote(world: Any, now: int, bid: int, ask: int, size: int, limit: int) -> None:
    """Keep one order at each best price: withdraw those elsewhere, post where there is none."""
    d = world.desk[0]
    have_bid, have_ask = False, False
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE:
            continue
        want = bid if o.side == BUY else ask
        if o.state == RESTING and o.px != want:
            desk_cancel(world, now, slot)
        if o.side == BUY:
            have_bid = True
        else:
            have_ask = True
    if not have_bid and d.seen_position + size <= limit:
        desk_new(world, now, BUY, bid, size, POST_ONLY)
    if not have_ask and d.seen_position - size >= -limit:
        desk_new(world, now, SELL, ask, size, POST_ONLY)


@kernel
def run_maker(world: Any, decisions: int, every: int, size: int, limit: int, obs: Any, path: Any) -> int:
    """Decide `decisions` times, once every `every` events; return the events.

    Each decision sees the book as it was a feed latency ago, and acts after the strategy's own compute time.
    `obs` receives the observation of each decision, `path` its row of `MakerResult.path`.
    """
    world = borrowed(world)
    b, d = world.flow.book, world.desk[0]
    n = 0
    for i in range(decisions):
        n += run_desk(world, 2**62, every)
        bid, ask = int(b[BEST]), int(b[BEST + 1])
        good = bid != b[LO] and ask != b[LO] + b[MASK]
        write_observation(world, obs)
        path[i, 0] = 0.5 * (bid + ask) if good else path[max(0, i - 1), 0]
        path[i, 1] = d.position
        path[i, 2] = d.cash - d.fees
        path[i, 3] = d.maker_lots + d.taker_lots
        act = decision_ns(world)
        n += run_desk(world, act, 1 << 30)
        deliver(world, act)
        if good:
            quote(world, act, bid, ask, size, limit)
    return n


def naive_maker(
    market: Market | TapeMarket,
    seed: int,
    latency: LatencyConfig,
    maker_fee: float,
    taker_fee: float,
    decisions: int = 20_000,
    every: int = 10,
    size: int = 1,
    limit: int = 10,
) -> MakerResult:
    """Run the maker in a market; fees in ticks per lot."""
    d = new_desk(maker_fee, taker_fee)
    path = np.zeros((decisions, 4))
    world = World(market.flow, d, latency_record(latency), seeded(seed, "maker"))
    n = run_maker(world, decisions, every, size, limit, np.zeros(OBSERVATIONS, np.float32), path)
    lots = int(path[-1, 3])
    fills = int(d["maker_fills"][0])
    mid, position, cash, _ = path[-1]
    return MakerResult(
        float(cash + position * mid),
        float(d["fees"][0]),
        lots,
        fills,
        int(d["posted_lots"][0]),
        int(n),
        path,
        float(d["ahead_sum"][0]) / max(1, fills),
    )
