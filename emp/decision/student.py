"""Quantiles and tails of Student's t, for intervals of a few blocks and of many kinds at once."""

import math
from functools import lru_cache
from statistics import NormalDist

MANY = 200
"""Degrees of freedom from which the expansion about the normal is true to 1e-6, at every level that is used here."""


@lru_cache(maxsize=4096)
def student_quantile(upper: float, n: int) -> float:
    """The value that Student's t with n degrees of freedom passes with probability `upper`, below one half."""
    if n >= MANY:
        return _expanded(NormalDist().inv_cdf(1.0 - upper), n)
    low, high = 0.0, 1.0
    while passed(high, n) > upper:
        low, high = high, 2.0 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if passed(middle, n) > upper else (low, middle)
    return 0.5 * (low + high)


def passed(t: float, n: int) -> float:
    """P(T > t) of Student's t with n degrees of freedom, t >= 0.

    Finite sums of cosines (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    angle = math.atan(t / math.sqrt(n))
    cosine, term, total = math.cos(angle), 1.0, 0.0
    if n % 2:
        term = cosine
        for k in range(1, n - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        inside = 2.0 / math.pi * (angle + math.sin(angle) * total)
    else:
        for k in range(0, n - 1, 2):
            total += term
            term *= cosine * cosine * (k + 1) / (k + 2)
        inside = math.sin(angle) * total
    return 0.5 * (1.0 - inside)


def _expanded(z: float, n: int) -> float:
    """From the normal quantile (Abramowitz and Stegun, 26.7.5)."""
    first = (z**3 + z) / 4.0
    second = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    third = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + first / n + second / n**2 + third / n**3
