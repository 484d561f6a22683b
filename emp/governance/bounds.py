"""Bounds of a mean of few independent blocks, by Student's t; no library, so that a verdict needs none."""

import math
from collections.abc import Sequence
from typing import NamedTuple

LEAST_BLOCKS = 5
"""Blocks below which there is no interval."""


class Bounds(NamedTuple):
    """A mean and its one-sided bounds, each of which holds at the confidence that was asked for."""

    value: float
    low: float
    high: float


def bounds(blocks: Sequence[float], confidence: float) -> Bounds | None:
    """Mean of blocks and its one-sided lower and upper bounds; None where blocks are too few, not finite, or too large
    for their bounds to be finite.

    The sum is exact (`math.fsum`), so the order of blocks does not matter, not even in the last bit.
    """
    n = len(blocks)
    if n < LEAST_BLOCKS or not all(math.isfinite(x) for x in blocks):
        return None
    try:
        mean = math.fsum(blocks) / n
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in blocks) / (n - 1))
    except OverflowError:
        return None
    half = t_quantile(confidence, n - 1) * spread / math.sqrt(n)
    return Bounds(mean, mean - half, mean + half)


def t_quantile(p: float, degrees: int) -> float:
    """The p-quantile of Student's t for 0.5 <= p < 1, by bisection of its distribution function."""
    low, high = 0.0, 1.0
    while t_cdf(high, degrees) < p:
        high *= 2.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if t_cdf(middle, degrees) < p else (low, middle)
    return 0.5 * (low + high)


def t_cdf(t: float, degrees: int) -> float:
    """Student's distribution function for t >= 0, for whole degrees (Abramowitz, Stegun 26.7.3, 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    square = math.cos(angle) ** 2
    odd = degrees % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):  # terms of the sum, each from the one before
        total += term
        term *= square * k / (k + 1)
    share = (angle + math.sin(angle) * total) * 2.0 / math.pi if odd else math.sin(angle) * total
    return 0.5 + 0.5 * share
