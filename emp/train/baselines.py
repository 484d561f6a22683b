"""What a forecast has to beat: the class prior, the last known label, the imbalance of the best level, and
gradient-boosted trees on the very inputs of the model.

The first three are tables: rows fall into a few groups, and each group says what its training rows did.
"""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from emp.core.ids import generator
from emp.core.records import HORIZON_EVENTS, QUANTILES, Array
from emp.perception.targets import CLASSES, NO_LABEL, Targets
from emp.train.metrics import Prediction, balanced_decision

IMBALANCE_GROUPS = 10
TREE_ROWS = 60_000
"""Training rows that the trees are grown on: a fixed sub-sample, drawn at random."""

Forecaster = Callable[[Array], Prediction]
"""Says what it expects of some rows."""


def known_rows(targets: Targets, ts: Array, h: int) -> Array:
    """Row whose event makes the label of each row known at horizon h: int64[n], -1 where there is no label."""
    known = targets.known_ns[:, h]
    if h < len(HORIZON_EVENTS):
        return np.where(known > 0, np.arange(len(ts)) + HORIZON_EVENTS[h], -1)
    return np.where(known > 0, np.searchsorted(ts, known, side="left"), -1)


def last_known_label(label: Array, known_row: Array) -> Array:
    """The latest label that is known when each row is seen; NO_LABEL before there is one."""
    have = np.flatnonzero(known_row >= 0)
    place = np.searchsorted(known_row[have], np.arange(len(label)), side="right") - 1
    found = np.full(len(label), NO_LABEL, np.int8)
    found[place >= 0] = label[have[place[place >= 0]]]
    return found


def table(group: Array, label: Array, delta_hat: Array, rows: Array) -> Forecaster:
    """Forecast what the training rows of the same group did.

    Args:
        group: int[n] >= 0, known at each row's time.
        label: int8[n] classes, NO_LABEL where there is none.
        delta_hat: float[n].
        rows: training rows.
    """
    rows = rows[label[rows] != NO_LABEL]
    prior = _shares(label[rows])
    groups = int(group.max()) + 1
    p, q, mean = np.tile(prior, (groups, 1)), np.zeros((groups, len(QUANTILES))), np.zeros(groups)
    q[:] = np.quantile(delta_hat[rows], QUANTILES)
    mean[:] = delta_hat[rows].mean()
    for g in range(groups):
        mine = rows[group[rows] == g]
        if len(mine):
            p[g] = _shares(label[mine])
            q[g] = np.quantile(delta_hat[mine], QUANTILES)
            mean[g] = delta_hat[mine].mean()
    best = p.argmax(axis=1) if groups == 1 else balanced_decision(p, prior)

    def forecast(wanted: Array) -> Prediction:
        at = group[wanted]
        return Prediction(p[at], q[at], mean[at], best[at])

    return forecast


def persistence(label: Array, delta_hat: Array, known_row: Array, rows: Array) -> Forecaster:
    """Name the last known label again; its probabilities are how often each class followed it in training."""
    last = last_known_label(label, known_row)
    informed = table(last + 1, label, delta_hat, rows)

    def forecast(wanted: Array) -> Prediction:
        said = informed(wanted)
        known = last[wanted]
        return said._replace(decided=np.where(known == NO_LABEL, said.p.argmax(axis=1), known))

    return forecast


def imbalance(qimbalance: Array, label: Array, delta_hat: Array, rows: Array) -> Forecaster:
    """Forecast by the imbalance of the best level, in groups of equal size on the training rows."""
    inner = np.quantile(qimbalance[rows], np.linspace(0.0, 1.0, IMBALANCE_GROUPS + 1)[1:-1])
    return table(np.searchsorted(np.unique(inner), qimbalance, side="right"), label, delta_hat, rows)


def trees(x: Array, label: Array, rows: Array, seed: int) -> Forecaster:
    """Gradient-boosted trees on the model input; classes only.

    Args:
        x: float32[n, INPUTS].
    """
    rows = rows[label[rows] != NO_LABEL]
    prior = _shares(label[rows])
    if len(rows) > TREE_ROWS:
        rows = np.sort(generator(seed, "trees").choice(rows, TREE_ROWS, replace=False))
    model = HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.08, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
    )
    with threadpool_limits(1):  # its threads wait by spinning, which costs more than they gain
        model.fit(x[rows], label[rows])

    def forecast(wanted: Array) -> Prediction:
        p = np.zeros((len(wanted), CLASSES))
        with threadpool_limits(1):
            p[:, model.classes_] = model.predict_proba(x[wanted])
        missing = np.full((len(wanted), len(QUANTILES)), np.nan)
        return Prediction(p, missing, missing[:, 0], balanced_decision(p, prior))

    return forecast


def _shares(label: Array) -> Array:
    counts = np.bincount(label, minlength=CLASSES) + 1.0
    return np.asarray(counts / counts.sum())
