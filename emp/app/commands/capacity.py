"""Capacity: impact, Sharpe, turnover and fill rate against size, inside reactive flow."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from emp.app.options import Jobs, Ray, takes_options

app = typer.Typer()


class Options(NamedTuple):
    """What `emp capacity` takes."""

    instrument: Annotated[list[str], typer.Option(help="Name in the catalogue; its fees are charged.")]
    model: Annotated[
        list[str] | None,
        typer.Option(help="zi, goog, tsla, or a file of `emp sim calibrate`; one an instrument."),
    ] = None
    passive: Annotated[bool, typer.Option("--passive/--cross", help="Post at the best price, or cross.")] = (
        False
    )
    start_px: Annotated[int, typer.Option(min=1000, help="First mid price, in ticks.")] = 100_000
    trades: Annotated[
        int, typer.Option(min=20, help="Pairs of trades per size, all from the same states.")
    ] = 600
    out: Annotated[Path, typer.Option(help="Folder for the curves as JSON, CSV and PNG.")] = Path("capacity")
    catalogue: Annotated[Path | None, typer.Option(help="YAML that adds to the catalogue.")] = None
    seed: Annotated[int, typer.Option(help="First seed.")] = 1
    jobs: Jobs = 0
    ray: Ray = ""
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def capacity(options: Options) -> None:
    """Sweep size from 0.25 % of the median first level to four times it, from the same states of the market.

    The signal is given: it knows the side of a metaorder. What is measured is how its trade gets worse with
    size. The engine's hard cap stays at 2 % of the median whatever the curve says. Options may be repeated, an
    instrument with its model, for one picture of all.
    """
    from emp.app.terminal.progress import Work
    from emp.core.errors import UsageError
    from emp.core.instrument import find
    from emp.core.spread import Workers
    from emp.sim.capacity.capacity import capacity_curve
    from emp.sim.capacity.plots import plot_capacity
    from emp.sim.flow.shipped import named_flow

    names, out = options.instrument, options.out
    models = options.model or ["zi"] * len(names)
    if len(models) != len(names):
        raise UsageError(f"{len(names)} instruments but {len(models)} models: give each instrument its own")
    pairs = [
        (find(name, options.catalogue), named_flow(flow)) for name, flow in zip(names, models, strict=True)
    ]
    style = "post" if options.passive else "cross"
    out.mkdir(parents=True, exist_ok=True)
    curves, results = [], []
    with Work("capacity") as work:
        for k, (facts, params) in enumerate(pairs):
            curve = capacity_curve(
                params,
                options.start_px,
                passive=options.passive,
                fees=(facts.maker_fee, facts.taker_fee),
                trades=options.trades,
                seed=options.seed,
                workers=Workers(options.jobs, options.ray),
                progress=lambda share, k=k: work.report("capacity", (k + share) / len(pairs)),  # type: ignore[misc]
            )
            curves.append((f"{facts.name}, {style}", curve))
            results.append(_write(facts.name, Path(models[k]).stem, style, curve, out))
    for (_, curve), result in zip(curves, results, strict=True):
        _show(result["instrument"], curve)
    picture = out / f"{'_'.join(names)}_{style}.png"
    plot_capacity(curves, picture)
    print(f"{picture}; one .json and .csv for each instrument beside it", file=sys.stderr)
    if options.as_json:
        print(json.dumps({"curves": results, "picture": str(picture)}))


def _write(name: str, model: str, style: str, curve: Any, out: Path) -> dict[str, Any]:
    """Write a curve as JSON and CSV; return what the JSON says."""
    import msgspec

    result = {"instrument": name, "model": model, "style": style, **_plain(msgspec.to_builtins(curve))}
    result["capacity_share"] = _plain(curve.capacity_share)
    stem = out / f"{name}_{style}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1), encoding="utf-8")
    _write_csv(curve, stem.with_suffix(".csv"))
    return result


def _plain(x: Any) -> Any:
    """JSON knows no infinity: null stands for beyond the range."""
    if isinstance(x, dict):
        return {k: _plain(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_plain(v) for v in x]
    if isinstance(x, float):
        return round(x, 6) if abs(x) < float("inf") else None
    return x


def _write_csv(curve: Any, path: Path) -> None:
    """One row per size; every measured value with its interval."""
    import msgspec

    rows = []
    for point in curve.points:
        row: dict[str, Any] = {}
        for name, value in msgspec.to_builtins(point).items():
            if isinstance(value, dict):
                row |= {name: value["value"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
            else:
                row[name] = value
        rows.append(row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _show(instrument: str, curve: Any) -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    table = Table(title=f"capacity: {instrument}; median first level {curve.depth_lots:g} lots")
    for column in ("share", "lots", "pnl/lot, ticks", "Sharpe", "fill rate", "impact, ticks", "lots/h", ""):
        table.add_column(column, justify="right")

    def known(x: Any, digits: int) -> str:
        return f"{x.value:.{digits}f} ({x.low:.{digits}f} .. {x.high:.{digits}f})"

    for p in curve.points:
        note = "" if p.within_cap else "above the cap"
        table.add_row(
            f"{p.share:.2%}",
            f"{p.lots:.2f}",
            known(p.pnl_per_lot, 2),
            known(p.sharpe, 3),
            f"{p.fill_rate.value:.1%}",
            known(p.impact, 2),
            f"{p.turnover.value:.0f}",
            note if p.tradable else f"below one lot {note}",
        )
    console = make_console()
    print_table(console, table)
    sharpe, profit = curve.capacity_sharpe, curve.capacity_profit
    console.print(
        f"{curve.trades} trades per size, worth {curve.effective_trades:.0f} independent ones; the signal knows the "
        f"side of {curve.metaorder} market orders, worth {known(curve.edge, 1)} ticks\n"
        f"Sharpe down to 80 % at {_share(sharpe.value)} ({_share(sharpe.low)} .. {_share(sharpe.high)}) of the "
        f"median first level; largest profit at {_share(profit.value)} "
        f"({_share(profit.low)} .. {_share(profit.high)}); "
        f"hard cap {curve.hard_cap_lots:g} lots",
        highlight=False,
    )


def _share(x: float) -> str:
    return f"{x:.1%}" if abs(x) < float("inf") else "beyond the range"
