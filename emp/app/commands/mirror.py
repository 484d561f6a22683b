"""Carry what runs journal to Kafka, TimescaleDB and Redis."""

import json
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from emp.app.options import takes_options

app = typer.Typer()


class Options(NamedTuple):
    """What the command takes."""

    run: Annotated[
        list[str] | None,
        typer.Option(help="A run to follow, by folder, name or id; may be given again. All runs without."),
    ] = None
    config: Annotated[
        Path | None, typer.Option(help="YAML file of a run: its section `mirrors`, and its run_dir.")
    ] = None
    kafka: Annotated[str | None, typer.Option(help="HOST:PORT of brokers, with commas between.")] = None
    timescale: Annotated[str | None, typer.Option(help="Database, as libpq names it: a URL or host=… .")] = (
        None
    )
    redis: Annotated[str | None, typer.Option(help="redis://HOST:PORT/DB.")] = None
    runs: Annotated[
        Path | None, typer.Option(help="Where run folders are kept; `runs` or the file's run_dir.")
    ] = None
    once: Annotated[bool, typer.Option("--once", help="End once everything there is has been carried.")] = (
        False
    )
    wait: Annotated[float, typer.Option(min=1.0, help="Seconds for that; then exit code 5 and one line.")] = (
        600.0
    )
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def mirror(options: Options) -> None:
    """Carry ledger, action log, market data and metrics of runs to Kafka, TimescaleDB and Redis, as they are written.

    Reads the runs' folders, and nothing of the engine's process: a service that is slow, down or gone holds nothing up.
    Each catches up by itself, and nothing is carried twice. See docs/mirrors.md.
    """
    from emp.app.terminal.console import make_console
    from emp.app.wiring.mirrors import Driven, build_mirrors, runs_to_follow
    from emp.core.clock import LiveClock
    from emp.core.config.config import Mirrors, SystemConfig
    from emp.journal.find import find_run

    settings = SystemConfig.load(options.config) if options.config is not None else None
    in_file = settings.mirrors if settings is not None else Mirrors()
    given = {name: value for name in Mirrors.model_fields if (value := getattr(options, name)) is not None}
    runs = options.runs or (settings.run_dir if settings is not None else Path("runs"))
    named = [find_run(name, runs) for name in options.run or ()]
    mirrors = build_mirrors(in_file.model_copy(update=given), LiveClock())
    driven, console = Driven(mirrors, lambda: runs_to_follow(named, runs)), make_console(stderr=True)
    with driven.stopped_by_signals():
        found = driven.run(
            options.wait if options.once else None, lambda _, words: console.print(words, highlight=False)
        )
    if options.as_json:
        print(json.dumps({"mirrors": found}))
