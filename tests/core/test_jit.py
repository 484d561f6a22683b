"""Kernels compute what is written, whichever compiled copy of them runs."""

from typing import Any

import numpy as np

from emp.core.jit import kernel


@kernel
def dot(a: Any, b: Any) -> Any:
    total = np.float32(0.0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@kernel
def dot_of_64(a: Any, b: Any) -> Any:
    return dot(a[:64], b[:64])


def test_sums_keep_their_order_and_products_their_rounding() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = rng.normal(size=(2, 64)).astype(np.float32)
        expected = np.float32(0.0)
        for x, y in zip(a, b, strict=True):
            expected = np.float32(expected + np.float32(x * y))
        assert dot(a, b) == dot_of_64(a, b) == expected


def test_not_a_number_stays_one() -> None:
    a = np.array([np.nan, 1.0], np.float32)
    assert np.isnan(dot(a, a))
