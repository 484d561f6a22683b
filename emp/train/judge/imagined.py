"""Whether what a planner imagines of its choices comes: imagined against realised edge, on a part it never saw (F.1.3).

What crossing costs (half the spread, a fee) is known before anything is forecast and lies in both, imagined and
realised: their plain correlation is high without any foresight. So edges are taken *less known cost*: both are
regressed on the kind of choice (`choices.KINDS`) and on what it is known to cost (`choices.known_cost`), and the
residuals are correlated. The same is done with what the queue imbalance and the built-in rule say of the same choices.

Intervals: 95 %, bootstrap over blocks of time. Passes over the same recording share its blocks, so that more passes
take away the noise of what was drawn and never that of the market.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.ids import generator
from emp.core.records import Array
from emp.plan.artifact import PlannerArtifact
from emp.plan.imagine import imagine, without_value
from emp.train.data.choices import HORIZON_NAMES, HORIZONS, KINDS, Choices, known_cost
from emp.train.fit.planner import standardised
from emp.train.judge.blocks import LEAST_BLOCKS, pseudo_values
from emp.train.judge.metrics import REPLICATES, interval

LIMIT = 0.2
SLOPES = (0.5, 1.5)
GATE = HORIZON_NAMES.index("closed")
"""The horizon of the gate: the end of the trip, whose value is what a search maximises."""

LEAST_CHOICES = 200
CONSIDERED = ("imagined", "imbalance", "rule")
DECILES = 10
_COST = 3


class Line(NamedTuple):
    """One line of the table."""

    series: str
    horizon: str
    action: str  # of KINDS, or all
    n: int
    corr: float | None  # plain
    less_cost: float | None  # less known cost
    ci: tuple[float, float] | None  # of that
    slope: float | None  # realised on imagined, less known cost
    imbalance: float | None  # the same correlation of what the queue imbalance says
    rule: float | None


class Judged(NamedTuple):
    """What came of one series."""

    series: str
    n: int
    fills: int
    table: list[Line]
    deciles: list[dict[str, float]]
    ahead: dict[
        str, tuple[float, float] | None
    ]  # of the imbalance and the rule: bounds of the paired difference
    blocks: Array  # pseudo-values of the gate's figure
    why: list[str]  # what keeps it from passing; empty where it passes

    @property
    def passed(self) -> bool:
        """Whether the gate is met."""
        return not self.why

    @property
    def gate(self) -> Line | None:
        """The line that is judged."""
        name = HORIZON_NAMES[GATE]
        return next((one for one in self.table if one.horizon == name and one.action == "all"), None)


def imagined_values(artifact: PlannerArtifact, choices: Choices, depth: int) -> Array:
    """What each choice was imagined to bring at each horizon, units: float64[n, len(HORIZON_NAMES)]."""
    z = standardised(choices.points["z"], artifact.centre, artifact.spread)
    model, rows, action = artifact.transition(), np.arange(len(z)), choices.points["action"]
    bare = without_value(model)
    columns = [imagine(bare, z, steps)[rows, action] for steps in HORIZONS]
    return np.stack([*columns, imagine(model, z, depth)[rows, action]], axis=1).astype(np.float64)


def judge_series(
    series: str, artifact: PlannerArtifact, choices: Choices, block: Array, depth: int, seed: int
) -> Judged:
    """Judge the choices of one series.

    Args:
        choices: of the held-out part, of all passes.
        block: int64[n], the block of time of each.
        depth: of the search.
        seed: of the bootstrap.
    """
    acts = choices.kind != KINDS.index("wait")  # what waits with nothing at stake brings exactly nothing
    choices, block = choices.of(np.flatnonzero(acts)), block[acts]
    fills = int(choices.filled.sum())
    block = np.unique(block, return_inverse=True)[1]
    blocks = int(block.max()) + 1 if len(block) else 0
    if fills == 0 or len(choices.kind) < LEAST_CHOICES or blocks < LEAST_BLOCKS:
        short = f"{len(choices.kind)} choices, {fills} fills in {blocks} blocks: too few to judge"
        return Judged(series, len(choices.kind), fills, [], [], {}, np.zeros(0), [short])
    imagined = imagined_values(artifact, choices, depth)
    said = _others(choices)
    table: list[Line] = []
    ahead: dict[str, tuple[float, float] | None] = {}
    pseudo: Array = np.zeros(0)
    for h, name in enumerate(HORIZON_NAMES):
        moments = _moments(choices, imagined[:, h], said, choices.realised[:, h], block, blocks)
        table.append(_line(series, name, "all", moments, len(choices.kind), seed))
        if h == GATE:
            ahead = _ahead(moments, seed)
            pseudo = pseudo_values((moments,), lambda m: _partial(m)[0])
        for k, kind in enumerate(KINDS):
            mine = np.flatnonzero(choices.kind == k)
            if len(mine) >= LEAST_CHOICES:
                some = choices.of(mine)
                of = _moments(some, imagined[mine, h], said[mine], some.realised[:, h], block[mine], blocks)
                table.append(_line(series, name, kind, of, len(mine), seed))
    judged = Judged(
        series,
        len(choices.kind),
        fills,
        table,
        _deciles(choices, imagined[:, GATE]),
        ahead,
        pseudo[np.isfinite(pseudo)],
        [],
    )
    return judged._replace(why=_why(judged))


def _others(choices: Choices) -> Array:
    """What the queue imbalance and the rule say of each choice, towards what is held or would be: float64[n, 2]."""
    p = choices.points
    way = np.where(p["position"] != 0, -1.0, 1.0)
    return np.stack([way * p["qimbalance"], way * p["rule_gain"] / p["unit"]], axis=1)


def _moments(
    choices: Choices, imagined: Array, said: Array, realised: Array, block: Array, blocks: int
) -> Array:
    """Products of everything with everything, summed by block: float64[B, m, m].

    Columns: kinds, known costs, then imagined, imbalance, rule, realised.
    """
    kinds = np.eye(len(KINDS))[choices.kind]
    columns = np.column_stack([kinds, known_cost(choices), imagined, said, realised])
    products = columns[:, :, None] * columns[:, None, :]
    found = np.zeros((blocks, *products.shape[1:]))
    np.add.at(found, block, products)
    return found


def _residual(moments: Array) -> Array:
    """Products of the four last columns, less what kinds and known costs explain of them: [m, 4, 4]."""
    first = len(KINDS) + _COST
    a, b, c = moments[:, :first, :first], moments[:, :first, first:], moments[:, first:, first:]
    ridge = 1e-9 * np.maximum(np.trace(a, axis1=1, axis2=2), 1.0)[:, None, None] * np.eye(first)
    return np.asarray(c - np.swapaxes(b, 1, 2) @ np.linalg.solve(a + ridge, b))


def _partial(moments: Array) -> Array:
    """Correlations of imagined, imbalance and rule with realised, less known cost: float64[3, m]."""
    r = _residual(moments)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([r[:, k, 3] / np.sqrt(r[:, k, k] * r[:, 3, 3]) for k in range(3)])


def _plain(moments: Array) -> Array:
    """Plain correlation of imagined with realised: float64[m]."""
    kinds, at = len(KINDS), len(KINDS) + _COST
    n = np.trace(moments[:, :kinds, :kinds], axis1=1, axis2=2)
    mean = moments[:, :kinds, :].sum(axis=1) / n[:, None]  # sums of each column, as the kinds add up to 1
    x, y = at, at + 3
    with np.errstate(divide="ignore", invalid="ignore"):
        cov = moments[:, x, y] / n - mean[:, x] * mean[:, y]
        var = [moments[:, k, k] / n - mean[:, k] ** 2 for k in (x, y)]
        return np.asarray(cov / np.sqrt(var[0] * var[1]))


def _drawn(moments: Array, seed: int) -> Array:
    """Moments of REPLICATES draws of blocks."""
    blocks = len(moments)
    draws = generator(seed, "imagined").multinomial(blocks, np.full(blocks, 1.0 / blocks), REPLICATES)
    return np.tensordot(draws.astype(float), moments, axes=1)


def _line(series: str, horizon: str, action: str, moments: Array, n: int, seed: int) -> Line:
    whole = moments.sum(axis=0, keepdims=True)
    partial = _partial(whole)[:, 0]
    r = _residual(whole)[0]
    ends = interval(_partial(_drawn(moments, seed))[0])
    slope = r[0, 3] / r[0, 0] if r[0, 0] > 0 else np.nan
    return Line(
        series,
        horizon,
        action,
        n,
        _known(_plain(whole)[0]),
        _known(partial[0]),
        ends,
        _known(slope),
        _known(partial[1]),
        _known(partial[2]),
    )


def _known(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _ahead(moments: Array, seed: int) -> dict[str, tuple[float, float] | None]:
    """Bounds of what the imagined edge's correlation has ahead of the others' absolute one, on the same draws."""
    drawn = _partial(_drawn(moments, seed))
    others = np.nan_to_num(np.abs(drawn), nan=0.0)  # what never differs says nothing: a feed without sizes
    return {name: interval(drawn[0] - others[k]) for k, name in enumerate(CONSIDERED) if k}


def _deciles(choices: Choices, imagined: Array) -> list[dict[str, float]]:
    """What choices brought by decile of what was imagined of them, both less known cost: units."""
    x = np.column_stack([np.eye(len(KINDS))[choices.kind], known_cost(choices)])
    both = np.stack([imagined, choices.realised[:, GATE]], axis=1)
    left = both - x @ np.linalg.lstsq(x, both, rcond=None)[0]
    order = np.argsort(left[:, 0], kind="stable")
    return [
        {
            "decile": k + 1,
            "n": len(rows),
            "imagined": float(left[rows, 0].mean()),
            "realised": float(left[rows, 1].mean()),
            "error": float(left[rows, 1].std() / np.sqrt(len(rows))),
        }
        for k, rows in enumerate(np.array_split(order, DECILES))
    ]


def _why(judged: Judged) -> list[str]:
    """What keeps the gate from being met."""
    line = judged.gate
    if line is None or line.less_cost is None or line.ci is None or line.slope is None:
        return ["the correlation is not defined"]
    found = []
    if line.ci[0] < LIMIT:
        found.append(f"the lower bound of the correlation is {line.ci[0]:+.3f}, below {LIMIT}")
    if not SLOPES[0] <= line.slope <= SLOPES[1]:
        found.append(f"the slope is {line.slope:+.2f}, not {SLOPES[0]} to {SLOPES[1]}")
    names = {"imbalance": "the queue imbalance", "rule": "the rule's own value"}
    for name, ends in judged.ahead.items():
        if ends is None or ends[0] <= 0.0:
            found.append(f"it is not above {names[name]} with 95 %")
    return found


def verdict(judged: Sequence[Judged]) -> tuple[str, list[str]]:
    """pass or fail over all series with fills, and why."""
    with_fills = [one for one in judged if one.fills]
    why = [f"{one.series}: {line}" for one in with_fills for line in one.why]
    if not with_fills:
        why = ["no series has fills"]
    return ("fail" if why else "pass"), why


def as_fields(line: Line) -> dict[str, Any]:
    """A line as JSON has it."""
    return line._asdict()
