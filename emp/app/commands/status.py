"""What runs now, and how it stands."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer()


@app.command()
def status(
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Say what runs now and how it stands: mode, health, page, and of each instrument position, PnL and orders.

    Exit code 0 where something runs and all of it is healthy, 1 where not, or where nothing runs.
    """
    from emp.app.wiring.running import running

    found = running(runs)
    for one in found:
        for line in _lines(one):
            typer.echo(line)
    if not found:
        typer.echo(f"nothing runs in {runs}: `emp run` starts a run, `emp runs` lists those that there were")
    if as_json:
        print(json.dumps({"running": found}))
    if not found or not all(one["healthy"] for one in found):
        raise typer.Exit(1)


def _lines(one: dict[str, Any]) -> list[str]:
    name = Path(one["folder"]).name
    up = f", {one['mode']}, up {_span(one['up_s'])}" if "run" in one else ""
    health = "healthy" if one["healthy"] else "; ".join(one["reasons"])
    lines = [f"{name}{up}: {health}", *(_instrument(each) for each in one.get("instruments", ()))]
    return lines + ([f"  page: {one['address']}"] if one.get("address") else [])


def _instrument(one: dict[str, Any]) -> str:
    money = "" if one["pnl_money"] is None else f" ({one['pnl_money']:+,.2f} {one['currency']})"
    stale = "" if one["stale_s"] is None else f", no market data for {_span(one['stale_s'])}"
    return (
        f"  {one['name']}: position {one['position']:+d}, PnL {one['pnl_ticks']:+,.1f} ticks{money},"
        f" {one['fills']:,} fills, {one['orders']} open orders{stale}"
    )


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
