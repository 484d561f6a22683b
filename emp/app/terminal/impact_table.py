"""What `emp sim impact` found, as a table and as an object."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from emp.app.terminal.table import print_table
from emp.sim.measure.impact_law import Estimate
from emp.sim.measure.impact_study import DRIVERS, ImpactStudy, Response

MARKS = {
    "beta": "0.466 to 0.534",
    "beta of I / sigma": "",
    "beta of the paired move": "0.5",
    "kept at 3 lengths": "0.57 to 0.77",
    "kept, mean of kinds": "",
}
"""Published: as near to 0.5 as LOBS5-v2's 0.466 on GOOG, January 2026; two thirds of the peak kept."""


def _number(x: float) -> float | None:
    return round(x, 5) if math.isfinite(x) else None


def _object(one: Response) -> dict[str, Any]:
    return {
        "metaorders": one.n,
        "dropped": one.dropped,
        "beta": _number(one.beta.value),
        "ci": [_number(one.beta.low), _number(one.beta.high)],
        "r2": _number(one.r2),
        "beta_sigma": _number(one.beta_sigma.value),
        "beta_sigma_ci": [_number(one.beta_sigma.low), _number(one.beta_sigma.high)],
        "paired_beta": _number(one.paired.value),
        "paired_beta_ci": [_number(one.paired.low), _number(one.paired.high)],
        "relaxation": _number(one.relaxation.value),
        "relaxation_ci": [_number(one.relaxation.low), _number(one.relaxation.high)],
        "relaxation_kinds": _number(one.relaxation_kinds.value),
        "relaxation_kinds_ci": [_number(x) for x in one.relaxation_kinds[1:]],
        "lengths": [
            {
                "children": row.children,
                "participation": row.share,
                "realised": _number(row.realised),
                "events_between": row.every,
                "ticks": _number(row.ticks),
                "stderr": _number(row.stderr),
            }
            for row in one.lengths
        ],
    }


def impact_json(found: ImpactStudy) -> dict[str, Any]:
    """The object that `--json` prints; null where there is no number."""
    return {
        "model": found.model,
        "pairs": found.pairs,
        "days": found.days,
        "child_lots": found.child,
        "executed_share": _number(found.executed),
        "day_volume": _number(found.volume),
        "day_sigma": _number(found.sigma),
        **_object(found.reaction),
        "replay": _object(found.replay),
    }


def _cell(x: Estimate) -> str:
    return f"{x.value:.3f} ({x.low:.3f} .. {x.high:.3f})" if math.isfinite(x.value) else "none"


def _rows(one: Response) -> dict[str, str]:
    cells = (one.beta, one.beta_sigma, one.paired, one.relaxation, one.relaxation_kinds)
    return dict(zip(MARKS, map(_cell, cells), strict=True))


def show_impact(console: Console, found: ImpactStudy) -> None:
    """Print the exponents and what is kept, with reaction and in replay, and the impact by length and pace."""
    out = Table(
        title=f"metaorder impact: {found.model}, {found.pairs:,} pairs on {found.days} days; 95 % over days"
    )
    for column in ("", "with reaction", "the same orders in its replay", "mark"):
        out.add_column(column)
    answered, replayed = (_rows(getattr(found, name)) for name in DRIVERS)
    for name, mark in MARKS.items():
        out.add_row(name, answered[name], replayed[name], mark)
    out.add_row("R2 of the first", f"{found.reaction.r2:.3f}", f"{found.replay.r2:.3f}", "")
    out.add_row("metaorders used", f"{found.reaction.n:,}", f"{found.replay.n:,}", "")
    print_table(console, out)
    moves = Table(title="the mid at the last child against the market alone, ticks (standard error)")
    for column in ("children", "asked", "taken", "events between", "with reaction", "in replay"):
        moves.add_column(column, justify="right")
    for a, b in zip(found.reaction.lengths, found.replay.lengths, strict=True):
        both = (f"{x.ticks:.2f} ({x.stderr:.2f})" for x in (a, b))
        moves.add_row(f"{a.children}", f"{a.share:.0%}", f"{a.realised:.1%}", f"{a.every}", *both)
    print_table(console, moves)
    console.print(
        f"child {found.child} lots, cut to the best price; {found.executed:.2%} of events trade; a day has"
        f" {found.volume:,.0f} lots and a volatility of {found.sigma:.2%}",
        highlight=False,
    )
