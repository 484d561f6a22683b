"""Forecasts held against what came: their probabilities, scale and spread become those of this market, past only.

A head carries the class shares, the size of moves and the sharpness of the markets it was trained on. Each forecast is
therefore kept until its outcome is known (as `perception.targets` defines it), and what is learned from the outcomes
corrects the forecasts that follow. Nothing is tuned, and no outcome is used before the event that makes it known.

**Classes.** Experts say what the class probabilities are: the model itself, and the model with its probabilities raised
to the power 1, 1/2, 1/4 and 0 and brought to this market's own class shares,

    p_k' ~ p_k^gamma * realised_k / said_k        (Saerens, Latinne and Decaestecker 2002)

so the last one knows nothing but those shares. The forecast is their mixture, weighted by the likelihood that each gave
to the outcomes (Bayes), with a small share of weight given back to all (fixed share, Herbster and Warmuth 1998): its
log loss stays within ln(EXPERTS) of the best expert, and follows where another becomes the best. Labels of neighbouring
events overlap, so each counts less by the square root of how many overlap, the rate for feedback that comes late.

**Mean.** The slope of real on expected moves, as a Bayesian regression with a normal prior: around 1 where the head was
trained on the instrument, around 0 where it never saw it, so that a forecast must first earn its scale there.

**Quantiles.** The outer ones are pushed out, or in, by a margin under which half of the moves lie between them
(conformalised quantile regression, Romano, Patterson and Candes 2019, online).

**Intervals** of 90 %, which the decision takes its sigma from, are learned beside it (`model.conformal`).
"""

import math
from typing import Any

import numpy as np

from emp.core.numba.jit import inlined, kernel
from emp.core.numba.simd import ROW_BYTES, finite, load
from emp.core.records import HORIZON_EVENTS, HORIZON_NS, HORIZONS, QUANTILES, Array
from emp.model.conformal import INTERVAL, SIDES, follow_tails, lay_out, of_quartiles, scale_of, tie_ticks

CLASSES = 3
EXPERTS = 5
"""The model itself, and powers 1, 1/2, 1/4 and 0 of it with this market's class shares."""

RING = 64
"""Forecasts of one horizon that wait for their outcome; the fuller the ring, the fewer events add to it."""

STRIDE = 4
"""Events of which one is kept at least; neighbours would add nearly the same label."""

MEMORY = 8192.0
"""Events over which class shares and slopes are remembered: four training windows."""

PSEUDO = 64.0
"""Events' worth of belief that the class shares are as the model says."""

SHARE = 1.0 / 2048.0
"""Weight given back to all experts per label: another may be the best once in a training window."""

SLOPE_VARIANCE = 0.25
"""Of the prior of the slope."""

MAX_SLOPE = 2.0

WILD = 4.0
"""Root mean squares beyond which a move counts as just that large in the slope."""

FIRST = 64
"""Labels before which the size of moves is not known well enough to learn a scale by."""

LEAST_P = 1e-6

LANES = (HORIZONS + 7) // 8 * 8
"""Horizons rounded up to whole vector registers: what every event needs of all of them is computed side by side."""

WIDE = ROW_BYTES // 4
"""Numbers of a forecast that are looked at side by side."""

_STEPS = np.array(HORIZON_EVENTS, np.int64)
_SPANS = np.array(HORIZON_NS, np.int64)
_EVENT_HORIZONS = len(HORIZON_EVENTS)

WAITING = np.dtype(
    [
        ("ts", "i8"),
        ("at", "i8"),  # number of the event
        ("mid2", "i8"),
        ("unit", "f8"),  # ticks per unit of delta_hat
        ("stands_for", "f8"),  # events, itself and those before it that were not kept
        ("mean", "f8"),
        ("low", "f8"),  # outer quantiles, as corrected
        ("high", "f8"),
        ("scale", "f8"),  # of the interval
        ("edge", "f8", (SIDES,)),  # of the interval, as said
        ("p", "f4", (CLASSES, EXPERTS)),  # what each expert said
    ],
    align=True,
)
"""A forecast of one horizon that waits for its outcome."""

RECALIBRATION = np.dtype(
    [
        ("learns", "?"),
        ("events", "i8"),  # visible events seen
        ("mid2", "i8"),  # bid + ask of the last one, ticks
        ("k_sigma", "f8"),
        ("threshold", "f8", (HORIZONS,)),  # of delta_hat, beyond which a move is up or down
        ("prior_slope", "f8"),
        ("labels", "i8", (HORIZONS,)),  # outcomes learned from
        ("weight", "f4", (EXPERTS, LANES)),  # of the experts
        ("ratio", "f4", (EXPERTS, CLASSES, LANES)),  # realised / said share
        ("said", "f4", (HORIZONS, CLASSES, EXPERTS)),  # exponential sums over events
        ("realised", "f4", (HORIZONS, CLASSES)),
        ("square", "f8", (HORIZONS,)),  # mean squared move
        ("size", "f8", (HORIZONS,)),  # mean absolute move
        ("slope", "f8", (HORIZONS,)),
        ("xx", "f8", (HORIZONS,)),
        ("xy", "f8", (HORIZONS,)),
        ("margin", "f8", (HORIZONS,)),  # by which the outer quantiles are pushed out
        ("ends", INTERVAL, (HORIZONS,)),  # of the intervals
        ("first", "i8", (HORIZONS,)),  # oldest place of the ring
        ("waiting", "i8", (HORIZONS,)),
        ("kept_at", "i8", (HORIZONS,)),  # number of the event kept last; 0 none since the stream broke
        ("ring", WAITING, (HORIZONS, RING)),
        ("says", "f4", (EXPERTS, CLASSES, LANES)),  # scratch: what each expert says of the event at hand
        ("mixed", "f4", (CLASSES, LANES)),  # scratch: their mixture
        ("power", "f4", (CLASSES, EXPERTS)),  # scratch
    ],
    align=True,
)
"""What is learned from one instrument's outcomes, and the forecasts that wait for theirs."""


def new_recalibration(n: int = 1) -> Array:
    """Fresh records of `n` instruments, which correct nothing yet."""
    r = np.zeros(n, RECALIBRATION)
    begin(r, np.zeros((n, HORIZONS)), 0.0, np.ones(n, bool), learns=False)
    return r


def begin(r: Array, threshold: Array, k_sigma: float, trained: Array, learns: bool = True) -> None:
    """Forget everything, as another model serves.

    Args:
        r: RECALIBRATION[n].
        threshold: float[n, HORIZONS], class thresholds of the head that serves each instrument.
        k_sigma: of the unit of delta_hat.
        trained: bool[n], whether the head was trained on the instrument.
        learns: whether forecasts are corrected at all; a rule in a model's place is taken at its word.
    """
    r[...] = np.zeros((), RECALIBRATION)
    r["learns"], r["threshold"], r["k_sigma"] = learns, threshold, k_sigma
    r["prior_slope"] = np.where(trained, 1.0, 0.0)
    r["weight"] = 1.0 / EXPERTS
    r["ratio"] = r["says"] = 1.0
    r["slope"] = r["prior_slope"][:, None]


@kernel
def recalibrate(r: Any, ts: int, bid: int, ask: int, sigma_ticks: float, broken: bool, f: Any) -> bool:
    """Learn from the forecasts whose outcome this event shows, then correct the forecast made at it. One that is no
    number is left as it is, and nothing is learned from it.

    Args:
        r: RECALIBRATION record of the instrument.
        ts: time of the event, ns.
        bid, ask: best prices after it, ticks.
        sigma_ticks: as perception knows it after the event.
        broken: the stream was broken before the event: what waited has no outcome.
        f: FORECAST record as the model made it; overwritten with the corrected one.

    Returns:
        Whether every part of the forecast is a number.
    """
    said = is_number(f)
    if not r.learns:
        for h in range(HORIZONS):
            of_quartiles(f.interval[h], f.q[h])
        return said
    mid2 = bid + ask
    r.events += 1
    if broken:
        for h in range(HORIZONS):
            r.waiting[h] = 0
            r.kept_at[h] = 0
    else:
        settle(r, ts, mid2)
    r.mid2 = mid2
    if said:
        ask_experts(r, f.p)
        keep(r, ts, mid2, max(float(ask - bid), r.k_sigma * sigma_ticks), f)
        correct(r, f)
    return said


@inlined
def is_number(f: Any) -> bool:
    """Whether probabilities, quantiles and means of a forecast all are finite."""
    total = 0.0
    for h in range(HORIZONS):
        total += f.mean[h]
    if not (total - total == 0.0 and finite(load(f.p, 0)) and finite(load(f.q, 0))):
        return False
    return finite(load(f.p, HORIZONS * CLASSES - WIDE)) and finite(
        load(f.q, HORIZONS * len(QUANTILES) - WIDE)
    )


@inlined
def settle(r: Any, ts: int, mid2: int) -> None:
    """Learn from all forecasts whose outcome is known with an event at `ts`, after which bid + ask is `mid2`."""
    ring = r.ring
    for h in range(_EVENT_HORIZONS):
        while r.waiting[h] > 0 and r.events - ring[h, r.first[h]].at >= _STEPS[h]:
            learn(r, h, ring[h, r.first[h]], mid2)
            r.first[h] = (r.first[h] + 1) % RING
            r.waiting[h] -= 1
    for h in range(_EVENT_HORIZONS, HORIZONS):
        span = _SPANS[h - _EVENT_HORIZONS]
        while r.waiting[h] > 0 and ts > ring[h, r.first[h]].ts + span:
            learn(r, h, ring[h, r.first[h]], r.mid2)  # the last mid at or before ts + H, as targets take it
            r.first[h] = (r.first[h] + 1) % RING
            r.waiting[h] -= 1


@kernel
def learn(r: Any, h: int, w: Any, mid2: int) -> None:
    """Learn from one forecast of horizon h and its outcome."""
    move = 0.5 * (mid2 - w.mid2) / w.unit
    came = 2 if move > r.threshold[h] else 0 if move < -r.threshold[h] else 1
    overlapping = max(float(r.events - w.at), 1.0)
    rate = min(1.0, w.stands_for / math.sqrt(overlapping))
    r.labels[h] += 1
    weigh_experts(r, h, w, came, rate)
    count_classes(r, h, w, came)
    regress(r, h, w, move, rate)
    widen(r, h, w, move)
    moved = move + tie_ticks(w.ts, w.mid2) / w.unit
    follow_tails(r.ends[h], moved, w.scale, w.edge, w.stands_for, overlapping)


@inlined
def weigh_experts(r: Any, h: int, w: Any, came: int, rate: float) -> None:
    """Bayes with a fixed share: weight ~ weight * p(outcome)^rate."""
    weight, p = r.weight, w.p[came]
    total = np.float32(0.0)
    for e in range(EXPERTS):
        likely = max(p[e], np.float32(LEAST_P))
        if rate < 1.0:
            likely = np.float32(math.exp(rate * math.log(likely)))
        weight[e, h] *= likely
        total += weight[e, h]
    back = np.float32(rate * SHARE)
    scale = (np.float32(1.0) - back) / total
    for e in range(EXPERTS):
        weight[e, h] = weight[e, h] * scale + back / np.float32(EXPERTS)


@inlined
def count_classes(r: Any, h: int, w: Any, came: int) -> None:
    """Realised and said class shares of every expert, and their ratio."""
    said, realised, ratio, power = r.said[h], r.realised[h], r.ratio, r.power
    raise_to_powers(w.p[0, 0], w.p[1, 0], w.p[2, 0], power)
    events = np.float32(w.stands_for)
    fade = np.float32(max(0.0, 1.0 - w.stands_for / MEMORY))
    for k in range(CLASSES):
        realised[k] *= fade
    realised[came] += events
    for e in range(1, EXPERTS):
        share = events / (power[0, e] + power[1, e] + power[2, e])
        for k in range(CLASSES):
            said[k, e] = fade * said[k, e] + share * power[k, e]
        prior = np.float32(PSEUDO) / (said[0, e] + said[1, e] + said[2, e])
        for k in range(CLASSES):
            ratio[e, k, h] = (realised[k] / said[k, e] + prior) / (np.float32(1.0) + prior)


@inlined
def raise_to_powers(down: float, flat: float, up: float, power: Any) -> None:
    """Powers 1, 1, 1/2, 1/4 and 0 of class probabilities, not normalised: power float32[CLASSES, EXPERTS]."""
    for k in range(CLASSES):
        p = down if k == 0 else flat if k == 1 else up
        root = np.sqrt(p)
        power[k, 0] = power[k, 1] = p
        power[k, 2] = root
        power[k, 3] = np.sqrt(root)
        power[k, 4] = np.float32(1.0)


@inlined
def regress(r: Any, h: int, w: Any, move: float, rate: float) -> None:
    """The slope of real on expected moves."""
    n = r.labels[h]
    if n > FIRST:
        most = WILD * math.sqrt(r.square[h])
        x, y = w.mean, min(max(move, -most), most)
        fade = max(0.0, 1.0 - w.stands_for / MEMORY)
        r.xx[h] = fade * r.xx[h] + rate * x * x
        r.xy[h] = fade * r.xy[h] + rate * x * y
        prior = r.square[h] / SLOPE_VARIANCE
        slope = (r.xy[h] + prior * r.prior_slope) / (r.xx[h] + prior)
        r.slope[h] = min(max(slope, 0.0), MAX_SLOPE)
    r.square[h] += (move * move - r.square[h]) * max(1.0 / n, min(1.0, w.stands_for / MEMORY))


@inlined
def widen(r: Any, h: int, w: Any, move: float) -> None:
    """Push the outer quantiles apart, or together, so that half of the moves come to lie between them."""
    n = r.labels[h]
    step = max(1.0 / n, min(1.0, w.stands_for / MEMORY))
    if n > FIRST:
        r.margin[h] += -step * r.size[h] if w.low <= move <= w.high else step * r.size[h]
    r.size[h] += (abs(move) - r.size[h]) * step


@inlined
def ask_experts(r: Any, p: Any) -> None:
    """Fill `says` with what each expert says where the model says p float32[HORIZONS, CLASSES]; `mixed` with all."""
    says, ratio, weight, mixed = r.says, r.ratio, r.weight, r.mixed
    for k in range(CLASSES):
        for h in range(HORIZONS):
            says[0, k, h] = max(p[h, k], np.float32(LEAST_P))
    one = np.float32(1.0)
    for h in range(LANES):  # reads and writes nothing but `r`, or it would not be vectorised
        down, flat, up = says[0, 0, h], says[0, 1, h], says[0, 2, h]
        share_out(says, ratio, 1, h, down, flat, up)
        down, flat, up = np.sqrt(down), np.sqrt(flat), np.sqrt(up)
        share_out(says, ratio, 2, h, down, flat, up)
        share_out(says, ratio, 3, h, np.sqrt(down), np.sqrt(flat), np.sqrt(up))
        share_out(says, ratio, 4, h, one, one, one)
        for k in range(CLASSES):
            mixture = weight[0, h] * says[0, k, h]
            for e in range(1, EXPERTS):
                mixture += weight[e, h] * says[e, k, h]
            mixed[k, h] = mixture


@inlined
def share_out(says: Any, ratio: Any, e: int, h: int, down: Any, flat: Any, up: Any) -> None:
    """Bring a power of the model's probabilities to this market's class shares, as expert e says them of horizon h."""
    down, flat, up = down * ratio[e, 0, h], flat * ratio[e, 1, h], up * ratio[e, 2, h]
    share = np.float32(1.0) / (down + flat + up)
    says[e, 0, h], says[e, 1, h], says[e, 2, h] = down * share, flat * share, up * share


@inlined
def keep(r: Any, ts: int, mid2: int, unit: float, f: Any) -> None:
    """Keep the forecast until its outcome is known, unless those that wait already stand close enough."""
    for h in range(HORIZONS):
        n = r.waiting[h]
        since = r.events - r.kept_at[h]
        if r.kept_at[h] == 0:
            since = 1
        elif since < STRIDE + n // 2 or n == RING:
            continue
        w = r.ring[h, (r.first[h] + n) % RING]
        r.waiting[h] = n + 1
        r.kept_at[h] = r.events
        w.ts, w.at, w.mid2, w.unit, w.stands_for = ts, r.events, mid2, unit, since
        w.mean = f.mean[h]
        w.low = min(f.q[h, 0] - r.margin[h], f.q[h, 1])
        w.high = max(f.q[h, 2] + r.margin[h], f.q[h, 1])
        w.scale = scale_of(f.q[h])
        p, says, edge = w.p, r.says, r.ends[h].edge
        for side in range(
            SIDES
        ):  # a slice would be checked, and the words for one that does not fit compiled
            w.edge[side] = edge[side]
        for k in range(CLASSES):
            for e in range(EXPERTS):
                p[k, e] = says[e, k, h]


@inlined
def correct(r: Any, f: Any) -> None:
    """Overwrite a forecast: mixture of experts, mean times its slope, quantiles by their margin, interval."""
    for h in range(HORIZONS):
        lay_out(r.ends[h], f.interval[h], f.q[h])
        for k in range(CLASSES):
            f.p[h, k] = r.mixed[k, h]
        f.mean[h] *= r.slope[h]
        f.q[h, 0] = min(f.q[h, 0] - r.margin[h], f.q[h, 1])
        f.q[h, 2] = max(f.q[h, 2] + r.margin[h], f.q[h, 1])
