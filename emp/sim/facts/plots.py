"""Pictures of the main stylised facts: model and recordings in the same axes."""

from pathlib import Path
from typing import Any

import numpy as np

from emp.core.records import Array
from emp.sim.facts.study import FactTable
from emp.sim.measure import estimators as est
from emp.sim.measure.observe_market import Tape


def plot_facts(table: FactTable, real: list[Tape], folder: Path) -> list[Path]:
    """Write PNG files into `folder`; return their paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    tapes = [table.tape, *real]
    figure, axes = plt.subplots(2, 3, figsize=(15, 8))
    for tape in tapes:
        style: dict[str, Any] = {"label": tape.name, "lw": 2 if tape is table.tape else 1}
        _sign_memory(axes[0, 0], tape, style)
        _clustering(axes[0, 1], tape, style)
        _signature(axes[0, 2], tape, style)
        _gaps(axes[1, 0], tape, style)
        _tails(axes[1, 1], tape, style)
    _impact(axes[1, 2], table)
    for ax in axes.flat:
        ax.legend(loc="upper right", fontsize=8)
    figure.tight_layout()
    path = folder / f"facts_{table.model}.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [path]


def _sign_memory(ax: Any, tape: Tape, style: dict[str, Any]) -> None:
    a = est.acf(tape.obs["sign"][tape.obs["sign"] != 0], 200)[1:]
    lags = np.arange(1, len(a) + 1)
    ax.loglog(lags[a > 0], a[a > 0], **style)
    ax.set(title="memory of market order signs", xlabel="lag, trades", ylabel="autocorrelation")


def _clustering(ax: Any, tape: Tape, style: dict[str, Any]) -> None:
    a = est.acf(np.abs(np.diff(est.on_grid(tape.obs, 10.0))), 60)[1:]
    ax.plot(np.arange(1, len(a) + 1) * 10, a, **style)
    ax.set(title="volatility clustering", xlabel="lag, s", ylabel="autocorrelation of |moves|, 10 s")


def _signature(ax: Any, tape: Tape, style: dict[str, Any]) -> None:
    grid = est.on_grid(tape.obs, 1.0)
    steps = np.unique(np.geomspace(1, 500, 16).astype(int))
    variance = np.array([(grid[k:] - grid[:-k]).var() / k for k in steps])
    ax.semilogx(steps, variance / variance[0], **style)
    ax.set(title="signature plot", xlabel="horizon, s", ylabel="variance per second over that at 1 s")


def _gaps(ax: Any, tape: Tape, style: dict[str, Any]) -> None:
    gap: Array = np.diff(tape.obs["ts"]) / 1e9
    density, edges = np.histogram(np.log10(np.maximum(gap, 1e-6)), 60, density=True)
    ax.plot((edges[1:] + edges[:-1]) / 2, density, **style)
    ax.set(title="gaps between events", xlabel="log10 seconds", ylabel="density")


def _tails(ax: Any, tape: Tape, style: dict[str, Any]) -> None:
    r = np.abs(np.diff(est.on_grid(tape.obs, 60.0)))
    r = np.sort(r[r > 0]) / max(1e-9, r.std())
    ax.loglog(r, 1 - np.arange(len(r)) / len(r), **style)
    ax.set(title="tail of one-minute moves", xlabel="|move| over its deviation", ylabel="share above")


def _impact(ax: Any, table: FactTable) -> None:
    impact = table.impact
    label = f"{table.model}: exponent {impact.exponent:.2f} ({impact.low:.2f} to {impact.high:.2f})"
    ax.errorbar(impact.slices, impact.impact, yerr=impact.stderr, marker="o", label=label)
    ax.set(title="impact of a metaorder", xlabel="children", ylabel="ticks", xscale="log", yscale="log")
