"""Queue-reactive flow with an empirical clock and memory.

The kind of the next event depends on imbalance and spread (Huang, Lehalle and Rosenbaum, "Simulating and
analyzing order book data: the queue-reactive model", arXiv 1312.0563; projected on these two in Noble,
Rosenbaum and Souilmi, arXiv 2603.24137), and on what came last; market orders come in bursts, so their weight grows
with how many came lately. The side is a logistic draw: log-odds by imbalance and spread, and by the quantities at the
best prices themselves, plus a linear function of memory: exponential averages, over 1 to 4**7 steps, of trade signs
(per trade), of the sides of each kind (per event), and of the mid's displacement. A sum of such averages is a power
law between its scales, which is how signed flow feeds back.

Our own trades are kept apart. Persistence of signs comes from order splitting, not from herding (Toth, Palit,
Lillo and Farmer, "Why is equity order flow so persistent?", JEDC 2015), so the sign of the next market order
follows the market's own past signs and the long order at work (`splitting.py`) only, while liquidity answers all
trades. And liquidity leans against flow from outside with a memory that fades as a power (signed-flow feedback,
arXiv 2603.24137): that makes the impact of a metaorder concave and lets it relax. How strongly is not to be seen in
a recording; see `fit/leaning.py`.

The clock draws the gap from the recorded gaps that followed similar predictions of its logarithm and of whether it is
a long one: linear functions of averages of log gaps over 1 to 32 events, of what came last, and of how many market
orders came lately (an autoregressive conditional duration model, Engle and Russell 1998, with a non-parametric law).
Gaps with the same mean logarithm can be a burst's or a lull's; a burst lasts as long as no long gap comes. The gap is
divided by a rate that wanders on scales of one minute to half an hour, a sum of Ornstein-Uhlenbeck processes in the
logarithm. Usual distances (spread, steps inside it) wander likewise: spread and volatility per trade rise and fall
together (Wyart, Bouchaud, Kockelkoren, Potters and Vettorazzo, "Relation between bid-ask spread, impact and
volatility in order-driven markets", Quantitative Finance 2008), so these distances are in units of that level, those
of deeper orders in a power of it. In these two volatility clusters.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.rng import next_u64, uniform
from emp.core.numba.simd import clip, load, splat, store, total
from emp.sim.book.book import BEST, BUY, LIVE, OWN_LIVE, SELL, TRADE_QTY, level_of, u
from emp.sim.flow.marks import apply_type, bucket
from emp.sim.flow.observe import AT, CANCEL_AT, CANCEL_DEEP, HIT, IN, gap_behind
from emp.sim.flow.params import BURSTS, GROUPS, KINDS, LASTS, MEMORY, PACE_LOGS, RATES, SPREADS
from emp.sim.flow.splitting import work_off
from emp.sim.flow.state import pass_time

TOOK = KINDS
"""What came last: a market order that took the whole best price."""

TRADES = 0
PULSES = MEMORY
HITS = PULSES + HIT * MEMORY
MOVED = (GROUPS - 1) * MEMORY
"""Where each kind of memory begins in the state's `memory`."""

MAX_MOVE = 8.0
RATE_STEP_NS = 5_000_000_000

_S11 = np.uint64(11)
_S54 = np.uint64(54)
_S56 = np.uint64(56)


@kernel
def imbalance(bid: int, ask: int) -> float:
    """(bid size - ask size) / (bid size + ask size)."""
    return (bid - ask) / (bid + ask) if bid + ask > 0 else 0.0


@kernel
def remember_ours(s: Any, p: Any, side: int, qty: int) -> None:
    """Let memory take in a trade in which we were the aggressor."""
    sign = 1.0 - 2.0 * side
    remember_trade(s, p, sign, True)
    for k in range(MEMORY):
        s.outside[k] += sign * np.sqrt(qty / p.outside_qty)
    s.strange = 1.0


@kernel
def remember_trade(s: Any, p: Any, sign: float, ours: bool) -> None:
    """Let memory take in a trade: +1 buyer-initiated, -1 seller-initiated."""
    gain, signs = load(s.gain, 0), load(s.memory, TRADES)
    store(s.memory, TRADES, signs + (splat(sign) - signs) * gain)
    if ours:
        store(s.memory, HITS, load(s.memory, HITS) + splat(sign) * gain)
    else:
        signs = load(s.own, 0)
        store(s.own, 0, signs + (splat(sign) - signs) * gain)


@kernel
def _remember(b: Any, s: Any, p: Any, kind: int, side: int) -> None:
    """Take in the event and the mid that it left."""
    if kind == HIT and b[u(TRADE_QTY)] != 0:
        remember_trade(s, p, 1.0 if b[u(TRADE_QTY)] > 0 else -1.0, False)
    x = 2.0 * side - 1.0
    mid = 0.5 * (b[u(BEST)] + b[u(BEST + 1)])
    keep, gain = load(s.keep, 0), load(s.gain, 0)
    for at in range(PULSES, PULSES + KINDS * MEMORY, MEMORY):
        store(s.memory, at, load(s.memory, at) * keep)
    at = PULSES + kind * MEMORY
    store(s.memory, at, load(s.memory, at) + splat(x) * gain)
    hit = x if kind == HIT else 0.0
    store(s.own, MEMORY, load(s.own, MEMORY) * keep + splat(hit) * gain)
    came = 1.0 if kind == HIT else 0.0
    for k in range(BURSTS):
        s.burst[k] += (came - s.burst[k]) * s.gain[k + 1]
    unit = 1.0 / (p.unit_ticks * s.level)
    average = load(s.mid, 0)
    move = splat(mid) - average
    store(s.memory, MOVED, clip(move * splat(unit), MAX_MOVE))
    store(s.mid, 0, average + move * gain)
    if s.strange != 0.0:
        _fade(s, p)


@kernel
def _fade(s: Any, p: Any) -> None:
    """Let the flow from outside be forgotten, event by event."""
    strange = 0.0
    for k in range(MEMORY):
        s.outside[k] *= s.keep[k]
        strange += p.outside[k] * s.outside[k]
    s.strange = strange if abs(strange) > 1e-6 else 0.0


@kernel
def draw_kind(flow: Any, i: int, j: int) -> int:
    """Draw the kind: first whether it is a cancel, whose weights grow with the number of orders, then which.

    The weight of market orders grows with how many came lately. `i` and `j` are the buckets of imbalance and spread.
    """
    b, s, p = flow.book, flow.state[0], flow.params[0]
    sums = p.kind_sums[u((i * SPREADS + j) * LASTS + s.last)]
    crowd = (b[u(LIVE)] - b[u(OWN_LIVE)]) * p.crowd
    boost = p.burst_usual
    for k in range(BURSTS):
        boost += p.burst[k] * s.burst[k]
    stay = sums[2] + boost * (sums[3] - sums[2])
    v = uniform(flow.rng) * (stay + crowd * (sums[4] + sums[5]))
    if v >= stay:
        return CANCEL_AT if v < stay + crowd * sums[4] else CANCEL_DEEP
    k = (v >= sums[0]) + (v >= sums[1])
    return k if v < sums[2] else HIT


@kernel
def lean(s: Any, w: Any, own: bool) -> float:
    """Sum of the weights (FEATURES,) times memory; with `own`, memory of our trades is left out."""
    first, hits = load(s.memory, TRADES), load(s.memory, HITS)
    if own:
        first, hits = load(s.own, 0), load(s.own, MEMORY)
    sums = load(w, TRADES) * first + load(w, HITS) * hits
    for at in range(PULSES, HITS, MEMORY):
        sums = sums + load(w, at) * load(s.memory, at)
    return total(sums + load(w, MOVED) * load(s.memory, MOVED))


@kernel
def happens(p: Any, odds: float, r: Any) -> bool:
    """Whether something of these log-odds happens; the exponential is needed in one cell of a thousand only."""
    bits = next_u64(r)
    cell = bits >> _S54
    if odds >= p.logit[cell + u(1)]:
        return True
    if odds <= p.logit[cell]:
        return False
    return bool(np.float64(bits >> _S11) * 2.0**-53 * (1.0 + np.exp(-odds)) < 1.0)


@kernel
def qr_apply(flow: Any) -> None:
    """Apply one event."""
    b, s, p, r = flow.book, flow.state[0], flow.params[0], flow.rng
    bid = int(b[u(level_of(b, BUY, int(b[u(BEST)])))])
    ask = int(b[u(level_of(b, SELL, int(b[u(BEST + 1)])))])
    i = bucket(imbalance(bid, ask), p.imbalance_edges)
    spread = int(b[u(BEST + 1)]) - int(b[u(BEST)])
    j = bucket(spread / s.level, p.spread_edges)
    kind = draw_kind(flow, i, j)
    if kind == IN and spread == 1:
        kind = AT  # there is no price inside
    odds = p.side_odds[u(i), u(j), u(kind)]
    odds += p.size_odds[u(kind), u(bucket(ask, p.size_edges))]
    odds -= p.size_odds[u(kind), u(bucket(bid, p.size_edges))]
    odds += lean(s, p.side_weight[u(kind)], kind == HIT)
    if kind == HIT:
        odds += p.split_odds * s.split_sign
        odds += p.gap_weight * np.log(max(1, gap_behind(b, SELL)) / max(1, gap_behind(b, BUY)))
    elif s.strange != 0.0 and kind in (IN, AT, CANCEL_AT):
        odds += s.strange * (-1.0 if kind == CANCEL_AT else 1.0)
    side = SELL if happens(p, odds, r) else BUY
    best = b[u(BEST + side)]
    apply_type(flow, kind + KINDS * side)
    s.last = kind
    if kind == HIT:
        work_off(s, p, 2.0 * side - 1.0, r)
        if b[u(BEST + side)] != best:
            s.last = TOOK
    _remember(b, s, p, kind, side)


@kernel
def take_gap(pace: Any, decay: Any, log_gap: float) -> None:
    """Let the clock's averages take in a gap, log(ns + LOG_SHIFT_NS), as it were at the usual rate."""
    for k in range(PACE_LOGS):
        pace[k] += (log_gap - pace[k]) * (1.0 - decay[k])


@kernel
def wander(s: Any, p: Any, r: Any) -> None:
    """Move the event rate and the level on by RATE_STEP_NS, until they are ahead of the market's time."""
    while s.rate_due <= s.now:
        total, level = 0.0, 0.0
        for k in range(RATES):
            keep = np.exp(-RATE_STEP_NS * 1e-9 / p.rate_tau_s[k])
            step = np.sqrt((1.0 - keep * keep) * -2.0 * np.log(1.0 - uniform(r)))
            angle = 2.0 * np.pi * uniform(r)
            one, two = step * np.cos(angle), step * np.sin(angle)
            tie = p.level_rate[k]
            s.rate[k] = keep * s.rate[k] + np.sqrt(p.rate_var[k]) * one
            s.levels[k] = keep * s.levels[k] + np.sqrt(p.level_var[k]) * (
                tie * one + np.sqrt(1.0 - tie * tie) * two
            )
            total += s.rate[k] - 0.5 * p.rate_var[k]
            level += s.levels[k]
        s.speed = np.exp(total)
        s.level = np.exp(level)
        s.reach = np.exp(p.deep_elasticity * level)
        s.rate_due = max(s.rate_due + RATE_STEP_NS, s.now - RATE_STEP_NS)


@kernel
def expect(s: Any, p: Any) -> None:
    """Predict the next log gap, and the chance that it is long, as far as the averages tell."""
    log_gap, long = 0.0, 0.0
    for k in range(PACE_LOGS):
        log_gap += p.pace_weight[0, k] * s.pace[k]
        long += p.pace_weight[1, k] * s.pace[k]
    s.pace_mean[0] = log_gap
    s.pace_mean[1] = long


@kernel
def foretold(s: Any, p: Any, what: int) -> float:
    """A prediction of the clock, by all that is known."""
    x = s.pace_mean[what] + p.pace_last[what, u(s.last)]
    for k in range(BURSTS):
        x += p.pace_burst[what, k] * s.burst[k]
    return float(x)


@kernel
def qr_gap(flow: Any) -> None:
    """Draw the time of the next event."""
    s, p, r = flow.state[0], flow.params[0], flow.rng
    if s.rate_due <= s.now:
        wander(s, p, r)
    pace = u(bucket(foretold(s, p, 0), p.pace_edges))
    pause = u(bucket(foretold(s, p, 1), p.pause_edges[pace]))
    gap = p.gaps[pace, pause, next_u64(r) >> _S56]
    take_gap(s.pace, p.pace_decay, np.float64(gap[1]))
    expect(s, p)
    pass_time(s, int(np.float64(gap[0]) / s.speed) + 1)
