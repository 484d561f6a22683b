"""Queue-reactive flow with an empirical clock and memory.

The kind of the next event depends on imbalance and spread (Huang, Lehalle and Rosenbaum, "Simulating and
analyzing order book data: the queue-reactive model", arXiv 1312.0563; projected on these two in Noble,
Rosenbaum and Souilmi, arXiv 2603.24137), and on the last event's kind. Its side is a logistic draw: log-odds
by imbalance and spread, plus a linear function of memory: exponential averages, over 1 to 4**7 steps, of
trade signs (per trade), of the sides of each kind (per event), and of the mid's displacement. A sum of such
averages is a power law between its scales, which is how signed flow feeds back.

Our own trades are kept apart. Persistence of signs comes from order splitting, not from herding (Toth, Palit,
Lillo and Farmer, "Why is equity order flow so persistent?", JEDC 2015), so the sign of the next market order
follows the market's own past signs only, while liquidity answers all trades. And liquidity leans against flow
from outside with a memory that fades as t ** -0.5 (power-law signed-flow feedback, arXiv 2603.24137): that
makes the impact of a metaorder concave and lets it relax. How strongly is not to be seen in a recording; see
`anchor.py`.

The clock draws the gap from the recorded gaps that followed a similar predicted gap, a linear function of
averages of log gaps over 1 to 64 events (an autoregressive conditional duration model, Engle and Russell
1998, with a non-parametric law), and divides it by a rate that wanders on scales of one minute to half an
hour, a sum of Ornstein-Uhlenbeck processes in the logarithm: that is where volatility clusters.
"""

from typing import Any

import numpy as np

from emp.core.jit import kernel
from emp.sim.book import BEST, BUY, LIVE, OWN_LIVE, SELL, TRADE_QTY, level_qty, u
from emp.sim.flow.marks import apply_type, bucket, draw
from emp.sim.flow.params import FEATURES, GROUPS, KINDS, MEMORY, PACE_LOGS, RATES
from emp.sim.flow.state import pass_time
from emp.sim.rng import uniform

DEEP, CANCEL_AT, CANCEL_DEEP, HIT = 2, 3, 4, 5
TRADES = 0
PULSES = MEMORY
HITS = PULSES + HIT * MEMORY
MOVED = (GROUPS - 1) * MEMORY
"""Where each kind of memory begins in the state's `memory`."""

MAX_MOVE = 8.0
RATE_STEP_NS = 5_000_000_000


@kernel
def imbalance(b: Any) -> float:
    """(bid size - ask size) / (bid size + ask size)."""
    bid = float(level_qty(b, BUY, int(b[u(BEST)])))
    ask = float(level_qty(b, SELL, int(b[u(BEST + 1)])))
    return (bid - ask) / (bid + ask) if bid + ask > 0 else 0.0


@kernel
def remember_ours(s: Any, p: Any, side: int, qty: int) -> None:
    """Let memory take in a trade in which we were the aggressor."""
    sign = 1.0 - 2.0 * side
    remember_trade(s, p, sign, True)
    for k in range(MEMORY):
        s.outside[k] += sign * np.sqrt(qty / p.outside_qty)
    s.strange = s.outside[MEMORY - 1]


@kernel
def remember_trade(s: Any, p: Any, sign: float, ours: bool) -> None:
    """Let memory take in a trade: +1 buyer-initiated, -1 seller-initiated."""
    for k in range(MEMORY):
        gain = 1.0 - p.decay[k]
        s.memory[TRADES + k] += (sign - s.memory[TRADES + k]) * gain
        if ours:
            s.memory[HITS + k] += sign * gain
        else:
            s.own[k] += (sign - s.own[k]) * gain


@kernel
def _remember(b: Any, s: Any, p: Any, kind: int, side: int) -> None:
    """Take in the event and the mid that it left."""
    if kind == HIT and b[u(TRADE_QTY)] != 0:
        remember_trade(s, p, 1.0 if b[u(TRADE_QTY)] > 0 else -1.0, False)
    x = 2.0 * side - 1.0
    mid = 0.5 * (b[u(BEST)] + b[u(BEST + 1)])
    memory, own, decay, decays = s.memory, s.own, p.decay, p.decays
    for g in range(KINDS * MEMORY):
        memory[PULSES + g] *= decays[g]
    at = PULSES + kind * MEMORY
    for k in range(MEMORY):
        memory[at + k] += x * (1.0 - decay[k])
    hit = x if kind == HIT else 0.0
    for k in range(MEMORY):
        own[MEMORY + k] = own[MEMORY + k] * decay[k] + hit * (1.0 - decay[k])
    average, unit = s.mid, 1.0 / p.unit_ticks
    for k in range(MEMORY):
        move = mid - average[k]
        memory[MOVED + k] = min(MAX_MOVE, max(-MAX_MOVE, move * unit))
        average[k] += move * (1.0 - decay[k])
    if s.strange != 0.0:
        _fade(s, p)


@kernel
def _fade(s: Any, p: Any) -> None:
    """Let the flow from outside be forgotten, event by event."""
    strange, weight = 0.0, 1.0
    for k in range(MEMORY):
        s.outside[k] *= p.decay[k]
        strange += weight * s.outside[k]
        weight *= 0.5
    s.strange = strange if abs(strange) > 1e-6 else 0.0


@kernel
def _kind(b: Any, s: Any, p: Any, i: int, j: int, r: Any) -> int:
    crowd = (b[u(LIVE)] - b[u(OWN_LIVE)]) / p.live_ref
    last = s.type - KINDS if s.type >= KINDS else s.type
    total = 0.0
    for k in range(KINDS):
        w = p.kind_weight[i, j, k] * p.after[last, k]
        if k in (CANCEL_AT, CANCEL_DEEP):
            w *= crowd
        s.scratch[k] = w
        total += w
    v = uniform(r) * total
    kind = 0
    while kind < KINDS - 1 and v >= s.scratch[kind]:
        v -= s.scratch[kind]
        kind += 1
    return kind


@kernel
def qr_apply(b: Any, fills: Any, s: Any, p: Any, r: Any) -> None:
    """Apply one event."""
    i = bucket(imbalance(b), p.imbalance_edges)
    j = bucket(int(b[u(BEST + 1)]) - int(b[u(BEST)]), p.spread_edges)
    kind = _kind(b, s, p, i, j, r)
    odds = p.side_odds[i, j, kind]
    w, memory = p.side_weight[kind], s.memory
    for k in range(FEATURES):
        odds += w[k] * memory[k]
    if kind == HIT:
        own = s.own
        for k in range(MEMORY):
            odds += w[TRADES + k] * (own[k] - memory[TRADES + k])
            odds += w[HITS + k] * (own[MEMORY + k] - memory[HITS + k])
    elif s.strange != 0.0 and kind < CANCEL_DEEP and kind != DEEP:
        odds += p.outside * s.strange * (-1.0 if kind == CANCEL_AT else 1.0)
    side = SELL if uniform(r) * (1.0 + np.exp(-odds)) < 1.0 else BUY
    apply_type(b, fills, s, p, kind + KINDS * side, r)
    _remember(b, s, p, kind, side)


@kernel
def take_gap(pace: Any, decay: Any, gap_ns: float) -> None:
    """Let the clock's averages take in a gap, as it were at the usual rate."""
    x = np.log(gap_ns + 1000.0)
    for k in range(PACE_LOGS):
        pace[k] += (x - pace[k]) * (1.0 - decay[k])


@kernel
def wander(s: Any, p: Any, r: Any) -> None:
    """Move the event rate on by RATE_STEP_NS, until it is ahead of the market's time."""
    while s.rate_due <= s.now:
        total = 0.0
        for k in range(RATES):
            keep = np.exp(-RATE_STEP_NS * 1e-9 / p.rate_tau_s[k])
            radius = np.sqrt(-2.0 * np.log(1.0 - uniform(r)))
            normal = radius * np.cos(2.0 * np.pi * uniform(r))
            s.rate[k] = keep * s.rate[k] + np.sqrt(p.rate_var[k] * (1.0 - keep * keep)) * normal
            total += s.rate[k] - 0.5 * p.rate_var[k]
        s.speed = np.exp(total)
        s.rate_due = max(s.rate_due + RATE_STEP_NS, s.now - RATE_STEP_NS)


@kernel
def qr_gap(b: Any, s: Any, p: Any, r: Any) -> None:
    """Draw the time of the next event."""
    if s.rate_due <= s.now:
        wander(s, p, r)
    mean = p.pace_const + p.pace_type[s.type]
    for k in range(PACE_LOGS):
        mean += p.pace_weight[k] * s.pace[k]
    gap = draw(p.gap_ns[bucket(mean, p.pace_edges)], r)
    take_gap(s.pace, p.pace_decay, gap)
    pass_time(s, int(gap / s.speed) + 1)
