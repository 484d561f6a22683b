"""Let the engine's own policy trade a calibrated flow: what its lots were expected to bring, and brought."""

import json
from typing import Annotated

import typer

from emp.app.commands.sim.parts import START_PX, Charged, Json, ProgressBar

app = typer.Typer()


@app.command()
def trade(
    model: Annotated[str, typer.Option(help="Flow: goog, tsla, or a file that `emp sim calibrate` wrote.")],
    instrument: Charged,
    policy: Annotated[
        str, typer.Option(help="Model artifact that forecasts, or the kind of a shipped one.")
    ] = "linear",
    sessions: Annotated[int, typer.Option(min=5, help="Sessions, each with its seed.")] = 200,
    events: Annotated[int, typer.Option(min=1_000, help="Events of a session.")] = 60_000,
    misled: Annotated[bool, typer.Option("--misled", help="Turn every forecast around.")] = False,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Json = False,
) -> None:
    """Let the engine's own policy trade a calibrated flow: what its lots were expected to bring, and brought.

    Also how many sessions were stopped because lots brought less than was believed of them.
    """
    import msgspec

    from emp.app.wiring.assembly import engine_limits
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.trade_study import study_trading

    facts = find(instrument)
    with ProgressBar("sessions") as step:
        found = study_trading(
            named_flow(model),
            facts,
            load_model(policy),
            engine_limits(),
            sessions=sessions,
            events=events,
            start_px=START_PX,
            seed=seed,
            misled=misled,
            progress=step,
        )
    typer.echo(
        f"{found.sessions:,} sessions of {found.events:,} events, {found.lots:,} lots closed,"
        f" {found.pnl_ticks:+,.1f} ticks a session"
    )
    typer.echo(
        f"ticks a lot: expected {found.expected:+.2f}, realised {found.realised:+.2f} +- {found.realised_half:.2f},"
        f" realised less expected {found.missed:+.2f} +- {found.missed_half:.2f}"
    )
    after = "" if found.trips_to_stop is None else f", after {found.trips_to_stop:.0f} round trips (median)"
    typer.echo(f"stopped: {found.stopped:,} of {found.sessions:,}{after}")
    if as_json:
        print(json.dumps({"instrument": instrument, "misled": misled, **msgspec.to_builtins(found)}))
