"""Measures block by block, as evidence holds them: the pseudo-values of the block jackknife (Tukey 1958).

A measure theta of B blocks of sums becomes the values  B theta - (B - 1) theta_without_i. Their mean is theta with its
bias of order 1/B removed (ECE of few rows is biased upwards, F1 downwards), and their scatter is its uncertainty.
Blocks are whole days, or five minutes where there are few.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.records import HORIZON_NAMES, Array
from emp.perception.targets import CLASSES
from emp.train.data.data import Dataset
from emp.train.judge.metrics import Sums, f1_macro, scores

MEASURES = ("f1_macro", "ece", "brier", "brier_skill", "log_loss")

LEAST_BLOCKS = 5
"""Blocks below which scatter says nothing of uncertainty."""


BLOCK_NS = 300_000_000_000
"""Length of a bootstrap block where the test has few days: five minutes, long against every horizon and against
clusters of activity."""

ENOUGH_DAYS = 5
"""Test days from which whole days are resampled; fewer say too little about how days differ."""


class Blocks(NamedTuple):
    """How a test part is cut for resampling."""

    number: Array  # int64[n], by row of the series
    kind: str  # "day" or "5min"
    test_days: int


class BlockMeasure(NamedTuple):
    """Pseudo-values of one measure at one horizon."""

    measure: str
    horizon: str
    blocks: Array  # float64[B]
    n: int  # rows or fills behind it


def blocks_of(data: Dataset) -> Blocks:
    """Whole trading days where the test part has enough of them, else five minutes."""
    test = data.part("test")
    days = data.seen.rows["day"]
    test_days = len(np.unique(days[test]))
    if test_days >= ENOUGH_DAYS:
        return Blocks(days.astype(np.int64), "day", test_days)
    return Blocks((data.ts - data.ts[test[0]]) // BLOCK_NS, "5min", test_days)


def pseudo_values(sums: Sequence[Array], statistic: Callable[..., Array]) -> Array:
    """Jackknife pseudo-values of a statistic of sums over blocks: float64[B].

    Args:
        sums: arrays [B, ...], one entry per block.
        statistic: takes as many arrays [m, ...] of summed blocks and returns float64[m].
    """
    whole = [a.sum(axis=0, keepdims=True) for a in sums]
    blocks = len(sums[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        all_in = statistic(*whole)
        without = statistic(*(total - a for total, a in zip(whole, sums, strict=True)))
        return np.asarray(blocks * all_in - (blocks - 1) * without, float)


def forecast_measures(
    horizon: str, mine: Sums, reference: Sums | None, sessions: Array
) -> list[BlockMeasure]:
    """What a model's forecasts are measured by at one horizon, alone and against the reference on the same rows.

    Args:
        sessions: float64[B, sessions, CLASSES, CLASSES], outcome by decision in each session.
    """
    n = int(mine.n.sum())
    measured = {name: pseudo_values(mine, lambda *s, name=name: scores(Sums(*s))[name]) for name in MEASURES}
    if reference is not None:
        pair = (mine.decided, reference.decided)
        measured["f1_gain_pct"] = pseudo_values(pair, lambda a, b: 100.0 * (f1_macro(a) / f1_macro(b) - 1.0))
        measured["f1_gain_points"] = pseudo_values(pair, lambda a, b: 100.0 * (f1_macro(a) - f1_macro(b)))
    held = sessions[:, (sessions.sum(axis=(2, 3)) > 0).sum(axis=0) >= LEAST_BLOCKS]
    if held.shape[1] > 1:
        measured["session_range_pct"] = pseudo_values((held,), session_range_pct)
    elif held.shape[1] == sessions.shape[1] == 1:  # a market of one session does not vary over sessions
        measured["session_range_pct"] = np.zeros(len(held))
    return [BlockMeasure(name, horizon, values, n) for name, values in measured.items()]


def session_range_pct(confusion: Array) -> Array:
    """Range of macro-F1 over sessions as a share of its mean over them, in per cent: [m, sessions, C, C] -> [m].

    F1 is what the gates of retention and gain rest on. The range, not the standard deviation: of two or three sessions
    it is the one that trades worst that must not hide.
    """
    each = f1_macro(confusion)
    return np.asarray(100.0 * (each.max(axis=1) - each.min(axis=1)) / each.mean(axis=1))


def session_confusion(block: Array, session: Array, label: Array, decided: Array) -> Array:
    """Outcome by decision, block by block and session by session: float64[B, sessions, CLASSES, CLASSES]."""
    names, place = np.unique(session, return_inverse=True)
    shape = (int(block.max()) + 1, len(names), CLASSES, CLASSES)
    cell = ((block * len(names) + place) * CLASSES + label) * CLASSES + decided
    return np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape).astype(float)


def trade_measures(mine: dict[str, Any], reference: dict[str, Any] | None) -> list[BlockMeasure]:
    """Alpha after fees by horizon, what closed lots missed of what was expected of them, and turnover against the
    reference's, from `by_block` of traded test parts; and, as plain sums and of every block, what was gained: the same
    blocks for whoever traded them.
    """
    lots, gained, known = (np.array(mine[name], float) for name in ("lots", "alpha_lots", "known_lots"))
    found = []
    for h, horizon in enumerate(HORIZON_NAMES):
        traded = known[:, h] > 0
        if traded.sum() >= 2:
            sums = (gained[traded, h], known[traded, h])
            values = pseudo_values(sums, lambda a, b: a / b)
            found.append(BlockMeasure("alpha_after_fees_bps", horizon, values, int(mine["fills"])))
        found.append(BlockMeasure("gain_bps_lots", horizon, gained[:, h], int(mine["fills"])))
    found += _missed(mine)
    other = np.array(reference["lots"], float) if reference is not None else np.zeros(0)
    if len(other) == len(lots) > 1 and other.sum() > 0:
        values = pseudo_values((lots, other), lambda a, b: 100.0 * (a / b - 1.0))
        found.append(BlockMeasure("turnover_difference_pct", "", values, int(mine["fills"])))
    return found


def _missed(mine: dict[str, Any]) -> list[BlockMeasure]:
    """Expected less realised value of a closed lot, bps of the mean price, in blocks in which lots were closed."""
    closed, missed = np.array(mine["closed_lots"], float), np.array(mine["missed_bps_lots"], float)
    held = closed > 0
    if held.sum() < 2:
        return []
    values = pseudo_values((missed[held], closed[held]), lambda a, b: a / b)
    return [BlockMeasure("value_missed_bps", "", values, int(closed.sum()))]
