"""Skill where it counts: markets that no model was trained on.

Groups of markets are left out of training in turn. What is trained on the others is judged on the last part of those
left out, as it is served (corrected by outcomes known before), beside trees and persistence of the market's own first
part and the market's own past class shares. Classes are those of the market's own first part for every contender.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.core.numba.cache import cache_root
from emp.core.numba.jit import closure_hash
from emp.core.records import HORIZON_NAMES, Array
from emp.engine.load import LoadedModel, load_folder
from emp.model.artifact import MANIFEST, save
from emp.model.ssm_config import SSMConfig
from emp.perception.schema import schema_hash
from emp.perception.targets import Targets
from emp.train.data.cached import content_key
from emp.train.data.data import Dataset, Split
from emp.train.data.markets import Market
from emp.train.data.table import FeatureTable
from emp.train.fit import fit, run, sequence
from emp.train.fit.config import TrainConfig
from emp.train.fit.export import export
from emp.train.fit.fit import MAX_ROWS, train_linear
from emp.train.fit.sequence import train_sequence
from emp.train.judge.apart import Cell, Networks, judge_market

Report = Callable[[str, float], None]
"""Called with what is being done and the share that is done."""

LINEAR, STATE_SPACE = "linear", "mamba3"

CALIBRATED = 1.0 / 7.0
"""Share of a market's rows before its test part that calibrate, as in `emp train`: one in seven."""

LEAST_ROWS = 200
"""Rows past the warm-up, in either part, from which a market is trained on."""


class Budget(msgspec.Struct, frozen=True):
    """How much the table may cost."""

    events: int = 20_000  # of each market to train on: the last before its test part
    rows: int = 4_000  # of each market that the linear fit uses
    epochs: int = 2  # of sequences
    features_epochs: int = 3  # of single rows, before the sequences
    trees: int = 20_000  # rows that a market's own trees are grown on
    judged: int = 40_000  # rows of a market that are judged, evenly spaced


JUDGING = ("trees", "judged")
"""What of a budget says nothing of what is trained on the others."""


class Fold(NamedTuple):
    """Markets that are left out together, and those to train on instead."""

    name: str
    left: tuple[Market, ...]
    others: tuple[Market, ...]


def folds(markets: Sequence[Market], by: str, single: Sequence[str] = ()) -> list[Fold]:
    """Leave out every group ("group"), every asset class ("class"), or each market of `single` alone."""
    if single:
        return [
            Fold(one.name, (one,), tuple(m for m in markets if m.name != one.name))
            for one in markets
            if one.name in single
        ]
    key: Callable[[Market], str] = (lambda m: m.asset_class) if by == "class" else (lambda m: m.group)
    return [
        Fold(
            name,
            tuple(m for m in markets if key(m) == name),
            tuple(m for m in markets if key(m) != name),
        )
        for name in dict.fromkeys(key(m) for m in markets)
    ]


def recent(data: Dataset, events: int, later: int = 0) -> Dataset:
    """The last rows before a series' test part, cut into training and calibration, and so many of that part."""
    end = int(np.searchsorted(data.ts, data.split.test_ns))
    start = max(0, end - events)
    kept = slice(start, end + later)
    has_depth = data.seen.states["has_depth"]
    before, inside = int(has_depth[:start].sum()), int(has_depth[kept].sum())
    seen = data.seen
    cut = start + round((end - start) * (1.0 - CALIBRATED))
    return replace(
        data,
        seen=FeatureTable(
            seen.states[kept], seen.x[kept], seen.rows[kept], seen.cells[before : before + inside]
        ),
        unit=data.unit[kept],
        segment=data.segment[kept],
        targets=Targets(data.targets.delta_hat[kept], data.targets.known_ns[kept]),
        split=Split(int(data.ts[min(cut, end - 1)]), data.split.test_ns, whole_days=False),
    )


def to_train_on(markets: Sequence[Market], events: int) -> list[Dataset]:
    """What is trained on: the recent rows of every market that has enough of them, labels by its own thresholds."""
    found = [recent(market.data, events) for market in markets]
    return [one for one in found if min(len(one.part("train")), len(one.part("calibrate"))) >= LEAST_ROWS]


def models_of(
    datasets: Sequence[Dataset], k_sigma: float, budget: Budget, seed: int, report: Report
) -> dict[str, LoadedModel]:
    """The linear and the state-space model of some series, trained now or taken from the cache."""
    code = [closure_hash(Path(str(module.__file__)).resolve()) for module in (fit, sequence)]
    of_training = {name: value for name, value in msgspec.to_builtins(budget).items() if name not in JUDGING}
    asked = [schema_hash(), *code, k_sigma, seed, of_training]
    series = [[list(data.files), len(data.ts), data.split, data.own is None] for data in datasets]
    folder = cache_root() / "leave_out" / content_key(asked, series)
    if not (folder / STATE_SPACE / MANIFEST).is_file():
        linear = train_linear(
            datasets, k_sigma, seed, lambda text, share: report(text, 0.5 * share), min(budget.rows, MAX_ROWS)
        )
        save(folder / LINEAR, linear.manifest, linear.tensors)
        sizes = SSMConfig(d_model=32, layers=2, d_state=16, headdim=16, attention_heads=2, window=32)
        how = TrainConfig(
            seed=seed,
            lr=1.5e-3,
            warmup_steps=40,
            average=0.98,
            class_weight=0.0,
            rows=budget.events,
            features_epochs=budget.features_epochs,
            curriculum=((4096, budget.epochs),),
        )
        done = train_sequence(
            datasets, linear, sizes, how, lambda step: report("sequences", 0.5 + 0.5 * step.done / step.total)
        )
        export(
            folder / STATE_SPACE,
            done.network,
            done.manifest,
            done.calibration,
            done.extra,
            run.parity_inputs(datasets, linear.tensors, done.network.domains),
        )
    return {name: load_folder(folder / name) for name in (LINEAR, STATE_SPACE)}


def judge_fold(
    fold: Fold,
    k_sigma: float,
    budget: Budget,
    seed: int,
    own: bool,
    report: Report,
    networks: Networks | None = None,
) -> tuple[list[Cell], dict[str, Any]]:
    """Train on the others of a fold and judge on what was left out of it.

    Args:
        fold: what to leave out.
        k_sigma: of the unit of delta_hat.
        budget: what it may cost.
        seed: names the run of random numbers.
        own: each series is trained on by class thresholds of its own; else by those that the head it trains shares.
        report: told of progress.
        networks: published networks to train on the own first part of each market that is left out.
    """
    others = [m._replace(data=m.data.by_own_thresholds()) if own else m for m in fold.others]
    datasets = to_train_on(others, budget.events)
    models = models_of(datasets, k_sigma, budget, seed, lambda text, share: report(text, 0.6 * share))
    cells: list[Cell] = []
    for k, market in enumerate(fold.left):
        done = 0.6 + 0.4 * k / len(fold.left)
        report(f"judge {market.name}", done)

        def tick(text: str, share: float, done: float = done, name: str = market.name) -> None:
            report(f"{name}: {text}", done + 0.4 * share / len(fold.left))

        cells += judge_market(market, models, budget.trees, budget.judged, seed, networks, tick)
    facts = {
        "left_out": [market.name for market in fold.left],
        "trained_on": [data.series for data in datasets],
        "models": {name: model.artifact.hash for name, model in models.items()},
    }
    return cells, facts


def horizon_order(name: str) -> int:
    """Place of a horizon in a table."""
    return HORIZON_NAMES.index(name)


def own_edges(data: Dataset) -> Array:
    """Class thresholds of a market's own first part."""
    edges = data.by_own_thresholds().own
    assert edges is not None
    return edges
