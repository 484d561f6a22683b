"""Judge models on a market that they were not trained on, beside what that market's own past can say."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import sklearn

from emp.core.ids import generator
from emp.core.records import HORIZON_NAMES, QUANTILES, Array
from emp.engine.load import LoadedModel
from emp.perception.targets import CLASSES, NO_LABEL, classes
from emp.train.data.cached import cached, content_key
from emp.train.data.data import Dataset
from emp.train.data.markets import Market
from emp.train.judge import baselines
from emp.train.judge.blocks import Blocks, blocks_of
from emp.train.judge.forecasts import forecast_series
from emp.train.judge.metrics import Outcome, Prediction, Sums, balanced_decision, block_sums

TREES, PERSISTENCE, SHARES = "trees", "persistence", "shares"

LEAST = 100
"""Labels of every class that a market's first part must have for a horizon to be judged, and labels of the part that is
judged: on a feed of one book every three seconds nothing is to be told of 100 ms."""


class Cell(NamedTuple):
    """One market at one horizon: sums over blocks by contender, of all rows and of those apart."""

    market: str
    group: str
    instrument: str
    horizon: str
    kind_of_block: str
    sums: dict[str, Sums]
    same_stamp: dict[str, Sums]  # rows whose next event has the same time stamp: nobody can act between
    later: dict[str, Sums]  # the other rows


def past_shares(label: Array, known_row: Array, rows: Array) -> Array:
    """Class shares of all labels known when each row is seen, one pseudo-count each: float64[m, CLASSES].

    Args:
        label: int8[n] classes, NO_LABEL where there is none.
        known_row: int64[n], row whose event makes a label known, -1 where there is none; of labels not decreasing.
        rows: int64[m].
    """
    have = np.flatnonzero((known_row >= 0) & (label != NO_LABEL))
    counts = np.concatenate([np.zeros((1, CLASSES)), np.cumsum(np.eye(CLASSES)[label[have]], axis=0)]) + 1.0
    found = counts[np.searchsorted(known_row[have], rows, side="right")]
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def judge_market(
    market: Market, models: Mapping[str, LoadedModel], trees: int, judged: int, seed: int
) -> list[Cell]:
    """Judge models and the market's own baselines at every horizon that has enough labels.

    Args:
        market: left out of the models' training.
        models: by name; the trees see the book through the depth encoder of the first.
        trees: rows of the market's first part that its own trees are grown on.
        judged: rows that are judged at most, evenly spaced over the test part.
        seed: draws the rows of the trees.
    """
    data = market.data.by_own_thresholds()
    edges = data.edges(np.zeros(len(HORIZON_NAMES)))
    test = data.part("test")
    if len(test) < LEAST or len(data.part("train")) < LEAST:
        return []
    said = {
        name: forecast_series(model, data.encoded(model.encoder), edges=edges)
        for name, model in models.items()
    }
    x = data.encoded(next(iter(models.values())).encoder).x
    blocks = blocks_of(data)
    found = []
    for h, horizon in enumerate(HORIZON_NAMES):
        cell = _judge_horizon(market, data, x, said, blocks, h, float(edges[h]), trees, judged, seed)
        if cell is not None:
            found.append(cell._replace(horizon=horizon))
    return found


def _judge_horizon(
    market: Market,
    data: Dataset,
    x: Array,
    said: Mapping[str, Array],
    blocks: Blocks,
    h: int,
    edge: float,
    trees: int,
    judged: int,
    seed: int,
) -> Cell | None:
    move = data.targets.delta_hat[:, h]
    label = classes(move, np.array(edge))
    train, test = data.part("train"), data.part("test")
    train = train[~np.isnan(data.delta_hat("train", train)[:, h])]
    test = test[~np.isnan(data.delta_hat("test", test)[:, h])]
    if min(len(test), *np.bincount(label[train], minlength=CLASSES)) < LEAST:
        return None
    test = test[:: max(1, -(-len(test) // judged))]
    known_row = baselines.known_rows(data.targets, data.ts, h)
    shares = past_shares(label, known_row, test)
    outcome = Outcome(label[test], move[test], shares, np.quantile(move[train], QUANTILES))
    predictions = {
        name: Prediction(
            f["p"][test, h].astype(np.float64),
            f["q"][test, h].astype(float),
            f["mean"][test, h].astype(float),
            balanced_decision(f["p"][test, h], shares),
        )
        for name, f in said.items()
    }
    predictions[TREES] = _classes_only(_trees(x, label, train, test, trees, seed), shares)
    predictions[PERSISTENCE] = baselines.persistence(label, move, known_row, train)(test)
    predictions[SHARES] = _classes_only(shares, np.full(CLASSES, 1.0 / CLASSES))
    block = np.unique(blocks.number[test], return_inverse=True)[1]
    same = np.append(np.diff(data.ts) == 0, False)[test]
    every = {name: block_sums(one, outcome, block) for name, one in predictions.items()}
    return Cell(
        market.name,
        market.group,
        data.instrument.name,
        "",
        blocks.kind,
        every,
        {
            name: block_sums(_some(one, same), _some(outcome, same), block[same])
            for name, one in predictions.items()
        },
        {
            name: block_sums(_some(one, ~same), _some(outcome, ~same), block[~same])
            for name, one in predictions.items()
        },
    )


def _classes_only(p: Array, prior: Array) -> Prediction:
    missing = np.full((len(p), len(QUANTILES)), np.nan)
    return Prediction(p, missing, missing[:, 0], balanced_decision(p, prior))


def _some(rows: Any, mask: Array) -> Any:
    """The rows of a Prediction or Outcome under a mask; what is the same for all rows stays."""
    return type(rows)(*(a[mask] if len(a) == len(mask) else a for a in rows))


def _trees(x: Array, label: Array, train: Array, test: Array, most: int, seed: int) -> Array:
    """Class probabilities of trees grown on the market's own first part; kept, as growing takes long."""
    rows = train
    if len(rows) > most:
        rows = np.sort(generator(seed, "trees").choice(rows, most, replace=False))
    key = content_key("apart", sklearn.__version__, seed, baselines.TREES, x[rows], label[rows], x[test])

    def make() -> dict[str, Array]:
        return {"p": baselines.class_probabilities(baselines.grow(x[rows], label[rows], seed), x[test])}

    return cached("trees", key, make)["p"]
