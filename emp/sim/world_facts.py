"""Facts that need more than a tape: impact, distances to recordings, a maker's fortune, fill probabilities."""

from collections.abc import Callable

import numpy as np

from emp.core.records import Array
from emp.sim.estimators import mids, order_flow_imbalance, wasserstein
from emp.sim.facts import MINIMUM, Row
from emp.sim.flow.observe import CANCEL_AT, CANCEL_DEEP, DEEP, KINDS
from emp.sim.latency import LatencyConfig
from emp.sim.maker import naive_maker
from emp.sim.market import Market
from emp.sim.metaorder import Impact, metaorder_impact
from emp.sim.observe_market import Tape
from emp.sim.probe import fill_curve, probes_of_market, probes_of_plan
from emp.sim.replay import Plan

CHUNK = 10_000


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
    impact = metaorder_impact(market, qty, runs=200, seed=seed)
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


def scores(obs: Array) -> dict[str, Array]:
    """Samples of the unconditional scores of LOB-Bench that a stream of events shows."""
    kind = obs["type"] % KINDS
    mid = mids(obs)
    gap = np.diff(obs["ts"])
    ages = obs["age_ns"][obs["age"] > 0]
    return {
        "spread": (obs["ask"] - obs["bid"]).astype(float),
        "imbalance": (obs["bid_sz"] - obs["ask_sz"]) / np.maximum(1, obs["bid_sz"] + obs["ask_sz"]),
        "log gap": np.log(gap + 1000.0),
        "log time to cancel": np.log(ages + 1000.0),
        "log touch quantity": np.log(np.maximum(1, np.concatenate([obs["bid_sz"], obs["ask_sz"]]))),
        "limit distance": np.clip(obs["dist"][kind <= DEEP], -100, 100).astype(float),
        "cancel distance": np.clip(
            obs["dist"][(kind == CANCEL_AT) | (kind == CANCEL_DEEP)], -100, 100
        ).astype(float),
        "ofi": np.clip(order_flow_imbalance(obs), -1000, 1000),
        "log market order size": np.log(np.maximum(1, obs["qty"][obs["sign"] != 0])),
        "mid move, 20 events": np.clip(mid[20:] - mid[:-20], -200, 200),
    }


def _sees_depth(obs: Array) -> bool:
    return bool((obs["type"] % KINDS == DEEP).any())


def distance_rows(simulated: Tape, real: Tape) -> list[Row]:
    """Fact 17: distance of simulated stretches to real ones, against that between real stretches.

    Stretches are CHUNK events. A score passes where its mean distance does not pass the 95th percentile of
    the distances between two real stretches of the same recording.
    """
    parts = [real.obs[i : i + CHUNK] for i in range(0, len(real.obs) - CHUNK + 1, CHUNK)]
    sims = [simulated.obs[i : i + CHUNK] for i in range(0, len(simulated.obs) - CHUNK + 1, CHUNK)][:12]
    if len(parts) < 4 or not sims:
        return []
    known = [scores(o) for o in parts]
    ours = [scores(o) for o in sims]
    rows = []
    for name in known[0]:
        if name.endswith("distance") and not _sees_depth(real.obs):
            continue  # a recording of the best level only has no deeper orders to compare with
        between = [wasserstein(known[i][name], known[j][name]) for i in range(len(known)) for j in range(i)]
        far = [wasserstein(a[name], b[name]) for a in ours for b in known]
        limit = float(np.quantile(between, 0.95))
        rows.append(
            _row(
                17,
                f"distance to {real.name}: {name}",
                "<= 95 % of real-to-real",
                "arXiv 2502.09172",
                float(np.mean(far)),
                0.0,
                limit,
                {real.name: float(np.mean(between))},
            )
        )
    return rows


def maker_rows(
    make: Callable[[int], Market], usual_hz: float, fees: tuple[float, float], seeds: int
) -> list[Row]:
    """The second half of fact 19: a naive two-sided maker must not earn."""
    latency = LatencyConfig(usual_hz=usual_hz)
    results = [naive_maker(make(100 + k), k, latency, *fees, decisions=10_000) for k in range(seeds)]
    per_lot = np.array([r.per_lot for r in results])
    error = float(per_lot.std() / np.sqrt(max(1, seeds - 1)))
    label = f"naive maker after fees, ticks per lot (+- {1.64 * error:.2f})"
    return [_row(19, label, "<= 0", "measured; ZI earns", float(per_lot.mean()), -np.inf, 0.0)]


def fill_rows(market: Market, plan: Plan | None, name: str) -> list[Row]:
    """Fact 20: fill probability falls with the lots ahead, and matches the recording's."""
    probes = probes_of_market(market)
    edges = np.quantile(probes[:, 0], (0.25, 0.5, 0.75))
    real = np.full(4, np.nan)
    if plan is not None:
        theirs = probes_of_plan(plan)
        edges = np.quantile(theirs[:, 0], (0.25, 0.5, 0.75))
        real = fill_curve(theirs, edges)
    got = fill_curve(probes, edges)
    fall = float(np.nanmax(np.diff(got[np.isfinite(got)]), initial=-1.0))
    rows = [
        _row(
            20, "largest rise of fill probability with queue ahead", "<= 0.02", "queue theory", fall, -1, 0.02
        )
    ]
    both = np.isfinite(got) & np.isfinite(real)
    if both.any():
        off = float(np.abs(got - real)[both].max())
        rows.append(
            _row(
                20,
                "largest distance of the curve to the recording's",
                "<= 0.1",
                "replay",
                off,
                0.0,
                0.1,
                {name: float(real[both].mean())},
            )
        )
    return rows
