"""An adapted model beside the one it came from: what it keeps, what it gains, and at which turnover.

Both are judged as they are served (corrected by outcomes known before), on the same rows, by the same class
thresholds. The turnover of forecasts is that of a trader who holds one lot in the direction of the decided class. To be
compared at the same turnover, the one that turns over more keeps the class that it has decided until another is
likelier by a factor, which is chosen on the calibration part, so that there it turns over as much as the other.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_EVENTS, HORIZON_NAMES, HORIZONS, Array
from emp.engine.load import LoadedModel
from emp.perception.targets import CLASSES, FLAT, class_prior, classes
from emp.train.data.data import Dataset
from emp.train.judge.blocks import BlockMeasure, Blocks, forecast_measures, pseudo_values, session_confusion
from emp.train.judge.evaluate import of_forecasts, truth_of
from emp.train.judge.forecasts import forecast_series
from emp.train.judge.metrics import Sums, block_sums, f1_macro

EVENT_HORIZONS = HORIZON_NAMES[: len(HORIZON_EVENTS)]
"""At which retention and gain are asked for."""

STICKING = np.linspace(0.0, 3.0, 121)
"""Logarithms of the factor by which another class must be likelier than the one that was decided."""


class Turnover(NamedTuple):
    """Decisions at matched turnover, block by block of the test part."""

    base: Array  # float64[B, CLASSES, CLASSES]: outcome by decision of the base
    decided: Array  # the same of the adapted model
    lots: Array  # float64[B, 2]: turned over by the base, by the adapted model
    sticking: tuple[float, float]  # log factors of the base, of the adapted model; one of them is 0


class Pair(NamedTuple):
    """Both models at one horizon of one series."""

    horizon: str
    base: Sums
    mine: Sums
    matched: Turnover
    measures: list[BlockMeasure]
    block: Array  # int64[B]: numbers of its blocks, which differ by horizon where a block has no label


def forecasts_of(model: LoadedModel, data: Dataset, edges: Array) -> Array:
    """What a model says of every row of a series where it is served, classes being those of `edges`: FORECAST[n]."""
    return forecast_series(model, data.encoded(model.encoder), edges=edges)


def compare(base: Array, mine: Array, data: Dataset, edges: Array, blocks: Blocks) -> list[Pair]:
    """Judge two models' forecasts of a series at every horizon.

    Args:
        base, mine: FORECAST[n], of `forecasts_of`.
        edges: float[HORIZONS], class thresholds.
        blocks: of the test part.
    """
    test = data.part("test")
    session = data.seen.states["session_id"]
    found = []
    for h in range(HORIZONS):
        truth = truth_of(data, float(edges[h]), h, blocks)
        said = [of_forecasts(f[test], data, truth, h) for f in (base, mine)]
        sums = [block_sums(one, truth.outcome, truth.block) for one in said]
        sessions = session_confusion(truth.block, session[truth.test], truth.outcome.label, said[1].decided)
        matched = match_turnover(base, mine, data, edges, h, truth.test, truth.block)
        measures = forecast_measures(HORIZON_NAMES[h], sums[1], sums[0], sessions)
        measures += matched_measures(HORIZON_NAMES[h], matched, int(sums[1].n.sum()))
        number = np.unique(blocks.number[truth.test])
        found.append(Pair(HORIZON_NAMES[h], sums[0], sums[1], matched, measures, number))
    return found


def match_turnover(
    base: Array, mine: Array, data: Dataset, edges: Array, h: int, test: Array, block: Array
) -> Turnover:
    """Choose the factor on the calibration part, then decide on rows `test` of the test part."""
    label = classes(data.targets.delta_hat[:, h], np.array(edges[h]))
    train = data.part("train")
    prior = class_prior(label[train[~np.isnan(data.delta_hat("train", train)[:, h])]][:, None])[0]
    earlier = data.part("calibrate")
    raised = [f["p"][:, h].astype(np.float64) / prior for f in (base, mine)]
    busier = int(np.argmax([turned(kept_classes(one[earlier], 0.0)).sum() for one in raised]))
    wanted = turned(kept_classes(raised[1 - busier][earlier], 0.0)).sum()
    each = np.array([turned(kept_classes(raised[busier][earlier], by)).sum() for by in STICKING])
    by = float(STICKING[np.argmin(np.abs(each - wanted))])  # the least factor of those that are as near
    sticking = (by, 0.0) if busier == 0 else (0.0, by)
    decided = [kept_classes(one[test], by) for one, by in zip(raised, sticking, strict=True)]
    count = int(block.max()) + 1
    tables = [
        np.bincount((block * CLASSES + label[test]) * CLASSES + one, minlength=count * CLASSES * CLASSES)
        .reshape(count, CLASSES, CLASSES)
        .astype(float)
        for one in decided
    ]
    lots = np.stack([np.bincount(block, turned(one), minlength=count) for one in decided], axis=1)
    return Turnover(tables[0], tables[1], lots, sticking)


def kept_classes(raised: Array, by: float) -> Array:
    """The class decided at each row, int64[n], by probabilities over their priors float64[n, CLASSES]: another one than
    at the row before only where it is likelier by more than exp(by); with 0 the likeliest.
    """
    decided = np.zeros(len(raised), np.int64)
    _keep(np.ascontiguousarray(raised), np.exp(by), decided)
    return decided


@kernel
def _keep(raised: Any, factor: float, decided: Any) -> None:
    now = int(np.argmax(raised[0])) if len(raised) else 0
    for k in range(len(raised)):
        best = int(np.argmax(raised[k]))
        if raised[k, best] > factor * raised[k, now]:
            now = best
        decided[k] = now


def turned(decided: Array) -> Array:
    """Lots turned over at each of a row of decisions, by who holds one lot in their direction: float64[n]."""
    return np.abs(np.diff(decided - FLAT, prepend=0)).astype(float)


def matched_measures(horizon: str, matched: Turnover, n: int) -> list[BlockMeasure]:
    """Gain of macro-F1 at matched turnover, per cent, and the difference of turnover that is left, per cent."""
    pair = (matched.decided, matched.base)
    gain = pseudo_values(pair, lambda a, b: 100.0 * (f1_macro(a) / f1_macro(b) - 1.0))
    found = [BlockMeasure("f1_gain_matched_pct", horizon, gain, n)]
    if len(matched.lots) > 1 and matched.lots[:, 0].sum() > 0:
        left = pseudo_values((matched.lots[:, 1], matched.lots[:, 0]), lambda a, b: 100.0 * (a / b - 1.0))
        found.append(BlockMeasure("forecast_turnover_difference_pct", horizon, left, n))
    return found


class Transfer(NamedTuple):
    """Continual learning over two tasks, the old markets and the new ones (Lopez-Paz and Ranzato 2017)."""

    acc: float  # mean score over both tasks after adaptation
    backward: float  # score on the old after adaptation less before
    forward: float  # score on the new before adaptation less that of an untrained network


def transfer(
    before_old: Sequence[float],
    before_new: Sequence[float],
    after_old: Sequence[float],
    after_new: Sequence[float],
    untrained_new: Sequence[float],
) -> Transfer:
    """From macro-F1 by series and horizon; each task counts alike."""
    means = [float(np.mean(a)) for a in (before_old, before_new, after_old, after_new, untrained_new)]
    return Transfer(0.5 * (means[2] + means[3]), means[2] - means[0], means[1] - means[4])


def f1_of(sums: Sums) -> float:
    """Macro-F1 of all blocks together."""
    return float(f1_macro(sums.decided.sum(axis=0, keepdims=True))[0])


def facts_of(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What a result file keeps of a series: sums by block and horizon."""
    return {
        pair.horizon: {
            "block": pair.block.tolist(),
            "n": pair.mine.n.tolist(),
            "decided": pair.mine.decided.tolist(),
            "loss": pair.mine.loss[:, -1].tolist(),
            "matched": pair.matched.decided.tolist(),
            "lots": pair.matched.lots.tolist(),
            "matched_base": pair.matched.base.tolist(),
            "sticking": list(pair.matched.sticking),
        }
        for pair in pairs
        if pair.horizon in EVENT_HORIZONS
    }
