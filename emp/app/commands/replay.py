"""Run a recording through the engine that trades live, as fast as it goes."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from emp.app.options import takes_options
from emp.app.terminal.completion import INSTRUMENTS, RUNS

if TYPE_CHECKING:
    from emp.engine.own import Rule
    from emp.engine.replay import Backtest

app = typer.Typer()


class Options(NamedTuple):
    """What `emp replay` can be told."""

    recordings: Annotated[
        list[Path],
        typer.Argument(
            help="Recorded files of one instrument, in any order; of several NAME=FILE for each file; or one run, by"
            " folder, name or id.",
            autocompletion=RUNS,
        ),
    ]
    instrument: Annotated[
        str | None,
        typer.Option(help="Name in the catalogue; a run knows its own.", autocompletion=INSTRUMENTS),
    ] = None
    catalogue: Annotated[Path | None, typer.Option(help="YAML that adds to the catalogue.")] = None
    config: Annotated[
        Path | None, typer.Option(help="Take risk limits, model and slow context from this file.")
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder of a model artifact, or the kind of a shipped one; a model of your own: FILE.py:OBJECT,"
            " net.onnx. It comes before what --config says."
        ),
    ] = None
    swaps: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a run of `emp run`: the models that served there serve, from the same events on."
        ),
    ] = None
    mapping: Annotated[
        list[Path] | None,
        typer.Option(
            help="A mapping file: what the columns of a format mean; see `emp formats`. May be repeated."
        ),
    ] = None
    accept_losses: Annotated[
        bool, typer.Option("--accept-losses", help="Go on where much of a file cannot be used.")
    ] = False
    latency_ms: Annotated[
        float | None, typer.Option(min=0, help="Round trip to the paper venue; else the venue's usual.")
    ] = None
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:OBJECT",
            help="A rule of your own decides, in Python or compiled by numba; also FILE.py:OBJECT.",
        ),
    ] = None
    planner: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a planner (emp plan train): it looks ahead, and decides in the rule's place."
        ),
    ] = None
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs")
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def replay(options: Options) -> None:
    """Run a recording through the engine that trades live, as fast as it goes.

    A run that was interrupted goes on from its last checkpoint; the same recording, limits and model give the
    same action log, byte for byte. No model is ever too slow here: another takes over only where --swaps says so.

    Recordings of several instruments, GOOG=FILE AAPL=FILE, are traded together in order of time, by one engine: its
    limits of the account hold over all. Where one has several files it is named before each.

    With the folder of a run of `emp run`, that run is played again from its journal, and its action log is made again,
    byte for byte; where it comes out otherwise, one line says from which event on.
    """
    from emp.app.wiring.rerun import is_recorded_run, refuse_unrecorded
    from emp.core.errors import UsageError

    named = _named(options)
    if named:
        _replay_recordings(named, options)
        return
    recordings = _found(options)
    if len(recordings) == 1 and is_recorded_run(recordings[0]):
        _refuse_what_a_run_brings(options, recordings[0])
        _replay_run(recordings[0], options.as_json)
        return
    if len(recordings) == 1:
        refuse_unrecorded(recordings[0])
    if options.instrument is None:
        raise UsageError("--instrument is missing: which instrument of the catalogue is recorded?")
    _replay_recordings({options.instrument: recordings}, options)


def _named(options: Options) -> dict[str, list[Path]]:
    """The recordings by instrument, where they are given as NAME=FILE; else nothing."""
    from emp.core.errors import UsageError
    from emp.core.platform import exists

    told = [str(one) for one in options.recordings]
    if options.instrument is not None or not any("=" in one and not exists(Path(one)) for one in told):
        return {}
    found: dict[str, list[Path]] = {}
    for one in told:
        name, named, file = one.partition("=")
        if not (name and named and file):
            raise UsageError(f"{one}: of several instruments each recording is named: GOOG=FILE AAPL=FILE")
        found.setdefault(name, []).append(Path(file))
    return found


def _found(options: Options) -> list[Path]:
    """The recordings; where a run is named that is no path, its folder."""
    from emp.core.errors import UsageError
    from emp.core.platform import exists
    from emp.journal.find import find_run

    recordings = options.recordings
    if len(recordings) > 1 or options.instrument is not None or exists(recordings[0]):
        return recordings
    try:
        return [find_run(str(recordings[0]), options.runs)]
    except UsageError as error:
        raise UsageError(f"{error}; a recording needs --instrument") from None


def _refuse_what_a_run_brings(options: Options, run: Path) -> None:
    from emp.core.errors import UsageError

    told = (
        options.instrument,
        options.config,
        options.model,
        options.swaps,
        options.mapping,
        options.rule,
        options.planner,
        options.latency_ms,
    )
    if any(one is not None for one in told):
        raise UsageError(f"{run} is a run: it brings its own instruments, limits and models")


def _replay_recordings(recordings: dict[str, list[Path]], options: Options) -> None:
    """Trade recordings on paper."""
    from emp.access.recordings.mapping import load_mappings
    from emp.app.wiring.assembly import Reading, assemble_replay, engine_limits
    from emp.core.config.config import Context, Model, SystemConfig
    from emp.core.errors import UsageError
    from emp.engine.choose import load_model, load_serving

    if options.rule is not None and options.planner is not None:
        raise UsageError("--planner: --rule is named too: one of the two decides")
    settings = SystemConfig.load(options.config) if options.config is not None else None
    named = options.model or _first_model(options.swaps)
    loaded = load_model(named, own=True) if named else load_serving(settings.model if settings else Model())
    reading = Reading(
        load_mappings(options.mapping or []),
        options.accept_losses,
        options.latency_ms,
        settings.context if settings else Context(),
        _decider(options.rule, options.planner, loaded.artifact.hash),
    )
    with ReplayBar(", ".join(recordings)) as bar:
        backtest, folder = assemble_replay(
            recordings,
            options.catalogue,
            loaded,
            engine_limits(settings),
            options.runs,
            bar.read,
            options.swaps,
            reading,
        )
        summary = _timed(backtest, bar)
    summary["run_folder"] = str(folder.path)
    folder.write_summary(summary)
    show(summary)
    if options.as_json:
        print(json.dumps(summary))


def _first_model(swaps: Path | None) -> str | None:
    """The model that served first in the run whose swaps are followed."""
    from emp.journal.run import RunFolder

    if swaps is None:
        return None
    first = RunFolder(swaps)
    return str(first.models / first.manifest["model_hashes"][0])


def _decider(rule: str | None, planner: Path | None, model: str) -> "Rule | None":
    """What decides in place of the built-in rule; None where that does."""
    from emp.app.wiring.rules import load_rule
    from emp.engine.planning import PlannedRule
    from emp.plan.artifact import load_planner

    if planner is not None:
        made = PlannedRule(load_planner(planner))
        made.refuse_other(model)
        return made
    return load_rule(rule) if rule is not None else None


def _timed(backtest: "Backtest", bar: "ReplayBar") -> dict[str, Any]:
    """Run a backtest; its summary, with what it took once everything was compiled."""
    from emp.core.errors import DataError, UsageError

    backtest.warm_up()
    began = time.perf_counter(), time.process_time()
    try:
        summary = backtest.run(bar.traded)
    except (DataError, UsageError):
        backtest.abandon()  # a damaged recording, or a rule that fails, leaves nothing half-written
        raise
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    summary["events_per_s"] = round(summary["events"] / wall)
    summary["events_per_cpu_s"] = round(summary["events"] / cpu)
    summary["wall_s"], summary["cpu_s"] = round(wall, 3), round(cpu, 3)
    return summary


def _replay_run(path: Path, as_json: bool) -> None:
    """Play a recorded run again."""
    from emp.app.wiring.rerun import replay_run
    from emp.journal.run import RunFolder

    began = time.perf_counter()
    with ReplayBar(path.name) as bar:
        summary = replay_run(RunFolder(path), bar.replayed)
    summary["events_per_s"] = round(summary["events"] / (time.perf_counter() - began))
    summary["run_folder"] = str(path)
    show(summary)
    if as_json:
        print(json.dumps(summary))


class ReplayBar:
    """A progress bar on stderr, silent where that is not a terminal."""

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

        from emp.app.terminal.console import make_console
        from emp.app.terminal.progress import BAR_COLUMNS

        console = make_console()
        columns: list[ProgressColumn] = [TextColumn("{task.description}: {task.fields[events]:,} events")]
        if console.width >= BAR_COLUMNS:
            columns += [
                TextColumn("{task.fields[decisions]:,} decisions"),
                BarColumn(),
                TimeRemainingColumn(),
            ]
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task(name, total=None, events=0, decisions=0)

    def __enter__(self) -> "ReplayBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def read(self, done: int, total: int) -> None:
        """Take note of the bytes read."""
        self._bar.update(self._task, completed=done, total=total)

    def replayed(self, events: int, decisions: int) -> None:
        """Take note of the events and decisions of a run that is played again."""
        self._bar.update(self._task, events=events, decisions=decisions)

    def traded(self, events: int, decisions: int) -> None:
        """Take note of the events traded, and of the decisions on them."""
        self._bar.update(self._task, events=events, decisions=decisions)


def _figures(one: dict[str, Any]) -> list[str]:
    """What can be said of an instrument in a line: its plain numbers."""
    return [
        f"{name.replace('_', ' ')} {value:,g}"
        for name, value in one.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def show(summary: dict[str, Any]) -> None:
    """Print the summary for a person."""
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    table = Table(show_header=False, box=None, padding=(0, 2))
    for key, value in summary.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        if key == "losses":
            for reason, loss in value.items():
                table.add_row(f"lost: {reason}", f"{loss['n']:,}; {'; '.join(loss['sample'])}")
            continue
        if key == "instruments":
            for name, one in value.items():
                table.add_row(name, ", ".join(_figures(one)))
            continue
        table.add_row(key.replace("_", " "), shown)
    print_table(make_console(), table)
