"""Hold a flow model against twenty stylised facts and against recordings it has not seen."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.commands.sim.parts import Json, Model, ProgressBar, say, show, standard_console
from emp.app.options import EVIDENCE_HELP, REGISTRY_VARIABLE

app = typer.Typer()


@app.command()
def facts(
    held_out: Annotated[
        list[Path] | None, typer.Argument(help="Recordings the model was not fitted to.")
    ] = None,
    model: Model = "zi",
    events: Annotated[int, typer.Option(min=50_000, help="Simulated events.")] = 1_500_000,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    plots: Annotated[Path | None, typer.Option(help="Folder to write plots to.")] = None,
    evidence: Annotated[Path | None, typer.Option(help=EVIDENCE_HELP, envvar=REGISTRY_VARIABLE)] = None,
    as_json: Json = False,
) -> None:
    """Hold a flow model against twenty stylised facts and against recordings it has not seen.

    What the model was fitted to is left out of its own instrument's recording: only later events are held out.
    """
    from emp.sim.facts.study import fact_table, named_source, study, without_fitted
    from emp.sim.flow.shipped import named_flow

    with ProgressBar("facts") as step:
        params = named_flow(model)
        source = named_source(model)
        others = [without_fitted(study(path), source) for path in held_out or []]
        step(0.5)
        stages = iter((0.6, 0.7, 0.8, 0.9, 0.95))
        table = fact_table(
            params,
            Path(model).stem,
            others,
            events,
            seed,
            lambda _: step(next(stages, 1.0)),
            source.levels,
        )
    _show_facts(table)
    if evidence is not None:
        from emp.governance.collect import of_facts
        from emp.governance.evidence import Store

        config = {"model": table.model, "events": events, "held_out": [path.name for path in held_out or []]}
        Store(evidence).add(of_facts(len(table.passed), len(table.failed), config, seed))
    if plots is not None:
        from emp.sim.facts.plots import plot_facts

        for path in plot_facts(table, [o.tape for o in others], plots):
            say(f"plot: {path}")
    if as_json:
        print(json.dumps(_facts_json(table)))


def _facts_json(table: Any) -> dict[str, Any]:
    import math

    def number(x: float | None) -> float | None:
        return round(float(x), 5) if x is not None and math.isfinite(x) else None

    rows = [
        {
            "fact": r.fact,
            "name": r.name,
            "target": r.target,
            "source": r.source,
            "real": {k: number(v) for k, v in r.real.items()},
            "simulated": number(r.simulated),
            "band": [number(r.low), number(r.high)],
            "pass": r.passed,
            "minimum": r.minimum,
        }
        for r in table.rows
    ]
    return {
        "model": table.model,
        "passed": table.passed,
        "failed": table.failed,
        "minimum_passed": table.minimum_passed,
        "impact_exponent": number(table.impact.exponent),
        "impact_exponent_90": [number(table.impact.low), number(table.impact.high)],
        "impact_reversion": number(table.impact.reversion),
        "table": rows,
    }


def _show_facts(table: Any) -> None:
    from rich.table import Table

    out = Table(title=f"stylised facts: {table.model}")
    names = sorted({k for r in table.rows for k in r.real})
    for column in ("#", "fact", *names, "simulated", "band", "", "source"):
        out.add_column(column)
    for r in table.rows:
        real = ["" if r.real.get(n) is None else f"{r.real[n]:.3g}" for n in names]
        verdict = "[green]pass[/]" if r.passed else "[red]fail[/]"
        star = "*" if r.minimum else ""
        band = f"{r.low:.3g} .. {r.high:.3g}"
        out.add_row(f"{r.fact}{star}", r.name, *real, f"{r.simulated:.3g}", band, verdict, r.source)
    console = standard_console()
    show(console, out)
    console.print(f"passed {table.passed}; failed {table.failed}; * is the minimum set", highlight=False)
