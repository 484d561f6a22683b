"""Rows of floats side by side, against NumPy; bits, against Python."""

from typing import Any

import numpy as np

from emp.core.numba.bits import any_of, leading_zeros, move_items, trailing_zeros
from emp.core.numba.fastmath import exp32, exp_row, sigmoid32, sigmoid_row
from emp.core.numba.jit import kernel
from emp.core.numba.simd import clip, finite, floats, gather, load, splat, store, total

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
def _work32(x: Any, y: Any, scale: float, bound: float) -> float:
    row = load(x, 3) * splat(np.float32(scale)) + load(y, 1) - load(x, 4)
    store(y, 2, clip(row, np.float32(bound)))
    return total(row)


def test_sixteen_of_single_precision_at_once_do_what_each_would() -> None:
    x, y = RNG.normal(size=20).astype(np.float32), RNG.normal(size=19).astype(np.float32)
    before = y.copy()
    row = x[3:19] * np.float32(1.5) + y[1:17] - x[4:20]
    sums = row
    while len(sums) > 1:
        sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
    assert _work32(x, y, 1.5, 0.5) == sums[0]
    assert y[2:18].tolist() == np.clip(row, np.float32(-0.5), np.float32(0.5)).tolist()
    assert [*y[:2], y[18]] == [*before[:2], before[18]]


@kernel
def _functions(x: Any, lots: Any, out: Any) -> None:
    for k in range(0, x.size, 16):
        store(out, k, exp_row(load(x, k)))
        store(out, x.size + k, sigmoid_row(load(x, k)))
    store(out, 2 * x.size, floats(lots, 1) / load(x, 0))


@kernel
def _one_by_one(x: Any, out: Any) -> None:
    for k in range(x.size):
        out[k], out[x.size + k] = exp32(x[k]), sigmoid32(x[k])


def test_functions_of_sixteen_at_once_have_the_bits_of_one() -> None:
    x = np.concatenate(
        [RNG.normal(0.0, s, 64) for s in (1e-3, 1.0, 30.0, 300.0)] + [[0.0, -0.0, np.inf, np.nan] * 4]
    )
    x = x.astype(np.float32)
    lots = RNG.integers(-(2**60), 2**60, 17)
    out, expected = np.zeros((2, 2 * x.size + 16), np.float32)
    _functions(x, lots, out)
    _one_by_one(x, expected)
    expected[2 * x.size :] = lots[1:].astype(np.float32) / x[:16]
    assert np.array_equal(out, expected, equal_nan=True)
    assert np.isnan(out).sum() == 8


@kernel
def _all_finite(x: Any) -> bool:
    return finite(load(x, 0))


def test_whether_all_of_a_row_are_numbers() -> None:
    for kind, width in ((np.float32, 16), (np.float64, 8)):
        x = np.full(width, np.finfo(kind).max, kind)
        assert _all_finite(x)
        for at in (0, width - 1):
            for wrong in (np.nan, np.inf, -np.inf):
                x[at] = wrong
                assert not _all_finite(x)
            x[at] = 0.0


_picked = gather([3, 0, 7, 3] * 4)


@kernel
def _gathered(x: Any, at: int, out: Any) -> None:
    store(out, 0, _picked(x, at))


def test_a_row_is_gathered_from_a_few_places() -> None:
    x, out = RNG.normal(size=(3, 4)).astype(np.float32), np.zeros(16, np.float32)
    _gathered(x, 2, out)
    assert out.tolist() == x.ravel()[[5, 2, 9, 5] * 4].tolist()


@kernel
def _zeros(word: int) -> tuple[int, int]:
    return trailing_zeros(np.uint64(word)), leading_zeros(np.uint64(word))


def test_zeros_around_the_set_bits() -> None:
    assert _zeros(0) == (64, 64)
    for k in range(63):
        assert _zeros(1 << k) == (k, 63 - k)
        assert _zeros((1 << k) | (1 << 20)) == (min(k, 20), 63 - max(k, 20))


@kernel
def _which(text: Any, at: int) -> int:
    return int(any_of(text, at, 44, 10, 123, 44, 44))


def test_which_of_sixteen_bytes_are_among_five() -> None:
    text = np.frombuffer(b"xx,abc\n{}defghi,,,,,", np.uint8)
    for at in (0, 2, 4):
        assert _which(text, at) == sum(1 << i for i in range(16) if text[at + i] in b",\n{")


@kernel
def _moved(items: Any, to: int, at: int, n: int) -> None:
    move_items(items, to, at, n)


def test_items_move_over_each_other() -> None:
    pair = np.dtype([("a", "i8"), ("b", "i8"), ("c", "i8")])
    for to, at, n in ((1, 0, 6), (0, 3, 5), (2, 2, 4), (5, 1, 0)):
        items = np.zeros(8, pair)
        items["a"], items["c"] = np.arange(8), -np.arange(8)
        expected = items.copy()
        expected[to : to + n] = items[at : at + n].copy()
        _moved(items, to, at, n)
        assert np.array_equal(items, expected)
