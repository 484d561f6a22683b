"""Many instruments over many engines, in virtual time: the queue before each engine, and what a lost one leaves.

Events of an instrument come at random (Poisson) at a rate that changes from second to second as a market's does, and
wait until its engine, which serves one after the other, is at them. Where an engine is lost its instruments' events
wait until the lease on them has run out, and then go to others. Same seed, same result.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from emp.app.bench.scaling.queue import waits
from emp.core.ids import generator
from emp.core.records import Array


class Load(NamedTuple):
    """What engines are asked for and how long it takes them."""

    rates: Array  # float64[instruments], events a second of each, as a mean
    bursts: Array  # float64[s], events in each second of a market over their mean
    services: Array  # float64[m], s: what events take, drawn from by chance
    together: bool = False  # bursts come to all instruments at once; else to each in its own time


class Span(NamedTuple):
    """How long, and from which random numbers."""

    seconds: int
    seed: int


class Engine(NamedTuple):
    """What one engine had to do."""

    events: int
    utilisation: float  # share of the time that it is at work
    wait_p50_s: float
    wait_p99_s: float


class Lost(NamedTuple):
    """What the loss of the busiest engine does."""

    instruments: int  # that had to move
    takers: int  # engines that took some of them
    delayed: int  # events that came before anybody was there for them
    longest_s: float  # from an event's arrival to its service, of those that moved
    calm_after_s: float  # from the take-over, until each engine that took some is idle for the first time
    utilisation: float  # of the busiest engine afterwards
    served: int  # events in all
    asked: int


def drawn_rates(known: Sequence[float], instruments: int, seed: int) -> Array:
    """Rates of a log-normal law with the mean and the spread of known rates' logarithms, float64[instruments]."""
    logs = np.log(np.asarray(known, float))
    spread = float(logs.std(ddof=1)) if len(logs) > 1 else 0.0
    return np.exp(generator(seed, "scale", "rates").normal(logs.mean(), spread, instruments))


def placed(rates: Array, engines: int) -> Array:
    """Engine of each instrument, int64[instruments]: the busiest instrument first, to the least loaded engine."""
    where, load = np.zeros(len(rates), np.int64), np.zeros(engines)
    for i in np.argsort(-rates, kind="stable"):
        where[i] = int(np.argmin(load))
        load[where[i]] += rates[i]
    return where


def arrivals(load: Load, instrument: int, span: Span) -> Array:
    """When an instrument's events come, float64[n], s, ascending."""
    rng = generator(span.seed, "scale", "arrivals", instrument)
    first = 0 if load.together else int(rng.integers(len(load.bursts)))
    here = load.bursts[(first + np.arange(span.seconds)) % len(load.bursts)]
    if load.together:
        here = here / max(
            1e-12, float(here.mean())
        )  # the same seconds for all: of the span, not of the market
    counts = rng.poisson(load.rates[instrument] * here)
    return np.sort(np.repeat(np.arange(span.seconds, dtype=float), counts) + rng.random(counts.sum()))


def engine_events(load: Load, mine: Sequence[int], span: Span) -> tuple[Array, Array]:
    """Arrivals of some instruments' events in order, and the instrument of each."""
    came = [arrivals(load, i, span) for i in mine]
    times = np.concatenate([np.zeros(0), *came])
    whose = np.repeat(np.asarray(mine, np.int64), [len(one) for one in came])
    order = np.argsort(times, kind="stable")
    return times[order], whose[order]


def run_fleet(load: Load, where: Array, span: Span) -> list[Engine]:
    """Every engine over the span."""
    return [
        _told(*_served(load, engine_events(load, _of(where, e), span)[0], span, e), span)
        for e in range(int(where.max()) + 1)
    ]


def lose(load: Load, where: Array, span: Span, takes_over_s: float) -> Lost:
    """Lose the busiest engine in the middle of the span; its instruments go to the least loaded others, one by one.

    Events that came before the loss were served by it; those that it had not served yet are served by who takes over.
    """
    shares = np.bincount(where, load.rates)
    gone, at_s = int(np.argmax(shares)), span.seconds / 2.0
    moved, again = _of(where, gone), at_s + takes_over_s
    after = where.copy()
    shares[gone] = np.inf
    for i in sorted(moved, key=lambda i: -load.rates[i]):
        after[i] = int(np.argmin(shares))
        shares[after[i]] += load.rates[i]
    times, whose = engine_events(load, moved, span)
    asked, longest, calm, busiest = len(times), 0.0, 0.0, 0.0
    services = _services(load, len(times), span, gone)
    done = times + waits(times, services) + services
    before = done <= at_s
    served, delayed = int(before.sum()), int((~before & (times < again)).sum())
    takers = sorted(set(after[moved].tolist()))
    for taker in takers:
        own, _ = engine_events(load, _of(where, taker), span)
        theirs = times[~before & (after[whose] == taker)]
        came = np.concatenate([own, theirs])
        effective = np.concatenate([own, np.maximum(theirs, again)])
        order = np.argsort(effective, kind="stable")
        services = _services(load, len(came), span, taker)
        wait = waits(effective[order], services)
        ends = effective[order] + wait + services
        is_theirs = order >= len(own)
        longest = max(longest, float((ends - came[order])[is_theirs].max(initial=0.0)))
        late = effective[order] >= again
        calm = max(calm, _caught_up(effective[order], wait, ends, again) - again)
        busiest = max(busiest, float(services[late].sum()) / (span.seconds - again))
        asked, served = asked + len(own), served + len(came)
    return Lost(len(moved), len(takers), delayed, longest, calm, busiest, served, asked)


def _caught_up(effective: Array, wait: Array, ends: Array, again: float) -> float:
    """When an engine is idle for the first time after it took what had come before `again`."""
    behind = int(np.searchsorted(effective, again, side="right"))  # the first event after what had come
    idle = np.flatnonzero(wait[behind:] <= 0.0)
    until = behind + int(idle[0]) if len(idle) else len(wait)
    return max(again, float(ends[until - 1])) if until else again


def bearable(load: Load, span: Span, limit_s: float) -> float:
    """The highest utilisation, in hundredths, at which the 99th percentile of waits stays within a limit: an
    engine of these instruments, all of them busier or calmer by one factor.
    """
    mean = float(load.services.mean())
    low, high = 0, 99
    while low < high:
        tried = (low + high + 1) // 2
        share = load._replace(rates=load.rates * (tried / 100.0 / mean / load.rates.sum()))
        times, _ = engine_events(share, range(len(share.rates)), span)
        found = _told(*_served(share, times, span, 0), span)
        low, high = (tried, high) if found.wait_p99_s <= limit_s else (low, tried - 1)
    return low / 100.0


def _of(where: Array, engine: int) -> list[int]:
    return [int(i) for i in np.flatnonzero(where == engine)]


def _services(load: Load, n: int, span: Span, engine: int) -> Array:
    return np.asarray(generator(span.seed, "scale", "services", engine).choice(load.services, n))


def _served(load: Load, times: Array, span: Span, engine: int) -> tuple[Array, Array]:
    services = _services(load, len(times), span, engine)
    return waits(times, services), services


def _told(wait: Array, services: Array, span: Span) -> Engine:
    p50, p99 = np.percentile(wait, [50, 99]) if len(wait) else (0.0, 0.0)
    return Engine(len(wait), float(services.sum()) / span.seconds, float(p50), float(p99))
