"""What a decision of a recorded run was worth: both ways played on from it, in pairs of simulated markets."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.terminal.completion import RUNS

app = typer.Typer()


@app.command()
def whatif(  # noqa: PLR0913
    run: Annotated[
        str, typer.Argument(help="A run of `emp run`: its folder, name or id.", autocompletion=RUNS)
    ],
    seq: Annotated[int, typer.Argument(help="seq of the event that was decided on; `emp why` lists them.")],
    action: Annotated[
        str | None, typer.Option(help="hold, cross, join, improve, behind (the touch) or cancel, instead.")
    ] = None,
    side: Annotated[
        str | None, typer.Option(help="buy or sell; without it the side that the decision looked at.")
    ] = None,
    qty: Annotated[
        int, typer.Option(min=0, help="Lots; 0: what the rule would have sent, at least one.")
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option(help="Decide with another artifact from there on: a folder or a shipped kind."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, such as max_position=3; may be repeated.")
    ] = None,
    flow: Annotated[
        str | None, typer.Option(help="goog, tsla, zi, or a file of `emp sim calibrate`; else the nearest.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=20, help="Pairs of markets.")] = 400,
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400, help="Horizon, in market time.")] = 300.0,
    until: Annotated[
        str | None,
        typer.Option(help="closed: a branch ends when all is closed; time: at the horizon alone."),
    ] = None,
    instrument: Annotated[str | None, typer.Option(help="Where the run has several.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same answer.")] = 1,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Fork a recorded run at a decision, change it, and print what the change would have been worth.

    Both ways go on from the book of that moment in a flow model of the market, with the same random numbers; a way
    against itself differs by exactly 0.
    """
    from emp.app.terminal.progress import Work
    from emp.app.wiring.whatif import Asked, answer
    from emp.app.wiring.why import find_folder
    from emp.core.errors import UsageError

    sides = {None: 0, "buy": 1, "sell": -1}
    if side not in sides:
        raise UsageError(f"--side {side} is neither buy nor sell")
    if until not in (None, "closed", "time"):
        raise UsageError(f"--until {until} is neither closed nor time")
    if action is not None and not action.strip():
        raise UsageError("--action is empty")
    asked = Asked(
        run=find_folder(run, runs),
        seq=seq,
        instrument=instrument,
        action=action,
        side=sides[side],
        qty=qty,
        model=model,
        limits=limit or [],
        flow=flow,
        pairs=pairs,
        seconds=seconds,
        until=until,
        seed=seed,
    )
    with Work("what if") as work:
        found = answer(asked, work.report)
    for line in found.lines:
        typer.echo(line)
    if as_json:
        print(json.dumps(found.fields))
