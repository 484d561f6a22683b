"""Labels: where the mid goes, in units of the spread or of sigma, and what is known of their classes when (B.3).

    delta_hat[t] = (mid[t + H] - mid[t]) / (tick * max(spread_ticks[t], k * sigma_ticks[t]))

The label is anchored at the current mid: nothing of the past is smoothed into it. An event horizon counts
visible events; a wall-time horizon takes the last mid at or before ts + H. A label exists only where the
stream is unbroken over its whole horizon: not across the end, a session flip, a day edge, a halt or a long
gap. `known_ns` says when a label has become known; whoever splits data at an edge drops what is known later.
"""

from typing import NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_EVENTS, HORIZON_NS, HORIZONS, Array

DOWN, FLAT, UP = 0, 1, 2
NO_LABEL = -1
CLASSES = 3

FLAT_SHARE = 1.0 / 3.0
"""Share of training moves that the flat class holds; more where more do not move at all."""

_STEPS = np.array(HORIZON_EVENTS, np.int64)
_SPANS_NS = np.array(HORIZON_NS, np.int64)


class Targets(NamedTuple):
    """Labels of n rows at every horizon of HORIZON_NAMES."""

    delta_hat: Array  # float32[n, HORIZONS]; NaN where there is no label
    known_ns: Array  # int64[n, HORIZONS]: time of the event that made the label known; 0 where there is none


def unit_ticks(spread_ticks: Array, sigma_ticks: Array, k_sigma: float) -> Array:
    """The unit of delta_hat in ticks: max(spread_ticks, k * sigma_ticks)."""
    return np.maximum(spread_ticks, k_sigma * sigma_ticks)


def segments(since_reset: Array) -> Array:
    """Number the unbroken stretches of a stream.

    Args:
        since_reset: int64[n], `PERCEPTION.since_reset` after each row: 1 on the first row after a reset.
    """
    return np.cumsum(since_reset == 1)


@kernel
def event_targets(
    mid2: Array, ts: Array, unit: Array, segment: Array, steps: int, out: Array, known: Array
) -> None:
    """Fill one event horizon: `out` float32[n] and `known` int64[n], which come in as NaN and 0.

    Args:
        mid2: int64[n], bid + ask in ticks: twice the mid.
        ts: int64[n], ns, not decreasing within a segment.
        unit: float64[n], ticks.
        segment: int64[n].
        steps: visible events ahead.
    """
    for t in range(ts.size - steps):
        if segment[t + steps] == segment[t]:
            out[t] = 0.5 * (mid2[t + steps] - mid2[t]) / unit[t]
            known[t] = ts[t + steps]


@kernel
def wall_targets(
    mid2: Array, ts: Array, unit: Array, segment: Array, span_ns: int, out: Array, known: Array
) -> None:
    """Fill one wall-time horizon; arguments as for `event_targets`.

    A label is known with the first event after ts + H, which shows both that no later mid counts and that the
    stream went on.
    """
    k = 0
    for t in range(ts.size):
        k = max(k, t)
        end = ts[t] + span_ns
        while k < ts.size and segment[k] == segment[t] and ts[k] <= end:
            k += 1
        if k < ts.size and segment[k] == segment[t]:
            out[t] = 0.5 * (mid2[k - 1] - mid2[t]) / unit[t]
            known[t] = ts[k]


def targets(mid2: Array, ts: Array, unit: Array, segment: Array) -> Targets:
    """Labels of every row at every horizon; arguments as for `event_targets`."""
    delta_hat = np.full((HORIZONS, ts.size), np.nan, np.float32)
    known_ns = np.zeros((HORIZONS, ts.size), np.int64)
    for h, steps in enumerate(_STEPS):
        event_targets(mid2, ts, unit, segment, steps, delta_hat[h], known_ns[h])
    for h, span_ns in enumerate(_SPANS_NS, len(_STEPS)):
        wall_targets(mid2, ts, unit, segment, span_ns, delta_hat[h], known_ns[h])
    return Targets(np.ascontiguousarray(delta_hat.T), np.ascontiguousarray(known_ns.T))


def thresholds(delta_hat: Array, weight: Array | None = None) -> Array:
    """Class threshold of every horizon, to be called with rows of training days only.

    It is the FLAT_SHARE quantile of |delta_hat|, so that the classes are as balanced as the data allow: where
    more than that share of moves is zero, flat means no move.

    Args:
        delta_hat: float[n, HORIZONS], NaN where there is no label.
        weight: float[n], how much each row counts; all the same where None.

    Returns:
        float64[HORIZONS]; 0 where a horizon has no label at all.
    """
    found = np.zeros(delta_hat.shape[1])
    for h in range(delta_hat.shape[1]):
        known = ~np.isnan(delta_hat[:, h])
        if known.any():
            size = np.abs(delta_hat[known, h])
            mass = np.ones(size.size) if weight is None else weight[known]
            order = np.argsort(size, kind="stable")
            total = np.cumsum(mass[order])
            found[h] = size[order][np.searchsorted(total, FLAT_SHARE * total[-1])]
    return found


def classes(delta_hat: Array, threshold: Array) -> Array:
    """DOWN, FLAT or UP for every label, NO_LABEL where there is none: int8, shaped like `delta_hat`."""
    found = np.where(delta_hat > threshold, UP, np.where(delta_hat < -threshold, DOWN, FLAT))
    return np.where(np.isnan(delta_hat), NO_LABEL, found).astype(np.int8)


def class_prior(labels: Array) -> Array:
    """Share of each class among labels: float64[HORIZONS, CLASSES], one pseudo-count each.

    Args:
        labels: int8[n, HORIZONS] of `classes`.
    """
    counts = np.stack([(labels == c).sum(axis=0) for c in range(CLASSES)], axis=-1) + 1.0
    return np.asarray(counts / counts.sum(axis=-1, keepdims=True))


def daily_priors(labels: Array, known_ns: Array, ts: Array, day: Array) -> dict[int, Array]:
    """Class prior that each day may use: that of the labels known before its first event.

    Args:
        labels: int8[n, HORIZONS] of `classes`.
        known_ns: int64[n, HORIZONS] of `targets`.
        ts: int64[n], ns.
        day: int[n], trading day of each row, not decreasing.

    Returns:
        By day, float64[HORIZONS, CLASSES]; uniform on the first day, before which nothing is known.
    """
    found = {}
    days, first = np.unique(day, return_index=True)
    for number, start in zip(days, first, strict=True):
        earlier = np.where(known_ns[:start] < ts[start], labels[:start], NO_LABEL)
        found[int(number)] = class_prior(earlier)
    return found


def pos_weight(prior: Array) -> Array:
    """Weight of each class in a loss that shall count all classes alike: 1 / (CLASSES * prior).

    A model trained with these weights believes in the tilted prior; log(pos_weight) taken off its logits gives
    the true one back (Menon et al. 2021, logit adjustment).
    """
    return np.asarray(1.0 / (CLASSES * prior))
