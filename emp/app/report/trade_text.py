"""The tables of `emp evaluate --trade`, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from emp.decision.kinds import QUESTIONS

Row = Mapping[str, Any]

OUTCOMES = (
    "series",
    "part",
    "lots filled at rest, crossing",
    "trips",
    "expected a lot",
    "realised a lot",
    "realised less expected",
    "slope",
    "intercept",
    "lots/h",
    "PnL ticks",
    "of it fees",
    "held s",
    "agrees",
)
PARTS = ("series", "without", "blocks", "lots", "brings", "", "shadow: lots", "brings", "")


def outcome_lines(rows: Sequence[Row]) -> list[str]:
    """Expected against realised value, series by series; intervals hold together with 95 %."""
    lines = _head(OUTCOMES, left=2)
    for one in rows:
        line = one["line"]
        cells = [
            one["series"],
            one["part"],
            f"{one['passive_lots']:,}, {one['crossing_lots']:,}",
            f"{one['trips']:,}",
            _signed(one["expected"]),
            _with(one["realised"], one["realised_interval"]),
            _with(one["missed"], one["missed_interval"]),
            "-" if line is None else _with(line["slope"], line["slope_interval"]),
            "-" if line is None else _with(line["intercept"], line["intercept_interval"]),
            f"{one['lots_per_hour']:,.1f}",
            f"{one['pnl_ticks']:+,.1f}",
            f"{one['fees']:,.1f}",
            "-" if one["holding_s"] is None else f"{one['holding_s']:.0f}",
            _yes(one["agrees"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *verdict_lines(rows)]


def verdict_lines(rows: Sequence[Row]) -> list[str]:
    """What was asked of the table, and whether it is so."""
    asked = [one for one in rows if one["agrees"] is not None]
    short = [one["series"] for one in asked if not one["agrees"]]
    lost = [one["series"] for one in rows if one["loses"]]
    total = sum(one["pnl_ticks"] for one in rows)
    return [
        f"expected and realised agree on {len(asked) - len(short)} of {len(asked)} series with 200 lots or more"
        + (f"; not on {', '.join(short)}" if short else ""),
        "below zero by more than the interval allows: " + (", ".join(lost) or "none"),
        f"{sum(one['filled'] for one in rows):,} lots filled on {len(rows)} series, {total:+,.1f} ticks in all",
        "",
    ]


def queue_lines(rows: Sequence[Row]) -> list[str]:
    """Lots by how many stood ahead of the order that opened them; nothing where none was opened."""
    there = {name for one in rows for name in one["by_kind"]["queue"]}
    kinds = [name for name in QUESTIONS["queue"] if name in there]
    if not kinds:
        return []
    lines = _head(("lots opened: closed, expected, realised", *kinds), left=1)
    for one in rows:
        found = one["by_kind"]["queue"]
        if found:
            lines.append("| " + " | ".join([one["series"], *(_kind(found.get(k)) for k in kinds)]) + " |")
    return [*lines, ""]


def _kind(kind: Row | None) -> str:
    if kind is None:
        return "-"
    said = f"{kind['opened_lots']:,}: {kind['closed_lots']:,.0f}"
    return f"{said}, {_signed(kind['expected'])}, {_signed(kind['realised'])}"


def part_lines(rows: Sequence[Row]) -> list[str]:
    """What each part of the rule brings before the test parts, ours and the shadow's."""
    lines = _head(PARTS, left=2)
    still = {one["series"] for one in rows} - {one["series"] for one in rows if _traded(one)}
    lines += [f"| {name} | nothing is traded with or without any part |" + " |" * 7 for name in sorted(still)]
    for one in rows:
        if one["series"] in still:
            continue
        cells = [one["series"], one["part"], f"{one['blocks']:,}"]
        for prefix in ("", "shadow_"):
            half = one[f"{prefix}half"]
            brings = f"{one[f'{prefix}brings']:+,.1f}" + ("" if half is None else f" +- {half:,.1f}")
            cells += [f"{one[f'{prefix}lots']:,.0f}, without {one[f'{prefix}lots_without']:,.0f}"]
            cells += [brings, one[f"{prefix}verdict"]]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _traded(row: Row) -> bool:
    """Whether anything was closed, by us or by the shadow, with the part or without it."""
    return any(row[name] for name in ("lots", "lots_without", "shadow_lots", "shadow_lots_without"))


def _yes(value: bool | None) -> str:
    return "too few lots" if value is None else "yes" if value else "no"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _with(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None or interval is None:
        return _signed(value)
    return f"{value:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _head(columns: Sequence[str], left: int) -> list[str]:
    rule = ["---"] * left + ["--:"] * (len(columns) - left)
    return ["| " + " | ".join(columns) + " |", "|" + "|".join(rule) + "|"]
