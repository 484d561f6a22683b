"""Does resting pay for itself in a market? A naive maker in many short sessions, with intervals.

What a lot earned in a session is mostly the luck of the inventory that was left when the price moved. The
markout, a fill's worth at mid a fixed number of events later, has that luck only for as long as it looks, and
tells spread earned from price moved: the same question with a fraction of the variance. Sessions have their
own seeds, so they are independent, and a bootstrap over whole sessions keeps whatever lasts within one.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from emp.core.ids import generator
from emp.core.records import Array
from emp.sim.measure.maker import MakerResult, naive_maker
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market

EVERY = 10  # events between decisions
HORIZONS = (10, 100, 1_000)  # events after the decision that follows a fill
LEVEL = 0.95
RESAMPLES = 2_000
WARMUP = 5_000


class Estimate(msgspec.Struct):
    """A mean per lot in ticks and its interval."""

    value: float
    low: float
    high: float


class MakerStudy(msgspec.Struct):
    """A naive maker in one market, after fees unless it says otherwise."""

    market: str
    sessions: int  # the effective number of samples: sessions are independent
    events: int
    lots: int
    maker_fee: float
    per_lot: Estimate  # position at mid at the end of each session
    per_lot_before_fees: Estimate
    markouts: dict[str, Estimate]  # by horizon in events

    @property
    def verdict(self) -> str:
        """What the interval of the money made says."""
        if self.per_lot.low > 0:
            return "earns"
        return "loses" if self.per_lot.high < 0 else "breaks even"


def study_maker(
    name: str,
    params: Array,
    maker_fee: float,
    taker_fee: float,
    sessions: int = 400,
    decisions: int = 1_000,
    start_px: int = 100_000,
    seed: int = 1,
    progress: Callable[[float], None] = lambda _: None,
) -> MakerStudy:
    """Run the maker in `sessions` fresh markets; fees in ticks per lot."""
    latency = LatencyConfig()
    sums = np.zeros((sessions, 2 + len(HORIZONS), 2))  # money and lots, per estimate
    events, lots = 0, 0
    for k in range(sessions):
        market = Market(params, seed + k, start_px)
        market.run(2**62, WARMUP)
        done = naive_maker(market, seed + k, latency, maker_fee, taker_fee, decisions, EVERY)
        sums[k] = _sums(done)
        events += done.events
        lots += done.lots
        progress((k + 1) / sessions)
    made = [_estimate(sums[:, j], generator(seed, "maker", j)) for j in range(sums.shape[1])]
    return MakerStudy(
        name,
        sessions,
        events,
        lots,
        maker_fee,
        made[0],
        made[1],
        {str(h): made[2 + j] for j, h in enumerate(HORIZONS)},
    )


def _sums(done: MakerResult) -> Array:
    rows = [(done.pnl, done.lots), (done.pnl + done.fees, done.lots)]
    return np.array(rows + [done.markout(h // EVERY) for h in HORIZONS], np.float64)


def _estimate(sums: Array, rng: np.random.Generator) -> Estimate:
    """Ratio of sums over sessions, and its percentile bootstrap over whole sessions."""
    n = len(sums)
    drawn = np.zeros((RESAMPLES, 2))
    for i in range(RESAMPLES):
        drawn[i] = sums[rng.integers(0, n, n)].sum(axis=0)
    ratio = drawn[:, 0] / np.maximum(1.0, drawn[:, 1])
    low, high = np.quantile(ratio, (0.5 - LEVEL / 2, 0.5 + LEVEL / 2))
    money, lots = sums.sum(axis=0)
    return Estimate(float(money / max(1.0, lots)), float(low), float(high))
