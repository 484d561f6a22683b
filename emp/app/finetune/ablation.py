"""`emp finetune --ablate`: every way to adapt beside the others, over seeds and markets, as one table."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import typer

from emp.app.finetune.adaptation import read_settings
from emp.app.finetune.verdicts import FIELDS
from emp.app.terminal.progress import Work
from emp.app.wiring.examples import examples
from emp.core.codes import AssetClass
from emp.core.errors import DataError, UsageError
from emp.core.platform import usable_cores
from emp.core.spread import Workers, spread
from emp.governance.gates import read_gates
from emp.journal.files import write_atomically
from emp.model.artifact import MANIFEST
from emp.train.data.markets import Market, Skipped, load_markets, read_catalogue
from emp.train.data.recipe import recorded_markets
from emp.train.fit.arms import ARMS
from emp.train.judge.adaptation_table import (
    builtin,
    builtin_versus,
    lines_of,
    table_of,
    versus_lines,
    versus_of,
)
from emp.train.judge.adaptations import (
    NAMES,
    Budget,
    Line,
    Task,
    groups_of,
    line_of,
    make_base,
    missing,
    run_tasks,
    tasks_of,
)

K_SIGMA = 0.5
"""The k of the model that is served."""

MOST_JOBS = 4
"""Processes unless told otherwise: each of them holds all markets."""


def ablate(options: Any) -> None:
    """Make what the folder does not hold, and print the table of all of it.

    Raises:
        UsageError: there is no such market or way.
        DataError: no equity, or no spot market, can be read.
    """
    arms = _arms(options.arm)
    caps = read_gates(options.gates).gates.retention_f1_drop_pct
    with Work("see the markets") as work:
        line, skipped, short = _line(options, work)
    for one in skipped:
        typer.echo(f"{one.market}: left out of the table: {one.why}", err=True)
    for name in short:
        typer.echo(f"{name}: too short to be trained on or judged", err=True)
    tasks = tasks_of(list(line.new), options.seeds, arms)
    left = missing(line, tasks)
    here = options.jobs or min(usable_cores(), MOST_JOBS)
    workers = Workers(options.jobs, options.ray) if options.ray else Workers(min(here, len(groups_of(left))))
    with Work("adapt") as work:
        if left and (workers.ray or workers.jobs > 1):
            _spread(options, left, workers, work)
        results = list(run_tasks(line, tasks, work.report))
    rows = table_of(results, {horizon: float(getattr(caps, field)) for horizon, field in FIELDS.items()})
    versus = versus_of(results)
    for text in (*lines_of(rows), "", *versus_lines(versus)):
        typer.echo(text)
    blocks = sorted({(one["market"], one["new"]["block"]) for one in results})
    typer.echo("")
    typer.echo(
        f"{options.seeds} seeds; trained on {', '.join(data.series for data in line.old)}; adapted to "
        + ", ".join(f"{market} (blocks: {kind})" for market, kind in blocks)
    )
    if options.as_json:
        told = {"seeds": options.seeds, "too_short": short, "table": [builtin(row) for row in rows]}
        print(json.dumps(told | {"versus": [builtin_versus(one) for one in versus]}))


def _arms(names: list[str] | None) -> tuple[str, ...]:
    for name in names or ():
        if name not in NAMES:
            raise UsageError(f"--arm {name}: must be one of {', '.join(NAMES)}")
    return tuple(names) if names else (*ARMS, NAMES[-1])


def _line(options: Any, work: Work | None = None) -> tuple[Line, list[Skipped], list[str]]:
    """Markets cut to the budget, those that cannot be read, and names of those that are too short."""
    torch.set_num_threads(1)  # the same sums in the same order, whatever the machine
    settings = read_settings(options.settings, options.seed) if options.settings else Budget().adaptation
    budget = Budget(events=options.events, judged=options.judged, adaptation=settings)
    old, new, skipped = _markets(options, work)
    line, short = line_of(options.out, old, new, K_SIGMA, budget)
    return line, skipped, short


class _Part(NamedTuple):
    """What a worker makes: the base of a seed where there are no tasks, else the results of a market and seed."""

    seed: int
    tasks: tuple[Task, ...]
    base: Mapping[str, bytes]  # files of the seed's base, for a worker that does not see this machine's

    @property
    def name(self) -> str:
        return f"{self.tasks[0].market}, seed {self.seed}" if self.tasks else f"base of seed {self.seed}"


def _spread(options: Any, tasks: Sequence[Task], workers: Workers, work: Work) -> None:
    """Make results over workers: first what all markets share, the base of each seed; then a market and seed at a time.
    Results are files: whoever reads them finds what one process would have made. Processes of this machine write them
    where they belong; those of a cluster into a folder of their own, and hand them over.
    """
    away = bool(workers.ray)
    seeds, groups = sorted({task.seed for task in tasks}), groups_of(tasks)
    done, total = 0, len(seeds) + len(groups)

    def made(parts: list[_Part]) -> None:
        nonlocal done
        for part, files in spread(_make, parts, workers, prepare=_prepare, given=(options, away)):
            write_files(options.out, files)
            done += 1
            work.report(part.name, done / total)

    made([_Part(seed, (), {}) for seed in seeds])
    bases = {seed: read_files(options.out, f"bases/{seed}-*/**/*") if away else {} for seed in seeds}
    made([_Part(group[0].seed, tuple(group), bases[group[0].seed]) for group in groups])


class _Prepared(NamedTuple):
    line: Line
    away: bool  # whether what it makes is handed back


_prepared: list[_Prepared] = []
"""The markets of a worker of `_spread`, seen once."""


def _prepare(options: Any, away: bool) -> None:
    _prepared[:] = [_Prepared(_line(options)[0], away)]


def _make(part: _Part) -> dict[str, bytes]:
    """What a worker does; the files, where they are not made in their place."""
    line, away = _prepared[0]
    if not away:
        _work(line, part)
        return {}
    with tempfile.TemporaryDirectory(
        prefix="emp-adapt-"
    ) as scratch:  # of a part: nobody tells a worker that it ends
        line = line._replace(folder=Path(scratch))
        write_files(line.folder, part.base)
        _work(line, part)
        made = "results/*" if part.tasks else f"bases/{part.seed}-*/**/*"
        return read_files(line.folder, made)


def _work(line: Line, part: _Part) -> None:
    if not part.tasks:
        make_base(line, part.seed)
    for _ in run_tasks(line, part.tasks, lambda text, share: None):
        pass


def read_files(folder: Path, pattern: str) -> dict[str, bytes]:
    """Files below a folder by their names in it."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.glob(pattern) if one.is_file()}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder, each whole or not at all; a manifest after what it names."""
    for name in sorted(files, key=lambda name: name.endswith(MANIFEST)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, files[name])


def _markets(options: Any, work: Work | None) -> tuple[list[Market], list[Market], list[Skipped]]:
    """Equities to train on, spot markets to adapt to, and what cannot be read."""
    entries = read_catalogue(options.catalogue or examples()["markets"])
    unknown = sorted(set(options.market or ()) - set(entries))
    if unknown:
        raise UsageError(f"--market {unknown[0]}: not in the catalogue: {', '.join(entries)}")

    def seen(name: str) -> Any:
        return lambda done, size: work.report(f"see {name}", done / max(1, size)) if work else None

    markets, skipped = load_markets(entries, recorded_markets(), K_SIGMA, seen)
    old = [one for one in markets if one.data.instrument.asset_class is AssetClass.EQUITY]
    wanted = options.market or [
        one.name for one in markets if one.data.instrument.asset_class is AssetClass.FX_SPOT
    ]
    new = [one for one in markets if one.name in wanted]
    if not old or not new:
        raise DataError("--ablate needs an equity market and a spot market that can be read")
    both = {one.data.instrument.name for one in old} & {one.data.instrument.name for one in new}
    if both:
        raise UsageError(f"--market {min(both)}: the models are trained on it")
    return old, new, skipped
