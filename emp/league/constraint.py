"""Constraints by Lagrange multipliers under PID control: turnover, and the variance of inventory.

Each cost is divided by its limit, so that the error `cost / limit - 1` has no unit and one set of gains serves every
constraint, market and policy. Plain dual ascent is the integral term alone, and oscillates; the proportional and the
derivative term damp it (Stooke, Achiam and Abbeel 2020, "Responsive safety in reinforcement learning by PID Lagrangian
methods", arXiv 2007.03964). Nobody sets a multiplier: it starts at 0 and ends where the constraint has brought it.

A policy far above its limit would be driven past it to where it does not trade at all, and there nothing it changes
changes anything: no way leads back. So the target falls from what the policy costs at first to the limit, by the same
share each round, and the derivative counts falling costs too: the multiplier gives way before the limit is reached.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.records import Array

TOLERANCE = 0.05
"""A constraint is held where its cost, averaged over the end of a training, exceeds the limit by no more than this."""

WORST = 1.0
"""Excess that the controller sees at most: beyond twice the target, more is no more urgent."""


class Gains(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the controller, the same for all constraints."""

    proportional: float = 0.5
    integral: float = 0.2
    derivative: float = 4.0
    smoothing: float = 0.7  # of the error that the derivative sees


class PidMultiplier:
    """The multiplier of one constraint `cost <= limit`, or `cost == limit`.

    Args:
        limit: what the owner allows, in the cost's unit; more than 0.
        ease: rounds in which the target falls to the limit; 0: it is the limit at once.
        equality: the cost is to meet the limit from both sides; then the multiplier may be negative.
    """

    def __init__(
        self, limit: float, *, equality: bool = False, ease: int = 0, gains: Gains | None = None
    ) -> None:
        if not limit > 0.0:
            raise UsageError(f"a constraint's limit must be more than 0, was {limit}")
        self.limit, self.equality, self.ease = limit, equality, ease
        self.value = 0.0
        self.target = limit
        self._first = 0.0
        self._rounds = 0
        self._gains = gains or Gains()
        self._sum = 0.0
        self._smooth: float | None = None

    def error(self, cost: Array | float) -> Array:
        """Excess of a cost over the target, as a share of the target."""
        return np.asarray(cost) / self.target - 1.0

    def update(self, cost: float) -> float:
        """Learn what the policy costs now; return the multiplier that follows."""
        self._aim(cost)
        g, e = self._gains, min(WORST, float(self.error(cost)))
        self._sum = self._sum + g.integral * e
        before = e if self._smooth is None else self._smooth
        self._smooth = g.smoothing * before + (1.0 - g.smoothing) * e
        rise = self._smooth - before
        if not self.equality:
            self._sum = max(0.0, self._sum)
        value = self._sum + g.proportional * e + g.derivative * rise
        self.value = value if self.equality else max(0.0, value)
        return self.value

    def _aim(self, cost: float) -> None:
        """Move the target on its way from the first cost, where that was above the limit."""
        if self._rounds == 0:
            self._first = max(self.limit, cost)
        left = max(0.0, 1.0 - self._rounds / self.ease) if self.ease else 0.0
        self.target = self.limit * (self._first / self.limit) ** left
        self._rounds += 1


def penalised(utility: Array, costs: Array, multipliers: Sequence[PidMultiplier]) -> Array:
    """Utilities (n,) less multipliers times relative excess of costs (n, constraints), at a scale that does not grow.

    Dividing by one plus the multipliers keeps the steps of a training the same size however large they become.
    """
    weight = np.array([m.value for m in multipliers])
    excess = np.stack([m.error(costs[:, j]) for j, m in enumerate(multipliers)], axis=1)
    return np.asarray((utility - excess @ weight) / (1.0 + np.abs(weight).sum()))
