"""Hold the rule, which knows its place in the queue, beside others that do not, and one always at the touch."""

import json
from typing import Annotated

import typer

from emp.app.commands.sim.parts import START_PX, Charged, Json, ProgressBar

app = typer.Typer()


@app.command()
def posting(
    model: Annotated[str, typer.Option(help="Flow: goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Charged,
    policy: Annotated[
        str, typer.Option(help="Model artifact that forecasts, or the kind of a shipped one.")
    ] = "linear",
    sessions: Annotated[int, typer.Option(min=5, help="Sessions, each with its seed.")] = 200,
    events: Annotated[int, typer.Option(min=1_000, help="Events of a session.")] = 60_000,
    start_px: Annotated[
        int,
        typer.Option(min=1_000, help="Ticks at which sessions begin, and at which a tick is counted in bps."),
    ] = START_PX,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Hold the rule, which knows its place in the queue, beside others that do not, and one always at the touch.

    All trade the same sessions of a calibrated flow. A lot counts for the order at rest that opened it, until it was
    closed, after fees; by how much the rule is ahead a lot, with a paired interval of 95 %.
    """
    import msgspec

    from emp.app.wiring.assembly import engine_limits
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.posting_study import posting_lines, study_posting

    facts = find(instrument)
    with ProgressBar("sessions") as step:
        found = study_posting(
            named_flow(model),
            facts,
            load_model(policy),
            engine_limits(),
            sessions=sessions,
            events=events,
            start_px=start_px,
            seed=seed,
            progress=step,
        )
    for line in posting_lines(found):
        typer.echo(line)
    if as_json:
        print(json.dumps({"instrument": instrument, **msgspec.to_builtins(found)}))
