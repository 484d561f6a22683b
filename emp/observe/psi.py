"""The population stability index: how far a sample lies from a reference, beside how far it would lie by chance.

    PSI = sum over bins of (p_b - q_b) ln(p_b / q_b)

Bins are the deciles of the reference; an empty bin counts as FLOOR. The index is positive by chance alone: about
chi-squared with (bins - 1) degrees of freedom times (1/n + 1/m), where n and m are the effective sizes of two samples
whose rows resemble their neighbours.
"""

import numpy as np

from emp.core.records import Array

LIMIT = 0.25
"""The roadmap's threshold."""

BINS = 10
FLOOR = 1e-4
BLOCKS = 60
"""Pieces of equal length into which a series is cut to see how alike neighbouring rows are."""


def psi(reference: Array, current: Array) -> float:
    """PSI of `current` against the deciles of `reference`; both float[n]."""
    edges = decile_edges(reference)
    return index_of(shares(reference, edges), shares(current, edges))


def deciles(reference: Array) -> Array:
    """Inner edges of the reference's deciles, float64[BINS - 1]; a bin between equal edges holds nothing."""
    return np.quantile(reference, np.linspace(0.0, 1.0, BINS + 1)[1:-1])


def decile_edges(reference: Array) -> Array:
    """The same, each once: fewer where values coincide."""
    return np.unique(deciles(reference))


def shares(values: Array, edges: Array) -> Array:
    """Share of values in each bin; a bin holds what lies above its left edge, up to and with its right one."""
    place = np.searchsorted(edges, values, side="left")
    return np.bincount(place, minlength=len(edges) + 1) / max(1, len(values))


def effective_size(values: Array, edges: Array, blocks: int = BLOCKS) -> float:
    """Number of independent values that would know the bin shares as well: n over the design effect.

    The variance of each bin's share is taken over so many consecutive pieces; the effective size is that of the
    average bin.
    """
    place = np.searchsorted(edges, values, side="left")
    pieces = [np.bincount(part, minlength=len(edges) + 1) for part in np.array_split(place, blocks)]
    counts = np.array(pieces, float)
    n = counts.sum()
    p = counts.sum(axis=0) / n
    miss = counts - counts.sum(axis=1, keepdims=True) * p
    variance = np.square(miss).sum(axis=0) / n**2
    binomial = p * (1.0 - p)
    if variance.sum() == 0.0:
        return float(n)
    return float(np.clip(binomial.sum() / variance.sum(), 1.0, n))


def chance_level(bins: int, n: float, m: float) -> float:
    """The 95 % point of PSI when nothing differs; chi-squared by Wilson and Hilferty's approximation."""
    k = max(1, bins - 1)
    chi2 = k * (1.0 - 2.0 / (9.0 * k) + 1.6448536 * np.sqrt(2.0 / (9.0 * k))) ** 3
    return float((1.0 / n + 1.0 / m) * chi2)


def index_of(p: Array, q: Array) -> float:
    """PSI of two sets of bin shares, float[bins]."""
    p, q = np.maximum(p, FLOOR), np.maximum(q, FLOOR)
    return float(((p - q) * np.log(p / q)).sum())
