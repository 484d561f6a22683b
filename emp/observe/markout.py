"""Alpha after fees: what the market did for, or to, each fill of ours at every horizon.

For a fill at price p and side s, at horizon H after it:  s (mid[t + H] - p) - fee,  per lot, in bps of p. The
price paid holds half the spread where the order crossed and gives it where it rested, so nothing more is
taken off. Event horizons count visible changes of the book.
"""

from collections.abc import Mapping

import numpy as np

from emp.core.records import HORIZON_EVENTS, HORIZON_NAMES, HORIZON_NS, Array

BOOTSTRAPS = 1000
BLOCKS = 20


def mids_after(ts: Array, mid: Array, at_ns: Array) -> Array:
    """Mid at each horizon after each time: float[fills, HORIZONS], NaN where the record ends before it.

    Args:
        ts, mid: int64[n] ns and float[n] ticks of the visible events, in order of time.
        at_ns: int64[fills], when the fills happened.
    """
    found = np.full((len(at_ns), len(HORIZON_NAMES)), np.nan)
    now = np.searchsorted(ts, at_ns, side="right") - 1
    for k, steps in enumerate(HORIZON_EVENTS):
        then = now + steps
        known = then < len(ts)
        found[known, k] = mid[then[known]]
    for k, span in enumerate(HORIZON_NS, start=len(HORIZON_EVENTS)):
        known = at_ns + span <= (ts[-1] if len(ts) else 0)
        then = np.searchsorted(ts, at_ns + span, side="right") - 1
        found[known, k] = mid[then[known]]
    return found


def alphas_bps(ts: Array, mid: Array, fills: Mapping[str, Array]) -> Array:
    """Alpha after fees of each fill and horizon, in bps of its price (nan at 0): float[fills, HORIZONS].

    Args:
        fills: arrays `ts` (ns), `side`, `px` (ticks), `qty` (lots), `fee` (ticks times lots of the whole fill).
    """
    later = mids_after(ts, mid, fills["ts"])
    side, px = fills["side"][:, None], fills["px"][:, None].astype(float)
    fee = (fills["fee"] / fills["qty"])[:, None]
    return (side * (later - px) - fee) / np.where(px == 0.0, np.nan, np.abs(px)) * 1e4


def summarise(
    alphas: Array, qty: Array, rng: np.random.Generator
) -> list[dict[str, float | int | str | None]]:
    """Per horizon: number of fills, mean alpha per unit traded, and a block-bootstrap 95 % interval.

    Blocks are stretches of consecutive fills, because neighbouring fills share their fate.
    """
    table: list[dict[str, float | int | str | None]] = []
    for k, name in enumerate(HORIZON_NAMES):
        known = np.isfinite(alphas[:, k])
        values, weights = alphas[known, k], qty[known].astype(float)
        row: dict[str, float | int | str | None] = {"horizon": name, "fills": int(known.sum())}
        if len(values) == 0:
            row |= {"alpha_bps": None, "low": None, "high": None}
        else:
            low, high = _interval(values, weights, rng)
            row |= {"alpha_bps": float(np.average(values, weights=weights)), "low": low, "high": high}
        table.append(row)
    return table


def _interval(values: Array, weights: Array, rng: np.random.Generator) -> tuple[float | None, float | None]:
    blocks = np.array_split(np.arange(len(values)), min(BLOCKS, len(values)))
    if len(blocks) < 5:
        return None, None  # too few independent stretches for an interval that would mean anything
    totals = np.array([(values[b] * weights[b]).sum() for b in blocks])
    sizes = np.array([weights[b].sum() for b in blocks])
    drawn = rng.integers(0, len(blocks), (BOOTSTRAPS, len(blocks)))
    means = totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
