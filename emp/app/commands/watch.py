"""Listen on a second machine for an engine's heartbeat, and act where it falls silent."""

import json
import shlex
import subprocess
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def watch(
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen at; heartbeat.to of the engine's file.")],
    silent_after: Annotated[
        float, typer.Option(min=2.0, help="Seconds of silence after which to act.")
    ] = 15.0,
    then: Annotated[
        str, typer.Option(help="Command that is run once then, as 'emp run --config live.yaml --flat'.")
    ] = "",
    always: Annotated[
        bool, typer.Option("--always", help="Run it also where nothing was held or working at the last beat.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="YAML file whose section `alerts` names who is told then.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Listen for an engine's heartbeat (`heartbeat.to`), tell and act where it falls silent: its box or its process is
    dead, its loop hangs, or the line between is cut. Ends with the command's exit code, or with 10 where none is run.

    Nothing happens before the first beat. A run that ends in order says so, and the next one is waited for. The key is
    EMP_HEARTBEAT_KEY on both machines. Who acts on a cut line while the engine lives ends up with two logons on one
    account: the venue ends one of them, and the engine says that its session was taken.
    """
    from emp.app.terminal.console import make_console
    from emp.app.watching import until_silent
    from emp.app.wiring.alerts import TakingBack, receivers, telling_of_silence, watch_file
    from emp.core.clock import LiveClock
    from emp.core.config.config import SystemConfig
    from emp.core.config.secrets import heartbeat_key
    from emp.observe.heartbeat import Watch, address

    told = receivers(SystemConfig.load(config).alerts) if config is not None else []
    where, console = address(listen), make_console(stderr=True)
    clock = LiveClock()
    heard = Watch(heartbeat_key(), silent_after, clock.monotonic_ns)
    path = watch_file(where[1])
    earlier = TakingBack(silent_after, told, clock, path)
    until_silent(heard, where, lambda words: console.print(words, highlight=False), earlier.heard)
    earlier.end()
    last = heard.newest
    assert last is not None
    open_ = bool(last.held or last.orders)
    acts = bool(then) and (open_ or always)
    console.print(
        f"run {last.run} has been silent for {silent_after:g} s; it held {last.held or 'nothing'},"
        f" {last.orders} orders worked" + (f": {then}" if acts else ""),
        highlight=False,
    )
    with telling_of_silence(last, silent_after, told, clock, path):
        code = subprocess.run(shlex.split(then), check=False).returncode if acts else SILENT
    if as_json:
        found = {"run": last.run, "held": last.held, "orders": last.orders, "acted": acts, "exit_code": code}
        print(json.dumps(found))
    raise typer.Exit(code)


SILENT = 10
"""Exit code where an engine fell silent and nothing was run."""
