"""Bring forecasts to what really happens, on the calibration part alone.

Class probabilities are divided by a temperature (Guo et al. 2017) and, where it helps, then pass isotonic tables,
one class against the rest (Zadrozny and Elkan 2002). Up and down share a table, because the market has no
preferred side. Which of the two it is, each head and horizon decides on data that the fit has not seen: fitted on
the earlier stretches of the calibration part and judged on the next one. Isotonic must win by more than one
standard error, on whole trading days: two hours of one day say too little of the shape at other hours. The winner
is then fitted on the whole calibration part. How far quartiles follow a network is chosen in the same way, on
whatever hours there are.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.isotonic import isotonic_regression

from emp.core.records import HORIZON_NAMES, QUANTILES, Array
from emp.model.calibration import FLAT, FLOOR, ISOTONIC, KINDS, KNOTS, MOVE
from emp.model.heads import CLASSES
from emp.perception import targets

STRETCHES = 4
"""Parts of equal length in which a series' calibration part is cut; all but the first are judged."""

BLOCK_NS = 60_000_000_000
"""Length of the blocks from which the standard error is taken: long against every horizon."""

STEEPEST = 8.0
"""Slope of a table at most: a steeper one would follow chance, and blow up the last bits of a probability."""

NEAREST = 1e-6
"""Least distance of two knots."""

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
"""How far quartiles may follow the model; the rest is what training moves did on the whole."""

_TAUS = np.array(QUANTILES)


class Rows(NamedTuple):
    """Rows of the calibration parts of one or more series that have a label at the horizon at hand."""

    logits: Array  # float64[n, CLASSES]
    label: Array  # int[n]
    weight: Array  # float64[n]
    stretch: Array  # int[n]: 0 to STRETCHES - 1, in order of time
    block: Array  # int[n]: number of the minute
    whole_day: Array  # bool[n]: of a calibration part of whole trading days


class Chosen(NamedTuple):
    """How one head is calibrated at one horizon."""

    temperature: float
    table: Array  # float32[KINDS, 2, KNOTS], zero where the temperature is all
    gain: float  # of isotonic over temperature in log loss on data not fitted on, and its standard error
    error: float

    @property
    def isotonic(self) -> bool:
        """Whether there is a table."""
        return bool(self.table.any())


NOTHING = Chosen(1.0, np.zeros((KINDS, 2, KNOTS), np.float32), 0.0, np.inf)
"""Calibration of a head that was never met."""


def stretches(ts: Array, whole_days: bool = True) -> tuple[Array, Array, Array]:
    """The last three of `Rows` for the times of one series' calibration part, int64[n] rising."""
    return np.arange(len(ts)) * STRETCHES // max(1, len(ts)), ts // BLOCK_NS, np.full(len(ts), whole_days)


def calibrate(rows: Rows) -> Chosen:
    """Choose between temperature and isotonic tables, then fit on all rows."""
    if not len(rows.label):
        return NOTHING
    gains = np.full(len(rows.label), np.nan)
    for k in range(1, STRETCHES):
        past, now = rows.stretch < k, (rows.stretch == k) & rows.whole_day
        if past.any() and now.any():
            temperature, _ = fit_temperature(*(a[past] for a in rows[:3]))
            table = fit_table(softmax(rows.logits[past], temperature), rows.label[past], rows.weight[past])
            p = softmax(rows.logits[now], temperature)
            gains[now] = log_loss(p, rows.label[now]) - log_loss(apply_table(table, p), rows.label[now])
    gain, error = gain_of(gains, rows.weight, rows.block)
    temperature, _ = fit_temperature(*rows[:3])
    if not gain > error:
        return Chosen(temperature, NOTHING.table, gain, error)
    table = fit_table(softmax(rows.logits, temperature), rows.label, rows.weight)
    return Chosen(temperature, table, gain, error)


def softmax(logits: Array, temperature: float) -> Array:
    """Probabilities of logits float[..., CLASSES] at a temperature."""
    z = logits / temperature
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def log_loss(p: Array, label: Array) -> Array:
    """Minus the log of the probability given to what happened: float64[n]."""
    return np.asarray(-np.log(np.maximum(p[np.arange(len(label)), label], np.finfo(np.float64).tiny)))


def gain_of(difference: Array, weight: Array, block: Array) -> tuple[float, float]:
    """Weighted mean of a difference per row (NaN: not judged), and its standard error over independent blocks."""
    judged = ~np.isnan(difference)
    blocks, at = np.unique(block[judged], return_inverse=True)
    if len(blocks) < 2:
        return 0.0, np.inf
    mass = np.bincount(at, weight[judged])
    total = np.bincount(at, weight[judged] * difference[judged])
    mean = total.sum() / mass.sum()
    spread = np.square(total - mean * mass).sum() * len(blocks) / (len(blocks) - 1)
    return float(mean), float(np.sqrt(spread) / mass.sum())


def fit_temperature(logits: Array, label: Array, weight: Array) -> tuple[float, float]:
    """(T, loss) with the least log loss of softmax(logits / T), by L-BFGS."""
    if not len(label):
        return 1.0, 0.0
    z, y, w = torch.from_numpy(logits), torch.from_numpy(label.astype(np.int64)), torch.from_numpy(weight)
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        log_p = (z / log_t.exp()).log_softmax(-1)
        value = -(log_p.gather(-1, y[:, None])[:, 0] * w).sum() / w.sum()
        torch.autograd.backward(value)
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(log_t.detach().exp()), float(loss().detach())


def calibration_report(domains: Sequence[str], heads: Sequence[Sequence[Chosen]]) -> dict[str, Any]:
    """What a manifest says of calibration: by head and horizon, what was chosen and what isotonic would gain."""
    return {
        domain: {
            horizon: {
                "by": "isotonic" if chosen.isotonic else "temperature",
                "temperature": round(chosen.temperature, 6),
                "isotonic_gain": round(chosen.gain, 6),
                "standard_error": round(chosen.error, 6) if np.isfinite(chosen.error) else None,
            }
            for horizon, chosen in zip(HORIZON_NAMES, head, strict=True)
        }
        for domain, head in zip(domains, heads, strict=True)
    }


def isotonic_tensor(heads: Sequence[Sequence[Chosen]]) -> dict[str, Array]:
    """The tensor of tables, by its name; nothing where no head chose one."""
    tables = np.array([[chosen.table for chosen in head] for head in heads])
    return {ISOTONIC: tables} if tables.any() else {}


# --- tables


def fit_table(p: Array, label: Array, weight: Array) -> Array:
    """Tables of both kinds, float32[KINDS, 2, KNOTS], from probabilities float64[n, CLASSES] and what happened."""
    table = np.zeros((KINDS, 2, KNOTS), np.float32)
    sides = (targets.DOWN, targets.UP)
    moves = np.concatenate([p[:, c] for c in sides])
    moved = np.concatenate([label == c for c in sides])
    table[MOVE] = _rising(moves, moved, np.tile(weight, len(sides)))
    table[FLAT] = _rising(p[:, targets.FLAT], label == targets.FLAT, weight)
    return table


def apply_table(table: Array, p: Array) -> Array:
    """Calibrated probabilities float64[n, CLASSES]: what `emp.model.calibration.through_tables` computes."""
    kinds = [MOVE if c != targets.FLAT else FLAT for c in range(CLASSES)]
    wide = table.astype(np.float64)
    out = np.stack([np.interp(p[:, c], *wide[kind]) for c, kind in enumerate(kinds)], axis=1)
    return np.asarray(out / out.sum(axis=1, keepdims=True))


def _rising(p: Array, hit: Array, weight: Array) -> Array:
    """Isotonic regression of hits on p in bins of equal mass, as knots and values: float32[2, KNOTS]."""
    edges = np.unique(np.quantile(p, np.linspace(0.0, 1.0, KNOTS - 1)[1:-1]))
    place = np.searchsorted(edges, p, side="right")
    sums = np.stack([np.bincount(place, weight * a) for a in (np.ones(len(p)), p, hit)])
    mass, x, y = sums[:, sums[0] > 0]
    x, y = x / mass, y / mass
    rising = np.clip(isotonic_regression(y, sample_weight=mass), FLOOR, 1.0 - FLOOR)
    ends = np.inf  # the two ends are never left out
    line = _bounded(np.r_[0.0, x, 1.0], np.r_[FLOOR, rising, 1.0 - FLOOR], np.r_[ends, mass, ends])
    return _filled(*line)


def _bounded(x: Array, y: Array, mass: Array) -> tuple[Array, Array]:
    """Leave out inner knots, the lighter ones first, until none are too near and no slope is above STEEPEST."""
    while True:
        gap = np.diff(x)
        steep = np.flatnonzero((np.diff(y) > STEEPEST * gap) | (gap < NEAREST))
        if not len(steep):
            return x, y
        k = steep[0]
        drop = k if mass[k] < mass[k + 1] else k + 1
        x, y, mass = (np.delete(a, drop) for a in (x, y, mass))


def _filled(x: Array, y: Array) -> Array:
    """The same line over exactly KNOTS knots: the widest gap is halved until there are so many."""
    knots = x
    while len(knots) < KNOTS:
        k = int(np.diff(knots).argmax())
        knots = np.insert(knots, k + 1, 0.5 * (knots[k] + knots[k + 1]))
    return np.stack([knots, np.interp(knots, x, y)]).astype(np.float32)


# --- quartiles


def measure_quartiles(
    q: Array, moves: Array, half: float, weight: Array, stretch: Array, block: Array
) -> tuple[float, float]:
    """How far quantiles should follow a model: (follow, rest) of `emp.model.calibration.QUARTILES`.

    Args:
        q: float64[n, QUANTILES], ascending.
        moves: float64[n], delta_hat.
        half: median |delta_hat| of training, by the mirror half the distance of the outer quartiles.
        weight, stretch, block: as in `Rows`.
    """
    losses = {share: pinball(moves, shrunk(q, share, half)) for share in SHARES}

    def best(rows: Array) -> float:
        return min(SHARES, key=lambda share: float((losses[share][rows] * weight[rows]).sum()))

    gains = np.full(len(moves), np.nan)
    for k in range(1, STRETCHES):
        now = stretch == k
        if now.any() and (stretch < k).any():
            gains[now] = (losses[1.0] - losses[best(stretch < k)])[now]
    gain, error = gain_of(gains, weight, block)
    follow = best(np.ones(len(moves), bool)) if gain > error else 1.0
    return follow, (1.0 - follow) * half


def shrunk(q: Array, follow: float, half: float) -> Array:
    """Quantiles of which a share follows the model and the rest lies at -half, 0, half."""
    return np.asarray(follow * q + (1.0 - follow) * np.array([-half, 0.0, half]))


def pinball(moves: Array, q: Array) -> Array:
    """Mean pinball loss over the quantiles: float64[n]."""
    miss = moves[:, None] - q
    return np.asarray(np.maximum(_TAUS * miss, (_TAUS - 1.0) * miss).mean(axis=1))
