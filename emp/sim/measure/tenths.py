"""What was said beside what came, by tenth of what was said: where a belief is true, and where it is not."""

from typing import NamedTuple

import numpy as np

from emp.core.records import Array
from emp.decision.student import student_quantile

TENTHS = 10
ERROR = 0.05
"""How often any interval of a table may miss."""
LEAST = 5
"""Blocks of which an interval can be made."""


class Tenth(NamedTuple):
    """Of the outcomes whose belief lies in one tenth."""

    n: int
    said: float  # mean
    came: float  # mean
    half: float  # of the interval of came less said; those of all tenths hold together with 95 %; nan: too few blocks


def by_tenth(said: Array, came: Array, block: Array, tables: int = 1) -> list[Tenth]:
    """Cut at the deciles of what was said; what is said equally often stays together, so there may be fewer than ten.

    The interval is that of a ratio of sums over blocks, by linearisation (Cochran, Sampling Techniques, 1977, 6.3).

    Args:
        said, came: float64[n].
        block: int64[n], from 0; outcomes of one block may depend on each other.
        tables: how many of these are shown, all of whose intervals are to hold together.
    """
    edges = np.unique(np.quantile(said, np.linspace(0.0, 1.0, TENTHS + 1)[1:-1]))
    where = np.searchsorted(edges, said, side="right")
    error = ERROR / (tables * (len(edges) + 1))
    found = []
    for k in range(len(edges) + 1):
        mine = where == k
        if not mine.any():
            continue
        off = (came - said)[mine]
        half = _half(off, block[mine], error)
        found.append(Tenth(int(mine.sum()), float(said[mine].mean()), float(came[mine].mean()), half))
    return found


def _half(off: Array, block: Array, error: float) -> float:
    """Of the interval of a mean over blocks, that misses with probability `error`; nan below LEAST blocks."""
    _, where, n = np.unique(block, return_inverse=True, return_counts=True)
    if len(n) < LEAST:
        return float("nan")
    sums = np.bincount(where, off)
    spread = np.sqrt(((sums - off.mean() * n) ** 2).sum() * len(n) / (len(n) - 1)) / len(off)
    return float(student_quantile(0.5 * error, len(n) - 1) * spread)


def tenth_facts(one: Tenth) -> dict[str, float | None]:
    """A tenth as JSON has it."""
    return {**one._asdict(), "half": None if np.isnan(one.half) else one.half}


def tenth_lines(tables: dict[str, list[Tenth]], unit: str) -> list[str]:
    """Rows of a Markdown table, one a belief; a tenth in which what came is not what was said is marked with *."""
    lines = [
        f"| {unit}: said, came less said | " + " | ".join(f"{k + 1}" for k in range(TENTHS)) + " |",
        "|---|" + "---|" * TENTHS,
    ]
    for name, tenths in tables.items():
        cells = [_cell(one) for one in tenths] + [""] * (TENTHS - len(tenths))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(one: Tenth) -> str:
    off = one.came - one.said
    if np.isnan(one.half):
        return f"{one.said:+.2f} {off:+.2f} (few)"
    return f"{one.said:+.2f} {off:+.2f} +- {one.half:.2f}" + ("" if abs(off) <= one.half else " *")
