"""The picture of metaorder impact: size against length and pace, and the path through a metaorder and after it."""

from pathlib import Path
from typing import Any

import numpy as np

from emp.sim.measure.impact_law import GRID
from emp.sim.measure.impact_study import UP_TO, ImpactStudy, Response

_INK = {"with reaction": "#1f5fa8", "in replay": "#8a8a8a"}


def plot_impact(found: ImpactStudy, path: Path) -> None:
    """Write a PNG file: impact by length for each pace, and the master curve, both with and without reaction."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    for (label, ink), one in zip(_INK.items(), (found.reaction, found.replay), strict=True):
        _by_length(left, one, label, ink)
        right.plot(np.linspace(0.0, UP_TO, GRID), 1e4 * np.array(one.curve), color=ink, label=label)
    left.set(title=f"{found.model}: mid at the last child", xlabel="children", ylabel="ticks", xscale="log")
    lengths = sorted({row.children for row in found.reaction.lengths})
    left.set_xticks(lengths, [str(n) for n in lengths], minor=False)
    left.set_xticks([], minor=True)
    right.set(title="mean path", xlabel="time over the length of the metaorder", ylabel="basis points")
    right.axvline(1.0, color="grey", lw=0.8, ls=":")
    for ax in (left, right):
        ax.axhline(0.0, color="grey", lw=0.8)
        ax.legend(loc="upper left", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _by_length(ax: Any, one: Response, label: str, ink: str) -> None:
    shares = sorted({row.share for row in one.lengths})
    for k, share in enumerate(shares):
        rows = [row for row in one.lengths if row.share == share]
        ax.errorbar(
            [row.children for row in rows],
            [row.ticks for row in rows],
            yerr=[1.96 * row.stderr for row in rows],
            color=ink,
            alpha=(k + 1) / len(shares),
            marker="o",
            ms=3,
            label=f"{label}, {share:.0%}",
        )
