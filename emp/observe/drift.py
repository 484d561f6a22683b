"""Do the model's inputs still look as they did in its training (H.2)? The PSI of every core input against the deciles
of the training, and an alarm that is false on one trading day in a hundred at most.

Inputs resemble their neighbours: a block of 1,024 events may be worth two independent ones, and lies far from the
training by chance alone. So the alarm asks more than that the index is above the roadmap's limit: there must be
evidence that it is not so by chance. The index f is convex in the shares, so for any shares p known before a block, and
those of the block, s,

    x = f(p) + f'(p) (s - p) - LIMIT

is at most 0 on average as long as the index of the market is at most LIMIT. Its variance is that of f'(p) s, with as
many independent rows as the training says that a block is worth. A bet on x, cut off at CUT standard deviations v,

    log e = l - (exp(l) - 1 - l) / CUT^2,    l = stake * min(x / v, CUT) / CUT        (Bennett 1962)

asks for no more than that, and holds under looking after every block (`emp.observe.sequential`). Evidence begins anew
every trading day.

Where whoever makes the inputs bounds them, no evidence is needed of one that lies beyond its bound: it was not made so.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.observe.psi import BINS, FLOOR, LIMIT, chance_level, deciles, effective_size, index_of, shares
from emp.observe.sequential import MOST, mix

BLOCK = 1_024
"""Rows of a block."""

LEAST_ROWS = 20 * BLOCK
"""Rows of training below which there is no reference: how far rows resemble each other is taken from 20 pieces."""

PIECE = 4 * BLOCK
"""Rows of a piece where the training is long enough: what resembles itself for longer counts as drift."""

KEEP = 0.5
"""Share of a block's weight in the shares so far that the next block leaves it."""

CUT = 4.0
STAKES = np.array([0.5, 1.0, 2.0, 2.8])
"""The last is the best where every x lies at the cut, the first where x is a fifth of its standard deviation."""

LEVEL = 0.01
"""Trading days on which nothing drifts and an alarm is raised all the same, of all instruments together."""


class Reference(NamedTuple):
    """The inputs of a model's training, of one of its heads; F core inputs. Of one that no feed told all are 0."""

    edges: Array  # float64[F, BINS - 1]: inner edges of the deciles
    shares: Array  # float64[F, BINS]
    alike: Array  # float64[F]: neighbouring rows that are worth one independent row
    size: Array  # float64[F]: independent rows that the training is worth


def make_reference(series: Sequence[Array]) -> Reference | None:
    """The reference of some series of training rows, float[n, F] each in order of time, NaN where a feed does not tell
    an input; every series counts alike in the shares.

    None where none has LEAST_ROWS.
    """
    series = [rows for rows in series if len(rows) >= LEAST_ROWS]
    if not series:
        return None
    found = [_reference_of([rows[:, j] for rows in series]) for j in range(series[0].shape[1])]
    return Reference(*(np.array(a) for a in zip(*found, strict=True)))


def _reference_of(series: Sequence[Array]) -> tuple[Array, Array, float, float]:
    """Edges, shares, alike and size of one input."""
    told = [values[~np.isnan(values)] for values in series]
    told = [values for values in told if len(values) >= LEAST_ROWS]
    if not told:
        return np.zeros(BINS - 1), np.zeros(BINS), 0.0, 0.0
    least = min(len(values) for values in told)
    pooled = np.concatenate([values[np.linspace(0, len(values) - 1, least).astype(int)] for values in told])
    edges = _apart_from_below(deciles(pooled), float(pooled.min()))
    worth = [effective_size(values, edges, max(20, len(values) // PIECE)) for values in told]
    alike = max(len(values) / one for values, one in zip(told, worth, strict=True))
    return edges, shares(pooled, edges), alike, float(sum(worth))


def _apart_from_below(edges: Array, lowest: float) -> Array:
    """Edges of which the first lies just below the lowest value where a fifth of all values are that one, so that
    values below it have a bin that was empty in training; else they would count as the same.
    """
    if edges[1] > lowest:
        return edges
    return np.concatenate([[np.nextafter(lowest, -math.inf)], edges[1:]])


@kernel
def count_rows(counts: Any, rows: Any, edges: Any) -> None:
    """Count rows into the bins of every input: counts int64[F, BINS], rows float[n, F], edges float64[F, BINS - 1].

    NaN is an input that the feed does not tell: it counts in no bin.
    """
    for k in range(rows.shape[0]):
        for j in range(edges.shape[0]):
            if np.isnan(rows[k, j]):
                continue
            place = 0
            while place < edges.shape[1] and rows[k, j] > edges[j, place]:
                place += 1
            counts[j, place] += 1


class DriftLook(NamedTuple):
    """What a block that is full says."""

    rows: int  # of the trading day so far
    psi: Array  # float64[F], over the last blocks
    chance: Array  # float64[F]: 95 % point of it when nothing differs, for the rows that it rests on
    log_evidence: float  # natural logarithm
    drifted: tuple[int, ...]  # inputs that the alarm names, until the day ends; none while there is none
    beyond: tuple[int, ...]  # inputs that lay beyond the bound on any row of the block


class DriftWatch:
    """Watches one instrument."""

    def __init__(self, reference: Reference, level: float = LEVEL, bound: float = math.inf) -> None:
        """`level` is the share of undisturbed trading days with an alarm; no input is made larger than `bound`, on
        either side of 0.
        """
        self._reference = reference
        self._level = level
        self._bound = bound
        self._counts = np.zeros(reference.shares.shape, np.int64)
        self._filled = 0
        self._beyond: Array = np.zeros(len(reference.size), bool)
        self._recent: Array = np.zeros(reference.shares.shape)  # counts, the older the less
        self._day = -1
        self._begin()

    def _begin(self) -> None:
        self._rows = self._blocks = 0
        self._mixed: Array = np.zeros((len(STAKES), len(self._counts)))
        self._drifted: tuple[int, ...] = ()

    @property
    def room(self) -> int:
        """Rows until the next look."""
        return BLOCK - self._filled

    def add(self, rows: Array, day: int) -> DriftLook | None:
        """Count rows, float[n, F] with n <= `room`, all of one trading day; a look where the block is full."""
        if day != self._day:
            self._day = day
            self._begin()
        count_rows(self._counts, rows, self._reference.edges)
        self._beyond |= (np.abs(rows) > self._bound).any(axis=0)
        self._filled += len(rows)
        self._rows += len(rows)
        return self._look() if self._filled == BLOCK else None

    def _look(self) -> DriftLook:
        told = (
            (self._counts.sum(axis=1) == BLOCK)
            & (self._recent.sum(axis=1) > 0.0)
            & (self._reference.size > 0.0)
        )
        if told.any():
            self._blocks += 1
            self._mixed[:, told] = mix(self._mixed[:, told], self._blocks, self._evidence(told))
        beyond = self._beyond & (self._reference.size > 0.0)
        self._mixed[:, beyond] = MOST
        self._recent = KEEP * self._recent + self._counts
        self._counts[...] = 0
        self._filled = 0
        self._beyond[...] = False
        psi, chance = self._shown()
        evidence = self._mixed.mean(axis=0)
        mean = float(evidence.mean())
        if mean >= 1.0 / self._level and not self._drifted:
            order = np.argsort(-evidence, kind="stable")
            self._drifted = tuple(
                int(j) for j in order if evidence[j] >= 1.0 / self._level and (psi[j] > LIMIT or beyond[j])
            )
        log_evidence = math.log(mean) if mean > 0.0 else -math.inf
        where = tuple(int(j) for j in np.flatnonzero(beyond))
        return DriftLook(self._rows, psi, chance, log_evidence, self._drifted, where)

    def _evidence(self, told: Array) -> Array:
        """Evidence float64[stakes, m] of the block that is full that the index is above LIMIT; of the inputs told."""
        ref, recent = self._reference, self._recent[told]
        q = np.maximum(ref.shares[told], FLOOR)
        p = np.maximum(recent / recent.sum(axis=1, keepdims=True), FLOOR)
        slope = np.log(p / q) + 1.0 - q / p
        index = ((p - q) * np.log(p / q)).sum(axis=1)
        x = index + (slope * (self._counts[told] / BLOCK - p)).sum(axis=1) - LIMIT
        mean = (p * slope).sum(axis=1)
        spread = (p * np.square(slope)).sum(axis=1) - mean * mean
        v = np.sqrt(spread * np.minimum(ref.alike[told] / BLOCK, 1.0)) + 1e-9
        share = np.minimum(x / v, CUT) / CUT
        found: Array = np.exp(STAKES[:, None] * share - (np.exp(STAKES) - 1.0 - STAKES)[:, None] / CUT**2)
        return found

    def _shown(self) -> tuple[Array, Array]:
        """Index and chance level of every input, float64[F]; NaN of one that is not told, or was not in training."""
        ref = self._reference
        psi, chance = np.full(len(ref.size), math.nan), np.full(len(ref.size), math.nan)
        for j, weight in enumerate(self._recent.sum(axis=1)):
            if weight > 0.0 and ref.size[j] > 0.0:
                psi[j] = index_of(ref.shares[j], self._recent[j] / weight)
                chance[j] = chance_level(BINS, ref.size[j], max(1.0, weight / ref.alike[j]))
        return psi, chance
