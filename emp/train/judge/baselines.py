"""What a forecast has to beat: the class prior, the last known label, the imbalance of the best level, and
gradient-boosted trees on the very inputs of the model.

The first three are tables: rows fall into a few groups, and each group says what its training rows did.
"""

import time
from collections.abc import Callable

import numpy as np
import sklearn
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from emp.core.ids import generator
from emp.core.records import HORIZON_EVENTS, QUANTILES, Array
from emp.perception.targets import CLASSES, NO_LABEL, Targets
from emp.train.data.cached import cached, content_key
from emp.train.judge.metrics import Prediction, balanced_decision

IMBALANCE_GROUPS = 10
TREE_ROWS = 60_000
"""Training rows that the trees are grown on: a fixed sub-sample, drawn at random."""

TREES = {"max_iter": 100, "learning_rate": 0.08, "max_leaf_nodes": 15, "l2_regularization": 1.0}
"""Settings of the trees."""

TIMED_ROWS = 50

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


def kept_trees(
    x: Array, label: Array, rows: Array, wanted: Array, prior: Array, seed: int
) -> tuple[Prediction, dict[str, float]]:
    """What gradient-boosted trees on the model input say of the wanted rows, and what one forecast takes (us).

    Both are kept: growing takes the better part of a minute per horizon.

    Args:
        x: float32[n, INPUTS].
        label: int8[n] classes, NO_LABEL where there is none.
        rows: training rows.
        wanted: rows to forecast.
        prior: float[CLASSES], class shares of training, for the decision.
    """
    fit = tree_rows(label, rows, seed)
    key = content_key(sklearn.__version__, seed, TREES, x[fit], label[fit], x[wanted])

    def make() -> dict[str, Array]:
        model = grow(x[fit], label[fit], seed)
        latency = _tree_latency(model, x[wanted])
        return {"p": class_probabilities(model, x[wanted]), "us": np.array(list(latency.values()))}

    stored = cached("trees", key, make)
    p = stored["p"]
    missing = np.full((len(wanted), len(QUANTILES)), np.nan)
    p50, p99 = (round(float(us), 1) for us in stored["us"])
    said = Prediction(p, missing, missing[:, 0], balanced_decision(p, prior))
    return said, {"p50": p50, "p99": p99}


def tree_rows(label: Array, rows: Array, seed: int) -> Array:
    """The training rows that trees are grown on."""
    rows = rows[label[rows] != NO_LABEL]
    if len(rows) > TREE_ROWS:
        rows = np.sort(generator(seed, "trees").choice(rows, TREE_ROWS, replace=False))
    return rows


def grow(x: Array, label: Array, seed: int) -> HistGradientBoostingClassifier:
    """Fit the trees on training rows."""
    model = HistGradientBoostingClassifier(**TREES, random_state=seed)
    with threadpool_limits(1):  # its threads wait by spinning, which costs more than they gain
        return model.fit(x, label)


def class_probabilities(model: HistGradientBoostingClassifier, x: Array) -> Array:
    """Probabilities float[n, CLASSES]; 0 for a class that training never met."""
    p = np.zeros((len(x), CLASSES))
    if len(model.classes_) == 1:  # of one class sklearn says two probabilities
        p[:, model.classes_] = 1.0
        return p
    with threadpool_limits(1):
        p[:, model.classes_] = model.predict_proba(x)
    return p


def _tree_latency(model: HistGradientBoostingClassifier, x: Array) -> dict[str, float]:
    """Thread CPU time of a forecast of one row, us, the quickest of three passes."""
    laps = np.zeros((3, min(TIMED_ROWS, len(x))))
    with threadpool_limits(1):
        for lap in laps:
            for i in range(len(lap)):
                began = time.thread_time_ns()
                model.predict_proba(x[i : i + 1])
                lap[i] = (time.thread_time_ns() - began) * 1e-3
    p50, p99 = np.quantile(laps.min(axis=0), [0.5, 0.99])
    return {"p50": float(p50), "p99": float(p99)}


def _shares(label: Array) -> Array:
    counts = np.bincount(label, minlength=CLASSES) + 1.0
    return np.asarray(counts / counts.sum())
