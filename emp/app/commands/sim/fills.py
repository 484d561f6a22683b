"""Hold models of the fill probability against fills: in flows, whose queues are known, and in recordings."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emp.app.commands.sim.parts import Json, ProgressBar, show, standard_console

if TYPE_CHECKING:
    from emp.sim.measure.fill_models import Scored

app = typer.Typer()


@app.command()
def fills(
    recordings: Annotated[list[Path] | None, typer.Argument(help="Order-by-order recordings.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Flows: zi, goog, tsla, or a file of `emp sim calibrate`.")
    ] = None,
    probes: Annotated[int, typer.Option(min=1_000, help="Virtual orders in each flow.")] = 20_000,
    rest: Annotated[
        int,
        typer.Option(min=1, help="Events that an order has rested where models of the queue are compared."),
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    as_json: Json = False,
) -> None:
    """Hold models of the fill probability against fills: in flows, whose queues are known, and in recordings.

    A virtual lot joins the best queue and is watched for 200 events; a second table is of lots that have rested for a
    while, where models of the queue say how many are ahead, beside the count that is known. Fitted on the first 60 %
    of the orders, scored on the later part: the Brier score over 10, 25, 50, 100 and 200 events, its distance from what
    the rule uses with a 95 % interval, and mean forecast less share filled; then, of those that join, forecast and
    share filled within 50 events by tenth of the forecast.
    """
    from emp.sim.facts.study import study
    from emp.sim.flow.shipped import named_flow
    from emp.sim.measure.fill_models import (
        BY_QUEUE,
        MODELS,
        TOLD,
        queue_errors,
        score,
        watched_market,
        watched_plan,
    )
    from emp.sim.measure.tenths import tenth_lines
    from emp.sim.world.market import Market

    names = model or ([] if recordings else ["goog", "tsla"])
    watched, rested = {}, {}
    with ProgressBar("fills") as step:
        for name in names:
            market = Market(named_flow(name), seed, 100_000)
            market.run(2**62, 20_000)
            watched[f"flow {Path(name).stem}"] = watched_market(market, probes)
            rested[f"flow {Path(name).stem}"] = watched_market(market, probes, rest)
            step(len(watched) / (len(names) + len(recordings or [])))
        for path in recordings or []:
            plan = study(path).plan
            watched[path.name], rested[path.name] = watched_plan(plan), watched_plan(plan, rest)
            step(len(watched) / (len(names) + len(recordings or [])))
    done = {name: (len(rows), score(rows)) for name, rows in watched.items()}
    later = {name: (len(rows), score(rows, MODELS | BY_QUEUE)) for name, rows in rested.items()}
    errors = {name: queue_errors(rows) for name, rows in rested.items()}
    _show_fills(done, "orders that join the touch")
    _show_fills(later, f"orders that have rested {rest} events")
    for name, (_, scored) in done.items():
        typer.echo(name)
        for line in tenth_lines({m.name: m.tenths for m in scored}, f"share filled in {TOLD} events"):
            typer.echo(line)
    for name, found in errors.items():
        off = ", ".join(f"{model} {mean:+.1f} ({size:.1f})" for model, (mean, size) in found.items())
        typer.echo(f"{name}: lots ahead by model less those that are, mean (mean size): {off}")
    if as_json:
        print(
            json.dumps(
                {
                    name: {"orders": n, "models": [_told(m) for m in found]}
                    | {"rested": later[name][0], "rested_models": [_told(m) for m in later[name][1]]}
                    | {"queue_errors": errors[name]}
                    for name, (n, found) in done.items()
                }
            )
        )


def _told(model: "Scored") -> dict[str, Any]:
    from emp.sim.measure.tenths import tenth_facts

    return {**model._asdict(), "tenths": [tenth_facts(one) for one in model.tenths]}


def _show_fills(done: dict[str, Any], of: str) -> None:
    from rich.table import Table

    out = Table(title=f"fill models of {of}, on the later part; 95 % over blocks")
    for column in (
        "where",
        "orders",
        "model",
        "Brier",
        "less the rule's",
        "bias 10",
        "50",
        "200 events",
        "ns an order",
    ):
        out.add_column(column, justify="left" if column in ("where", "model") else "right")
    for name, (n, found) in done.items():
        for m in found:
            out.add_row(
                name,
                str(n),
                m.name,
                f"{m.brier:.4f}",
                f"{m.less:+.4f} +- {m.less_half:.4f}",
                *(f"{m.bias[h]:+.3f}" for h in (10, 50, 200)),
                f"{m.ns:.0f}",
            )
    show(standard_console(), out)
