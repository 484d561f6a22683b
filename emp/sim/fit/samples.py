"""What a stream of events (OBS rows) is summed up by: quantile tables, buckets, exponential averages."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.flow.observe import HIT, KINDS
from emp.sim.flow.params import BURSTS, MEMORY
from emp.sim.flow.qr import TOOK

FEWEST = 30
"""Events that make a table of quantiles of their own."""


def quantile_table(x: Array, n: int) -> Array:
    """Midpoint quantiles of a sample; zeros where it is empty."""
    if len(x) == 0:
        return np.zeros(n, np.int64)
    levels = (np.arange(n) + 0.5) / n
    return np.asarray(np.quantile(x, levels, method="inverted_cdf"), np.int64)


def quantiles(x: Array, n: int) -> Array:
    """Midpoint quantiles of a sample of floats; zeros where it is empty."""
    return np.quantile(x, (np.arange(n) + 0.5) / n, method="inverted_cdf") if len(x) else np.zeros(n)


def edges_at(x: Array, levels: Array) -> Array:
    """Increasing inner edges of buckets at the given quantiles; 1, 2, 3 … of an empty sample."""
    n = len(levels) + 1
    edges = np.unique(np.quantile(x, levels, method="inverted_cdf")) if len(x) else np.ones(1)
    while len(edges) < n - 1:
        edges = np.append(edges, edges[-1] + 1 if len(edges) else 1)
    return edges


def averages(x: Array, decay: Array, when: Array | None = None) -> Array:
    """Exponential averages of a series before each element; with `when`, only those elements enter.

    Shape (n, len(decay)): row i is what is known before element i.
    """
    take = np.ones(len(x), np.bool_) if when is None else when
    return np.asarray(_averages(x.astype(float), decay, take))


@kernel
def _averages(x: Any, decay: Any, take: Any) -> Any:
    out = np.zeros((len(x), len(decay)))
    now = np.zeros(len(decay))
    for i in range(len(x)):
        out[i] = now
        if take[i]:
            for k in range(len(decay)):
                now[k] += (x[i] - now[k]) * (1.0 - decay[k])
    return out


def memory_decay() -> Array:
    """Decays per step for half-lives of 0, 4, 16 ... 4**7 steps."""
    decay = 0.5 ** (1.0 / 2.0 ** np.arange(0, 2 * MEMORY, 2))
    decay[0] = 0.0
    return decay


def what_came(obs: Array) -> Array:
    """The kind of each event, TOOK for a market order that took the whole best price: shape (n,), of LASTS."""
    kind = obs["type"] % KINDS
    met = np.where(obs["type"] >= KINDS, obs["ask_sz"], obs["bid_sz"])
    return np.where((kind == HIT) & (obs["qty"] >= met), TOOK, kind)


def recent_hits(obs: Array) -> Array:
    """Averages of how often market orders came, before each event: shape (n, BURSTS)."""
    return averages(obs["type"] % KINDS == HIT, memory_decay()[1 : 1 + BURSTS])
