"""From the output of a network to what happens: draws of fills, of the move of the mid, and of the book that follows.

In this order, each given what was drawn before: what becomes of our bid, of our ask, how the mid moves, and the real
numbers, independently of each other. A point prediction would trade too little and lose too little: everything is
drawn.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.fastmath import exp32
from emp.core.numba.jit import kernel
from emp.core.numba.rng import next_u64, uniform
from emp.core.records import Array
from emp.train.data.leaps import (
    AT_LOCATION,
    AT_MOVE,
    AT_SCALE,
    FULL,
    MOVES,
    NONE,
    PART,
    PARTS,
    REALS,
)

LEAST, MOST = np.float32(-4.0), np.float32(2.0)
FARTHEST = np.float32(4.0)
_LOW = np.float32(-1e30)
_S32 = np.uint64(32)
_MASK32 = np.uint64(0xFFFFFFFF)

LATENT = np.dtype(
    [
        ("live", "f8"),  # orders of others in the book, which has fewer records
        ("slots", "i8", (2,)),  # of our bid and our ask that take part, -1 where none does
        ("fill", "i8", (2,)),  # what becomes of them
        ("share", "f8"),  # of an order that is filled in part
        ("move", "f8"),  # of the mid, in usual spreads
        ("real", "f4", (REALS,)),
    ],
    align=True,
)
"""What a surrogate world holds beside a book, and the outcome drawn last."""


class Tables(NamedTuple):
    """What turns outputs into draws."""

    moves: Array  # float32[MOVES, PARTS], ascending in both
    residuals: Array  # float32[REALS, 4 PARTS]
    follow: Array  # float32[2, REALS]


@kernel
def _fate(none: Any, full: Any, part: Any, r: Any) -> int:
    """NONE, FULL or PART by log-odds."""
    most = max(none, full, part)
    a, b, c = exp32(none - most), exp32(full - most), exp32(part - most)
    v = uniform(r) * (a + b + c)
    if v < a:
        return NONE
    return FULL if v < a + b else PART


@kernel
def draw_fates(y: Any, latent: Any, r: Any) -> None:
    """What becomes of our bid, and of our ask given that."""
    none = np.float32(0.0)
    latent.fill[0] = latent.fill[1] = -1
    if latent.slots[0] >= 0:
        latent.fill[0] = _fate(none, y[0], y[1], r)
    if latent.slots[1] >= 0:
        extra = y[4] if latent.fill[0] == FULL else none
        latent.fill[1] = _fate(none, y[2] + extra, y[3], r)
    latent.share = uniform(r)


@kernel
def draw_move(y: Any, tables: Any, latent: Any, odds: Any, r: Any) -> None:
    """The move of the mid given the fills: a class, and a place between that class's quantiles."""
    most = _LOW
    for k in range(MOVES):
        x = y[AT_MOVE + k]
        if latent.fill[0] > NONE:
            x += y[AT_MOVE + MOVES + k]
        if latent.fill[1] > NONE:
            x += y[AT_MOVE + 2 * MOVES + k]
        odds[k] = x
        most = max(most, x)
    total = np.float32(0.0)
    for k in range(MOVES):
        total += exp32(odds[k] - most)
        odds[k] = total
    v = uniform(r) * total
    k = 0
    while k < MOVES - 1 and v >= odds[k]:
        k += 1
    latent.move = tables.moves[k, int(uniform(r) * PARTS)]


@kernel
def draw_reals(y: Any, tables: Any, latent: Any, r: Any) -> None:
    """The real numbers given the move."""
    size = min(FARTHEST, max(-FARTHEST, np.float32(latent.move)))
    for k in range(0, REALS, 2):
        bits = next_u64(r)
        for j in range(k, min(k + 2, REALS)):
            i = int(((bits & _MASK32) * np.uint64(4 * PARTS)) >> _S32)
            bits >>= _S32
            at = y[AT_LOCATION + j] + tables.follow[0, j] * size + tables.follow[1, j] * abs(size)
            scale = exp32(min(MOST, max(LEAST, y[AT_SCALE + j])))
            latent.real[j] = at + scale * tables.residuals[j, i]


@kernel
def draw_outcome(y: Any, tables: Any, latent: Any, odds: Any, r: Any) -> None:
    """Draw all of it; `odds` is float32[MOVES] of scratch."""
    draw_fates(y, latent, r)
    draw_move(y, tables, latent, odds, r)
    draw_reals(y, tables, latent, r)
