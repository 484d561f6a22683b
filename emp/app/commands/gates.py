"""Hold a model against the gates."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.governed import HOME, GatesFile, Home, Json, Reference

app = typer.Typer()


@app.callback()
def _root() -> None:
    """Hold a model against the gates: what may serve is decided by signed evidence."""


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="Folder of an artifact, a shipped kind, or a hash or tag.")],
    registry: Home = HOME,
    gates: GatesFile = None,
    reference: Reference = "linear",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table as Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Say of every gate what it reads and whether the model passes; exit code 1 where it does not."""
    from emp.app.governed import markdown_of, named_artifact, open_registry, print_judgement, shown
    from emp.governance.gates import read_gates

    limits, here = read_gates(gates), open_registry(registry)
    artifact = named_artifact(here, model)
    judgement = here.check(artifact, limits, named_artifact(here, reference).hash)
    if markdown:
        print(markdown_of(judgement))
    else:
        print_judgement(judgement, as_json)
    if markdown and as_json:
        print(json.dumps(shown(judgement)))
    if judgement.verdict != "pass":
        raise typer.Exit(1)


@app.command()
def observe(
    run: Annotated[
        str, typer.Argument(help="A paper run that has ended: a folder, a run id or its beginning.")
    ],
    registry: Home = HOME,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    gates: GatesFile = None,
    as_json: Json = False,
) -> None:
    """Replay a paper run and write signed evidence of its days: latency, drift, calibration, value. `emp run` does so
    by itself where its configuration names a registry.
    """
    from emp.app.commands.replay import ReplayBar
    from emp.app.wiring.paper_days import observe_run
    from emp.core.clock import LiveClock
    from emp.governance.gates import read_gates
    from emp.journal.find import find_run
    from emp.journal.run import RunFolder

    limits = read_gates(gates)
    folder = RunFolder(find_run(run, runs))
    with ReplayBar(folder.path.name) as bar:
        found = observe_run(folder, registry, limits, LiveClock(), bar.replayed)
    for one in found["days"]:
        typer.echo(
            f"day {one['day']} {one['instrument']}: {one['colour']} {one['why']}".rstrip(), err=as_json
        )
    typer.echo(f"{len(found['evidence'])} new pieces of evidence in {registry}", err=as_json)
    if as_json:
        print(json.dumps(found))


@app.command()
def show(
    gates: Annotated[Path | None, typer.Argument(help="A gates file; else the shipped one.")] = None,
) -> None:
    """Print a gates file, once it has been checked against the schema."""
    import msgspec

    from emp.governance.gates import read_gates

    print(msgspec.yaml.encode(read_gates(gates)).decode(), end="")
