"""Fact 17: distances of simulated stretches to real ones, score by score (LOB-Bench, arXiv 2502.09172).

LOB-Bench compares a simulation with the instrument that it imitates. A model is therefore held against the part of
its own instrument's recording that it was not fitted to, in ticks, lots and seconds; the yardstick is how far those
stretches lie from any other stretches of that recording, the fitted ones included, because the model can know no
more of the day's rest than the fitted part does. Against another instrument only shapes can be compared: ticks are
divided by its mean spread, lots by its median size, times by its median time, and the yardstick is how far that
recording's own stretches lie apart.
"""

import msgspec
import numpy as np

from emp.core.records import Array
from emp.sim.facts.facts import MINIMUM, Row
from emp.sim.flow.observe import CANCEL_AT, CANCEL_DEEP, DEEP, KINDS
from emp.sim.measure.estimators import mids, order_flow_imbalance
from emp.sim.measure.observe_market import Tape

CHUNK = 5_000
MOST_SIMULATED = 60
LEVELS = (np.arange(500) + 0.5) / 500
FEWEST = 20


class Units(msgspec.Struct):
    """What one instrument's ticks, lots and times are divided by."""

    spread: float = 1.0
    touch: float = 1.0
    hit: float = 1.0
    gap: float = 1.0
    age: float = 1.0


class Sample(msgspec.Struct):
    """Quantiles, mean and variance of one score in one stretch."""

    quantiles: Array
    mean: float
    variance: float


def own_units(obs: Array) -> Units:
    """An instrument's own units, from all of its events."""
    hits = obs["qty"][obs["sign"] != 0]
    ages = obs["age_ns"][obs["age"] > 0]

    def middle(x: Array) -> float:
        return max(1.0, float(np.median(x))) if len(x) else 1.0

    return Units(
        float((obs["ask"] - obs["bid"]).mean()),
        middle(np.concatenate([obs["bid_sz"], obs["ask_sz"]])),
        middle(hits),
        middle(np.diff(obs["ts"])),
        middle(ages),
    )


def scores(obs: Array, unit: Units) -> dict[str, Array]:
    """Samples of the unconditional scores of LOB-Bench that a stream of events shows."""
    kind = obs["type"] % KINDS
    mid = mids(obs) / unit.spread
    gap = np.diff(obs["ts"]) / unit.gap
    ages = obs["age_ns"][obs["age"] > 0] / unit.age
    touch = np.maximum(1, np.concatenate([obs["bid_sz"], obs["ask_sz"]]))
    dist = np.clip(obs["dist"], -100, 100) / unit.spread
    floor = 1000.0 if unit.gap == 1.0 else 1e-4
    return {
        "spread": (obs["ask"] - obs["bid"]) / unit.spread,
        "imbalance": (obs["bid_sz"] - obs["ask_sz"]) / np.maximum(1, obs["bid_sz"] + obs["ask_sz"]),
        "log gap": np.log(gap + floor),
        "log time to cancel": np.log(ages + floor),
        "log touch quantity": np.log(touch / unit.touch),
        "limit distance": dist[kind <= DEEP],
        "cancel distance": dist[(kind == CANCEL_AT) | (kind == CANCEL_DEEP)],
        "ofi": np.clip(order_flow_imbalance(obs), -1000, 1000) / unit.touch,
        "log market order size": np.log(np.maximum(1, obs["qty"][obs["sign"] != 0]) / unit.hit),
        "mid move, 20 events": np.clip(mid[20:] - mid[:-20], -200 / unit.spread, 200 / unit.spread),
    }


def samples(obs: Array, unit: Units) -> list[dict[str, Sample]]:
    """Samples of every score in each stretch of CHUNK events."""
    out = []
    for i in range(0, len(obs) - CHUNK + 1, CHUNK):
        known = scores(obs[i : i + CHUNK], unit)
        out.append(
            {
                name: Sample(np.quantile(x, LEVELS), float(x.mean()), float(x.var()))
                for name, x in known.items()
                if len(x) >= FEWEST
            }
        )
    return out


def distance(a: Sample, b: Sample) -> float:
    """Wasserstein-1 in pooled standard deviations."""
    pooled = 0.5 * (a.variance + b.variance) + 0.25 * (a.mean - b.mean) ** 2
    return float(np.abs(a.quantiles - b.quantiles).mean() / np.sqrt(pooled)) if pooled > 0 else 0.0


def distance_rows(simulated: Tape, real: Tape, fitted: Array | None = None, levels: int = 0) -> list[Row]:
    """Rows of fact 17 beside one recording; `fitted` holds its events that the model was fitted to.

    Compared is what happens at the best `levels` prices of a side (0: at all): a recording of those does not show what
    happens behind them, and a model fitted to it knows nothing of that. At the best level only, scores that need more
    are left out: distances, and times to cancel, which are known only of orders that arrived there.
    """
    flow, theirs = simulated.obs, real.obs
    if levels:
        flow, theirs = flow[flow["rank"] < levels], theirs[theirs["rank"] < levels]
    deep = levels != 1
    same = fitted is not None
    held = samples(theirs, Units() if same else own_units(theirs))
    ours = samples(flow, Units() if same else own_units(flow))[:MOST_SIMULATED]
    if len(held) < 4 or not ours:
        return []
    pairs = [(a, b) for i, a in enumerate(held) for b in held[:i]]
    if fitted is not None:
        pairs += [(a, b) for a in held for b in samples(fitted, Units())]
    rows = []
    for name in ours[0]:
        if not deep and (name.endswith("distance") or name == "log time to cancel"):
            continue
        between = [distance(a[name], b[name]) for a, b in pairs if name in a and name in b]
        far = [distance(a[name], b[name]) for a in ours for b in held if name in a and name in b]
        if not between or not far:
            continue
        value, limit = float(np.mean(far)), float(np.quantile(between, 0.95))
        rows.append(
            Row(
                17,
                f"distance to {real.name}{'' if same else ', own units'}: {name}",
                "<= 95 % of real-to-real",
                "arXiv 2502.09172",
                {real.name: float(np.mean(between))},
                value,
                0.0,
                limit,
                value <= limit,
                17 in MINIMUM,
            )
        )
    return rows
