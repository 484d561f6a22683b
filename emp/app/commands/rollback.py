"""Go back to the default before this one."""

import json
from typing import Annotated

import typer

from emp.app.governed import HOME, Home, Json

app = typer.Typer()


@app.command()
def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the trail.")],
    registry: Home = HOME,
    as_json: Json = False,
) -> None:
    """Retire the default and tag the one before it APPROVED_DEFAULT again."""
    from emp.app.governed import open_registry

    retired, default = open_registry(registry).rollback(reason)
    typer.echo(f"{retired[:12]} retired; {default[:12]} is the default again", err=as_json)
    if as_json:
        print(json.dumps({"retired": retired, "default": default}))
