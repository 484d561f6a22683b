"""Measure speed beside a peer or a limit, in the same run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.bench.stopwatch import PEERS_HELP
from emp.app.cli import LazyGroup
from emp.core.errors import UsageError


class BenchGroup(LazyGroup):
    """`emp bench NAME` is `emp/app/bench/NAME.py`."""

    package = "emp.app.bench"


app = typer.Typer(cls=BenchGroup, invoke_without_command=True)


@app.callback()
def _root(
    context: typer.Context,
    peers: Annotated[Path | None, typer.Option(help=PEERS_HELP)] = None,
    recording: Annotated[
        Path | None, typer.Option(help="Recording whose best quotes are decided; else the shipped flow's.")
    ] = None,
    instrument: Annotated[str, typer.Option(help="Its name in the catalogue.")] = "GOOG",
    events: Annotated[
        int, typer.Option(min=50_000, help="Messages of the simulator's stream, events per run.")
    ] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each, interleaved; the best counts.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Measure speed beside a peer or a limit, in the same run.

    Without a name of a benchmark: the whole table of native peers, ours beside theirs, with what each side leaves out.
    """
    if context.invoked_subcommand is not None:
        return
    from emp.app.bench.native.programs import peers_folder
    from emp.app.bench.native.table import show_table
    from emp.app.bench.whole import whole_table
    from emp.app.terminal.console import make_console

    folder = peers_folder(peers)
    if folder is None:
        raise UsageError(
            "name a benchmark (emp bench --help), or the folder of native peers: --peers or EMP_PEERS"
        )
    result = whole_table(folder, recording, instrument, events, rounds)
    console = make_console()
    show_table(result["native"], lambda line: console.print(line, highlight=False))
    if as_json:
        print(json.dumps(result))
