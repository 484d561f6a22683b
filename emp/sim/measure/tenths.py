"""What was said beside what came, by tenth of what was said: where a belief is true, and where it is not."""

from typing import NamedTuple

import numpy as np

from emp.core.records import Array
from emp.decision.student import student_quantile

TENTHS = 10
ERROR = 0.05
"""How often any interval of a table may miss."""


class Tenth(NamedTuple):
    """Of the outcomes whose belief lies in one tenth."""

    n: int
    said: float  # mean
    came: float  # mean
    half: float  # of the interval of came less said; those of all tenths hold together with 95 %


def by_tenth(said: Array, came: Array, block: Array) -> list[Tenth]:
    """Cut at the deciles of what was said; what is said equally often stays together, so there may be fewer than ten.

    The interval is that of a ratio of sums over blocks, by linearisation (Cochran, Sampling Techniques, 1977, 6.3).

    Args:
        said, came: float64[n].
        block: int64[n], from 0; outcomes of one block may depend on each other.
    """
    edges = np.unique(np.quantile(said, np.linspace(0.0, 1.0, TENTHS + 1)[1:-1]))
    where = np.searchsorted(edges, said, side="right")
    blocks = int(block.max()) + 1
    found = []
    for k in range(len(edges) + 1):
        mine = where == k
        if not mine.any():
            continue
        n = np.bincount(block[mine], minlength=blocks)
        off = np.bincount(block[mine], (came - said)[mine], minlength=blocks)
        mean = float(off.sum() / n.sum())
        spread = np.sqrt(((off - mean * n) ** 2).sum() * blocks / (blocks - 1)) / n.sum()
        t = student_quantile(0.5 * ERROR / (len(edges) + 1), blocks - 1)
        found.append(
            Tenth(int(mine.sum()), float(said[mine].mean()), float(came[mine].mean()), float(t * spread))
        )
    return found


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
    return f"{one.said:+.2f} {off:+.2f} +- {one.half:.2f}" + ("" if abs(off) <= one.half else " *")
