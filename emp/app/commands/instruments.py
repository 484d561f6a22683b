"""List the instruments that are known, or show all facts of one."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from emp.app.terminal.console import make_console
from emp.app.terminal.table import print_table
from emp.core.errors import UsageError
from emp.core.instrument import Instrument, find
from emp.core.instrument import catalogue as known_instruments

app = typer.Typer()

Catalogue = Annotated[Path | None, typer.Option(help="YAML that adds to the catalogue.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]


@app.callback(invoke_without_command=True)
def _root(context: typer.Context, catalogue: Catalogue = None, as_json: AsJson = False) -> None:
    """List the instruments that are known, or show all facts of one."""
    if context.invoked_subcommand is None:
        list_all(catalogue, as_json)
    elif catalogue is not None or as_json:
        raise UsageError(f"options of `emp instruments {context.invoked_subcommand}` come after it")


@app.command("list")
def list_all(catalogue: Catalogue = None, as_json: AsJson = False) -> None:
    """One line per instrument: grid, fees, venue."""
    known = known_instruments(catalogue)
    if as_json:
        print(json.dumps({name: facts(instrument) for name, instrument in known.items()}))
        return
    table = Table(box=None)
    for column in ("name", "venue", "asset class"):
        table.add_column(column)
    for column in ("tick", "lot", "point value", "taker fee", "maker fee"):
        table.add_column(column, justify="right")
    for i in known.values():
        numbers = (i.tick, i.lot, i.point_value, i.taker_fee, i.maker_fee)
        kinds = (i.venue.name.lower(), i.asset_class.name.lower())
        table.add_row(i.name, *kinds, *(f"{number:.10g}" for number in numbers))
    console = make_console(stderr=False)
    print_table(console, table)
    console.print("fees in ticks per lot and side")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name in the catalogue.")],
    catalogue: Catalogue = None,
    as_json: AsJson = False,
) -> None:
    """All facts of one instrument, its hours included."""
    values = facts(find(name, catalogue))
    if as_json:
        print(json.dumps(values))
        return
    spans = values.pop("sessions")
    holidays = values.pop("holidays")
    early = values.pop("early_closes")
    for field, value in values.items():
        print(f"{field:<12} {value}")
    for span in spans:
        days = ",".join(span["days"])
        print(f"{'session':<12} {span['session']} {span['start']}-{span['end']} {span['zone']} {days}")
    dates = f"{len(holidays)} dates, {holidays[0]} to {holidays[-1]}" if holidays else "none"
    print(f"{'holidays':<12} {dates}")
    print(f"{'early closes':<12} {f'{len(early)} days, {early[0]} to {early[-1]}' if early else 'none'}")


def facts(instrument: Instrument) -> dict[str, Any]:
    """The instrument as plain values, enums by name."""
    values: dict[str, Any] = msgspec.to_builtins(instrument)
    values["venue"] = instrument.venue.name.lower()
    values["asset_class"] = instrument.asset_class.name.lower()
    return values
