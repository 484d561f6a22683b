"""Hold a model against the gates."""

import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from emp.app.governed import HOME, GatesFile, Home, Json, Reference

if TYPE_CHECKING:
    from emp.journal.run import RunFolder

app = typer.Typer()


class Role(enum.StrEnum):
    """What a key may sign."""

    training = "training"
    box = "box"


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
    judgement = here.check(artifact, limits, named_artifact(here, reference).manifest)
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
        str, typer.Argument(help="A paper run, ended or not: a folder, a run id or its beginning.")
    ],
    registry: Home = HOME,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    gates: GatesFile = None,
    give_way: Annotated[
        bool, typer.Option("--give-way", help="Run only where nothing else wants the processor.")
    ] = False,
    reached: Annotated[
        bool, typer.Option("--reached", help="Sign how far the run has come so far, and nothing else.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Replay a paper run and write signed evidence of its days: latency, drift, calibration, value; of one that goes
    on, of the days that are over. `emp run` does so by itself where its configuration names a registry.
    """
    from emp.app.commands.replay import ReplayBar
    from emp.app.wiring.paper_days import observe_run
    from emp.core.clock import LiveClock
    from emp.core.platform import yield_to_others
    from emp.governance.gates import read_gates
    from emp.journal.find import find_run
    from emp.journal.run import RunFolder

    if give_way:
        yield_to_others()
    limits = read_gates(gates)
    folder = RunFolder(find_run(run, runs))
    if reached:
        _sign_head(folder, registry, as_json)
        return
    with ReplayBar(folder.path.name) as bar:
        found = observe_run(folder, registry, limits, LiveClock(), bar.replayed)
    for one in found["days"]:
        typer.echo(
            f"day {one['day']} {one['instrument']}: {one['colour']} {one['why']}".rstrip(), err=as_json
        )
    typer.echo(f"{len(found['evidence'])} new pieces of evidence in {registry}", err=as_json)
    if as_json:
        print(json.dumps(found))


def _sign_head(folder: "RunFolder", registry: Path, as_json: bool) -> None:
    """Sign how far a run has come."""
    from emp.app.wiring.heads import sign_head
    from emp.core.clock import LiveClock

    name = sign_head(folder, registry, LiveClock())
    typer.echo("nothing was added since" if name is None else f"signed: {name}", err=as_json)
    if as_json:
        print(json.dumps({"evidence": [] if name is None else [name], "days": [], "open": []}))


@app.command()
def key(
    role: Annotated[Role, typer.Argument(help="training: evaluates and decides; box: trades and observes.")],
    registry: Home = HOME,
    as_json: Json = False,
) -> None:
    """Print the public half of this machine's key, for the other machine to trust; a first key is made."""
    from emp.app.governed import open_registry

    name, public = open_registry(registry).store.keys.own(role.value)
    print(json.dumps({"key": name, "role": role.value, "public": public}) if as_json else public)


@app.command()
def trust(
    role: Annotated[Role, typer.Argument(help="What it may sign: training or box.")],
    public: Annotated[str, typer.Argument(help="What `emp gates key` has printed on the other machine.")],
    registry: Home = HOME,
    as_json: Json = False,
) -> None:
    """Trust another machine's key, for what its role may sign and nothing else."""
    from emp.app.governed import open_registry
    from emp.governance.chain import exclusive

    with exclusive(registry):
        name = open_registry(registry).store.keys.trust(role.value, public)
    typer.echo(f"key {name} may sign as {role.value} here", err=as_json)
    if as_json:
        print(json.dumps({"key": name, "role": role.value, "public": public}))


@app.command()
def take(
    copy: Annotated[Path, typer.Argument(help="A copy of the other machine's registry, without its keys.")],
    registry: Home = HOME,
    as_json: Json = False,
) -> None:
    """Take evidence, decisions and models that are new in a copy of another machine's registry, once every line of its
    logs is verified and goes on from what is here. What was rolled back or has forked is refused.
    """
    from emp.app.governed import open_registry
    from emp.governance.exchange import take as taken

    found = taken(open_registry(registry), copy)
    models = f", models {' '.join(one[:12] for one in found.models)}" if found.models else ""
    restored = f"; {found.own} lines of this machine's own were put back" if found.own else ""
    typer.echo(
        f"{found.evidence} new pieces of evidence, {found.decisions} decisions{models}{restored}", err=as_json
    )
    if as_json:
        print(json.dumps(found._asdict()))


@app.command()
def complete(
    gates: Annotated[Path, typer.Argument(help="A gates file of an older release.")],
    as_json: Json = False,
) -> None:
    """Add the gates that a file lacks to it, at the shipped limits, which are never looser than the roadmap's."""
    from emp.governance.complete import complete as completed

    names = completed(gates)
    typer.echo(f"{gates}: {'added ' + ', '.join(names) if names else 'lacks nothing'}", err=as_json)
    if as_json:
        print(json.dumps({"added": list(names)}))


@app.command()
def show(
    gates: Annotated[Path | None, typer.Argument(help="A gates file; else the shipped one.")] = None,
) -> None:
    """Print a gates file, once it has been checked against the schema."""
    import msgspec

    from emp.governance.gates import read_gates

    print(msgspec.yaml.encode(read_gates(gates)).decode(), end="")
