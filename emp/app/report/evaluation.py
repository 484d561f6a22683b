"""The page of an evaluation: skill, difference to the linear model, reliability, alpha after fees, and the table."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from emp.app.report.evaluation_text import (
    about,
    alpha,
    difference,
    figure,
    named,
    peer_facts,
    quickness,
    training_lines,
)
from emp.app.report.page import CSS, table
from emp.app.report.page import figure as framed
from emp.app.report.plots import BLUE, GREEN, GREY, INK, RED, svg, svg_panels
from emp.core.errors import DataError
from emp.core.records import HORIZON_NAMES, Array
from emp.train.judge.evaluate import IMBALANCE, LINEAR, MAJORITY, PERSISTENCE, TREES

COLOURS = {LINEAR: INK, PERSISTENCE: GREY, IMBALANCE: "#b7791f", TREES: RED, "deeplob": GREEN}
MODEL_COLOURS = (BLUE, "#7a3fb0", "#0b8a8f", "#c2571a")

COLUMNS = (
    "f1_macro",
    "mcc",
    "ece",
    "ece_mass",
    "ece_class",
    "brier",
    "brier_skill",
    "pinball",
    "pinball_skill",
    "coverage",
    "ic",
    "alpha_after_fees",
)

BASELINES = (MAJORITY, PERSISTENCE, IMBALANCE)

WIDE = (
    "main { max-width: 1100px; } summary { cursor: pointer; font-size: 13px; margin: 8px 0; }"
    " td, th { white-space: nowrap; } td:nth-child(2), th:nth-child(2) { text-align: left; }"
)

Curves = Mapping[tuple[str, str, str], Array]


def write_page(path: Path, result: Mapping[str, Any], curves: Curves) -> None:
    """Write one self-contained HTML file; raise DataError where it cannot be written.

    Args:
        result: the JSON object of `emp evaluate`.
        curves: (series, model, horizon) to float[bins, 5], as `emp.train.judge.metrics.reliability` gives them.
    """
    try:
        path.write_text(render(result, curves), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def render(result: Mapping[str, Any], curves: Curves) -> str:
    """The page as HTML."""
    hashes = "; ".join(
        f"{name} {', '.join(h[:12] for h in found)}" for name, found in result["models"].items()
    )
    parts = [
        "<h1>Evaluation</h1>",
        f"<div class='sub'>model {escape(result['model_hash'])}<br>{escape(hashes)}</div>",
        "<p class='note'>Every figure is of test parts, which begin after all training and calibration. Skill is "
        "the share of the Brier score of the training classes that is saved. Bars are 95 % intervals from "
        "resampled blocks of time; ± is the standard deviation between seeds. Better and worse are said of the "
        "log loss against the linear model on the same rows, where the paired interval leaves out zero and "
        "every seed agrees.</p>",
        *(f"<p class='note'>{escape(line)}</p>" for line in training_lines(result)),
    ]
    colours = colours_of([row["model"] for row in result["table"]])
    for series in dict.fromkeys(str(row["series"]) for row in result["table"]):
        parts += series_parts(series, result, curves, colours)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><title>Evaluation</title>"
        f"<style>{CSS}{WIDE}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for every contender and baseline that is drawn."""
    own = [name for name in dict.fromkeys(names) if name not in COLOURS and name != MAJORITY]
    mine = {name: MODEL_COLOURS[i % len(MODEL_COLOURS)] for i, name in enumerate(own)}
    return mine | {name: colour for name, colour in COLOURS.items() if name in names}


def series_parts(
    series: str, result: Mapping[str, Any], curves: Curves, colours: Mapping[str, str]
) -> list[str]:
    """Plots and table of one series."""
    rows = [row for row in result["table"] if row["series"] == series]
    compared = [r for r in rows if r["versus_linear"] is not None and r["model"] not in BASELINES]
    traded = [one for one in result["trading"] if one["series"] == series]
    plots = [framed("Brier skill by horizon", svg(lambda axes: skill(axes, rows, colours), 3.2, 5.0))]
    if compared:
        text = "Log loss less that of the linear model: below zero is better"
        plots.append(framed(text, svg(lambda axes: against_linear(axes, compared, colours), 3.2, 5.0)))
    for name in colours:
        if name not in BASELINES and any(row["model"] == name for row in rows):
            text = f"Reliability of {name}: how often what was given a probability happened, in 15 bins of equal mass"
            drawing = svg_panels(reliability_of(series, name, curves, colours[name]), 2, 3, 3.6, 5.0)
            plots.append(framed(text, drawing))
    lots = sum(one["passive_lots"] + one["crossing_lots"] for one in traded)
    if lots:
        for kind in ("passive", "crossing"):
            text = f"Alpha after fees of {kind} fills, bps per unit, by horizon after the fill"
            plots.append(framed(text, svg(alpha_of(traded, kind, colours), 3.0, 5.0)))
    parts = [
        f"<h2>{escape(series)}</h2>",
        f"<p class='note'>{escape(about(result['parts'][series]))}.</p>",
        "<div class='two'>",
        *plots,
        "</div>",
    ]
    for name, peer in result["peers"].get(series, {}).items():
        parts.append(f"<p class='note'>{escape(name)}: {escape(peer_facts(peer))}.</p>")
    heads = ("horizon", "model", "n", *(c.replace("_", " ") for c in COLUMNS))
    heads = (*heads, "log loss - linear", "p50 / p99 us")
    cells = [
        [
            row["horizon"],
            named(row),
            *(figure(row, c) for c in ("n", *COLUMNS)),
            difference(row),
            quickness(result, row),
        ]
        for row in rows
    ]
    parts += ["<details open><summary>All figures</summary>", table(heads, cells), "</details>"]
    if traded:
        parts += ["<details open><summary>On paper</summary>", trades(traded), "</details>"]
    return parts


def skill(axes: Axes, rows: Sequence[dict[str, Any]], colours: Mapping[str, str]) -> None:
    """Bars of Brier skill with intervals, side by side per horizon."""
    names = [name for name in colours if any(row["model"] == name for row in rows)]
    width = 0.85 / len(names)
    for i, name in enumerate(names):
        mine = {row["horizon"]: row for row in rows if row["model"] == name}
        at = np.arange(len(HORIZON_NAMES)) + width * (i - 0.5 * (len(names) - 1))
        value = np.array([mine[h]["brier_skill"] for h in HORIZON_NAMES], float)
        ends = np.array([mine[h]["ci"].get("brier_skill", [np.nan, np.nan]) for h in HORIZON_NAMES], float).T
        axes.bar(at, value, 0.9 * width, color=colours[name], label=name)
        axes.errorbar(at, value, np.abs(ends - value), fmt="none", ecolor=INK, linewidth=0.7)
    least = min((row["brier_skill"] for row in rows if row["brier_skill"] is not None), default=0.0)
    axes.set_ylim(bottom=max(1.1 * min(least, 0.0), -0.25))
    _by_horizon(axes, len(names))


def against_linear(axes: Axes, rows: Sequence[dict[str, Any]], colours: Mapping[str, str]) -> None:
    """Paired differences of log loss with intervals."""
    names = [n for n in colours if n not in BASELINES and any(row["model"] == n for row in rows)]
    for i, name in enumerate(names):
        found = {row["horizon"]: row["versus_linear"]["log_loss"] for row in rows if row["model"] == name}
        at = np.arange(len(HORIZON_NAMES)) + 0.6 / len(names) * (i - 0.5 * (len(names) - 1))
        value = np.array([found[h]["difference"] for h in HORIZON_NAMES], float)
        ends = np.array([found[h]["ci"] for h in HORIZON_NAMES], float).T
        axes.errorbar(at, value, np.abs(ends - value), fmt="o", color=colours[name], markersize=4, label=name)
    _by_horizon(axes, len(names))


def _by_horizon(axes: Axes, names: int) -> None:
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xticks(range(len(HORIZON_NAMES)), HORIZON_NAMES)
    if names:
        axes.legend(
            frameon=False,
            ncols=min(names, 4),
            fontsize=8,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderpad=0,
            columnspacing=1.0,
        )


def reliability_of(series: str, name: str, curves: Curves, colour: str) -> Callable[[list[Axes]], None]:
    """The drawing of a contender's reliability, one panel per horizon."""

    def draw(panels: list[Axes]) -> None:
        for axes, horizon in zip(panels, HORIZON_NAMES, strict=True):
            given, share, low, high, _ = curves[series, name, horizon].T
            ends = np.stack([share - low, high - share]).clip(min=0.0)
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
            axes.errorbar(given, share, ends, fmt="o", color=colour, markersize=3, elinewidth=1.0)
            axes.set_title(horizon, fontsize=9)
        panels[3].set_ylabel("share that happened")
        panels[4].set_xlabel("probability given")

    return draw


def alpha_of(
    traded: Sequence[dict[str, Any]], kind: str, colours: Mapping[str, str]
) -> Callable[[Axes], None]:
    """The drawing of alpha after fees of one kind of fill, one set of points per run."""

    def draw(axes: Axes) -> None:
        named = set()  # seeds of one model share a colour and a line of the legend
        for i, one in enumerate(traded):
            marks = [m for m in one["alpha"][kind] if m["low"] is not None]
            if not marks:
                continue
            label = "_" if one["model"] in named else one["model"]
            named.add(one["model"])
            at = [
                HORIZON_NAMES.index(m["horizon"]) + 0.6 / len(traded) * (i - len(traded) / 2) for m in marks
            ]
            value = np.array([m["alpha_bps"] for m in marks])
            ends = np.array([[m["low"], m["high"]] for m in marks]).T
            colour = colours.get(one["model"], GREY)
            axes.errorbar(at, value, np.abs(ends - value), fmt="o", color=colour, markersize=4, label=label)
        _by_horizon(axes, 0)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right", frameon=False, fontsize=8)

    return draw


def trades(traded: Sequence[dict[str, Any]]) -> str:
    """The table of what each trader did and what its fills were worth."""
    heads = ["model", "fills", "passive lots", "crossing lots", "lots/h", "PnL ticks", "fees"]
    heads += [f"{kind} {h}" for kind in ("passive", "crossing") for h in HORIZON_NAMES]
    cells = []
    for one in traded:
        counts = [f"{one[name]:,}" for name in ("fills", "passive_lots", "crossing_lots")]
        money = [f"{one['lots_per_hour']:,.1f}", f"{one['pnl_ticks']:,.0f}", f"{one['fees']:,.0f}"]
        marks = [alpha(mark) for kind in ("passive", "crossing") for mark in one["alpha"][kind]]
        cells.append([one["model"], *counts, *money, *marks])
    return table(heads, cells)
