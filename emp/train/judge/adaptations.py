"""The ablation of adaptation: every way to adapt, over seeds and markets, one result file each.

For each seed a model is trained on equities alone and adapted to each spot market in turn, by every arm. A result that
lies in the folder and was made from the same is not made again, so that a run that was stopped goes on.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from emp.core.code_version import code_version
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.engine.load import LoadedModel, load_folder, ready
from emp.model.artifact import MANIFEST, Artifact, content_hash
from emp.perception.normalise import INPUTS
from emp.train.data.cached import content_key
from emp.train.data.data import Dataset
from emp.train.data.markets import Market
from emp.train.fit.adapt import Adapted, adapt_model, fisher_information, head_name
from emp.train.fit.arms import ARMS, AdaptSettings
from emp.train.fit.export import load_network
from emp.train.fit.fit import domain_thresholds
from emp.train.fit.sequence import head_of
from emp.train.judge.adapted import compare, f1_of, facts_of, forecasts_of
from emp.train.judge.blocks import blocks_of
from emp.train.judge.leave_out import LEAST_ROWS, recent
from emp.train.judge.pretrain import STATE_SPACE, Effort, Report, pretrain

NONE, SCRATCH = "none", "scratch"

NAMES = (NONE, *ARMS, SCRATCH)
"""All arms: the model as it was, every way to adapt it, and one trained on the new market alone."""

LEAST_JUDGED = 1_000
"""Rows of its test part from which a market is judged."""


class Budget(msgspec.Struct, frozen=True):
    """How much the table may cost."""

    events: int = 12_000  # of each market to train on: the last before its test part
    judged: int = 15_000  # first rows of its test part
    pretraining: Effort = Effort(rows=2_000, epochs=3)
    adaptation: AdaptSettings = AdaptSettings(epochs=3)


class Task(NamedTuple):
    """One result."""

    market: str
    seed: int
    arm: str

    @property
    def file(self) -> str:
        """Its name in the folder."""
        return f"{self.market}.{self.seed}.{self.arm}.json"


class Line(NamedTuple):
    """Where things are while the table is made: markets cut to the budget, and what several results share."""

    folder: Path
    old: tuple[Dataset, ...]
    new: dict[str, Dataset]
    k_sigma: float
    budget: Budget


def tasks_of(markets: Sequence[str], seeds: int, arms: Sequence[str]) -> list[Task]:
    """All results, market by market, so that a table that was not finished has whole markets."""
    wanted = [
        arm for arm in NAMES if arm == NONE or arm in arms
    ]  # all differences are to the model as it was
    return [Task(market, seed, arm) for market in markets for seed in range(seeds) for arm in wanted]


def line_of(
    folder: Path, old: Sequence[Market], new: Sequence[Market], k_sigma: float, budget: Budget
) -> tuple[Line, list[str]]:
    """Cut the markets to the budget; the second are names of those that are too short.

    Raises:
        UsageError: nothing is left to train on, or to adapt to.
    """
    cut = {
        market.name: replace(recent(market.data, budget.events, budget.judged), series=market.name)
        for market in (*old, *new)
    }
    short = [name for name, data in cut.items() if not _enough(data)]
    kept = [cut[market.name] for market in old if market.name not in short]
    fresh = {market.name: cut[market.name] for market in new if market.name not in short}
    if not kept or not fresh:
        raise UsageError("--ablate needs an equity market and a market to adapt to, each long enough")
    return Line(folder, tuple(kept), fresh, k_sigma, budget), short


def _enough(data: Dataset) -> bool:
    return (
        min(len(data.part("train")), len(data.part("calibrate"))) >= LEAST_ROWS
        and len(data.part("test")) >= LEAST_JUDGED
    )


def run_tasks(line: Line, tasks: Sequence[Task], report: Report) -> Iterator[dict[str, Any]]:
    """Every result in order, made now where the folder does not hold it."""
    bench = _Bench(line)
    for k, task in enumerate(tasks):
        report(f"{task.market}, seed {task.seed}, {task.arm}", k / len(tasks))
        yield bench.result(task, _part_of(report, k / len(tasks)))


def groups_of(tasks: Sequence[Task]) -> list[list[Task]]:
    """Tasks by market and seed, which share what is made once: one group has nothing to wait for in another, once the
    bases are there.
    """
    groups: dict[tuple[str, int], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.market, task.seed), []).append(task)
    return list(groups.values())


def missing(line: Line, tasks: Sequence[Task]) -> list[Task]:
    """Tasks whose result the folder does not hold."""
    bench = _Bench(line)
    return [task for task in tasks if bench.kept(task) is None]


def make_base(line: Line, seed: int) -> None:
    """The model of a seed that knows equities alone, made where the folder does not hold it."""
    _Bench(line).base(seed, lambda text, share: None)


def _part_of(report: Report, share: float) -> Report:
    """Reports of one result, at the share that all results are done by."""
    return lambda text, _: report(text, share)


class _Bench:
    """Makes results; what those of a seed, or of a seed and a market, share is made once."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._kept: dict[str, Any] = {}

    def result(self, task: Task, report: Report) -> dict[str, Any]:
        found = self.kept(task)
        if found is not None:
            return found
        began, cpu = time.perf_counter(), time.process_time()
        made = {"key": self._key(task), **task._asdict(), "code": code_version(), **self._made(task, report)}
        made["seconds"] = round(time.perf_counter() - began, 2)
        made["cpu_s"] = round(time.process_time() - cpu, 2)
        _write(self._path(task), made)
        return made

    def kept(self, task: Task) -> dict[str, Any] | None:
        """What the folder holds, where it was made from the same."""
        found = _read(self._path(task))
        return found if found is not None and found.get("key") == self._key(task) else None

    def _path(self, task: Task) -> Path:
        return self.line.folder / "results" / task.file

    def _key(self, task: Task) -> str:
        line = self.line
        arm = ARMS[task.arm]._asdict() if task.arm in ARMS else task.arm
        series = [[data.series, list(data.files), len(data.ts), list(data.split)] for data in line.old]
        own = line.new[task.market]
        return content_key(
            msgspec.to_builtins(line.budget),
            line.k_sigma,
            code_version(),
            list(task),
            arm,
            series,
            [list(own.files), len(own.ts), list(own.split)],
        )

    def _made(self, task: Task, report: Report) -> dict[str, Any]:
        base = self.base(task.seed, report)
        own = self.line.new[task.market]
        edges = domain_thresholds([own], [head_name(own)])[0]
        facts: dict[str, Any] = {}
        if task.arm == NONE:
            model = base
            facts["untrained_f1"] = self._untrained_f1(base, own, edges, task.seed)
        elif task.arm == SCRATCH:
            model = self._scratch(own, task.seed, report)
        else:
            adapted = self._adapted(base, own, task)
            model = in_memory(adapted)
            facts = adapted.facts | {"history": adapted.history}
        judged = {"new": self._judged(base, model, own, edges, task.seed)}
        if task.arm != SCRATCH:  # it knows nothing of the old markets
            judged["old"] = {
                data.series: self._judged(base, model, data, self._edges(base, data), task.seed)["by_horizon"]
                for data in self.line.old
            }
        return {"base": base.artifact.hash, "model": model.artifact.hash, "facts": facts, **judged}

    def _judged(
        self, base: LoadedModel, model: LoadedModel, data: Dataset, edges: Array, seed: int
    ) -> dict[str, Any]:
        theirs = self._once(f"forecasts {data.series} {seed}", lambda: forecasts_of(base, data, edges))
        mine = theirs if model is base else forecasts_of(model, data, edges)
        blocks = blocks_of(data)
        return {"block": blocks.kind, "by_horizon": facts_of(compare(theirs, mine, data, edges, blocks))}

    def _edges(self, base: LoadedModel, data: Dataset) -> Array:
        manifest = base.artifact.manifest
        return np.array(manifest.thresholds[head_of(data, manifest.domains)])

    def _adapted(self, base: LoadedModel, own: Dataset, task: Task) -> Adapted:
        settings = msgspec.structs.replace(self.line.budget.adaptation, seed=task.seed)
        arm = ARMS[task.arm]
        fisher = None
        if arm.ewc:
            fisher = self._once(
                f"fisher {task.seed}", lambda: fisher_information(base.artifact, self.line.old, settings)
            )
        return adapt_model(base.artifact, [own], self.line.old, arm, settings, None, fisher)

    def base(self, seed: int, report: Report) -> LoadedModel:
        """The model of a seed that knows equities alone."""
        line = self.line
        series = [[data.series, list(data.files), len(data.ts)] for data in line.old]
        key = content_key(line.budget.events, msgspec.to_builtins(line.budget.pretraining), series, seed)
        folder = line.folder / "bases" / f"{seed}-{key[:12]}"

        def make() -> LoadedModel:
            if not (folder / STATE_SPACE / MANIFEST).is_file():
                pretrain(line.old, line.k_sigma, line.budget.pretraining, seed, folder, report)
            return load_folder(folder / STATE_SPACE)

        return self._once(f"base {seed}", make)

    def _scratch(self, own: Dataset, seed: int, report: Report) -> LoadedModel:
        budget = self.line.budget
        effort = msgspec.structs.replace(
            budget.pretraining, epochs=budget.adaptation.epochs, lanes=budget.adaptation.lanes
        )
        folder = self.line.folder / "scratch" / f"{own.series}-{seed}"
        pretrain([own], self.line.k_sigma, effort, seed, folder, report)
        return load_folder(folder / STATE_SPACE)

    def _untrained_f1(self, base: LoadedModel, own: Dataset, edges: Array, seed: int) -> dict[str, float]:
        said = forecasts_of(untrained(base, seed), own, edges)
        return {pair.horizon: f1_of(pair.mine) for pair in compare(said, said, own, edges, blocks_of(own))}

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        """What was made before under a name."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]


def in_memory(adapted: Adapted) -> LoadedModel:
    """An adapted model as it would be served, without writing it."""
    tensors = adapted.network.tensors() | adapted.calibration | adapted.extra
    manifest = adapted.manifest
    manifest.hash = content_hash(manifest, tensors)
    return ready(Artifact(manifest, tensors), Path("adapted"))


def untrained(base: LoadedModel, seed: int) -> LoadedModel:
    """A model of the same sizes with random weights, its heads too: what knows nothing."""
    network, _ = load_network(base.artifact, INPUTS)
    torch.manual_seed(seed)
    fresh = type(network)(network.config, network.inputs, network.domains)
    with torch.no_grad():
        for name, p in fresh.heads.named_parameters():
            if name != "bias":
                p.normal_(0.0, 0.1)
    tensors = base.artifact.tensors | fresh.tensors()
    return ready(Artifact(base.artifact.manifest, tensors), Path("untrained"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, made: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(made), encoding="utf-8")
    os.replace(scratch, path)
