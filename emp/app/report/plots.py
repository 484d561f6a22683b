"""The plots of a run's page, each a function from RunData to an SVG string."""

import io
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emp.app.report.data import RunData, reasons
from emp.core.records import HORIZON_NAMES, Array
from emp.engine.spans import CALIBRATED, TRAINED

POINTS = 2000
"""Buckets per line: each is drawn by its least and greatest value, so no extreme is lost."""

INK, BLUE, GREEN, RED, GREY = "#1f2933", "#2563a8", "#16803c", "#c02626", "#9aa5b1"
SEEN = {TRAINED: "#dde3ea", CALIBRATED: "#eef1f5"}

DATES: Any = mdates  # its functions are not annotated

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "svg.hashsalt": "emp",
    "svg.fonttype": "none",
}


def svg(draw: Callable[[Axes], None], height: float = 2.6, width: float = 9.6) -> str:
    """Run `draw` on a fresh pair of axes and return the picture as an SVG element."""
    return svg_panels(lambda panels: draw(panels[0]), 1, 1, height, width)


def svg_panels(
    draw: Callable[[list[Axes]], None], rows: int, columns: int, height: float, width: float
) -> str:
    """The same with a grid of axes that share their scales."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def thin(x: Array, y: Array) -> tuple[Array, Array]:
    """At most 2 * POINTS points of a line: the least and the greatest of each bucket, in order."""
    if len(y) <= 2 * POINTS:
        return x, y
    edges = np.linspace(0, len(y), POINTS + 1).astype(int)
    kept = np.concatenate(
        [[a + int(np.argmin(y[a:b])), a + int(np.argmax(y[a:b]))] for a, b in itertools.pairwise(edges)]
    )
    kept = np.unique(kept)
    return x[kept], y[kept]


def days(ts: Array) -> Array:
    """Times in ns as Matplotlib dates, UTC."""
    if not len(ts):
        return np.zeros(0)
    first = int(ts[0])
    origin = float(DATES.date2num(datetime.fromtimestamp(first / 1e9, tz=UTC)))
    return origin + (ts - first) / 86_400e9


def time_axis(axes: Axes) -> None:
    """Label the x axis, which is drawn in full by then, with UTC times, and name its ends for the page's zoom."""
    locator = DATES.AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(DATES.ConciseDateFormatter(locator))
    first, last = (round(end * 86_400_000) for end in axes.get_xlim())  # ms since 1970
    axes.set_gid(f"time-{first}-{last}")


def shade_seen(axes: Axes, run: RunData) -> None:
    """Shade the time on which the model was trained or calibrated: what it earned there says nothing."""
    for name, first, last in run.seen:
        begin, end = days(np.array([run.rows["ts"][0], first, last]))[1:]
        axes.axvspan(begin, end, color=SEEN[name], linewidth=0, zorder=0)


def draw_price(run: RunData, axes: Axes) -> None:
    """Mid, with our fills: hollow where they rested, filled where they crossed."""
    axes.plot(*thin(days(run.rows["ts"]), run.mid), color=INK, linewidth=0.7, label="mid")
    at = days(np.concatenate([run.rows["ts"][:1], run.fills["ts"]]))[1:]
    for side, color, marker, word in ((1, GREEN, "^", "bought"), (-1, RED, "v", "sold")):
        for maker in (True, False):
            chosen = (run.fills["side"] == side) & (run.fills["maker"] == maker)
            if chosen.any():
                axes.scatter(
                    at[chosen],
                    run.fills["px"][chosen],
                    s=18,
                    marker=marker,
                    linewidths=0.8,
                    edgecolors=color,
                    facecolors="none" if maker else color,
                    label=f"{word}, {'resting' if maker else 'crossing'}",
                    zorder=3,
                )
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_ylabel("price, ticks")
    shade_seen(axes, run)
    axes.legend(loc="upper left", frameon=False, ncols=5, fontsize=8)
    time_axis(axes)


def price(run: RunData) -> str:
    """Mid, with our fills: hollow where they rested, filled where they crossed."""
    return svg(lambda axes: draw_price(run, axes), 3.4)


def draw_position(run: RunData, axes: Axes) -> None:
    """Inventory over time."""
    x, y = thin(days(run.rows["ts"]), run.rows["inventory"])
    axes.step(x, y, where="post", color=BLUE, linewidth=0.9)
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set_ylabel("position, lots")
    shade_seen(axes, run)
    time_axis(axes)


def position(run: RunData) -> str:
    """Inventory over time."""
    return svg(lambda axes: draw_position(run, axes), 1.9)


def draw_pnl(run: RunData, axes: Axes) -> None:
    """PnL after fees, marked to mid."""
    axes.plot(*thin(days(run.rows["ts"]), run.rows["pnl_ticks"]), color=BLUE, linewidth=0.9)
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set_ylabel("PnL after fees,\nticks x lots")
    shade_seen(axes, run)
    time_axis(axes)


def pnl(run: RunData) -> str:
    """PnL after fees, marked to mid."""
    return svg(lambda axes: draw_pnl(run, axes), 2.2)


def edge_and_cost(run: RunData) -> str:
    """What the forecast promised against what crossing would have cost, over time."""

    def draw(axes: Axes) -> None:
        edges = np.linspace(0, len(run.rows), min(400, len(run.rows)) + 1).astype(int)
        x = days(run.rows["ts"])[edges[:-1]]
        strength = np.abs(run.rows["edge_ticks"])
        spans = list(itertools.pairwise(edges))
        high = np.array([np.quantile(strength[a:b], 0.99) for a, b in spans])
        middle = np.array([np.median(strength[a:b]) for a, b in spans])
        cost = np.array([np.median(run.rows["cost_to_take"][a:b]) for a, b in spans])
        axes.fill_between(
            x, middle, high, color=BLUE, alpha=0.25, linewidth=0, label="|edge|, median to 99 %"
        )
        axes.plot(x, middle, color=BLUE, linewidth=0.8)
        axes.plot(x, cost, color=RED, linewidth=0.9, label="cost to cross, median")
        axes.set_ylabel("ticks")
        axes.legend(loc="upper right", frameon=False, ncols=2, fontsize=8)
        time_axis(axes)

    return svg(draw, 2.4)


def realised(run: RunData) -> str:
    """Forecast mean against the mean move that followed, in deciles of the forecast, per horizon."""
    from emp.observe.markout import mids_after

    def draw(axes: Axes) -> None:
        later = mids_after(run.rows["ts"], run.mid, run.rows["ts"])
        low, high = 0.0, 0.0
        for k, name in enumerate(HORIZON_NAMES):
            said = run.rows["mean"][:, k] * run.rows["unit_ticks"]
            came = later[:, k] - run.mid
            known = np.isfinite(came)
            order = np.argsort(said[known], kind="stable")
            parts = np.array_split(order, 10)
            x = [float(said[known][part].mean()) for part in parts if len(part)]
            y = [float(came[known][part].mean()) for part in parts if len(part)]
            axes.plot(x, y, marker="o", markersize=3, linewidth=0.8, label=name)
            low, high = min([low, *x, *y]), max([high, *x, *y])
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--")
        axes.set_xlabel("forecast move, ticks (mean of decile)")
        axes.set_ylabel("move that followed, ticks")
        axes.legend(loc="upper left", frameon=False, fontsize=8, ncols=2)

    return svg(draw, 3.2, 4.7)


def reason_bars(run: RunData) -> str:
    """How often each reason was given, on a log axis."""

    def draw(axes: Axes) -> None:
        counts = reasons(run.rows)
        names = list(counts)[::-1]
        axes.barh(names, [counts[n] for n in names], color=BLUE, height=0.7)
        axes.set_xscale("log")
        axes.set_xlabel("decisions")
        axes.grid(visible=False, axis="y")

    return svg(draw, 3.2, 4.7)


def latency(run: RunData) -> str:
    """Time from event to decision."""

    def draw(axes: Axes) -> None:
        us = run.rows["latency_ms"] * 1e3
        us = us[us > 0]
        if not len(us):
            return
        bins = np.geomspace(us.min(), max(us.max(), us.min() * 1.01), 80)
        axes.hist(us, bins=bins.tolist(), color=BLUE)
        for q, style in ((50, "-"), (99, "--")):
            value = float(np.percentile(us, q))
            axes.axvline(value, color=RED, linewidth=0.9, linestyle=style, label=f"p{q} {value:.2f} us")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("event to decision, us")
        axes.set_ylabel("decisions")
        axes.legend(loc="upper right", frameon=False, fontsize=8)

    return svg(draw, 2.6, 4.7)
