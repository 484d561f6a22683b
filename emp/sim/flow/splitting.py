"""Order splitting: market orders are mostly pieces of one long order at a time.

Lillo, Mike and Farmer, "Theory for long memory in supply and demand" (Physical Review E 71, 2005): orders whose
lengths have a Pareto tail with exponent alpha, worked piece by piece, give signs whose autocorrelation fades as
lag ** -(alpha - 1). Here the sign of the long order at work enters the log-odds of the next market order's side,
so single trades may go against it. Lengths are bounded: a long order hardly ever makes up more than a tenth of a day's
volume (Zarinelli, Treccani, Farmer and Lillo, "Beyond the square root: market impact of metaorders", Market
Microstructure and Liquidity 2015), and without a bound the price drifts for hours.
"""

from typing import Any

from emp.core.numba.jit import kernel
from emp.core.numba.rng import uniform


@kernel
def work_off(s: Any, p: Any, sign: float, r: Any) -> None:
    """Let a trade of the market count towards the long order at work, and draw the next one where it is done."""
    if sign == s.split_sign:
        s.split_left -= 1
    if s.split_left > 0:
        return
    s.split_sign = 1.0 if uniform(r) < 0.5 else -1.0
    s.split_left = int(min(p.split_longest, (1.0 - uniform(r)) ** (-1.0 / p.split_alpha)))
