"""Capacity: impact, Sharpe, turnover and fill rate against size, inside reactive flow."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def capacity(
    instrument: Annotated[str, typer.Option(help="Name in the catalogue; its fees are charged.")],
    model: Annotated[str, typer.Option(help="zi, or a file that `emp sim calibrate` wrote.")] = "zi",
    passive: Annotated[
        bool, typer.Option("--passive/--cross", help="Post at the best price, or cross.")
    ] = True,
    start_px: Annotated[int, typer.Option(min=1000, help="First mid price, in ticks.")] = 100_000,
    runs: Annotated[int, typer.Option(min=2, help="Seeds per size; all sizes share them.")] = 12,
    decisions: Annotated[int, typer.Option(min=100, help="Decisions per run, one every 10 events.")] = 4_000,
    out: Annotated[Path, typer.Option(help="Folder for the curve as JSON and PNG.")] = Path("capacity"),
    catalogue: Annotated[Path | None, typer.Option(help="YAML that adds to the catalogue.")] = None,
    seed: Annotated[int, typer.Option(help="First seed.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Sweep size from 0.25 % of the first level's 25th percentile to twice it, on the same seeds.

    The engine's hard cap stays at 2 % of that percentile whatever the curve says.
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from emp.app.progress import Work
    from emp.core.instrument import find
    from emp.sim.capacity import SHARES, capacity_curve
    from emp.sim.plots import plot_capacity
    from emp.sim.study import named_flow

    facts = find(instrument, catalogue)
    params = named_flow(model)
    with Work("capacity") as work:
        curve = capacity_curve(
            params,
            start_px,
            passive=passive,
            maker_fee=facts.maker_fee,
            taker_fee=facts.taker_fee,
            runs=runs,
            decisions=decisions,
            seed=seed,
            progress=lambda done: work.report("capacity", done / len(SHARES)),
        )
    result = {"instrument": instrument, "model": model, "passive": passive, **msgspec.to_builtins(curve)}
    out.mkdir(parents=True, exist_ok=True)
    stem = out / f"{instrument}_{Path(model).stem}_{'post' if passive else 'cross'}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    plot_capacity(curve, f"{instrument}, {Path(model).stem}", stem.with_suffix(".png"))
    table = Table(
        title=f"capacity: {instrument}, {Path(model).stem}; depth p{curve.depth_percentile} = {curve.depth_lots:g}"
    )
    for column in (
        "share",
        "lots",
        "pnl/lot, ticks",
        "90 %",
        "Sharpe",
        "lots/h",
        "fill rate",
        "impact",
        "capped",
    ):
        table.add_column(column, justify="right")
    for p in curve.points:
        table.add_row(
            f"{p.share:.2%}",
            str(p.size),
            f"{p.pnl_per_lot:.3f}",
            f"{p.pnl_low:.3f} .. {p.pnl_high:.3f}",
            f"{p.sharpe:.3f}",
            f"{p.turnover:.0f}",
            f"{p.fill_rate:.1%}",
            f"{p.impact:.3f}",
            "" if p.within_cap else "above 2 %",
        )
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 140)
    console.print(table)
    console.print(
        f"hard cap {curve.hard_cap_lots} lots; capacity {curve.capacity_lots} lots; {stem}.json, {stem}.png",
        highlight=False,
    )
    if as_json:
        print(json.dumps(result))
