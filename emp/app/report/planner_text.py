"""What a planner's gate and its worth say, in lines and as fields."""

from collections.abc import Sequence
from typing import Any

from emp.app.planner.gate import Gated
from emp.sim.measure.planner_worth import Worth
from emp.train.judge.imagined import Judged, Line

HEADS = ("series", "horizon", "choice", "n", "plain", "less known cost", "95 %", "slope", "imbalance", "rule")


def gate_lines(found: Gated, *, markdown: bool) -> list[str]:
    """The tables of the gate."""
    rows = [_cells(line) for one in found.judged for line in one.table]
    lines = _table(HEADS, rows, markdown)
    for one in found.judged:
        if one.deciles:
            lines += [
                "",
                f"{one.series}: what choices brought to the end of their trip, by decile, less known cost",
            ]
            heads = ("decile", "n", "imagined", "realised", "+-")
            cells = [
                [
                    str(d["decile"]),
                    f"{d['n']:,}",
                    *(f"{d[k]:+.3f}" for k in ("imagined", "realised")),
                    f"{1.96 * d['error']:.3f}",
                ]
                for d in one.deciles
            ]
            lines += _table(heads, cells, markdown)
        elif not one.fills:
            lines.append(f"{one.series}: {one.why[0]}")
    lines += ["", f"planner {found.planner[:12]}: {found.verdict}"]
    return lines + [f"  {why}" for why in found.why]


def gate_fields(found: Gated) -> dict[str, Any]:
    """What `emp plan gate --json` prints; `corr`, `ci` and `slope` are those of the weakest series with fills."""
    lines = [
        one.gate for one in found.judged if one.fills and one.gate is not None and one.gate.ci is not None
    ]
    weakest = min(lines, key=lambda line: line.ci[0] if line.ci else 0.0, default=None)
    return {
        "planner": found.planner,
        "model_hash": found.model,
        "corr": weakest.less_cost if weakest else None,
        "ci": weakest.ci if weakest else None,
        "slope": weakest.slope if weakest else None,
        "verdict": found.verdict,
        "why": found.why,
        "table": [line._asdict() for one in found.judged for line in one.table],
        "series": [_series(one) for one in found.judged],
    }


WORTH_HEADS = (
    "market",
    "depth",
    "pairs",
    "PnL with",
    "PnL without",
    "more a pair, 95 %",
    "choices",
    "more a choice, 95 %",
    "lots with",
    "without",
    "us p50",
    "p99",
    "in 0.3 ms",
    "verdict",
)


def worth_lines(found: Sequence[Worth], *, markdown: bool) -> list[str]:
    """The table of what a planner is worth, ticks times lots."""

    def interval(mean: float | None, half: float | None, digits: int) -> str:
        if mean is None:
            return "-"
        return f"{mean:+,.{digits}f}" + ("" if half is None else f" +- {half:,.{digits}f}")

    rows = [
        [
            one.market,
            str(one.depth),
            f"{one.pairs} ({one.kind_of_pair})",
            f"{one.pnl:+,.1f}",
            f"{one.pnl_rule:+,.1f}",
            interval(one.more, one.more_half, 1),
            f"{one.choices:,.0f}",
            interval(one.per_choice, one.per_choice_half, 3),
            f"{one.lots:,.1f}",
            f"{one.lots_rule:,.1f}",
            f"{one.search_us['p50']:.0f}",
            f"{one.search_us['p99']:.0f}",
            f"{one.within['0.3']:.3f}",
            one.verdict,
        ]
        for one in found
    ]
    return _table(WORTH_HEADS, rows, markdown)


def _series(one: Judged) -> dict[str, Any]:
    return {
        "series": one.series,
        "choices": one.n,
        "fills": one.fills,
        "deciles": one.deciles,
        "ahead_of": one.ahead,
        "why": one.why,
    }


def _cells(line: Line) -> list[str]:
    def of(x: float | None) -> str:
        return "-" if x is None else f"{x:+.3f}"

    ends = "-" if line.ci is None else f"{line.ci[0]:+.3f} to {line.ci[1]:+.3f}"
    slope = "-" if line.slope is None else f"{line.slope:+.2f}"
    return [
        line.series,
        line.horizon,
        line.action,
        f"{line.n:,}",
        of(line.corr),
        of(line.less_cost),
        ends,
        slope,
        of(line.imbalance),
        of(line.rule),
    ]


def _table(heads: tuple[str, ...], rows: list[list[str]], markdown: bool) -> list[str]:
    if markdown:
        return [
            f"| {' | '.join(heads)} |",
            f"|{'|'.join('---' for _ in heads)}|",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    widths = [max(len(row[k]) for row in [list(heads), *rows]) for k in range(len(heads))]
    return [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in [list(heads), *rows]
    ]
