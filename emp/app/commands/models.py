"""List the models of a registry, or add one."""

import json
from typing import Annotated, Any

import typer

from emp.app.governed import HOME, Home, Json

app = typer.Typer(invoke_without_command=True)


@app.callback()
def _root(context: typer.Context, registry: Home = HOME, as_json: Json = False) -> None:
    """List the models of a registry with their status; or add one as a candidate."""
    if context.invoked_subcommand is not None:
        return
    from rich.table import Table

    from emp.app.governed import open_registry
    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table
    from emp.governance.standing import APPROVED_DEFAULT

    standing = open_registry(registry).standing()
    found: list[dict[str, Any]] = [
        {
            "model_hash": model,
            "status": status,
            "tags": [APPROVED_DEFAULT] if model == standing.default else [],
            **standing.facts[model],
        }
        for model, status in standing.status.items()
    ]
    table = Table(box=None)
    for column in ("model", "kind", "status", "tag", "trained on"):
        table.add_column(column)
    for one in found:
        trained = " ".join(one["trained_on"])
        table.add_row(one["model_hash"][:12], one["kind"], one["status"], " ".join(one["tags"]), trained)
    console = make_console(stderr=as_json)
    if found:
        print_table(console, table)
    else:
        console.print(f"no model in {registry}", highlight=False)
    if as_json:
        print(json.dumps({"models": found}))


@app.command()
def add(
    artifact: Annotated[str, typer.Argument(help="Folder of an artifact, or a shipped kind.")],
    registry: Home = HOME,
    as_json: Json = False,
) -> None:
    """Keep an artifact in the registry, as a candidate."""
    from emp.app.governed import named_artifact, open_registry

    here = open_registry(registry)
    one = named_artifact(here, artifact)
    new = here.register(one)
    typer.echo(f"{one.hash}  {'candidate' if new else 'was there already'}", err=as_json)
    if as_json:
        print(json.dumps({"model_hash": one.hash, "added": new}))
