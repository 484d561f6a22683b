"""Facts that need more than a tape: impact, distances to recordings, a maker's fortune, fill probabilities."""

from collections.abc import Callable

import numpy as np

from emp.sim.facts.facts import MINIMUM, Row
from emp.sim.measure.maker import naive_maker
from emp.sim.measure.metaorder import Impact, metaorder_impact
from emp.sim.measure.probe import fill_curve, probes_of_market, probes_of_plan
from emp.sim.tape.replay import Plan
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market

AHEAD = (0.1, 0.5, 1.0, 2.0)
RUNS = 1_500
MAKERS = 24


def _row(
    fact: int,
    name: str,
    target: str,
    source: str,
    value: float,
    low: float,
    high: float,
    real: dict[str, float | None] | None = None,
) -> Row:
    good = bool(np.isfinite(value) and low <= value <= high)
    return Row(fact, name, target, source, real or {}, value, low, high, good, fact in MINIMUM)


def impact_rows(market: Market, qty: int, seed: int) -> tuple[list[Row], Impact]:
    """Fact 12 and the metaorder part of 18."""
    impact = metaorder_impact(market, qty, runs=RUNS, seed=seed)
    source = "arXiv 2411.13965, 2502.16246"
    label = f"metaorder impact exponent (90 %: {impact.low:.2f} to {impact.high:.2f})"
    rows = [
        _row(12, label, "0.5 +- 0.1", source, impact.exponent, 0.4, 0.6),
        _row(
            12,
            "share of the peak given back afterwards",
            "0 < share < 1",
            source,
            impact.reversion,
            0.05,
            0.95,
        ),
        _row(
            18,
            "injected metaorder moves the price, ticks",
            "> 0",
            "arXiv 2110.13287",
            impact.impact[-1],
            0.5,
            np.inf,
        ),
    ]
    return rows, impact


def maker_rows(
    make: Callable[[int], Market], usual_hz: float, fees: tuple[float, float], seeds: int
) -> list[Row]:
    """The second half of fact 19: a naive two-sided maker must not earn."""
    latency = LatencyConfig(usual_hz=usual_hz)
    results = [naive_maker(make(100 + k), k, latency, *fees, decisions=10_000) for k in range(seeds)]
    per_lot = np.array([r.per_lot for r in results])
    error = float(per_lot.std() / np.sqrt(max(1, seeds - 1)))
    label = f"naive maker before fees, ticks per lot (+- {1.64 * error:.2f})"
    return [_row(19, label, "<= 0", "measured; ZI earns", float(per_lot.mean()), -np.inf, 0.0)]


def fill_rows(market: Market, plan: Plan | None, name: str, since_ns: int) -> list[Row]:
    """Fact 20: fill probability falls with the lots ahead, and matches the recording's.

    Lots ahead are taken over the mean quantity at the best prices, of the market and of the recording.
    """
    probes, touch = probes_of_market(market)
    got = fill_curve(probes, np.array(AHEAD) * touch)
    fall = float(np.nanmax(np.diff(got[np.isfinite(got)]), initial=-1.0))
    label = "largest rise of fill probability with queue ahead"
    rows = [_row(20, label, "<= 0.02", "queue theory", fall, -1, 0.02)]
    if plan is None:
        return rows
    theirs, usual = probes_of_plan(plan, since_ns)
    real = fill_curve(theirs, np.array(AHEAD) * usual)
    names = ("almost none", "below half the usual", "below the usual", "below twice", "more")
    for k in np.flatnonzero(np.isfinite(got) & np.isfinite(real)):
        label = f"fill probability, queue ahead {names[k]}"
        value, known = float(got[k]), float(real[k])
        rows.append(
            _row(20, label, "replay +- 0.1", "replay", value, known - 0.1, known + 0.1, {name: known})
        )
    return rows
