"""The page of a league: curves of constraints and of the gap, opponents in one table, the spread over seeds."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from emp.app.report.page import CSS, cards, figure, table
from emp.app.report.plots import BLUE, GREEN, GREY, RED, svg, svg_panels
from emp.league.constraint import TOLERANCE
from emp.league.generations import COSTS, SeedResult, Setting
from emp.league.summary import RuleSummary, Summary, summarise
from emp.league.table import Row


def render_league(markets: Sequence[tuple[Setting, list[SeedResult]]]) -> str:
    """The page as HTML; one setting with its seeds a market."""
    body = "".join(_market(setting, seeds) for setting, seeds in markets)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<meta name='viewport' content='width=device-width'><title>League</title><style>{CSS}</style></head>"
        f"<body><main><h1>League</h1><div class='sub'>{escape(_method())}</div>{body}</main></body></html>\n"
    )


def _method() -> str:
    return (
        "All figures are simulated. Gap: Sharpe ratio per episode of a challenger against Current, less that of a copy "
        "of Current in the same seat, on the same held-out episodes; a lower bound of exploitability."
    )


def _market(setting: Setting, seeds: list[SeedResult]) -> str:
    s = summarise(seeds)
    return (
        f"<h2>{escape(setting.name)}</h2>"
        f"<div class='sub'>flow {escape(setting.model)}, orders of {setting.size} lots, limits: "
        f"{setting.turnover:g} lots an episode, variance of the position {setting.variance:g}</div>"
        + cards(_figures(setting, s))
        + figure("Gap by generation, a line a seed; black: median", svg(lambda ax: _gaps(ax, seeds)))
        + figure(
            "Costs of the main agent over their limits, a line a seed; shaded: within 5 %",
            svg_panels(lambda axes: _costs(axes, seeds), 1, len(COSTS), 2.6, 9.6),
        )
        + figure("Multipliers of the main agent", svg(lambda ax: _multipliers(ax, seeds)))
        + figure(
            "Champion over the untrained policy: Sharpe ratio, 95 % intervals of seeds; band: spread over seeds",
            svg(lambda ax: _headline(ax, seeds, s)),
        )
        + _opponents(s.table, "in the other seat", "Best's")
        + _rule(s.rule)
        + _by_generation(seeds)
    )


def _figures(setting: Setting, s: Summary) -> dict[str, str]:
    def shown(values: Sequence[float | None]) -> str:
        return " → ".join("-" if x is None else f"{x:.3f}" for x in values)

    return {
        "seeds": str(s.seeds),
        "median gap by generation": shown(s.gaps),
        "lots an episode by generation, share of the limit": shown(s.turnover),
        "generations held back": f"{s.refused} of {s.judged}",
        "trainings within 5 % of both limits": f"{s.constrained} of {s.judged}",
        "champion over untrained, Sharpe ± spread over seeds": f"{s.headline:+.3f} ± {s.headline_sd or 0.0:.3f}",
        "its lots over those of the untrained": shown([s.headline_turnover]),
        "a model over itself": f"{s.again:g}",
        "candidates per exploiter": f"{s.candidates:,} × {setting.episodes} episodes",
    }


def _gaps(ax: Axes, seeds: list[SeedResult]) -> None:
    for one in seeds:
        x = [g.number for g in one.generations if g.gap is not None]
        ax.plot(
            x, [g.gap for g in one.generations if g.gap is not None], color=GREY, lw=0.8, marker="o", ms=3
        )
    s = summarise(seeds)
    ax.plot(
        range(len(s.gaps)), [np.nan if x is None else x for x in s.gaps], color="black", lw=1.8, marker="o"
    )
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set_xticks(range(len(s.gaps)))
    ax.set_xlabel("generation")
    ax.set_ylabel("Sharpe ratio per episode")


def _joined(one: SeedResult, column: int) -> Any:
    return np.concatenate([np.array(g.main_curve)[:, column] for g in one.generations])


def _costs(axes: list[Axes], seeds: list[SeedResult]) -> None:
    for j, (ax, name) in enumerate(zip(axes, COSTS, strict=True)):
        for one in seeds:
            ax.plot(_joined(one, 1 + j), color=BLUE, lw=0.7, alpha=0.6)
        ax.axhspan(1 - TOLERANCE, 1 + TOLERANCE, color=GREEN, alpha=0.15, lw=0)
        ax.axhline(1, color=RED, lw=0.8)
        ax.set_title(name.replace("_", " "), fontsize=9)
        ax.set_xlabel("round, all generations")
        ax.set_yscale("log")


def _multipliers(ax: Axes, seeds: list[SeedResult]) -> None:
    for j, colour in enumerate((BLUE, GREEN)):
        for k, one in enumerate(seeds):
            label = COSTS[j].replace("_", " ") if k == 0 else None
            ax.plot(_joined(one, 1 + len(COSTS) + j), color=colour, lw=0.7, alpha=0.6, label=label)
    ax.set_xlabel("round, all generations")
    ax.legend(loc="upper left", frameon=False)


def _headline(ax: Axes, seeds: list[SeedResult], s: Summary) -> None:
    sd = s.headline_sd or 0.0
    ax.axhspan(s.headline - sd, s.headline + sd, color=BLUE, alpha=0.12, lw=0)
    ax.axhline(s.headline, color=BLUE, lw=1)
    ax.axhline(0, color=GREY, lw=0.8)
    for k, one in enumerate(seeds):
        h = one.headline
        ax.plot([k, k], [h.low, h.high], color=BLUE, lw=1.4)
        ax.plot(k, h.value, "o", color=BLUE, ms=4)
    ax.set_xticks(range(len(seeds)), [str(one.seed) for one in seeds])
    ax.set_xlabel("seed")


def _opponents(found: list[Row], first: str, opposite: str) -> str:
    heads = (
        first,
        "PnL",
        "Sharpe",
        "lots",
        "maker fills",
        "queue ahead",
        f"{opposite} PnL",
        f"{opposite} Sharpe",
    )
    rows = [
        (
            r.player,
            f"{r.pnl:+,.1f}",
            f"{r.sharpe:+.3f}",
            f"{r.lots:,.1f}",
            f"{r.maker_fills:,.1f}",
            "-" if r.queue_ahead is None else f"{r.queue_ahead:,.1f}",
            f"{r.against:+,.1f}",
            f"{r.against_sharpe:+.3f}",
        )
        for r in found
    ]
    note = "Per episode, means over seeds. PnL: ticks times lots after fees. Queue ahead: lots, mean over maker fills."
    return table(heads, rows) + f"<p class='note'>{note}</p>"


def _rule(s: RuleSummary) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    note = (
        f"Gap of the rule: {shown(s.gap)} (median over seeds; largest {shown(s.gap_high)}; {s.unmatched} unmatched). "
        f"Its exploiter, of {s.candidates:,} candidates, over a copy of the rule in the same seat: {s.exploit:+.3f} "
        f"(spread over seeds {shown(s.exploit_sd)}; told from nothing in {s.exploit_told} seeds). The rule opposite "
        f"its exploiter over the rule opposite its copy: {s.lost:+.3f} ({shown(s.lost_sd)}; {s.lost_told} seeds)."
    )
    return _opponents(s.beside, "seat 1", "the other's") + f"<p class='note'>{note}</p>"


def _share(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:+.1f}%"


def _by_generation(seeds: list[SeedResult]) -> str:
    heads = (
        "seed, generation",
        "Exploit",
        "its turnover",
        "Best",
        "its turnover",
        "gap",
        "change",
        "limits",
        "promoted",
    )
    rows = [
        (
            f"{one.seed}, {g.number}",
            f"{g.exploit.value:+.3f} ({g.exploit.low:+.3f} to {g.exploit.high:+.3f})",
            _share(g.exploit.turnover),
            f"{g.best.value:+.3f} ({g.best.low:+.3f} to {g.best.high:+.3f})",
            _share(g.best.turnover),
            "unmatched" if g.gap is None else f"{g.gap:.3f}",
            "-" if g.delta is None else f"{g.delta:+.3f}",
            ", ".join(f"{100 * x:+.1f}%" for x in g.held),
            "yes" if g.promoted else "no",
        )
        for one in seeds
        for g in one.generations
    ]
    return "<details><summary>Every generation</summary>" + table(heads, rows) + "</details>"
