"""Elementary functions for kernels, faster than calls into libm or than the division instruction."""

import math
from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.simd import floor, power_of_two, splat, within

_LOG2_E = np.float32(math.log2(math.e))
_LN_2 = np.float32(math.log(2.0))
# Taylor coefficients of exp(u) around 0, for |u| <= ln(2) / 2: the last omitted term is below 1.3e-7.
_C2, _C3, _C4, _C5, _C6 = (np.float32(1.0 / math.factorial(n)) for n in (2, 3, 4, 5, 6))
_LOWEST, _HIGHEST = np.float32(-87.0), np.float32(88.0)


@kernel
def exp32(x: Any) -> Any:
    """e**x in float32 to about 2e-7 relative; x is held within [-87, 88], where the result is normal.

    e**x = 2**n * e**(x - n ln 2) with n the integer nearest to x / ln 2.
    """
    x = min(max(np.float32(x), _LOWEST), _HIGHEST)
    n = np.floor(x * _LOG2_E + np.float32(0.5))
    u = x - n * _LN_2
    u2 = u * u
    tail = _C2 + u * _C3 + u2 * (_C4 + u * _C5 + u2 * _C6)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return power * (np.float32(1.0) + u + u2 * tail)


@kernel
def exp_row(x: Any) -> Any:
    """`exp32` of sixteen numbers side by side (`emp.core.numba.simd`), to the same bits."""
    x = within(x, _LOWEST, _HIGHEST)
    n = floor(x * splat(_LOG2_E) + splat(np.float32(0.5)))
    u = x - n * splat(_LN_2)
    u2 = u * u
    tail = splat(_C2) + u * splat(_C3) + u2 * (splat(_C4) + u * splat(_C5) + u2 * splat(_C6))
    return power_of_two(n) * (splat(np.float32(1.0)) + u + u2 * tail)


@kernel
def sigmoid_row(x: Any) -> Any:
    """`sigmoid32` of sixteen numbers side by side, to the same bits."""
    one = splat(np.float32(1.0))
    return one / (one + exp_row(splat(np.float32(0.0)) - x))


@kernel
def sigmoid32(x: Any) -> Any:
    """1 / (1 + e**-x) in float32."""
    return np.float32(1.0) / (np.float32(1.0) + exp32(-x))


@kernel
def divide(value: int, by: int, inverse: float) -> int:
    """`value // by` for value >= 0 and a quotient below 2^52, without the division; `inverse` is 1 / by."""
    quotient: Any = np.int64(value * inverse + 0.5)
    return quotient - 1 if quotient * by > value else quotient
