"""A queue before one server, first come first served: the waits that it makes, and those that theory says."""

import numpy as np

from emp.core.records import Array


def waits(arrivals: Array, services: Array) -> Array:
    """How long each waits before it is served, float64[n].

    Lindley's recursion, W' = max(0, W + S - A), in its closed form: what had been asked for by then, less the least
    that it ever was.

    Args:
        arrivals: float64[n], s, ascending.
        services: float64[n], s.
    """
    if not len(arrivals):
        return np.zeros(0)
    walk = np.concatenate([[0.0], np.cumsum(services[:-1] - np.diff(arrivals))])
    return np.asarray(walk - np.minimum.accumulate(walk))


def pollaczek_khinchine(rate: float, services: Array) -> float:
    """Mean wait in s of a queue that is reached at random (Poisson) `rate` times a second, utilised below 1.

    Pollaczek (1930), Khinchine (1932): rate E[S^2] / (2 (1 - rate E[S])).
    """
    load = rate * float(np.mean(services))
    return float(rate * np.mean(services**2) / (2.0 * (1.0 - load)))
