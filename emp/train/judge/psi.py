"""Do the model's inputs mean the same on every instrument? The population stability index between series.

The arithmetic is that of `emp.observe.psi`; the level expected by chance stands beside every index.

An input that no scaling can align is excused by name and reason, and only where the reason is measured on the
data at hand.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import DataError
from emp.core.records import Array
from emp.observe.psi import LIMIT, chance_level, decile_edges, effective_size, index_of, shares
from emp.perception.state import CORE_INPUTS
from emp.train.data.data import WARMUP_EVENTS, Dataset

RAW_FIELDS = {
    "spread": "spread_ticks",
    "refresh": "refresh_hz",
    "stale": "stale_ms",
    **{name: name for name in ("microprice_off", "ofi_norm", "qimbalance")},
    **{f"{kind}_{side}": f"{kind}_{side}" for kind in ("slope", "curve") for side in ("bid", "ask")},
}
"""Field of MARKET_STATE that an input is made of, where it is made of one."""


class Reason(NamedTuple):
    """Why some inputs cannot agree between two series, and how that is measured on one of them."""

    name: str
    why: str
    inputs: tuple[str, ...]
    measure: Callable[[Dataset, str], float]
    at_least: float

    def holds(self, data: Dataset, name: str) -> bool:
        """Whether the input of this series is of the kind that the reason speaks of."""
        return name in self.inputs and self.measure(data, name) >= self.at_least


def commonest_share(data: Dataset, name: str) -> float:
    """Share of rows that hold the input's commonest value, before any scaling."""
    counts = np.unique(data.seen.states[RAW_FIELDS[name]], return_counts=True)[1]
    return float(counts.max() / counts.sum())


def still_share(data: Dataset, _: str) -> float:
    """Share of visible events that leave the mid where it is."""
    rows = data.seen.rows
    return float((np.diff(rows["bid"] + rows["ask"]) == 0).mean())


def least_wait(data: Dataset, _: str) -> float:
    """The shortest hundredth of waiting times as a share of the median one: near 0 where events come in bursts."""
    waits = np.diff(data.ts)
    return float(np.quantile(waits, 0.01) / max(1.0, np.median(waits)))


LUMP = 0.317
"""Share s of one value from which the index against deciles passes 0.25 in the one bin that holds it, however
the input is scaled: (s - 0.1) ln(s / 0.1) > 0.25."""

REASONS = (
    Reason(
        "lumped",
        "one value holds so many rows (a one-tick spread, no sizes, no depth) that no scaling can spread them "
        "over the deciles of another series",
        tuple(RAW_FIELDS),
        commonest_share,
        LUMP,
    ),
    Reason(
        "still",
        "most events leave the mid where it is, so the last moves are a spike at zero and a few jumps, which no "
        "scaling can spread",
        ("impulse",),
        still_share,
        LUMP,
    ),
    Reason(
        "throttled",
        "the feed is conflated to a least interval: what it says of waiting times is the feed's, not the market's",
        ("stale", "refresh"),
        least_wait,
        0.1,
    ),
)


class Cell(NamedTuple):
    """One input compared between two series."""

    input: str
    reference: str
    current: str
    psi: float
    chance: float  # the 95 % point under no difference
    n_reference: float  # effective
    n_current: float
    exception: str  # name of the Reason that excuses it, or empty


def compare(datasets: Sequence[Dataset]) -> list[Cell]:
    """Every core input between every two series, in both directions.

    Raises:
        DataError: a series has nothing to compare.
    """
    samples = {data.series: _warm_inputs(data) for data in datasets}
    for series, inputs in samples.items():
        if not len(inputs):
            raise DataError(
                f"{series}: nothing to compare: no event comes {WARMUP_EVENTS} or more events after its start or a gap"
            )
    excuses = {data.series: _excuses(data) for data in datasets}
    cells = []
    for reference in datasets:
        for current in datasets:
            if current is not reference:
                pair = (reference.series, current.series)
                found = {name: excuses[pair[0]][name] or excuses[pair[1]][name] for name in CORE_INPUTS}
                cells += _compare_two(*pair, samples, found)
    return cells


def _excuses(data: Dataset) -> dict[str, str]:
    return {
        name: next((reason.name for reason in REASONS if reason.holds(data, name)), "")
        for name in CORE_INPUTS
    }


def verdict(cells: Sequence[Cell]) -> dict[str, Any]:
    """Which cells pass the limit, and which fail without a measured excuse."""
    over = [cell for cell in cells if cell.psi > LIMIT]
    failed = [cell for cell in over if not cell.exception]
    return {
        "limit": LIMIT,
        "cells": len(cells),
        "over": len(over),
        "excused": len(over) - len(failed),
        "failed": [f"{cell.input}: {cell.reference} -> {cell.current}" for cell in failed],
        "passed": not failed,
    }


def measured(datasets: Sequence[Dataset]) -> list[dict[str, Any]]:
    """What each reason's measure is on each series, so that an excuse can be checked."""
    return [
        {
            "series": data.series,
            "reason": reason.name,
            "input": name,
            "measured": round(reason.measure(data, name), 4),
            "at_least": reason.at_least,
            "holds": reason.holds(data, name),
            "why": reason.why,
        }
        for data in datasets
        for reason in REASONS
        for name in reason.inputs
    ]


def _warm_inputs(data: Dataset) -> Array:
    return data.x[data.seen.rows["since_reset"] >= WARMUP_EVENTS, : len(CORE_INPUTS)].astype(float)


def _compare_two(
    reference: str, current: str, samples: dict[str, Array], excuses: dict[str, str]
) -> list[Cell]:
    cells = []
    for i, name in enumerate(CORE_INPUTS):
        a, b = samples[reference][:, i], samples[current][:, i]
        edges = decile_edges(a)
        n, m = effective_size(a, edges), effective_size(b, edges)
        index = index_of(shares(a, edges), shares(b, edges))
        chance = chance_level(len(edges) + 1, n, m)
        excuse = excuses[name] if index > LIMIT else ""
        cells.append(Cell(name, reference, current, index, chance, n, m, excuse))
    return cells
