"""Judge models on a market that they were not trained on, beside what that market's own past can say."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import sklearn

from emp.core.ids import generator
from emp.core.records import HORIZON_NAMES, QUANTILES, Array
from emp.engine.load import LoadedModel
from emp.perception.targets import CLASSES, NO_LABEL, classes
from emp.train.data.books import read_books
from emp.train.data.cached import cached, content_key
from emp.train.data.data import Dataset
from emp.train.data.markets import Market
from emp.train.judge import baselines
from emp.train.judge.blocks import Blocks, blocks_of
from emp.train.judge.forecasts import forecast_series
from emp.train.judge.metrics import Outcome, Prediction, Sums, balanced_decision, block_sums
from emp.train.judge.peer import Report, forecast_peer

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


class Networks(NamedTuple):
    """Peers to train on the market's own first part, and on how many windows of its books each."""

    names: tuple[str, ...]
    windows: int


def judge_market(
    market: Market,
    models: Mapping[str, LoadedModel],
    trees: int,
    judged: int,
    seed: int,
    networks: Networks | None = None,
    report: Report | None = None,
) -> list[Cell]:
    """Judge models and the market's own baselines at every horizon that has enough labels.

    Args:
        market: left out of the models' training.
        models: by name; the trees see the book through the depth encoder of the first.
        trees: rows of the market's first part that its own trees are grown on.
        judged: rows that are judged at most, evenly spaced over the test part.
        seed: draws the rows of the trees and the windows of networks.
        networks: published networks over its raw books to stand beside them.
        report: told how far their training is.
    """
    data = market.data.by_own_thresholds()
    edges = data.edges(np.zeros(len(HORIZON_NAMES)))
    test = data.part("test")
    if len(test) < LEAST or len(data.part("train")) < LEAST:
        return []
    test = test[:: max(1, -(-len(test) // judged))]
    said = {
        name: forecast_series(model, data.encoded(model.encoder), edges=edges)
        for name, model in models.items()
    }
    x = data.encoded(next(iter(models.values())).encoder).x
    peers = _peers(market, data, edges, test, networks, seed, report) if networks else {}
    asked = _Asked(market, data, x, test, said, peers, blocks_of(data), trees, seed)
    cells = (_judge_horizon(asked, h, float(edge)) for h, edge in enumerate(edges))
    return [cell for cell in cells if cell is not None]


class _Asked(NamedTuple):
    """What is the same at all horizons."""

    market: Market
    data: Dataset
    x: Array  # float32[n, INPUTS]
    test: Array  # int64[m], rows to judge
    said: Mapping[str, Array]  # FORECAST[n] by model
    peers: Mapping[str, Array]  # float32[m, HORIZONS, CLASSES] by network
    blocks: Blocks
    trees: int
    seed: int


def _peers(
    market: Market,
    data: Dataset,
    edges: Array,
    test: Array,
    networks: Networks,
    seed: int,
    report: Report | None,
) -> dict[str, Array]:
    """Probabilities that networks trained on the market's own first part give, float32[rows of test, ...], by name."""
    if market.series is None or not len(data.part("calibrate")):
        return {}
    books = read_books(market.series, data)
    told = report or (lambda text, share: None)
    return {
        name: forecast_peer(name, data, books, edges, seed, networks.windows, told, test).p
        for name in networks.names
    }


def _judge_horizon(asked: _Asked, h: int, edge: float) -> Cell | None:
    """One cell; None where the horizon has too few labels."""
    data, test = asked.data, asked.test
    move = data.targets.delta_hat[:, h]
    label = classes(move, np.array(edge))
    train = data.part("train")
    train = train[~np.isnan(data.delta_hat("train", train)[:, h])]
    known = ~np.isnan(data.delta_hat("test", test)[:, h])
    test = test[known]
    if min(len(test), *np.bincount(label[train], minlength=CLASSES)) < LEAST:
        return None
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
        for name, f in asked.said.items()
    }
    predictions |= {
        name: _classes_only(p[known, h].astype(np.float64), shares) for name, p in asked.peers.items()
    }
    predictions[TREES] = _classes_only(_trees(asked.x, label, train, test, asked.trees, asked.seed), shares)
    predictions[PERSISTENCE] = baselines.persistence(label, move, known_row, train)(test)
    predictions[SHARES] = _classes_only(shares, np.full(CLASSES, 1.0 / CLASSES))
    block = np.unique(asked.blocks.number[test], return_inverse=True)[1]
    same = np.append(np.diff(data.ts) == 0, False)[test]
    every = {name: block_sums(one, outcome, block) for name, one in predictions.items()}
    return Cell(
        asked.market.name,
        asked.market.group,
        data.instrument.name,
        HORIZON_NAMES[h],
        asked.blocks.kind,
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
