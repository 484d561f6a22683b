"""From results of an ablation of adaptation to its table: what each way gained on new markets and lost on the old.

Differences are to the model as it was, of the same seed. For each market the blocks' pseudo-values are averaged over
seeds and the mean over markets, horizons and blocks is taken market by market: its interval is over blocks (days, or
stretches of five minutes), that of what another draw of the training would give stands beside it (over seeds). A
second table has the adapters against the head alone, against a full fine-tuning and against a training from scratch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.records import Array
from emp.decision.student import student_quantile
from emp.train.fit.arms import DEFAULT
from emp.train.judge.adaptations import NAMES, NONE, SCRATCH
from emp.train.judge.adapted import EVENT_HORIZONS, Transfer, transfer
from emp.train.judge.blocks import LEAST_BLOCKS, pseudo_values
from emp.train.judge.metrics import f1_macro

Results = Sequence[dict[str, Any]]

Statistic = Callable[[Array, Array], Array]
"""Of confusions [m, CLASSES, CLASSES] of two models: float64[m]."""

ADAPTERS, OTHERS = ("lora", DEFAULT), ("head", "full", SCRATCH)
"""Ways that are held against each other: each of the first against each of the second."""


class Spread(NamedTuple):
    """A mean in per cent, the half width of its 95 % interval over blocks, and the deviation over seeds."""

    mean: float
    half: float  # nan where blocks are too few
    seeds: float  # standard deviation of what one seed gives; nan with one


class Versus(NamedTuple):
    """Macro-F1 of one way less that of another on the new markets, in points."""

    arm: str
    other: str
    points: Spread  # mean over EVENT_HORIZONS
    by_horizon: dict[str, Spread]


class Row(NamedTuple):
    """One way to adapt."""

    arm: str
    markets: int
    gain: Spread  # of macro-F1 on the new market
    matched: Spread  # the same where both turn over alike
    dropped: dict[str, float]  # by horizon: the largest mean drop of an old series over seeds, per cent
    within: float  # share of old series, horizons and seeds within the cap
    moved: Transfer  # mean over markets and seeds
    trained_in_body: float | None
    cpu_s: float  # of one adaptation, judged


def table_of(results: Results, caps: dict[str, float]) -> list[Row]:
    """Rows in the order of `NAMES`; `caps` are by horizon what an old series may drop by, per cent."""
    base = {(one["market"], one["seed"]): one for one in results if one["arm"] == NONE}
    rows = []
    for arm in NAMES:
        mine = [one for one in results if one["arm"] == arm]
        if mine:
            rows.append(_row(arm, mine, [base[one["market"], one["seed"]] for one in mine], caps))
    return rows


def versus_of(results: Results) -> list[Versus]:
    """Each of ADAPTERS against each of OTHERS that were made for the same markets and seeds."""
    made = {arm: {(one["market"], one["seed"]): one for one in results if one["arm"] == arm} for arm in NAMES}
    found = []
    for arm in ADAPTERS:
        for other in OTHERS:
            both = sorted(made[arm].keys() & made[other].keys())
            if both:
                mine, theirs = ([made[way][key] for key in both] for way in (arm, other))
                spreads = {h: _spread(mine, theirs, "decided", gain_points, (h,)) for h in EVENT_HORIZONS}
                points = _spread(mine, theirs, "decided", gain_points)
                found.append(Versus(arm, other, points, spreads))
    return found


def _row(arm: str, mine: Results, base: Results, caps: dict[str, float]) -> Row:
    drops = [] if arm == SCRATCH else list(_drops(mine, base))
    by_series: dict[tuple[str, str], list[float]] = {}
    for horizon, series, drop in drops:
        by_series.setdefault((horizon, series), []).append(drop)
    dropped = {
        horizon: max(float(np.mean(found)) for (at, _), found in by_series.items() if at == horizon)
        for horizon in EVENT_HORIZONS
        if drops
    }
    within = [drop <= caps[horizon] for horizon, _, drop in drops]
    moved = _transfers(mine, base) if arm != SCRATCH else [Transfer(math.nan, math.nan, math.nan)]
    trained = mine[0]["facts"].get("trained_in_body")
    return Row(
        arm,
        len({one["market"] for one in mine}),
        _spread(mine, base, "decided"),
        _spread(mine, base, "matched"),
        dropped,
        float(np.mean(within)) if within else math.nan,
        Transfer(*(float(np.mean([one[k] for one in moved])) for k in range(3))),
        None if trained is None else float(trained),
        float(np.mean([one["cpu_s"] for one in mine])),
    )


def _spread(
    mine: Results,
    base: Results,
    name: str,
    statistic: Statistic | None = None,
    horizons: Sequence[str] = EVENT_HORIZONS,
) -> Spread:
    """Gain of macro-F1, by the decisions of that name: in per cent, or as the statistic says."""
    matched = name == "matched"  # both models were, within the result
    reference = "matched_base" if matched else "decided"
    markets: dict[str, dict[int, Array]] = {}
    for one, other in zip(mine, base, strict=True):
        theirs = (one if matched else other)["new"]
        numbers = _numbers(one["new"], horizons)
        found = [
            _gains(
                _sums(one["new"], h, name, numbers),
                _sums(theirs, h, reference, numbers),
                statistic or gain_pct,
            )
            for h in horizons
        ]
        markets.setdefault(one["market"], {})[one["seed"]] = np.mean(found, axis=0)
    blocks = [np.mean(list(seeds.values()), axis=0) for seeds in markets.values()]
    parts = [one.var(ddof=1) / len(one) for one in blocks if len(one) >= LEAST_BLOCKS]
    half = math.nan
    if len(parts) == len(blocks):
        degrees = min(len(one) for one in blocks) - 1
        half = student_quantile(0.025, degrees) * math.sqrt(sum(parts)) / len(parts)
    by_seed = _by_seed(markets)
    return Spread(
        float(np.mean([one.mean() for one in blocks])),
        float(half),
        float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else math.nan,
    )


def _by_seed(markets: dict[str, dict[int, Array]]) -> list[float]:
    """The mean over markets that each seed alone gives, of seeds that every market has."""
    seeds = set.intersection(*(set(found) for found in markets.values()))
    return [float(np.mean([found[seed].mean() for found in markets.values()])) for seed in sorted(seeds)]


def _gains(mine: Array, base: Array, statistic: Statistic) -> Array:
    """The gain by block [B]: of one block, which has no others to be left out beside, as it is."""
    return statistic(mine, base) if len(mine) == 1 else pseudo_values((mine, base), statistic)


def gain_pct(a: Array, b: Array) -> Array:
    """Macro-F1 of confusions a over that of b, in per cent more."""
    return 100.0 * (f1_macro(a) / f1_macro(b) - 1.0)


def gain_points(a: Array, b: Array) -> Array:
    """Macro-F1 of confusions a less that of b, times 100."""
    return 100.0 * (f1_macro(a) - f1_macro(b))


def _drops(mine: Results, base: Results) -> Sequence[tuple[str, str, float]]:
    """Horizon, old series, and what one seed's adaptation to one market dropped of it, per cent."""
    return [
        (h, series, -float(gain_pct(*(_whole(x["old"][series], h) for x in (one, other)))[0]))
        for one, other in zip(mine, base, strict=True)
        for series in one["old"]
        for h in EVENT_HORIZONS
    ]


def _transfers(mine: Results, base: Results) -> list[Transfer]:
    def scores(found: dict[str, Any]) -> list[float]:
        return [float(f1_macro(_whole(found, h))[0]) for h in EVENT_HORIZONS]

    made: list[Transfer] = []
    for one, other in zip(mine, base, strict=True):
        old = [[score for series in x["old"].values() for score in scores(series)] for x in (other, one)]
        new = [scores(x["new"]["by_horizon"]) for x in (other, one)]
        chance = [other["facts"]["untrained_f1"][h] for h in EVENT_HORIZONS]
        made.append(transfer(old[0], new[0], old[1], new[1], chance))
    return made


def _numbers(judged: dict[str, Any], horizons: Sequence[str]) -> Array:
    """Blocks that have a row at any of these horizons."""
    return np.array(sorted(set().union(*(judged["by_horizon"][h]["block"] for h in horizons))))


def _sums(judged: dict[str, Any], horizon: str, name: str, numbers: Array) -> Array:
    """Confusions by block, in the order of numbers; noughts where the horizon has no row of a block."""
    at = judged["by_horizon"][horizon]
    found = np.array(at[name], float)
    whole = np.zeros((len(numbers), *found.shape[1:]))
    whole[np.searchsorted(numbers, at["block"])] = found
    return whole


def _whole(by_horizon: dict[str, Any], horizon: str) -> Array:
    return np.array(by_horizon[horizon]["decided"], float).sum(axis=0, keepdims=True)


def builtin(row: Row) -> dict[str, Any]:
    """A row as JSON holds it: what is no number is null."""
    spreads = {name: _plain(getattr(row, name)._asdict()) for name in ("gain", "matched", "moved")}
    return _plain(row._asdict()) | spreads


def builtin_versus(one: Versus) -> dict[str, Any]:
    """The same of a comparison."""
    spreads = {horizon: _plain(spread._asdict()) for horizon, spread in one.by_horizon.items()}
    return {**one._asdict(), "points": _plain(one.points._asdict()), "by_horizon": spreads}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def lines_of(rows: Sequence[Row]) -> list[str]:
    """The table as Markdown."""
    lines = [
        "| way | gain of macro-F1, % | seeds | at matched turnover, % | largest drop of an old series, % "
        "| within the caps | ACC | backward | forward | weights of the body | CPU s |",
        "|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        drops = ", ".join(f"{row.dropped[h]:+.2f}" for h in EVENT_HORIZONS) if row.dropped else ""
        body = "" if row.trained_in_body is None else f"{row.trained_in_body:,.0f}"
        cells = [
            row.arm,
            _told(row.gain),
            _number(row.gain.seeds, ".2f"),
            _told(row.matched),
            drops,
            _number(row.within, ".0%"),
            *(_number(value, form) for value, form in _scores(row)),
            body,
            f"{row.cpu_s:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def versus_lines(found: Sequence[Versus]) -> list[str]:
    """Comparisons as Markdown; nothing where there are none."""
    if not found:
        return []
    lines = [
        f"| way | against | points of macro-F1 | seeds | {' | '.join(EVENT_HORIZONS)} |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        by_horizon = [_told(one.by_horizon[h]) for h in EVENT_HORIZONS]
        cells = [one.arm, one.other, _told(one.points), _number(one.points.seeds, ".2f"), *by_horizon]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _scores(row: Row) -> list[tuple[float, str]]:
    return [(row.moved.acc, ".4f"), (row.moved.backward, "+.4f"), (row.moved.forward, "+.4f")]


def _told(spread: Spread) -> str:
    half = "no interval" if math.isnan(spread.half) else f"+- {spread.half:.2f}"
    return f"{spread.mean:+.2f} {half}"


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)
