"""The two numbers that a day cannot tell event by event, estimated by simulated moments (McFadden 1989).

A logistic side fitted to one day reproduces each step's odds, but errors far too small to see in a step add
up over hundreds of seconds, and a day contains no metaorder known to be one. So two common terms are added:

- `outside`: liquidity leans against flow from outside (power-law signed-flow feedback, Noble, Rosenbaum and
  Souilmi, arXiv 2603.24137). Moment: impact of an injected metaorder grows as Q ** 0.5, the value that Sato
  and Kanazawa (arXiv 2411.13965) find for every liquid stock of the Tokyo exchange.
- `hold`: liquidity pushes the mid back towards where it was 64 to 4096 events ago. Moment: the recording's
  signature plot.
"""

from collections.abc import Callable

import numpy as np

from emp.core.records import Array
from emp.sim.estimators import signature
from emp.sim.flow.observe import AT, CANCEL_AT, HIT, IN
from emp.sim.flow.qr import MOVED
from emp.sim.market import Market
from emp.sim.metaorder import metaorder_impact
from emp.sim.observe_market import observe_market

EXPONENT = 0.5
HORIZONS_S = (20.0, 60.0, 200.0, 500.0)
HOLD = (0.0, 0.02, 0.04, 0.06, 0.08)
OUTSIDE = (0.0, 0.05, 0.1, 0.15)
EVENTS = 400_000
RUNS = 120
STEPS = len(HOLD) + len(OUTSIDE)


def hold(p: Array, strength: float) -> Array:
    """A copy whose events push the mid back by `strength` log-odds per unit of displacement and scale."""
    q = p.copy()
    for kind, sign in ((IN, 1), (AT, 1), (CANCEL_AT, -1), (HIT, -1)):
        q["side_weight"][0, kind, MOVED + 3 : MOVED + 7] += sign * strength
    return q


def signature_curve(obs: Array) -> Array:
    """Logarithm of the signature ratio at each horizon; nan where the series is too short."""
    return np.log([signature(obs, 1.0, h) for h in HORIZONS_S])


def anchored(p: Array, obs: Array, seed: int = 1, progress: Callable[[], None] = lambda: None) -> Array:
    """Return the flow with both terms estimated; `progress` is called STEPS times."""
    start = max(10_000, int(obs["bid"][0]))
    target = signature_curve(obs)
    losses = []
    for strength in HOLD:
        got = signature_curve(observe_market(Market(hold(p, strength), seed, start), EVENTS, "").obs)
        use = np.isfinite(target) & np.isfinite(got)
        losses.append(float(((got - target)[use] ** 2).mean()) if use.any() else 0.0)
        progress()
    p = hold(p, HOLD[int(np.argmin(losses))])
    exponents = []
    for strength in OUTSIDE:
        q = p.copy()
        q["outside"] = strength
        market = Market(q, seed, start)
        market.run(2**62, 20_000)
        qty = int(p["outside_qty"][0])
        exponents.append(metaorder_impact(market, qty, runs=RUNS, seed=seed).exponent)
        progress()
    p["outside"] = _crossing(np.array(OUTSIDE), np.array(exponents))
    return p


def _crossing(strength: Array, exponents: Array) -> float:
    """Where a straight line through exponents by strength meets EXPONENT, inside the grid."""
    good = np.isfinite(exponents)
    if good.sum() < 2:
        return float(strength[0])
    slope, level = np.polyfit(strength[good], exponents[good], 1)
    if slope >= 0:
        return float(strength[good][np.argmin(np.abs(exponents[good] - EXPONENT))])
    return float(np.clip((EXPONENT - level) / slope, strength[0], strength[-1]))
