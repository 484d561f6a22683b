"""Eight floats side by side, against NumPy; bits, against Python."""

from typing import Any

import numpy as np

from emp.core.numba.bits import leading_zeros, trailing_zeros
from emp.core.numba.jit import kernel
from emp.core.numba.simd import clip, load, splat, store, total

RNG = np.random.default_rng(4)


@kernel
def _work(x: Any, y: Any, scale: float, bound: float) -> float:
    row = load(x, 8) * splat(scale) + load(y, 0) - load(x, 0)
    store(y, 1, clip(row, bound))
    return total(row)


def test_eight_at_once_do_what_each_would() -> None:
    x, y = RNG.normal(size=16), RNG.normal(size=10)
    before = y.copy()
    row = x[8:] * 1.5 + y[:8] - x[:8]
    half = row[:4] + row[4:]
    assert _work(x, y, 1.5, 0.5) == (half[0] + half[2]) + (half[1] + half[3])
    assert y[1:9].tolist() == np.clip(row, -0.5, 0.5).tolist()
    assert (y[0], y[9]) == (before[0], before[9])


@kernel
def _zeros(word: int) -> tuple[int, int]:
    return trailing_zeros(np.uint64(word)), leading_zeros(np.uint64(word))


def test_zeros_around_the_set_bits() -> None:
    assert _zeros(0) == (64, 64)
    for k in range(63):
        assert _zeros(1 << k) == (k, 63 - k)
        assert _zeros((1 << k) | (1 << 20)) == (min(k, 20), 63 - max(k, 20))
