"""Tau-leaping: many events of the queue-reactive flow at once, at the rates of the book before them.

Gillespie, "Approximate accelerated stochastic simulation of chemically reacting systems" (Journal of Chemical Physics
115, 2001). The probabilities of kind and side (`flow/qr.py`) are worked out once for a leap, and its events drawn from
them; memory, clock and averages move on once. What each event does to the book stays that of `flow/marks.py`: in a book
of some thirty orders a leap of summed quantities would be another market. Our orders stand in that book, so market
orders fill them and cancels move them up. What is lost is what happens to rates inside a leap: a touch that changes, a
market order that calls for another.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import UsageError
from emp.core.numba.jit import kernel
from emp.core.numba.rng import next_u64, uniform
from emp.core.numba.simd import aligned, clip, load, splat, store
from emp.core.records import Array
from emp.sim.book.book import BEST, BUY, LIVE, OWN_LIVE, SELL, clear_trade, level_of, u
from emp.sim.flow.marks import apply_type, bucket
from emp.sim.flow.observe import AT, CANCEL_AT, DEEP, HIT, IN, gap_behind
from emp.sim.flow.params import BURSTS, KINDS, LASTS, MEMORY, PACE_LOGS, QUEUE_REACTIVE, SPREADS, TYPES
from emp.sim.flow.qr import (
    MAX_MOVE,
    MOVED,
    PULSES,
    TOOK,
    expect,
    foretold,
    imbalance,
    lean,
    remember_trade,
    wander,
)
from emp.sim.flow.splitting import work_off
from emp.sim.flow.state import FlowWorld, pass_time, recentre
from emp.sim.world.tape import register

EVENTS = 16
"""Events of a leap."""

GAPS = 4
"""Gaps drawn for a leap's duration: each stands for an equal share of its events."""

TAU = np.dtype(
    [
        ("keep", "f8", (MEMORY,)),  # what is left of the averages after a leap
        ("gain", "f8", (MEMORY,)),  # 1 - keep
        ("odds", "f8", (TYPES,)),  # running sum of the probabilities of kind and side
        ("net", "f8", (KINDS,)),  # of a leap: asks less bids of each kind
        ("events", "i8"),
        ("hits", "i8"),
    ],
    align=True,
)

_S56 = np.uint64(56)


class FlowTau(NamedTuple):
    """`FlowWorld` and what a leap needs."""

    book: Array
    fills: Array
    state: Array
    params: Array
    rng: Array
    tau: Array  # TAU, shape (1,)


def tau_leaping(flow: FlowWorld, events: int = EVENTS) -> FlowTau:
    """A flow that goes on from where `flow` stands by leaps of `events`; it takes over its arrays.

    Raises:
        UsageError: the flow is not queue-reactive.
    """
    if int(flow.params["model"][0]) != QUEUE_REACTIVE:
        raise UsageError(
            "tau-leaping knows the rates of queue-reactive flow alone: choose goog, tsla, or such a file"
        )
    tau = aligned(np.zeros(1, TAU))
    tau["events"] = events
    tau["keep"] = flow.state["keep"] ** events
    tau["gain"] = 1.0 - tau["keep"]
    return FlowTau(*flow, tau)


@kernel
def _side_odds(flow: Any, kind: int, i: int, j: int, bid: int, ask: int) -> float:
    """Log-odds that an event of a kind is on the ask side: see `qr_apply`."""
    b, s, p = flow.book, flow.state[0], flow.params[0]
    odds = p.side_odds[u(i), u(j), u(kind)]
    odds += p.size_odds[u(kind), u(bucket(ask, p.size_edges))]
    odds -= p.size_odds[u(kind), u(bucket(bid, p.size_edges))]
    odds += lean(s, p.side_weight[u(kind)], kind == HIT)
    if kind == HIT:
        odds += p.split_odds * s.split_sign
        odds += p.gap_weight * np.log(max(1, gap_behind(b, SELL)) / max(1, gap_behind(b, BUY)))
    elif s.strange != 0.0 and kind in (IN, AT, CANCEL_AT):
        odds += s.strange * (-1.0 if kind == CANCEL_AT else 1.0)
    return float(odds)


@kernel
def freeze(flow: Any) -> None:
    """Work out the probabilities of kind and side at the book as it stands: a running sum over TYPES."""
    b, s, p, t = flow.book, flow.state[0], flow.params[0], flow.tau[0]
    bid = int(b[u(level_of(b, BUY, int(b[u(BEST)])))])
    ask = int(b[u(level_of(b, SELL, int(b[u(BEST + 1)])))])
    i = bucket(imbalance(bid, ask), p.imbalance_edges)
    j = bucket((int(b[u(BEST + 1)]) - int(b[u(BEST)])) / s.level, p.spread_edges)
    sums = p.kind_sums[u((i * SPREADS + j) * LASTS + s.last)]
    crowd = (b[u(LIVE)] - b[u(OWN_LIVE)]) * p.crowd
    boost = p.burst_usual
    for k in range(BURSTS):
        boost += p.burst[k] * s.burst[k]
    total = 0.0
    for kind in range(KINDS):
        if kind == IN:
            weight = sums[0]
        elif kind == AT:
            weight = sums[1] - sums[0]
        elif kind == DEEP:
            weight = sums[2] - sums[1]
        elif kind == HIT:
            weight = boost * (sums[3] - sums[2])
        else:
            weight = crowd * (sums[4] if kind == CANCEL_AT else sums[5])
        ask_share = 1.0 / (1.0 + np.exp(-_side_odds(flow, kind, i, j, bid, ask)))
        t.odds[kind] = max(0.0, weight) * (1.0 - ask_share)
        t.odds[KINDS + kind] = max(0.0, weight) * ask_share
    for what in range(TYPES):
        total += t.odds[what]
        t.odds[what] = total


@kernel
def _one(flow: Any) -> None:
    """Draw one event at the frozen probabilities and apply it."""
    b, s, p, t = flow.book, flow.state[0], flow.params[0], flow.tau[0]
    v = uniform(flow.rng) * t.odds[TYPES - 1]
    what = 0
    while what < TYPES - 1 and v >= t.odds[what]:
        what += 1
    side = what // KINDS
    kind = what - KINDS * side
    if kind == IN and int(b[u(BEST + 1)]) - int(b[u(BEST)]) == 1:
        kind = AT  # there is no price inside
    best = b[u(BEST + side)]
    s.seq += 1
    apply_type(flow, kind + KINDS * side)
    s.last = kind
    sign = 2.0 * side - 1.0
    t.net[kind] += sign
    if kind == HIT:
        t.hits += 1
        remember_trade(s, p, sign, False)
        work_off(s, p, sign, flow.rng)
        if b[u(BEST + side)] != best:
            s.last = TOOK


@kernel
def _remember(flow: Any) -> None:
    """Let the averages take in the leap as if its events had come evenly."""
    b, s, p, t = flow.book, flow.state[0], flow.params[0], flow.tau[0]
    keep, gain, n = load(t.keep, 0), load(t.gain, 0), float(t.events)
    for kind in range(KINDS):
        at = PULSES + kind * MEMORY
        store(s.memory, at, load(s.memory, at) * keep + splat(t.net[kind] / n) * gain)
    store(s.own, MEMORY, load(s.own, MEMORY) * keep + splat(t.net[HIT] / n) * gain)
    for k in range(BURSTS):
        s.burst[k] += (t.hits / n - s.burst[k]) * t.gain[k + 1]
    mid = 0.5 * (b[u(BEST)] + b[u(BEST + 1)])
    average = load(s.mid, 0)
    move = splat(mid) - average
    store(s.memory, MOVED, clip(move * splat(1.0 / (p.unit_ticks * s.level)), MAX_MOVE))
    store(s.mid, 0, average + move * gain)
    strange = 0.0
    for k in range(MEMORY):
        s.outside[k] *= t.keep[k]
        strange += p.outside[k] * s.outside[k]
    s.strange = strange if abs(strange) > 1e-6 else 0.0


@kernel
def _pass(flow: Any) -> None:
    """Draw when the next leap ends."""
    s, p, t, r = flow.state[0], flow.params[0], flow.tau[0], flow.rng
    if s.rate_due <= s.now:
        wander(s, p, r)
    waited, log_gap = 0.0, 0.0
    pace = u(bucket(foretold(s, p, 0), p.pace_edges))
    pause = u(bucket(foretold(s, p, 1), p.pause_edges[pace]))
    for _ in range(GAPS):
        gap = p.gaps[pace, pause, next_u64(r) >> _S56]
        waited += gap[0]
        log_gap += gap[1]
    for k in range(PACE_LOGS):
        s.pace[k] += (log_gap / GAPS - s.pace[k]) * (1.0 - p.pace_decay[k] ** t.events)
    expect(s, p)
    pass_time(s, int(waited / GAPS * t.events / s.speed) + 1)


@kernel
def tau_event(flow: Any) -> None:
    """Apply the leap that is due and draw when the next one ends."""
    b, s, t = flow.book, flow.state[0], flow.tau[0]
    s.now = s.next
    clear_trade(b)
    t.hits = 0
    for kind in range(KINDS):
        t.net[kind] = 0.0
    freeze(flow)
    for _ in range(t.events):
        _one(flow)
    _remember(flow)
    recentre(b, s)
    _pass(flow)


register(FlowTau, tau_event)

__all__ = ["EVENTS", "FlowTau", "tau_leaping"]
