"""Leave out one part of the decision rule at a time: each action, each rule that withdraws, terms of the value."""

import json
from typing import Annotated

import typer

from emp.app.commands.sim.parts import START_PX, Charged, Json, ProgressBar
from emp.app.options import Jobs, Ray

app = typer.Typer()


@app.command()
def ablate(
    model: Annotated[str, typer.Option(help="Flow: goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Charged,
    policy: Annotated[
        str, typer.Option(help="Model artifact that forecasts, or the kind of a shipped one.")
    ] = "linear",
    sessions: Annotated[int, typer.Option(min=5, help="Sessions, each with its seed.")] = 200,
    events: Annotated[int, typer.Option(min=1_000, help="Events of a session.")] = 60_000,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Leave out this part alone; may be given often. Without it: each."),
    ] = None,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    jobs: Jobs = 0,
    ray: Ray = "",
    as_json: Json = False,
) -> None:
    """Leave out one part of the decision rule at a time: each action, each rule that withdraws, terms of the value.

    Trades the same sessions of a calibrated flow with it and without it: what it brings a session, with intervals that
    hold for all parts together.
    """
    import msgspec

    from emp.app.wiring.assembly import engine_limits
    from emp.core.instrument import find
    from emp.core.spread import Workers
    from emp.engine.choose import load_model
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.ablation import Sessions, ablation_lines, parts_named, study_ablation

    parts = parts_named(part)
    facts = find(instrument)
    with ProgressBar("sessions") as step:
        found = study_ablation(
            named_flow(model),
            facts,
            load_model(policy),
            engine_limits(),
            Sessions(sessions, events, START_PX, seed),
            parts=parts,
            workers=Workers(jobs, ray),
            progress=step,
        )
    for line in ablation_lines(found):
        typer.echo(line)
    if as_json:
        verdicts = {one.part: one.verdict for one in found.parts}
        print(json.dumps({"instrument": instrument, **msgspec.to_builtins(found), "verdicts": verdicts}))
