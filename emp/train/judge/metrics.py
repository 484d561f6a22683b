"""How good forecasts are, as sums over blocks of time, so that a block bootstrap is one matrix product.

`block_sums` turns forecasts and outcomes into one row of sums per block; `scores` turns summed rows into the
figures; `resampled` gives them for many draws of blocks, the same draws for every forecast of the same rows.
Definitions: ECE of Guo et al. 2017 (top label, 15 bins of equal width), the same with bins of equal mass, and
classwise (Kull et al. 2019); Brier as the mean over classes of the squared error, so that it lies in [0, 1]; MCC
for several classes by Gorodkin 2004; pinball loss as the mean over the quantiles; coverage is the share of
outcomes between the outer quantiles.
"""

from typing import NamedTuple

import numpy as np

from emp.core.ids import generator
from emp.core.records import QUANTILES, Array
from emp.perception.targets import CLASSES

BINS = 15
REPLICATES = 1000
LEVEL = 0.95

LEAST_P = 1e-6
"""Probabilities count as at least this in the log loss, so that one miss cannot be infinite."""

TAUS = np.array(QUANTILES)


class Prediction(NamedTuple):
    """What a model or baseline says about n rows at one horizon."""

    p: Array  # float[n, CLASSES]
    q: Array  # float[n, QUANTILES], NaN where the model has none
    mean: Array  # float[n], NaN where the model has none
    decided: Array  # int[n]: the class it would name when all classes count alike


class Outcome(NamedTuple):
    """What happened, and what an uninformed forecast would have said."""

    label: Array  # int[n]
    delta_hat: Array  # float[n]
    prior: Array  # float[CLASSES]: class shares in training
    quantile: Array  # float[QUANTILES]: quantiles of delta_hat in training


class Sums(NamedTuple):
    """Sums per block; the first axis is the block, or the bootstrap replicate."""

    n: Array  # [B]
    decided: Array  # [B, CLASSES, CLASSES]: outcome x decision
    likeliest: Array  # [B, CLASSES, CLASSES]: outcome x most probable class
    top: Array  # [B, BINS, 3]: count, confidence, hits
    mass: Array  # [B, BINS, 3]: the same in bins of equal mass
    classwise: Array  # [B, CLASSES, BINS, 3]: count, probability, occurrences
    curve: Array  # [B, BINS, 3]: the same of all classes together, in bins of equal mass
    loss: Array  # [B, 5]: Brier, Brier of the prior, pinball, pinball of the training quantiles, log loss
    cover: Array  # [B, QUANTILES + 1]: outcomes at or below each quantile, and between the outer ones
    moment: Array  # [B, 5]: mean, outcome, their squares and product


def balanced_decision(p: Array, prior: Array) -> Array:
    """The class whose probability is raised most over its share in training: argmax p / prior.

    It is the Bayes decision when every class counts alike, as it does in macro-F1; `prior` is of training rows.
    """
    return np.argmax(p / prior, axis=-1)


def block_sums(predicted: Prediction, outcome: Outcome, block: Array) -> Sums:
    """Sum everything that the scores need over blocks numbered from 0."""
    blocks = int(block.max()) + 1 if len(block) else 0
    hit = np.eye(CLASSES)[outcome.label]
    likeliest = predicted.p.argmax(axis=1)
    confidence = predicted.p.max(axis=1)
    correct = (likeliest == outcome.label).astype(float)
    equal_mass = _equal_mass_bins(confidence)
    q, y = predicted.q, outcome.delta_hat[:, None]
    losses = np.stack(
        [
            np.square(predicted.p - hit).mean(axis=1),
            np.square(outcome.prior - hit).mean(axis=1),
            _pinball(y, q),
            _pinball(y, np.broadcast_to(outcome.quantile, q.shape)),
            -np.log(np.maximum((predicted.p * hit).sum(axis=1), LEAST_P)),
        ],
        axis=1,
    )
    below = np.column_stack([y <= q, (y[:, 0] >= q[:, 0]) & (y[:, 0] <= q[:, -1])])
    covered = np.where(np.isnan(q[:, :1]), np.nan, below)
    mean, move = predicted.mean, outcome.delta_hat
    every = predicted.p.ravel()
    classwise = [_binned(block, blocks, predicted.p[:, c], hit[:, c]) for c in range(CLASSES)]
    return Sums(
        n=np.bincount(block, minlength=blocks).astype(float),
        decided=_confusion(block, blocks, outcome.label, predicted.decided),
        likeliest=_confusion(block, blocks, outcome.label, likeliest),
        top=_binned(block, blocks, confidence, correct),
        mass=_binned(block, blocks, confidence, correct, equal_mass),
        classwise=np.stack(classwise, axis=1),
        curve=_binned(np.repeat(block, CLASSES), blocks, every, hit.ravel(), _equal_mass_bins(every)),
        loss=_sum_by(block, blocks, losses),
        cover=_sum_by(block, blocks, covered),
        moment=_sum_by(block, blocks, np.stack([mean, move, mean**2, move**2, mean * move], axis=1)),
    )


def scores(sums: Sums) -> dict[str, Array]:
    """Every figure, one value per entry of the first axis of the sums; NaN where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = sums.n
        brier, brier_prior, pinball, pinball_prior = (sums.loss[:, i] / n for i in range(4))
        return {
            "n": n,
            "f1_macro": f1_macro(sums.decided),
            "f1_argmax": f1_macro(sums.likeliest),
            "mcc": _mcc(sums.decided),
            "ece": _ece(sums.top, n),
            "ece_mass": _ece(sums.mass, n),
            "ece_class": np.mean([_ece(sums.classwise[:, c], n) for c in range(CLASSES)], axis=0),
            "log_loss": sums.loss[:, 4] / n,
            "brier": brier,
            "brier_skill": 1.0 - brier / brier_prior,
            "pinball": pinball,
            "pinball_skill": 1.0 - pinball / pinball_prior,
            "coverage": sums.cover[:, -1] / n,
            **{f"below_q{int(100 * tau)}": sums.cover[:, i] / n for i, tau in enumerate(TAUS)},
            "ic": _correlation(sums.moment, n),
        }


def totals(sums: Sums) -> Sums:
    """All blocks as one."""
    return Sums(*(a.sum(axis=0, keepdims=True) for a in sums))


def resampled(sums: Sums, seed: int) -> dict[str, Array]:
    """Every score for REPLICATES draws of blocks: float[REPLICATES] each.

    Two forecasts of the same blocks are drawn alike for one seed, so that their difference is a paired one.
    """
    draws = _draws(len(sums.n), seed)
    return scores(Sums(*(np.tensordot(draws, a, axes=1) for a in sums)))


def _draws(blocks: int, seed: int) -> Array:
    """How often each block is drawn in each replicate: int64[REPLICATES, blocks]."""
    return generator(seed, "bootstrap").multinomial(blocks, np.full(blocks, 1.0 / blocks), REPLICATES)


def interval(values: Array) -> tuple[float, float] | None:
    """Percentile interval of resampled values; None where none is finite."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(known, [tail, 1.0 - tail])
    return float(low), float(high)


def intervals(sums: Sums, seed: int) -> dict[str, tuple[float, float]]:
    """Percentile intervals of every score from resampled blocks."""
    found = {name: interval(values) for name, values in resampled(sums, seed).items() if name != "n"}
    return {name: pair for name, pair in found.items() if pair is not None}


def reliability(sums: Sums, seed: int) -> Array:
    """The reliability curve of all classes in bins of equal mass: probability, share that happened, its interval
    (from resampled blocks) and count, float[bins, 5].
    """
    used = sums.curve[:, sums.curve.sum(axis=0)[:, 0] > 0]
    count, given, happened = used.sum(axis=0).T
    drawn = np.tensordot(_draws(len(used), seed), used, axes=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = [interval(share) for share in (drawn[..., 2] / drawn[..., 0]).T]
    low, high = np.array(ends, float).T
    return np.stack([given / count, happened / count, low, high, count], axis=1)


def _sum_by(block: Array, blocks: int, values: Array) -> Array:
    return np.stack([np.bincount(block, v, minlength=blocks) for v in values.T], axis=1)


def _confusion(block: Array, blocks: int, label: Array, decided: Array) -> Array:
    cell = (block * CLASSES + label) * CLASSES + decided
    counts = np.bincount(cell, minlength=blocks * CLASSES * CLASSES)
    return counts.reshape(blocks, CLASSES, CLASSES).astype(float)


def _binned(block: Array, blocks: int, p: Array, hit: Array, place: Array | None = None) -> Array:
    """Count, probability and hits by block and bin; bins of equal width unless each row's bin is given."""
    if place is None:
        place = np.clip((p * BINS).astype(np.int64), 0, BINS - 1)
    cell = block * BINS + place
    shape = (blocks, BINS)
    return np.stack(
        [np.bincount(cell, w, minlength=blocks * BINS).reshape(shape) for w in (np.ones(len(p)), p, hit)],
        axis=-1,
    )


def _equal_mass_bins(p: Array) -> Array:
    edges = np.quantile(p, np.linspace(0.0, 1.0, BINS + 1)[1:-1]) if len(p) else np.zeros(BINS - 1)
    return np.searchsorted(edges, p, side="right")


def _ece(binned: Array, n: Array) -> Array:
    return np.asarray(np.abs(binned[..., 2] - binned[..., 1]).sum(axis=-1) / n)


def _pinball(y: Array, q: Array) -> Array:
    miss = y - q
    return np.asarray(np.maximum(TAUS * miss, (TAUS - 1.0) * miss).mean(axis=1))


def f1_macro(confusion: Array) -> Array:
    """Macro-F1 over classes that occur or were named; a class never met counts 0 only if it was named."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    seen = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    each = np.where(seen > 0, 2.0 * right / np.where(seen > 0, seen, 1.0), np.nan)
    with np.errstate(invalid="ignore"):  # of nothing there is no mean
        return np.asarray(np.nansum(each, axis=-1) / (seen > 0).sum(axis=-1)) if each.size else np.zeros(0)


def _mcc(confusion: Array) -> Array:
    """Matthews correlation; 0 where only one class was named or occurred."""
    total = confusion.sum(axis=(-2, -1))
    right = np.trace(confusion, axis1=-2, axis2=-1)
    truth, named = confusion.sum(axis=-1), confusion.sum(axis=-2)
    cover = right * total - (truth * named).sum(axis=-1)
    spread = (total**2 - (truth**2).sum(axis=-1)) * (total**2 - (named**2).sum(axis=-1))
    return np.asarray(np.where(spread > 0, cover / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0))


def _correlation(moment: Array, n: Array) -> Array:
    a, b, aa, bb, ab = (moment[:, i] / n for i in range(5))
    variance = (aa - a * a) * (bb - b * b)
    return np.asarray(np.where(variance > 0, (ab - a * b) / np.sqrt(np.abs(variance)), np.nan))
