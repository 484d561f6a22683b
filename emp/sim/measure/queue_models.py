"""Where in its queue an order stands, as far as shown quantities tell: the models that backtests without order ids use.

A trade at the price takes from the front. What a level loses otherwise is cancelled somewhere, and the models differ in
where: with f lots ahead and b behind, a share

    g(b) / (g(b) + g(f))     of it behind,    g(x) = log(1 + x), or x to the power 1, 2 or 3

(probability queue models as hftbacktest's documentation defines them; power 1 spreads cancels evenly), or all of it
behind as long as that can be (the risk-averse one). Ahead are never fewer than none nor more than the level holds.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel

NAMES = ("log", "power 1", "power 2", "power 3", "risk-averse")
LOG, RISK_AVERSE = 0, 4


@kernel
def behind_share(model: int, front: float, behind: float) -> float:
    """Share of a cancelled quantity that lay behind."""
    if model == RISK_AVERSE:
        return 1.0
    f = np.log1p(front) if model == LOG else front**model
    b = np.log1p(behind) if model == LOG else behind**model
    return b / (b + f) if b + f > 0.0 else 1.0


@kernel
def follow_queue(ahead: Any, before: int, after: int, traded: int) -> None:
    """Carry every model over a message.

    Args:
        ahead: float64[len(NAMES)], lots ahead by model; overwritten.
        before, after: lots of others at the price, before and after it.
        traded: lots that it traded there.
    """
    cancelled = max(before - traded - after, 0)
    for model in range(ahead.size):
        front = max(ahead[model] - traded, 0.0)
        if cancelled > 0:
            behind = max(before - traded - front, 0.0)
            share = behind_share(model, front, behind)
            front -= (1.0 - share) * cancelled + max(share * cancelled - behind, 0.0)
        ahead[model] = max(front, 0.0)
