"""A surrogate as a control variate: many of its episodes and few of the simulator's, without its bias.

    E[sim] = E[sim - b surrogate] + b E[surrogate]

The first mean is over pairs of episodes that begin in the same state, the second over many cheap ones; b is the slope
that leaves the least variance (Glasserman, "Monte Carlo Methods in Financial Engineering", 2003, section 4.1). A
surrogate that is wrong costs variance here and never the truth, as long as neither mean chose what is estimated; one
whose episodes are not correlated with the simulator's saves nothing.
"""

import msgspec
import numpy as np

from emp.core.records import Array


class Controlled(msgspec.Struct, frozen=True):
    """A mean of the simulator with and without the surrogate's help."""

    value: float
    error: float  # standard error
    plain: float
    plain_error: float
    slope: float
    correlation: float

    @property
    def saving(self) -> float:
        """Variance without it over variance with it; simulator episodes that it stands for, each."""
        return (self.plain_error / self.error) ** 2 if self.error > 0.0 else 1.0


def control_variate(truth: Array, paired: Array, many: Array) -> Controlled:
    """Estimate the simulator's mean.

    Args:
        truth, paired: float64[n] of the simulator and of the surrogate, pair by pair; at least 3.
        many: float64[m] of the surrogate alone, none of them among the pairs.

    Raises:
        ValueError: not as many of both, or too few.
    """
    n = len(truth)
    if n != len(paired) or n < 3 or len(many) < 2:
        raise ValueError(f"{n} and {len(paired)} episodes are no pairs, or too few")
    spread = float(paired.var(ddof=1))
    slope = float(np.cov(truth, paired)[0, 1]) / spread if spread > 0.0 else 0.0
    left = truth - slope * paired
    value = float(left.mean()) + slope * float(many.mean())
    error = float(np.sqrt(left.var(ddof=2) / n + slope**2 * many.var(ddof=1) / len(many)))
    flat = spread == 0.0 or float(truth.std()) == 0.0
    return Controlled(
        value,
        error,
        float(truth.mean()),
        float(truth.std(ddof=1) / np.sqrt(n)),
        slope,
        0.0 if flat else float(np.corrcoef(truth, paired)[0, 1]),
    )
