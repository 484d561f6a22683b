"""The picture of capacity curves: one column an instrument, one row a quantity, intervals as bands."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emp.sim.capacity.capacity import HARD_CAP, LEVEL, SHARPE_LOSS, Curve, Known

_ROWS = (
    ("pnl_per_lot", "ticks per lot, after fees"),
    ("sharpe", "Sharpe ratio per trade"),
    ("impact_first", "own impact, first order, ticks"),
    ("fill_rate", "filled by the first order"),
    ("turnover", "lots per hour"),
)
_INK = "#1f5fa8"
_CAP = "#b03a2e"


def plot_capacity(curves: Sequence[tuple[str, Curve]], path: Path) -> None:
    """Draw money, Sharpe ratio, impact, fill rate and turnover against size, with the engine's hard cap."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    n = len(curves)
    figure, axes = plt.subplots(
        len(_ROWS), n, figsize=(4.4 * n + 0.8, 11.5), sharex=True, squeeze=False, layout="constrained"
    )
    for column, (title, curve) in enumerate(curves):
        for row, (name, label) in enumerate(_ROWS):
            ax = axes[row][column]
            _draw(ax, curve, name)
            if column == 0:
                ax.set_ylabel(label)
        axes[1][column].axhline(SHARPE_LOSS * curve.points[0].sharpe.value, color="grey", lw=1, ls=":")
        axes[0][column].set_title(f"{title}\nmedian first level {curve.depth_lots:g} lots", fontsize=10)
        axes[0][column].axhline(0, color="grey", lw=1, ls=":")
        axes[2][column].axhline(0, color="grey", lw=1, ls=":")
        axes[-1][column].set_yscale("log")
        axes[-1][column].set_xlabel("size, % of the median first level")
    caption = (
        f"Capacity of a known signal. Bands: {LEVEL:.0%}. Red: hard cap of {HARD_CAP:.0%}; hollow: below one lot. "
        f"Dotted: {SHARPE_LOSS:.0%} of the smallest size's Sharpe ratio. Green: where it is reached."
    )
    figure.suptitle(textwrap.fill(caption, 60 * n), fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw(ax: Any, curve: Curve, name: str) -> None:
    share = [100 * p.share for p in curve.points]
    known: list[Known] = [getattr(p, name) for p in curve.points]
    ax.fill_between(share, [k.low for k in known], [k.high for k in known], color=_INK, alpha=0.18, lw=0)
    ax.plot(share, [k.value for k in known], color=_INK, lw=1.4)
    for p, x, k in zip(curve.points, share, known, strict=True):
        ax.plot(x, k.value, "o", ms=5, color=_INK, mfc=_INK if p.tradable else "white")
    ax.axvline(100 * HARD_CAP, color=_CAP, lw=1.2)
    if 0 < curve.capacity_sharpe.value < float("inf"):
        ax.axvline(100 * curve.capacity_sharpe.value, color="#2e8b57", lw=1.2, ls="--")
    ax.set_xscale("log")
    ax.grid(alpha=0.25)
