"""Measure metaorder impact by LOB-Impact's protocol, with the flow's reaction and without it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from emp.app.commands.sim.parts import Json, ProgressBar, say, standard_console

app = typer.Typer()


def _numbers(
    text: str, what: str, kind: type[int] | type[float], least: float, most: float
) -> tuple[float, ...]:
    """Comma-separated numbers within limits; raises `UsageError`."""
    from emp.core.errors import UsageError

    try:
        found = tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--{what}: expected numbers with commas between them, got {text!r}") from None
    if not all(least <= x <= most for x in found) or len(set(found)) != len(found):
        raise UsageError(f"--{what}: expected different numbers from {least:g} to {most:g}, got {text!r}")
    return found


@app.command()
def impact(
    model: Annotated[str, typer.Argument(help="zi, goog, tsla, or a file that `emp sim calibrate` wrote.")],
    pairs: Annotated[
        int, typer.Option(min=100, help="Pairs of a metaorder and the market without it.")
    ] = 15_000,
    days: Annotated[int, typer.Option(min=5, help="Simulated days, which intervals resample.")] = 50,
    children: Annotated[str, typer.Option(help="Child orders of a metaorder, each a length.")] = "2,4,8,16",
    participation: Annotated[
        str, typer.Option(help="Shares of the trade that metaorders ask for, each a pace.")
    ] = "0.05,0.1,0.2",
    seed: Annotated[int, typer.Option(help="Seed of the first day.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw.")] = None,
    as_json: Json = False,
) -> None:
    """Measure metaorder impact by LOB-Impact's protocol, with the flow's reaction and without it.

    A child is the median market order and takes at most what the best price offers. The exponent is the slope of a
    metaorder's log shortfall on the log of its share of the day's volume, intercept free, one point a metaorder.
    The same orders are also sent into a replay of what the flow does alone, which answers nothing.
    """
    from emp.app.terminal.impact_table import impact_json, show_impact
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.impact_study import study_impact

    lengths = tuple(int(n) for n in _numbers(children, "children", int, 1, 1000))
    shares = _numbers(participation, "participation", float, 0.001, 0.99)
    with ProgressBar("impact") as step:
        found = study_impact(
            named_flow(model),
            Path(model).stem,
            pairs=pairs,
            days=days,
            children=lengths,
            shares=shares,
            seed=seed,
            progress=step,
        )
    show_impact(standard_console(), found)
    if plot is not None:
        from emp.sim.measure.impact_plot import plot_impact

        plot_impact(found, plot)
        say(f"plot: {plot}")
    if as_json:
        print(json.dumps(impact_json(found)))
