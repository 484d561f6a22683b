"""Between the box that trades and the machine at home."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.governed import HOME, Home, Json

app = typer.Typer()

Address = Annotated[str, typer.Argument(help="Command that reaches the box, as in 'ssh trader@box'.")]


@app.callback()
def _root() -> None:
    """Between the box that trades and the machine at home: fetch its market, offer it models."""


@app.command()
def serve(
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    registry: Home = HOME,
) -> None:
    """On the box, as the only command of home's SSH key: show market data and what was signed, take what home has
    signed. It knows no word for an order or a control.
    """
    import sys

    from emp.app.box.alone import ImpatientReads, ImpatientWrites, alone
    from emp.app.box.reload import reload_runs
    from emp.app.box.serve import Box
    from emp.app.governed import open_registry

    heard, said = ImpatientReads(sys.stdin.buffer), ImpatientWrites(sys.stdout.buffer)
    with alone(runs):
        Box(runs, open_registry(registry), reload_runs).serve(heard, said)


@app.command()
def fetch(
    address: Address,
    into: Annotated[Path, typer.Option(help="Folder for the box's runs.")] = Path("box"),
    registry: Home = HOME,
    as_json: Json = False,
) -> None:
    """At home: bring market data that is new on the box, and take what it has signed. Broken off, it goes on where it
    was; done again, it changes nothing.
    """
    from emp.app.box.home import line_to
    from emp.app.governed import open_registry
    from emp.app.terminal.progress import Work

    with line_to(address) as line:
        with Work("market data") as work:
            files, size = line.fetch_runs(into, work.bytes_read)
        taken = line.fetch_registry(open_registry(registry))
    typer.echo(
        f"{files} files of market data, {size / 1e6:.1f} MB, in {into};"
        f" {taken.evidence} new pieces of evidence of the box",
        err=as_json,
    )
    if as_json:
        print(json.dumps({"files": files, "bytes": size, "evidence": taken.evidence}))


@app.command()
def offer(address: Address, registry: Home = HOME, as_json: Json = False) -> None:
    """At home: send the box what was signed here since, with the models that it tells of. A new candidate is the
    challenger there, a new default serves there; both as the gates allow.
    """
    from emp.app.box.home import line_to
    from emp.app.governed import open_registry

    with line_to(address) as line:
        answer = line.offer(open_registry(registry))
    models = f", models {' '.join(one[:12] for one in answer.models)}" if answer.models else ""
    seen = f"; read by {' '.join(answer.reloaded)}" if answer.reloaded else ""
    typer.echo(
        f"the box took {answer.evidence} pieces of evidence, {answer.decisions} decisions{models}{seen}",
        err=as_json,
    )
    if as_json:
        found = {key: getattr(answer, key) for key in ("evidence", "decisions", "models", "reloaded")}
        print(json.dumps(found))
