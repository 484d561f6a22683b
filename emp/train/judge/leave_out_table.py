"""From judged cells to the leave-out table: scores, paired differences, verdicts corrected for their number."""

import math
from collections.abc import Sequence
from typing import Any

from emp.core.records import Array
from emp.train.judge.apart import PERSISTENCE, SHARES, TREES, Cell
from emp.train.judge.blocks import LEAST_BLOCKS
from emp.train.judge.compare import BETTER, LEVEL, WORSE
from emp.train.judge.metrics import Sums, scores, totals
from emp.train.judge.paired import SHORT, Difference, difference, verdicts
from emp.train.net.peers import PEERS

LINEAR = "linear"
REFERENCES = (LINEAR, TREES, *PEERS, SHARES)
"""What a model is compared with, as far as it was judged."""

ENOUGH_ROWS = 20_000
"""Judged rows from which a pair of market and horizon counts in the summary."""

ECE_LIMIT = 0.08

OF_THE_MARKET = (TREES, PERSISTENCE, SHARES, *PEERS)
"""Contenders that are never trained on another market."""


def table_of(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Rows of the table, market by market, horizon by horizon; `against` is set for what was trained on others.

    Verdicts of one model are corrected together, over all markets, horizons and references.
    """
    rows = [_row(cell, name, sums) for cell in cells for name, sums in cell.sums.items()]
    trained = [name for name in (cells[0].sums if cells else {}) if name not in OF_THE_MARKET]
    for name in trained:
        compared: list[tuple[dict[str, Any], str, Difference]] = []
        mine = [row for row in rows if row["model"] == name]
        for row, cell in zip(mine, cells, strict=True):
            row["against"], row["differences"] = {}, {}
            compared += [
                (row, other, difference(cell.sums[name], cell.sums[other]))
                for other in REFERENCES
                if other != name and other in cell.sums
            ]
        said = verdicts([one for _, _, one in compared])
        for (row, other, one), verdict in zip(compared, said, strict=True):
            row["against"][other] = verdict
            row["differences"][other] = {key: _number(value) for key, value in one._asdict().items()}
    return rows


def summary_of(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By model, over pairs of market and horizon: verdicts, and of those with ENOUGH_ROWS what is asked of them."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["model"] for row in rows if row["against"] is not None):
        mine = [row for row in rows if row["model"] == name]
        large = [row for row in mine if row["n"] >= ENOUGH_ROWS]
        found[name] = {
            "pairs": len(mine),
            "enough_rows": len(large),
            "skill_above_shares": sum((row["bss"] or 0.0) > 0.0 for row in large),
            "ece_over_limit": sum((row["ece"] or 0.0) > ECE_LIMIT for row in large),
            "mean_log_loss": _number(sum(row["log_loss"] for row in mine) / max(1, len(mine))),
            "against": {
                other: {
                    verdict: sum(row["against"].get(other) == verdict for row in mine)
                    for verdict in _VERDICTS
                }
                for other in _references(rows, name)
            },
        }
    return found


_VERDICTS = (BETTER, LEVEL, WORSE, SHORT)


def _row(cell: Cell, name: str, sums: Sums) -> dict[str, Any]:
    told = _scores(sums)
    return {
        "market": cell.market,
        "group": cell.group,
        "model": name,
        "horizon": cell.horizon,
        "n": told["n"],
        "blocks": len(sums.n),
        "block": cell.kind_of_block,
        **{key: told[key] for key in ("f1_macro", "ece", "brier", "bss", "log_loss")},
        "same_stamp": _apart(cell.same_stamp[name]),
        "later": _apart(cell.later[name]),
        "against": None,
        "differences": None,
    }


def _apart(sums: Sums) -> dict[str, Any] | None:
    """Scores of some of the rows; None where there are none."""
    if not sums.n.sum():
        return None
    told = _scores(sums)
    return {key: told[key] for key in ("n", "f1_macro", "bss", "log_loss")}


def _scores(sums: Sums) -> dict[str, Any]:
    told: dict[str, Array] = scores(totals(sums))
    named = {"bss": "brier_skill"}
    keys = ("f1_macro", "ece", "brier", "bss", "log_loss")
    return {"n": int(sums.n.sum())} | {key: _number(float(told[named.get(key, key)][0])) for key in keys}


def _number(value: float | None) -> float | None:
    return round(value, 6) if value is not None and math.isfinite(value) else None


def markdown_lines(rows: Sequence[dict[str, Any]], model: str) -> list[str]:
    """The table of one model as Markdown: skill and calibration of every pair, beside its references."""
    by_place = {(row["market"], row["horizon"], row["model"]): row for row in rows}
    references = _references(rows, model)
    lines = [
        f"| market | horizon | rows | blocks | macro-F1 | ECE | skill | {' | '.join(references)} | "
        f"{' | '.join(f'against {name}' for name in references)} |",
        "|---|---|--:|--:|--:|--:|--:|" + "--:|" * len(references) + "---|" * len(references),
    ]
    for row in rows:
        if row["model"] != model:
            continue
        place = row["market"], row["horizon"]
        skills = [by_place.get((*place, name), {}).get("bss") for name in references]
        cells = [
            *place,
            f"{row['n']:,}",
            f"{row['blocks']}",
            f"{row['f1_macro']:.3f}",
            f"{row['ece']:.3f}",
            f"{row['bss']:+.3f}",
            *("" if skill is None else f"{skill:+.3f}" for skill in skills),
            *(_against(row, name) for name in references),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def lines_of(rows: Sequence[dict[str, Any]], model: str) -> list[str]:
    """The same as plain columns, for a terminal."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown_lines(rows, model)]
    del cells[1]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _references(rows: Sequence[dict[str, Any]], model: str) -> list[str]:
    judged = {row["model"] for row in rows}
    return [name for name in REFERENCES if name != model and name in judged]


def _against(row: dict[str, Any], other: str) -> str:
    """Difference of log loss with its own interval, and the corrected verdict; nothing where there is no such."""
    one = row["differences"].get(other)
    if one is None:
        return ""
    if row["blocks"] < LEAST_BLOCKS:
        return f"{one['value']:+.4f} too short to say"
    return f"{one['value']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}] {row['against'][other]}"
