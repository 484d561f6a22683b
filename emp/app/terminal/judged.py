"""What `emp sim judge` found, as a table and as an object."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from emp.app.terminal.table import print_table
from emp.sim.facts.judge import OLDER, Judged, Verdict


def _number(x: float) -> float | None:
    return round(x, 6) if math.isfinite(x) else None


def _scores(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "l1": _number(one.l1),
            "w1": _number(one.w1),
            "l1_99": [_number(x) for x in one.l1_99],
            "w1_99": [_number(x) for x in one.w1_99],
            "real": {"l1": _number(one.real_l1), "w1": _number(one.real_w1)},
            "fitted": {"l1": _number(one.fitted_l1), "w1": _number(one.fitted_w1)},
        }
        for one in verdicts
    ]


def judged_json(found: Judged) -> dict[str, Any]:
    """The object that `--json` prints; null where there is no number."""
    return {
        "model": found.model,
        "recording": found.recording,
        "since": found.since,
        "sequences": found.sequences,
        "one_sided": _number(found.one_sided),
        "mean_l1": _number(found.mean("l1")),
        "mean_w1": _number(found.mean("w1")),
        "mean_l1_16": _number(found.mean("l1", OLDER)),
        "mean_w1_16": _number(found.mean("w1", OLDER)),
        "mean_impact": _number(found.mean_impact("value")),
        "fitted": {
            "mean_l1": _number(found.mean("fitted_l1")),
            "mean_w1": _number(found.mean("fitted_w1")),
        },
        "real": {
            "mean_l1": _number(found.mean("real_l1")),
            "mean_w1": _number(found.mean("real_w1")),
            "mean_impact": _number(found.mean_impact("real")),
            "one_sided": _number(found.real_one_sided),
        },
        "scores": _scores(found.scores),
        "conditional": _scores(found.conditional),
        "impact": [
            {"name": one.name, "ticks": _number(one.value), "real": _number(one.real), "lags": one.lags}
            for one in found.impact
        ],
    }


def _span(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.3f} .. {ends[1]:.3f}"


def show_judged(console: Console, found: Judged) -> None:
    """Print the scores, their means and the responses, each beside real against real."""
    out = Table(title=f"LOB-Bench: {found.model} against {found.recording}, {found.sequences} sequences")
    for column in ("score", "L1", "99 %", "real", "W1", "99 %", "real"):
        out.add_column(column, justify="left" if column == "score" else "right")
    for one in found.scores:
        _add(out, one)
    means = [f"{found.mean(of):.3f}" for of in ("l1", "real_l1", "w1", "real_w1")]
    out.add_row("mean", means[0], "", means[1], means[2], "", means[3])
    for one in found.conditional:
        _add(out, one)
    print_table(console, out)
    moves = Table(title="difference of responses to events at the touch, ticks, summed over lags")
    for column in ("event", "flow", "real", "lags"):
        moves.add_column(column, justify="left" if column == "event" else "right")
    for event in found.impact:
        moves.add_row(event.name, f"{event.value:.1f}", f"{event.real:.1f}", f"{event.lags} of 21")
    moves.add_row("mean", f"{found.mean_impact('value'):.1f}", f"{found.mean_impact('real'):.1f}", "")
    print_table(console, moves)
    console.print(
        f"recording from {found.since}; left out for an empty side: {found.one_sided:.2%} of the flow's rows,"
        f" {found.real_one_sided:.2%} of the recording's",
        highlight=False,
    )


def _add(out: Table, one: Verdict) -> None:
    l1, w1 = (f"{one.l1:.3f}", _span(one.l1_99)), (f"{one.w1:.3f}", _span(one.w1_99))
    out.add_row(one.name, *l1, f"{one.real_l1:.3f}", *w1, f"{one.real_w1:.3f}")


PUBLISHED = {"LOBS5": (0.139, 0.115), "Cont-Stoikov-Talreja": (0.475, 0.615)}
"""L1 and W1, means over the first 16 scores, from LOB-Bench's own notebook: GOOG of 2023, 500 real messages given."""


def _pair(l1: float, w1: float) -> str:
    return f"{l1:.3f} / {w1:.3f}" if math.isfinite(l1) else ""


def show_beside(console: Console, found: list[Judged]) -> None:
    """Print the scores of several flows against the same sequences, beside what real ones are worth."""
    first = found[0]
    out = Table(title=f"LOB-Bench, L1 / W1: {first.sequences} sequences of {first.recording}")
    for column in ("score", f"{first.recording} itself", "its fitted part", *(one.model for one in found)):
        out.add_column(column, justify="left" if column == "score" else "right")
    for k, one in enumerate(first.scores):
        known = _pair(one.real_l1, one.real_w1), _pair(one.fitted_l1, one.fitted_w1)
        out.add_row(one.name, *known, *(_pair(x.scores[k].l1, x.scores[k].w1) for x in found))
    for name, n in (
        (f"mean of the {len(first.scores)}", len(first.scores)),
        (f"mean of the first {OLDER}", OLDER),
    ):
        means = [_pair(first.mean(f"{of}_l1", n), first.mean(f"{of}_w1", n)) for of in ("real", "fitted")]
        out.add_row(name, *means, *(_pair(x.mean("l1", n), x.mean("w1", n)) for x in found))
    print_table(console, out)
    marks = "; ".join(f"{name} {_pair(*mark)}" for name, mark in PUBLISHED.items())
    console.print(f"published, first {OLDER} scores, another year: {marks}", highlight=False)
