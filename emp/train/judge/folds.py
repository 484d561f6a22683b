"""Walk-forward over the trading days of a series: train on all days so far, calibrate on the next, test on the one
after, and go on by a day.

Every fold ends with its test day: nothing later exists for it. The linear model and the baselines start anew in
every fold, with thresholds, priors and penalties from the fold's own past.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.numba.cache import cache_root
from emp.core.numba.jit import closure_hash
from emp.core.records import HORIZON_NAMES, HORIZONS, Array
from emp.engine.load import LoadedModel, load_folder
from emp.model.artifact import MANIFEST, save
from emp.perception.schema import schema_hash
from emp.perception.targets import Targets
from emp.train.data.cached import content_key
from emp.train.data.data import Dataset, Split
from emp.train.data.table import FeatureTable
from emp.train.fit import fit
from emp.train.judge.blocks import BLOCK_NS, ENOUGH_DAYS, Blocks
from emp.train.judge.compare import figures
from emp.train.judge.evaluate import LINEAR, Contender, judge, row_of
from emp.train.judge.metrics import Sums

LEAST_DAYS = 4
"""Days from which there are two folds: train, calibrate, and two to test on."""

Report = Callable[[str, float], None]
"""Called with what is being done and the share that is done."""


class WalkForward(NamedTuple):
    """What came of all folds of a series."""

    table: list[dict[str, Any]]  # rows as of `emp.train.judge.evaluate`, over the test days of all folds
    folds: list[dict[str, Any]]  # spans of every fold, and Brier skill by model and horizon
    parts: dict[str, Any]  # days, test days, kind of block


def days_of(data: Dataset) -> Array:
    """Trading days of a series, in order."""
    return np.unique(data.seen.rows["day"])


def folds(data: Dataset) -> list[Dataset]:
    """One dataset per fold, cut after its test day.

    Raises:
        UsageError: the series has fewer than LEAST_DAYS days.
    """
    days = days_of(data)
    if len(days) < LEAST_DAYS:
        raise UsageError(
            f"{data.series}: walking forward needs {LEAST_DAYS} trading days, it has {len(days)}"
        )
    first = np.searchsorted(data.seen.rows["day"], [*days, days[-1] + 1])
    ts = data.ts
    return [
        replace(
            _until(data, int(first[k + 1])),
            split=Split(int(ts[first[k - 1]]), int(ts[first[k]]), whole_days=True),
        )
        for k in range(2, len(days))
    ]


def _until(data: Dataset, n: int) -> Dataset:
    """The first n rows."""
    seen = data.seen
    depth = int(seen.states["has_depth"][:n].sum())
    return replace(
        data,
        seen=FeatureTable(seen.states[:n], seen.x[:n], seen.rows[:n], seen.cells[:depth]),
        unit=data.unit[:n],
        segment=data.segment[:n],
        targets=Targets(data.targets.delta_hat[:n], data.targets.known_ns[:n]),
    )


def linear_of(fold: Dataset, k_sigma: float, seed: int, report: Report) -> LoadedModel:
    """The linear model of a fold, fitted now or taken from the cache."""
    key = content_key(
        list(fold.files),
        msgspec.to_builtins(fold.instrument),
        [*fold.split, len(fold.ts), k_sigma, seed, schema_hash(), closure_hash(Path(fit.__file__).resolve())],
    )
    folder = cache_root() / "folds" / key
    if not (folder / MANIFEST).is_file():
        trained = fit.train_linear([fold], k_sigma, seed, report)
        save(folder, trained.manifest, trained.tensors)
    return load_folder(folder)


def walk_forward(data: Dataset, k_sigma: float, seed: int, with_trees: bool, report: Report) -> WalkForward:
    """Fit and judge every fold; figures are over all test days, whole days resampled where there are enough."""
    every = folds(data)
    by_day = len(every) >= ENOUGH_DAYS
    together: list[dict[str, list[Sums]]] = [{} for _ in range(HORIZONS)]
    told = []
    for k, fold in enumerate(every):

        def tick(text: str, share: float, k: int = k) -> None:
            report(f"{data.series} fold {k + 1} of {len(every)}: {text}", (k + share) / len(every))

        model = linear_of(fold, k_sigma, seed, lambda text, share, tick=tick: tick(text, 0.5 * share))  # type: ignore[misc]
        days = fold.seen.rows["day"].astype(np.int64)
        number = days if by_day else (fold.ts - fold.split.test_ns) // BLOCK_NS
        blocks = Blocks(number, "day" if by_day else "5min", 1)
        contenders = [Contender(LINEAR, (model,))]
        sums, _, _ = judge(
            contenders,
            fold,
            blocks,
            seed,
            with_trees,
            {},
            lambda text, share, tick=tick: tick(text, 0.5 + 0.5 * share),  # type: ignore[misc]
            as_trained=False,
        )
        told.append(_fold_facts(fold, model, sums, seed))
        for h in range(HORIZONS):
            for name, (one,) in sums[h].items():
                together[h].setdefault(name, []).append(one)
    joined = [{name: [_joined(parts)] for name, parts in found.items()} for found in together]
    table = [
        row_of(data, name, horizon, seeds, joined[h][LINEAR], seed)
        for h, horizon in enumerate(HORIZON_NAMES)
        for name, seeds in joined[h].items()
    ]
    parts = {"days": len(days_of(data)), "test_days": len(every), "block": "day" if by_day else "5min"}
    return WalkForward(table, told, parts)


def _joined(parts: Sequence[Sums]) -> Sums:
    """Blocks of all folds, one after another."""
    return Sums(*(np.concatenate(a) for a in zip(*parts, strict=True)))


def _fold_facts(
    fold: Dataset, model: LoadedModel, sums: list[dict[str, list[Sums]]], seed: int
) -> dict[str, Any]:
    return {
        "series": fold.series,
        "model_hash": model.artifact.hash,
        **{f"{part}_span": list(fold.span(part)) for part in ("train", "calibrate", "test")},
        "brier_skill": {
            horizon: {name: figures(seeds, seed)["brier_skill"] for name, seeds in sums[h].items()}
            for h, horizon in enumerate(HORIZON_NAMES)
        },
    }
