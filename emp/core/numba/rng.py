"""Random numbers inside kernels: splitmix64, one uint64 word of state, bit-reproducible by seed.

Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014). It passes BigCrush,
needs no branch, and a clone of the state is a copy of one word.
"""

from typing import Any

import numpy as np

from emp.core.ids import generator
from emp.core.numba.jit import kernel
from emp.core.records import Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30 = np.uint64(30)
_S27 = np.uint64(27)
_S31 = np.uint64(31)
_S11 = np.uint64(11)
_S32 = np.uint64(32)
_S52 = np.uint64(52)
_UNIT = 2.0**-53

EXP_BITS = 12


def seeded(seed: int, *stream: str | int) -> Array:
    """Return the uint64[1] state of a named stream of a seed."""
    return generator(seed, *stream).integers(0, 2**63, 1, dtype=np.uint64)


def exponential_table() -> Array:
    """Return float64[4096]: midpoint quantiles of the unit exponential law, scaled to mean 1."""
    n = 1 << EXP_BITS
    table: Array = -np.log1p(-(np.arange(n) + 0.5) / n)
    return np.asarray(table / table.mean())


@kernel
def next_u64(r: Any) -> Any:
    """Advance the state and return 64 random bits."""
    r[0] += _GOLDEN
    z = r[0]
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@kernel
def uniform(r: Any) -> Any:
    """Return a float64 in [0, 1)."""
    return np.float64(next_u64(r) >> _S11) * _UNIT


@kernel
def one_of(n: int, r: Any) -> int:
    """Return an integer in [0, n) for n < 2**32, even to within 2**-32."""
    return int(((next_u64(r) >> _S32) * np.uint64(n)) >> _S32)


@kernel
def table_index(r: Any) -> Any:
    """Return a uint64 in [0, 4096), for tables of quantiles."""
    return next_u64(r) >> _S52
