"""What a transition model knows of a moment: a few dimensionless numbers, the side that we would trade facing up.

    essentials = f(forecast, MarketState, trading costs here, inventory, the order at rest)

Whatever has a direction is signed towards the *facing* side (`facing`): that of the order at rest, else the one that
closes what is held, else the one that the forecast points to. So buying and selling are the same to the model, and
three actions are enough: wait, take, rest where nothing rests; keep, cancel, move where something does. Money is in
units of what the mid moves within a step, past-only: unit = max(sigma sqrt(step), 1/2) ticks. The spread is no unit
here: it is one tick now and thirty a moment later, and what is held is not worth thirty times as much then.
"""

from typing import Any

import numpy as np

from emp.core.codes import EventFlag, WorkingState
from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_NAMES, HORIZONS, INTERVAL_SIGMAS
from emp.decision.rule import better_side
from emp.plan.transition import BOUND

RESTING = int(WorkingState.RESTING)
NO_SIZE = int(EventFlag.NO_SIZE)

LONGEST_EVENTS = 2
"""Index of the longest event horizon: that of a step."""

ESSENTIALS = (
    "held",  # 1 where a position is open
    "resting",  # 1 where an order of ours rests
    "ahead",  # lots ahead of our order, or of one that would be posted, over itself and the median touch
    "behind",  # units that the order is behind the touch; below 0 before it
    "age",  # of the order at rest, steps
    *(f"mean_{name}" for name in HORIZON_NAMES),  # expected move, units
    "sigma",  # of the move over the longest event horizon, units
    "spread",  # units
    "log_spread",  # log ticks
    "qimbalance",
    "ofi_norm",
    "microprice_off",
    "flow_on_queue",  # log of the lots expected to trade into our side within a step, over what is ahead
    "flow_balance",  # lots that trade into our side less those into the other, over both
    "adverse",  # units that the mid moves against a fill at rest on our side
    "adverse_other",
    "taker_fee",  # units
    "maker_fee",
    "activity",  # log of the event rate now over the usual
)
WIDTH = len(ESSENTIALS)

HOLD, TAKE, REST = 0, 1, 2
"""The model's actions. Where an order rests they mean: keep it, cancel it, move it to where one would be posted."""
ACTIONS = 3


@kernel
def facing(account: Any, working: Any, standing: Any, edge: float) -> int:
    """The side that the moment is about: +1 buy, -1 sell."""
    if working.state == RESTING:
        return int(working.side)
    if account.position != 0:
        return -1 if account.position > 0 else 1
    return better_side(standing, account, edge)


@kernel
def unit_of_step(sigma_ticks: float, step_events: float) -> float:
    """Ticks that the mid moves within a step, as a random walk of past moves would have it; at least half a tick."""
    return float(max(sigma_ticks * np.sqrt(step_events), 0.5))


@kernel
def write_essentials(  # noqa: PLR0913
    z: Any,
    event: Any,
    state: Any,
    f: Any,
    e: Any,
    account: Any,
    working: Any,
    costs: Any,
    side: int,
    unit: float,
    of_forecast: float,
    px: int,
    ahead: float,
    step_events: float,
) -> None:
    """Write the essentials into `z`, float32[>= WIDTH], in the order of ESSENTIALS.

    Args:
        event, state, f, e, account, working, costs: EVENT, MARKET_STATE, FORECAST, ESTIMATES, ACCOUNT, WORKING and
            COSTS records.
        side: as `facing` has it.
        unit: ticks.
        of_forecast: units in one unit of `delta_hat`.
        px, ahead: price of the order at rest, or of the one that would be posted, and lots ahead of it.
        step_events: events of a step.
    """
    touch = event.bid_px[0] if side > 0 else event.ask_px[0]
    spread = float(event.ask_px[0] - event.bid_px[0])
    own = e.volume_bid if side > 0 else e.volume_ask
    other = e.volume_ask if side > 0 else e.volume_bid
    step_ns = step_events * e.elapsed_ns
    z[0] = 1.0 if account.position != 0 else 0.0
    z[1] = 1.0 if working.state == RESTING else 0.0
    z[2] = 1.0 if event.flags & NO_SIZE else ahead / (ahead + max(e.depth, 1.0))
    z[3] = side * (touch - px) / unit
    z[4] = 0.0
    if working.state == RESTING and step_ns > 0.0:
        z[4] = min((event.ts - working.ts) / step_ns, 8.0)
    for h in range(HORIZONS):
        z[5 + h] = side * f.mean[h] * of_forecast
    k = 5 + HORIZONS
    z[k] = (f.interval[LONGEST_EVENTS, 1] - f.interval[LONGEST_EVENTS, 0]) * of_forecast / INTERVAL_SIGMAS
    z[k + 1] = spread / unit
    z[k + 2] = np.log(spread)
    z[k + 3] = side * state.qimbalance
    z[k + 4] = side * state.ofi_norm
    z[k + 5] = side * state.microprice_off
    z[k + 6] = np.log((own * step_events + 0.1) / (ahead + 1.0))
    z[k + 7] = (own - other) / (own + other + 1e-9)
    z[k + 8] = (e.adverse_bid if side > 0 else e.adverse_ask) / unit
    z[k + 9] = (e.adverse_ask if side > 0 else e.adverse_bid) / unit
    z[k + 10] = costs.taker_fee / unit
    z[k + 11] = costs.maker_fee / unit
    z[k + 12] = np.log(max(state.refresh_hz * e.elapsed_ns * 1e-9, 1e-3))


@kernel
def standardise(z: Any, centre: Any, scale: Any) -> None:
    """Bring essentials to the model's location and scale, bounded."""
    for k in range(z.size):
        x = (z[k] - centre[k]) / scale[k]
        z[k] = min(max(x, -BOUND), BOUND)
