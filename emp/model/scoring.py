"""Log loss of several forecasters over the same outcomes, online and past only.

Every few events what each says is kept until the outcome is known (as `perception.targets` defines it, at every
horizon); then it pays -log of the probability that it gave to what came. One more, the last, knows nothing of the
event: it says the shares of the outcomes so far. Of the first forecaster, the one that serves, it is also counted how
often its likeliest class came, by how sure it was of it, and the Brier score is summed.
"""

import math
from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.lend import lent
from emp.core.records import HORIZON_EVENTS, HORIZON_NS, HORIZONS, Array

CLASSES = 3
FORECASTERS = 5
"""Most that are compared, the one that says shares among them."""

SHARES = FORECASTERS - 1
"""Its place."""

RING = 64
STRIDE = 4
"""Events of which one is kept at least, as in `emp.model.recalibrate`."""

MEMORY = 8192.0
"""Outcomes over which shares are remembered."""

LEAST_P = 1e-6

BINS = 15
"""Bins of equal width of the confidence in the likeliest class, as the ECE of an evaluation has them."""

_EVENT_HORIZONS = len(HORIZON_EVENTS)
_STEPS = np.array(HORIZON_EVENTS, np.int64)
_SPANS = np.array(HORIZON_NS, np.int64)

KEPT = np.dtype(
    [("ts", "i8"), ("at", "i8"), ("mid2", "i8"), ("unit", "f8"), ("p", "f4", (FORECASTERS, CLASSES))],
    align=True,
)
"""What was said at one event of one horizon."""

SCORING = np.dtype(
    [
        ("k_sigma", "f8"),
        ("threshold", "f8", (HORIZONS,)),  # of delta_hat, beyond which a move is up or down
        ("events", "i8"),
        ("mid2", "i8"),  # bid + ask of the last one, ticks
        ("seen", "f8", (HORIZONS, CLASSES)),  # outcomes, the older the less
        ("first", "i8", (HORIZONS,)),
        ("waiting", "i8", (HORIZONS,)),
        ("kept_at", "i8", (HORIZONS,)),
        ("ring", KEPT, (HORIZONS, RING)),
        ("outcomes", "i8", (HORIZONS,)),  # since the last look
        ("loss", "f8", (HORIZONS, FORECASTERS)),  # paid since then, nats
        (
            "brier",
            "f8",
            (HORIZONS,),
        ),  # of the first forecaster since then: mean over classes of the squared error
        ("top", "f8", (HORIZONS, BINS, 3)),  # of its likeliest class since then: outcomes, confidence, hits
    ],
    align=True,
)
"""What waits of one instrument, and what was paid."""


def new_scoring(threshold: Array, k_sigma: float) -> Array:
    """SCORING[n] of instruments with class thresholds float[n, HORIZONS]."""
    s = np.zeros(len(threshold), SCORING)
    s["threshold"], s["k_sigma"] = threshold, k_sigma
    s["seen"] = 1.0
    return s


@kernel
def score(s: Any, ts: int, bid: int, ask: int, sigma_ticks: float, broken: bool, p: Any) -> None:
    """Settle what this event shows, then keep what is said of it.

    Args:
        s: SCORING record of the instrument.
        ts: time of the event, ns.
        bid, ask: best prices after it, ticks.
        sigma_ticks: as perception knows it after the event.
        broken: the stream was broken before the event: what waited has no outcome.
        p: float32[FORECASTERS, HORIZONS, CLASSES]; the last is written here.
    """
    mid2 = bid + ask
    s.events += 1
    if broken:
        for h in range(HORIZONS):
            s.waiting[h] = s.kept_at[h] = 0
    else:
        _settle(s, ts, mid2)
    s.mid2 = mid2
    unit = max(float(ask - bid), s.k_sigma * sigma_ticks)
    for h in range(HORIZONS):
        n = s.waiting[h]
        if n == RING or (s.kept_at[h] != 0 and s.events - s.kept_at[h] < STRIDE + n // 2):
            continue
        w = s.ring[h, (s.first[h] + n) % RING]
        s.waiting[h] = n + 1
        s.kept_at[h] = s.events
        w.ts, w.at, w.mid2, w.unit = ts, s.events, mid2, unit
        whole = s.seen[h, 0] + s.seen[h, 1] + s.seen[h, 2]
        for k in range(CLASSES):
            for c in range(SHARES):
                w.p[c, k] = p[c, h, k]
            w.p[SHARES, k] = s.seen[h, k] / whole


@kernel
def _settle(s: Any, ts: int, mid2: int) -> None:
    for h in range(HORIZONS):
        while s.waiting[h] > 0:
            w = s.ring[h, s.first[h]]
            if h < _EVENT_HORIZONS:
                if s.events - w.at < _STEPS[h]:
                    break
                _pay(s, h, w, mid2)
            else:
                if ts <= w.ts + _SPANS[h - _EVENT_HORIZONS]:
                    break
                _pay(s, h, w, s.mid2)  # the last mid at or before ts + H, as targets take it
            s.first[h] = (s.first[h] + 1) % RING
            s.waiting[h] -= 1


@kernel
def _pay(s: Any, h: int, w: Any, mid2: int) -> None:
    move = 0.5 * (mid2 - w.mid2) / w.unit
    came = 2 if move > s.threshold[h] else 0 if move < -s.threshold[h] else 1
    s.outcomes[h] += 1
    for c in range(FORECASTERS):
        s.loss[h, c] -= math.log(max(w.p[c, came], LEAST_P))
    top = 0
    for k in range(CLASSES):
        miss = w.p[0, k] - (1.0 if k == came else 0.0)
        s.brier[h] += miss * miss / CLASSES
        if w.p[0, k] > w.p[0, top]:
            top = k
    place = min(BINS - 1, max(0, int(w.p[0, top] * BINS)))
    s.top[h, place, 0] += 1.0
    s.top[h, place, 1] += w.p[0, top]
    s.top[h, place, 2] += 1.0 if top == came else 0.0
    keep = 1.0 - 1.0 / MEMORY
    for k in range(CLASSES):
        s.seen[h, k] *= keep
    s.seen[h, came] += 1.0


SEEN = np.dtype(
    [
        ("at", "i8"),  # number of the event in its batch
        ("bid", "i8"),
        ("ask", "i8"),
        ("ts", "i8"),
        ("sigma_ticks", "f8"),
        ("broken", "?"),
        ("p", "f4", (FORECASTERS, HORIZONS, CLASSES)),
    ],
    align=True,
)
"""An event with what every forecaster says of it."""


@kernel
def score_all(s: Any, seen: Any) -> None:
    """`score` for SEEN[n], all of the instrument of a SCORING record."""
    seen = lent(seen)
    for k in range(seen.size):
        one = seen[k]
        score(s, one.ts, one.bid, one.ask, one.sigma_ticks, one.broken, one.p)


def ece(top: Array) -> Array:
    """Expected calibration error of the likeliest class (Guo et al. 2017), float64[...] of sums [..., BINS, 3] as
    SCORING has them in `top`; 0 where nothing was counted.
    """
    n = np.maximum(top[..., 0].sum(axis=-1), 1.0)
    error: Array = np.abs(top[..., 2] - top[..., 1]).sum(axis=-1) / n
    return error


def excess(before: Array, now: Array, limit: float) -> Array:
    """How far outcomes lie beyond a calibration error of `limit`, float64[HORIZONS]; NaN where there is none.

    Args:
        before, now: float64[HORIZONS, BINS, 3], sums of earlier outcomes and of those at hand.

    Let s be the sign that earlier outcomes gave to (hit - confidence) in a bin. The mean of s (hit - confidence) is at
    most the calibration error whatever s, so this is at most 0 on average while the error is at most `limit`.
    """
    sign = np.sign(before[..., 2] - before[..., 1])
    n = now[..., 0].sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = (sign * (now[..., 2] - now[..., 1])).sum(axis=-1) / n - limit
    return found


def clear(s: Any) -> None:
    """Begin the sums of a SCORING record anew; what waits goes on waiting."""
    s["outcomes"], s["loss"], s["brier"], s["top"] = 0, 0.0, 0.0, 0.0
