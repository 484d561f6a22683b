"""Make a model the default, if every gate passes."""

from typing import Annotated

import typer

from emp.app.governed import HOME, GatesFile, Home, Json, Reference

app = typer.Typer()


@app.command()
def promote(
    model: Annotated[str, typer.Argument(help="Folder of an artifact, a shipped kind, or a hash or tag.")],
    registry: Home = HOME,
    gates: GatesFile = None,
    reference: Reference = "linear",
    as_json: Json = False,
) -> None:
    """Judge a model by the gates and, where every one passes, tag it APPROVED_DEFAULT; exit code 1 where one fails.

    The verdict is signed and kept, and the decision is a line of the trail, whichever way it went.
    """
    from emp.app.governed import named_artifact, open_registry, print_judgement
    from emp.governance.gates import read_gates

    limits, here = read_gates(gates), open_registry(registry)
    artifact = named_artifact(here, model)
    here.register(artifact)
    judgement, name = here.promote(artifact, limits, named_artifact(here, reference).manifest)
    print_judgement(judgement, as_json, promoted=judgement.verdict == "pass", verdict_record=name)
    if judgement.verdict != "pass":
        raise typer.Exit(1)
