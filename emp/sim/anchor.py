"""The two numbers that a day cannot tell event by event, estimated by simulated moments (McFadden 1989).

A logistic side fitted to one day reproduces each step's odds, but errors far too small to see in a step add
up over hundreds of seconds, and a day contains no metaorder known to be one. So two common terms are added:

- `outside`: liquidity leans against flow from outside (power-law signed-flow feedback, Noble, Rosenbaum and
  Souilmi, arXiv 2603.24137). Moment: impact of an injected metaorder grows as Q ** 0.5, the value that Sato
  and Kanazawa (arXiv 2411.13965) find for every liquid stock of the Tokyo exchange; only strengths at which
  part of the peak stays are taken.
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
MAX_REVERSION = 0.9
HORIZONS_S = (20.0, 60.0, 200.0, 500.0)
HOLD = (0.0, 0.02, 0.04, 0.06, 0.08)
OUTSIDE = (0.0, 0.03, 0.06, 0.09, 0.12, 0.15)
EVENTS = 400_000
RUNS = 300
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
    losses = []
    for strength in OUTSIDE:
        q = p.copy()
        q["outside"] = strength
        market = Market(q, seed, start)
        market.run(2**62, 20_000)
        qty = int(p["outside_qty"][0])
        impact = metaorder_impact(market, qty, runs=RUNS, seed=seed)
        partial = impact.reversion <= MAX_REVERSION
        losses.append(abs(impact.exponent - EXPONENT) if partial and np.isfinite(impact.exponent) else np.inf)
        progress()
    p["outside"] = OUTSIDE[int(np.argmin(losses))]
    return p
