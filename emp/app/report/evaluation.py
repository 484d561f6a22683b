"""The page of an evaluation: skill by horizon beside the baselines, reliability, and the table."""

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from emp.app.report.page import CSS, figure, table
from emp.app.report.plots import BLUE, GREEN, GREY, INK, RED, svg
from emp.core.errors import DataError
from emp.core.records import HORIZON_NAMES, Array
from emp.model.artifact import Artifact
from emp.train.evaluate import IMBALANCE, MODEL, PERSISTENCE, TREES, Evaluation

COLOURS = {MODEL: BLUE, PERSISTENCE: GREY, IMBALANCE: GREEN, TREES: RED}

COLUMNS = (
    "n",
    "f1_macro",
    "mcc",
    "ece",
    "brier",
    "brier_skill",
    "pinball",
    "coverage",
    "ic",
    "alpha_after_fees",
)


def write_page(path: Path, artifact: Artifact, found: Evaluation) -> None:
    """Write one self-contained HTML file; raise DataError where it cannot be written."""
    parts = [
        "<h1>Evaluation</h1>",
        f"<div class='sub'>model {escape(artifact.hash)} ({escape(artifact.manifest.kind)})</div>",
        "<p class='note'>Every figure is of test parts, which begin after all training and calibration of the "
        "model. Skill is the share of the Brier score of the training classes that is saved; bars are 95 % "
        "intervals from resampled blocks of five minutes.</p>",
    ]
    for series in dict.fromkeys(str(row["series"]) for row in found.table):
        rows = [row for row in found.table if row["series"] == series]
        parts += [
            f"<h2>{escape(series)}</h2>",
            "<div class='two'>",
            figure("Brier skill by horizon", svg(lambda axes, rows=rows: _skill(axes, rows), width=5.0)),  # type: ignore[misc]
            figure(
                "Reliability of the model: how often what was given a probability happened",
                svg(lambda axes, series=series: _reliability(axes, found, series), width=5.0),  # type: ignore[misc]
            ),
            "</div>",
            table(("model", "horizon", *COLUMNS), [_cells(row) for row in rows]),
        ]
    text = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Evaluation</title>"
        f"<style>{CSS}</style></head><body><main>{''.join(parts)}</main></body></html>\n"
    )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def _skill(axes: Axes, rows: list[dict[str, Any]]) -> None:
    models = [name for name in COLOURS if any(row["model"] == name for row in rows)]
    for i, name in enumerate(models):
        mine = {row["horizon"]: row for row in rows if row["model"] == name}
        at = np.arange(len(HORIZON_NAMES)) + 0.15 * (i - 0.5 * (len(models) - 1))
        value = np.array([mine[h]["brier_skill"] for h in HORIZON_NAMES], float)
        interval = np.array([mine[h]["ci"]["brier_skill"] for h in HORIZON_NAMES], float).T
        axes.errorbar(
            at, value, np.abs(interval - value), fmt="o", color=COLOURS[name], markersize=4, label=name
        )
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(HORIZON_NAMES)), HORIZON_NAMES)
    axes.legend(
        frameon=False, ncols=len(models), fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), borderpad=0
    )


def _reliability(axes: Axes, found: Evaluation, series: str) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    shades = np.linspace(0.35, 1.0, len(HORIZON_NAMES))
    for horizon, shade in zip(HORIZON_NAMES, shades, strict=True):
        points: Array = found.curves[series, MODEL, horizon]
        enough = points[points[:, 2] >= 0.001 * points[:, 2].sum()]
        axes.plot(enough[:, 0], enough[:, 1], "o-", color=BLUE, alpha=shade, markersize=3, label=horizon)
    axes.set_xlabel("probability given")
    axes.set_ylabel("share that happened")
    axes.legend(frameon=False, fontsize=8)


def _cells(row: dict[str, Any]) -> list[str]:
    values = (row[name] for name in COLUMNS[1:])
    return [
        row["model"],
        row["horizon"],
        f"{row['n']:,}",
        *("-" if value is None else f"{value:.3f}" for value in values),
    ]
