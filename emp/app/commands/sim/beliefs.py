"""Hold what the rule believes of a fill against what follows it, by tenth, where every mid is known."""

import json
from typing import Annotated

import typer

from emp.app.commands.sim.parts import START_PX, Charged, Json, ProgressBar

app = typer.Typer()


@app.command()
def beliefs(
    model: Annotated[str, typer.Option(help="Flow: goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Charged,
    policy: Annotated[
        str, typer.Option(help="Model artifact that forecasts, or the kind of a shipped one.")
    ] = "linear",
    sessions: Annotated[int, typer.Option(min=5, help="Sessions, each with its seed.")] = 100,
    events: Annotated[int, typer.Option(min=1_000, help="Events of a session.")] = 60_000,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Hold what the rule believes of a fill against what follows it, by tenth, where every mid is known.

    The gain of every lot that was filled, at rest and crossing, and adverse selection at rest, each beside what the mid
    did at the horizon of the belief; intervals over sessions hold for all tenths together with 95 %. Of the chance of
    a fill: `emp sim fills`.
    """
    from emp.app.wiring.assembly import engine_limits
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure import belief_study
    from emp.sim.measure.tenths import tenth_lines

    facts = find(instrument)
    with ProgressBar("sessions") as step:
        found = belief_study.study_beliefs(
            named_flow(model),
            facts,
            load_model(policy),
            engine_limits(),
            sessions=sessions,
            events=events,
            start_px=START_PX,
            seed=seed,
            progress=step,
        )
    typer.echo(f"{found.sessions:,} sessions of {found.events:,} events, {found.fills:,} lots filled")
    tables = {
        "gain at rest": found.gain_at_rest,
        "gain crossing": found.gain_crossing,
        "adverse selection": found.adverse,
    }
    for line in tenth_lines(tables, "ticks a lot"):
        typer.echo(line)
    if as_json:
        print(json.dumps({"instrument": instrument, **belief_study.as_json(found)}))
