"""What a day cannot tell event by event, estimated by simulated moments.

A logistic side fitted to one day reproduces each step's odds, but errors far too small to see in a step add up over
hundreds of seconds. Seven numbers are therefore estimated from what simulations look like:

- `herd`: a factor on the weights of past trade signs in a market order's side (moment: the signs' autocorrelation
  at lags 1 to 10);
- `split` and `tail`: how strongly market orders follow the long order at work, and the tail exponent of its length
  (moments: the same at lags 20 to 200, and the memory parameter of the signs);
- `follow`: a factor on the weights of past market orders in the side of limit orders inside the spread (moments: the
  response function, how far the mid has gone with a market order 20, 100 and 300 events later; Bouchaud, Gefen, Potters
  and Wyart, "Fluctuations and response in financial markets", Quantitative Finance 2004);
- `hold`: how firmly market orders, and limit orders inside the spread, push the mid back towards its averages over
  64 and 256 events, and `slow_hold`, towards that over 1024 events (moments: the signature plot to twenty minutes):
  who knows a value trades and quotes towards it. Nothing holds the price for longer than that: a day cannot tell
  whether anything does, and where something does the price is foretold;
- `wander`: a factor on the variance of the level (moments: the autocorrelation of absolute ten-second moves, and the
  slow covariance of log spreads).
"""

from collections.abc import Callable

import numpy as np

from emp.core.records import Array
from emp.sim.fit.moments import EVALUATIONS, Bounded, match
from emp.sim.fit.wander import covariances, half_minutes
from emp.sim.flow.observe import HIT, IN
from emp.sim.flow.params import MEMORY
from emp.sim.flow.qr import HITS, MOVED, TRADES
from emp.sim.measure.estimators import acf, local_whittle, mids, on_grid, signature
from emp.sim.measure.observe_market import observe_market
from emp.sim.world.market import Market

AFTER = (20, 100, 300)
HORIZONS_S = (20.0, 60.0, 200.0, 500.0, 1200.0)
STRETCHES = 48
PARAMETERS = [
    Bounded(1.0, 0.5, 0.0, 3.0),  # herd
    Bounded(0.7, 0.7, 0.0, 3.0),  # split
    Bounded(1.5, 0.3, 1.2, 2.0),  # tail
    Bounded(1.5, 1.0, 0.0, 4.0),  # follow
    Bounded(0.5, 0.5, 0.0, 1.5),  # hold
    Bounded(0.1, 0.1, 0.0, 0.5),  # slow hold
    Bounded(0.2, 0.5, -1.5, 1.5),  # log of wander
]
STEPS = EVALUATIONS


def with_memory(p: Array, theta: Array) -> Array:
    """A copy of the flow with these seven, the last as a logarithm."""
    herd, split, tail, follow, hold, slow_hold, wander = (float(x) for x in theta)
    q = p.copy()
    hit, inside = q["side_weight"][0, HIT], q["side_weight"][0, IN]
    hit[TRADES : TRADES + MEMORY] *= herd
    hit[HITS : HITS + MEMORY] *= herd
    inside[HITS : HITS + MEMORY] *= follow
    for side, sign in ((hit, -1.0), (inside, 1.0)):
        side[MOVED + 3 : MOVED + 5] += sign * hold
        side[MOVED + 5] += sign * slow_hold
    q["split_odds"], q["split_alpha"] = split, tail
    q["level_var"] *= np.exp(wander)
    return q


def moments(obs: Array) -> Array:
    """The moments of a stretch of events: shape (15,), nan where it is too short for one."""
    signs = obs["sign"][obs["sign"] != 0]
    by_lag = acf(signs, 200) if len(signs) > 400 else np.full(201, np.nan)
    moves = acf(np.abs(np.diff(on_grid(obs, 10.0))), 50)
    plot = np.log([signature(obs, 1.0, h) for h in HORIZONS_S])
    spread = half_minutes(obs)[1]
    slow = covariances(spread, spread)[1]
    wide = [slow[:3].mean(), slow[3:].mean()] if len(slow) > 4 else [np.nan, np.nan]
    memory = [by_lag[1:11].mean(), by_lag[20:201].mean(), local_whittle(signs)]
    return np.array([*memory, *followed(obs), *plot, moves[1:11].mean(), moves[11:51].mean(), *wide])


def followed(obs: Array) -> list[float]:
    """How far the mid has gone with a market order after each of AFTER events, over the mean half spread then."""
    hits = np.flatnonzero(obs["sign"] != 0)
    mid = mids(obs)
    out = []
    for after in AFTER:
        at = hits[hits + after < len(obs)]
        moved = obs["sign"][at] * (mid[at + after] - mid[at])
        half = 0.5 * (obs["ask"] - obs["bid"])[at]
        out.append(float(moved.sum() / half.sum()) if len(at) else float("nan"))
    return out


def anchored(p: Array, obs: Array, seed: int = 1, progress: Callable[[], None] = lambda: None) -> Array:
    """Return the flow with the seven numbers estimated; `progress` is called STEPS times."""
    start = max(10_000, int(obs["bid"][0]))
    n = len(obs)

    def simulate(theta: Array) -> Array:
        tape = observe_market(Market(with_memory(p, theta), seed, start), STRETCHES * n, "").obs
        progress()
        return np.array([moments(part) for part in np.array_split(tape, STRETCHES)])

    return with_memory(p, match(simulate, moments(obs), PARAMETERS, seed)[0])
