"""Mirrors under fire: services, mirrors and writer are killed and stopped; what is lost or doubled in the end."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from emp.app.terminal.console import make_console

app = typer.Typer()


@app.command()
def mirrors(
    kills: Annotated[int, typer.Option(min=1, help="Faults: SIGKILL, SIGSTOP for a while, a wire cut.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of what befalls whom, and when.")] = 0,
    packets: Annotated[
        bool,
        typer.Option("--packets", help="In a network of its own, where a cut wire loses packets: root, nft."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Carry a journal that grows to a real Kafka, PostgreSQL and Redis while all of them, and the mirrors, are killed,
    stopped and cut off.

    Needs redis-server, postgres and, in EMP_KAFKA, a folder with kafka-server DATA_DIR PORT. Exit code 8 where a record
    was lost, doubled or changed.
    """
    from emp.app.bench.mirrored.drill import run_drill
    from emp.app.bench.mirrored.wire import LossyWire, Wire, own_network

    console = make_console(stderr=True)
    if packets:
        own_network()
    wire = LossyWire if packets else Wire
    with tempfile.TemporaryDirectory(prefix="emp-mirrors-") as scratch:
        os.chmod(scratch, 0o755)  # the database runs as another user where this is root
        result = run_drill(
            Path(scratch), kills, seed, lambda line: console.print(line, highlight=False), wire
        )
    console.print(
        f"{kills} faults: {result['lost']} records lost, {result['doubled']} doubled, {result['different']} changed"
        f" of {result['records']}",
        highlight=False,
    )
    again = result["refilled"]
    console.print(
        f"database lost and filled again from the run: {again['records']} records in {again['seconds']} s,"
        f" {again['wrong']} wrong",
        highlight=False,
    )
    for name, one in result["catch_up_s"].items():
        console.print(
            f"caught up after {name}: p50 {one['p50']} s  p99 {one['p99']} s  (n {one['n']})", highlight=False
        )
    if as_json:
        print(json.dumps(result))
    if result["lost"] or result["doubled"] or result["different"] or again["wrong"]:
        raise typer.Exit(8)
