"""Sequential evidence: statements that hold under looking as often as one likes (Ville's inequality).

An e-process is at most 1 on average at any stopping time while nothing is wrong, so it reaches 1 / LEVEL with
probability LEVEL at most, ever. What goes wrong may begin at any time: the evidence from every possible beginning is
mixed, with weights START(n) = 1 / (n (n + 1)) that sum to 1, by one recursion

    M_n = (M_{n-1} + START(n)) e_n

so a long good time costs a late failure log(n) of its evidence, and no more.

Values x that are symmetric about at most 0 while nothing is wrong give e = exp(l x - l^2 x^2 / 2) for each l of BETS
(`bet`; de la Pena, Annals of Probability 27, 1999).
"""

import math
from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array

BETS = np.array([0.125, 0.25, 0.5, 1.0])
"""Bets on a value, in units of its root mean square: the mixture finds the one that suits."""

MOST = 1e200
"""Above which evidence is not counted."""

FIRST = 5
"""Values other than zero that say how large a value is, before the first bet on one."""

MEMORY = 256.0
"""Values over which their size is remembered."""

PROCESS = np.dtype(
    [
        ("n", "i8"),  # values bet on
        ("mixed", "f8", (len(BETS),)),
        ("known", "f8"),  # values that say how large a value is
        ("square", "f8"),  # their mean square
        ("sum", "f8"),  # of all values, in their own unit
        ("values", "i8"),
    ],
    align=True,
)
"""Evidence that values are above zero."""


def new_process(n: int = 1) -> Array:
    """PROCESS[n] that have seen nothing."""
    return np.zeros(n, PROCESS)


@kernel
def bet(p: Any, x: float) -> None:
    """Carry a PROCESS record over one value; how large it may be is known from the values before it."""
    p.values += 1
    p.sum += x
    if x == 0.0:
        return  # it says nothing: no bet is won or lost
    if p.known >= FIRST:
        p.n += 1
        unit = math.sqrt(p.square)
        start = 1.0 / (p.n * (p.n + 1.0))
        for k in range(BETS.size):
            stake = BETS[k] * x / unit
            p.mixed[k] = min(MOST, (p.mixed[k] + start) * math.exp(stake - 0.5 * stake * stake))
    p.known += 1.0
    p.square += (x * x - p.square) / min(p.known, MEMORY)


@kernel
def log_evidence(p: Any) -> float:
    """Natural logarithm of the evidence of a PROCESS record; minus infinity before the first bet."""
    total = 0.0
    for k in range(BETS.size):
        total += p.mixed[k]
    return math.log(total / BETS.size) if total > 0.0 else -math.inf


def mix(mixed: Array, n: int, evidence: Array) -> Array:
    """The recursion above for the n-th time, n >= 1: float64[...] carried over evidence of the same shape."""
    carried: Array = np.minimum(MOST, (mixed + 1.0 / (n * (n + 1.0))) * evidence)
    return carried
