"""The tables of an evaluation, for a terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

SHOWN = (
    "n",
    "f1_macro",
    "mcc",
    "ece",
    "log_loss",
    "brier",
    "brier_skill",
    "pinball_skill",
    "coverage",
    "ic",
    "alpha_after_fees",
)
WITH_INTERVAL = ("f1_macro", "brier_skill", "ic", "alpha_after_fees")

MARKED = ("1ev", "20ev", "2s")
"""Horizons of alpha that the trading table shows; the JSON holds all."""

MARKDOWN = ("f1_macro", "mcc", "ece", "brier", "brier_skill", "pinball_skill", "coverage", "ic")


def show(result: dict[str, Any]) -> None:
    """Print one table per series."""
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    rows = result["table"]
    for name in dict.fromkeys(row["series"] for row in rows):
        table = Table(title=name)
        for column in ("horizon", "model", *SHOWN, "log loss - linear", "p99 us"):
            table.add_column(column.replace("_", " "), justify="left" if column == "model" else "right")
        last = ""
        for row in rows:
            if row["series"] == name:
                shown = "" if row["horizon"] == last else row["horizon"]
                last = row["horizon"]
                figures = (figure(row, column) for column in SHOWN)
                table.add_row(shown, named(row), *figures, difference(row), quickness(result, row))
        print_table(make_console(stderr=False), table)
    print("\n".join(interval_lines(result.get("intervals", [])) + training_lines(result)))


def named(row: dict[str, Any]) -> str:
    """The contender, with its number of seeds where there are several."""
    return row["model"] if row["seeds"] == 1 else f"{row['model']} x{row['seeds']}"


def figure(row: dict[str, Any], name: str) -> str:
    """One figure: its value, its spread over seeds, and its interval where the table gives it."""
    value, interval = row[name], row["ci"].get(name)
    if value is None:
        return "-"
    if name == "n":
        return f"{value:,}"
    spread = row["spread"].get(name)
    text = f"{value:.3f}" if spread is None else f"{value:.3f} ±{spread:.3f}"
    if interval is None or None in interval or name not in WITH_INTERVAL:
        return text
    return f"{text} [{interval[0]:.3f}, {interval[1]:.3f}]"


def difference(row: dict[str, Any]) -> str:
    """The paired difference of the log loss to the linear model, and the verdict."""
    if row["versus_linear"] is None:
        return "-"
    found = row["versus_linear"]["log_loss"]
    low, high = found["ci"]
    if found["difference"] is None or low is None or high is None:
        return found["verdict"]
    return f"{found['difference']:+.4f} [{low:+.4f}, {high:+.4f}] {found['verdict']}"


def quickness(result: Mapping[str, Any], row: dict[str, Any]) -> str:
    """p50/p99 of one forecast in us."""
    latency = result["latency_us"][row["series"]].get(row["model"])
    return "-" if latency is None else f"{latency['p50']:,.1f} / {latency['p99']:,.1f}"


def markdown(result: dict[str, Any]) -> str:
    """All tables of the JSON result of `emp evaluate` as Markdown."""
    rows = result["table"]
    lines = []
    for series in dict.fromkeys(row["series"] for row in rows):
        lines += [f"**{series}** ({about(result['parts'][series])})", ""]
        columns = ["horizon", "model", *(c.replace("_", " ") for c in MARKDOWN)]
        columns += ["log loss - linear", "p50 / p99 us"]
        lines += _head(columns)
        for row in rows:
            if row["series"] == series:
                cells = [row["horizon"], named(row), *(figure(row, c) for c in MARKDOWN)]
                lines.append("| " + " | ".join([*cells, difference(row), quickness(result, row)]) + " |")
        lines.append("")
    for series, peers in result.get("peers", {}).items():
        lines += [f"{name} on {series}: {peer_facts(peer)}." for name, peer in peers.items()] + [""]
    lines += interval_lines(result.get("intervals", [])) + training_lines(result)
    if result.get("trading"):
        lines += trading_lines(result["trading"]) + value_lines(result["trading"])
        lines += kind_lines(result["trading"])
    return "\n".join(lines)


def training_lines(result: Mapping[str, Any]) -> list[str]:
    """The models of which these parts may be what they were trained on."""
    return [
        f"{name}: not known what it was trained on (trained_on): it may have been on these parts"
        for name in result.get("training_not_known", ())
    ]


def interval_lines(intervals: Sequence[dict[str, Any]]) -> list[str]:
    """Coverage of the intervals of 90 %, ties at random: of all rows, [least, most] over days, over half hours."""
    if not intervals:
        return []
    horizons = tuple(dict.fromkeys(one["horizon"] for one in intervals))
    lines = [
        "share of moves within the interval of 90 %: all rows [days with enough rows] half hours with enough",
        "",
    ]
    lines += _head(["series", "model", *horizons])
    for series, model in dict.fromkeys((one["series"], one["model"]) for one in intervals):
        mine = [one for one in intervals if (one["series"], one["model"]) == (series, model)]
        lines.append("| " + " | ".join([series, model, *map(_covered, mine)]) + " |")
    return [*lines, ""]


def _covered(one: dict[str, Any]) -> str:
    if one["coverage"] is None:
        return "-"
    days, text = [day["coverage"] for day in one["days"]], f"{one['coverage']:.3f}"
    if days:
        text += f" [{min(days):.3f}, {max(days):.3f}]"
    if one["half_hours"] is not None:
        text += " {:.2f}-{:.2f}".format(*one["half_hours"])
    return text


def about(parts: dict[str, Any]) -> str:
    """How many days a series has, and what was resampled."""
    block = "whole days" if parts["block"] == "day" else "stretches of five minutes"
    return f"trading days: {parts['days']}, of which judged: {parts['test_days']}; resampled: {block}"


def peer_facts(peer: dict[str, Any]) -> str:
    """What a peer took."""
    return (
        f"{peer['params']:,} parameters, {peer['levels']} levels, {peer['trained_windows']:,} windows out of "
        f"{peer['train_rows']:,} events, {peer['train_events_per_cpu_s']:,} per CPU second"
    )


def trading_lines(trading: Sequence[dict[str, Any]]) -> list[str]:
    """Turnover, profit and alpha after fees of every trader, passive and crossing fills apart."""
    columns = ["series", "model", "passive lots", "crossing lots", "lots/h", "PnL ticks", "fees"]
    columns += [f"{kind} {horizon}" for kind in ("passive", "crossing") for horizon in MARKED]
    lines = _head(columns)
    for one in trading:
        cells = [one["series"], one["model"], f"{one['passive_lots']:,}", f"{one['crossing_lots']:,}"]
        cells += [f"{one['lots_per_hour']:,.1f}", f"{one['pnl_ticks']:,.0f}", f"{one['fees']:,.0f}"]
        for kind in ("passive", "crossing"):
            marks = {mark["horizon"]: mark for mark in one["alpha"][kind]}
            cells += [alpha(marks[horizon]) for horizon in MARKED]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def value_lines(trading: Sequence[dict[str, Any]]) -> list[str]:
    """What closed lots were expected to bring beside what they brought, ticks per lot, 95 % over round trips."""
    columns = ["series", "model", "lots", "trips", "expected", "realised", "realised less expected", "slope"]
    lines = _head([*columns, "500 ms", "2 s", "held s", "PnL ticks", "lots earned", "stops"])
    for one in trading:
        marks, line = one["realised_value_per_lot"], one["realised_on_expected"]
        missed = None if marks["closed"] is None else marks["closed"] - one["expected_value_per_lot"]
        cells = [one["series"], one["model"], f"{one['closed_lots']:,}", f"{one['round_trips']:,}"]
        cells += [_ticks(one["expected_value_per_lot"]), _ticks(marks["closed"], one["realised_interval"])]
        cells += [_ticks(missed, one["missed_interval"]), "-" if line is None else f"{line['slope']:+.2f}"]
        cells += [_ticks(marks["500ms"]), _ticks(marks["2s"])]
        cells.append("-" if one["holding_s"] is None else f"{one['holding_s']:.0f}")
        cells += [f"{one['pnl_ticks']:,.0f}", str(one["earned_lots"]), str(one["value_stops"])]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def kind_lines(trading: Sequence[dict[str, Any]]) -> list[str]:
    """The same by reason, action, lots ahead and hour (UTC) of the order that opened a lot; nothing where none was.

    `missed` bounds realised less expected, at once for all kinds of a question (`engine.value.by_kind`).
    """
    lines = []
    for one in trading:
        for question, kinds in one["by_kind"].items():
            for name, kind in kinds.items():
                cells = [one["series"], one["model"], f"{question} {name}", f"{kind['opened_lots']:,}"]
                cells += [f"{kind['closed_lots']:,.0f}", _ticks(kind["expected"]), _ticks(kind["realised"])]
                cells.append(_bounds(kind.get("missed_interval")))
                lines.append("| " + " | ".join(cells) + " |")
    head = _head(["series", "model", "opened by", "lots", "closed", "expected", "realised", "missed"])
    return [*head, *lines, ""] if lines else []


def _bounds(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _ticks(value: float | None, interval: Sequence[float] | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:+.2f}" if interval is None else f"{value:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]"


def fold_lines(folds: Sequence[dict[str, Any]]) -> list[str]:
    """Brier skill fold by fold, one table per series; a fold is named by its test day."""
    lines = []
    for series in dict.fromkeys(fold["series"] for fold in folds):
        mine = [fold for fold in folds if fold["series"] == series]
        days = [f"{datetime.fromtimestamp(fold['test_span'][1] / 1e9, UTC):%m-%d}" for fold in mine]
        lines += [f"Brier skill on {series}, by day tested:", "", *_head(["horizon", "model", *days])]
        for horizon, found in mine[0]["brier_skill"].items():
            for name in found:
                values = [fold["brier_skill"][horizon][name] for fold in mine]
                cells = ["-" if value is None else f"{value:+.3f}" for value in values]
                lines.append("| " + " | ".join([horizon, name, *cells]) + " |")
        lines.append("")
    return lines


def alpha(mark: dict[str, Any]) -> str:
    """Alpha after fees in bps with its interval."""
    if mark["alpha_bps"] is None:
        return "-"
    if mark["low"] is None:
        return f"{mark['alpha_bps']:+.2f} (too few)"
    return f"{mark['alpha_bps']:+.2f} [{mark['low']:+.2f}, {mark['high']:+.2f}]"


def _head(columns: Sequence[str]) -> list[str]:
    left = sum(name in ("horizon", "model", "series") for name in columns)
    rule = ["---"] * left + ["--:"] * (len(columns) - left)
    return ["| " + " | ".join(columns) + " |", "|" + "|".join(rule) + "|"]
