"""Queue-reactive flow with an empirical clock and memory.

The kind of the next event depends on imbalance and spread (Huang, Lehalle and Rosenbaum, "Simulating and
analyzing order book data: the queue-reactive model", arXiv 1312.0563; projected on these two in Noble,
Rosenbaum and Souilmi, arXiv 2603.24137). Its side is a logistic draw: log-odds by imbalance and spread, plus
a linear function of memory: exponential averages, over 1 to 4**7 steps, of trade signs, of the sides of limit
orders and of cancels, and of the mid's displacement. A sum of such averages is a power law between its
scales, which is how signed flow feeds back.

Two memories of trade signs are kept apart, as Toth, Palit, Lillo and Farmer ("Why is equity order flow so
persistent?", JEDC 2015) found that persistence comes from order splitting, not from herding: the sign of the
next market order follows the market's own past signs; liquidity answers all trades, ours included. So a
stranger's metaorder is not joined by imitators, but liquidity that expects more of it leans against it: that
makes impact concave and lets it relax (Lillo and Farmer 2004; Gerig 2007).

The clock draws the gap from the recorded gaps that followed a similar predicted gap, a linear function of
exponential averages of log gaps (an autoregressive conditional duration model, Engle and Russell 1998, with
a non-parametric law).
"""

from typing import Any

import numpy as np

from emp.core.jit import kernel
from emp.sim.book import BEST, BUY, LIVE, OWN_LIVE, SELL, TRADE_QTY, level_qty, u
from emp.sim.flow.marks import apply_type, bucket, draw
from emp.sim.flow.params import KINDS, MEMORY
from emp.sim.flow.state import pass_time
from emp.sim.rng import uniform

CANCEL_AT, CANCEL_DEEP, HIT = 3, 4, 5
TRADES, LIMITS, CANCELS, MOVED = 0, MEMORY, 2 * MEMORY, 3 * MEMORY
"""Where each kind of memory begins in the state's `memory`."""

MAX_MOVE = 8.0


@kernel
def imbalance(b: Any) -> float:
    """(bid size - ask size) / (bid size + ask size)."""
    bid = float(level_qty(b, BUY, int(b[u(BEST)])))
    ask = float(level_qty(b, SELL, int(b[u(BEST + 1)])))
    return (bid - ask) / (bid + ask) if bid + ask > 0 else 0.0


@kernel
def remember_trade(s: Any, p: Any, sign: float, ours: bool) -> None:
    """Let memory take in a trade: +1 buyer-initiated, -1 seller-initiated."""
    for k in range(MEMORY):
        gain = 1.0 - p.decay[k]
        s.memory[TRADES + k] += (sign - s.memory[TRADES + k]) * gain
        if not ours:
            s.own[k] += (sign - s.own[k]) * gain


@kernel
def _remember(b: Any, s: Any, p: Any, kind: int, side: int) -> None:
    """Take in the event and the mid that it left."""
    if kind == HIT:
        if b[u(TRADE_QTY)] != 0:
            remember_trade(s, p, 1.0 if b[u(TRADE_QTY)] > 0 else -1.0, False)
    else:
        at = LIMITS if kind < CANCEL_AT else CANCELS
        x = 2.0 * side - 1.0
        for k in range(MEMORY):
            s.memory[at + k] += (x - s.memory[at + k]) * (1.0 - p.decay[k])
    mid = 0.5 * (b[u(BEST)] + b[u(BEST + 1)])
    for k in range(MEMORY):
        move = (mid - s.mid[k]) / p.unit_ticks
        s.memory[MOVED + k] = min(MAX_MOVE, max(-MAX_MOVE, move))
        s.mid[k] += (mid - s.mid[k]) * (1.0 - p.decay[k])


@kernel
def _kind(b: Any, s: Any, p: Any, i: int, j: int, r: Any) -> int:
    crowd = (b[u(LIVE)] - b[u(OWN_LIVE)]) / p.live_ref
    total = 0.0
    for k in range(KINDS):
        w = p.kind_weight[i, j, k]
        if k == CANCEL_AT or k == CANCEL_DEEP:
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
    for k in range(MEMORY):
        trades = s.own[k] if kind == HIT else s.memory[k]
        odds += p.side_weight[kind, k] * trades
    for k in range(LIMITS, MOVED + MEMORY):
        odds += p.side_weight[kind, k] * s.memory[k]
    side = SELL if uniform(r) * (1.0 + np.exp(-odds)) < 1.0 else BUY
    apply_type(b, fills, s, p, kind + KINDS * side, r)
    _remember(b, s, p, kind, side)


@kernel
def qr_gap(b: Any, s: Any, p: Any, r: Any) -> None:
    """Draw the time of the next event."""
    mean = p.pace_const + p.pace_type[s.type]
    for k in range(MEMORY):
        mean += p.pace_weight[k] * s.pace[k]
    gap = draw(p.gap_ns[bucket(mean, p.pace_edges)], r)
    x = np.log(gap + 1000.0)
    for k in range(MEMORY):
        s.pace[k] += (x - s.pace[k]) * (1.0 - p.decay[k])
    pass_time(s, gap)
