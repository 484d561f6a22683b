"""List the formats that are read, or show the mapping of one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
import yaml
from rich.markup import escape
from rich.table import Table

from emp.app.terminal.console import make_console
from emp.core.errors import UsageError

if TYPE_CHECKING:
    from emp.access.recordings.mapping import Mapping

app = typer.Typer()

BUILT_IN = {
    "lobster": "LOBSTER message and orderbook files, or messages alone",
    "databento-dbn": "Databento DBN, DBZ and fragments: mbo, mbp-1, mbp-10, tbbo, bbo",
    "binance-lines": "Binance websocket lines, stamped or not, wrapped or not, with REST snapshots",
    "hftbacktest": "hftbacktest .npz and .npy",
    "parquet": "Parquet whose columns one of the formats below has",
    "exchange-events": "orders, cancels and executions of an exchange's log (csv)",
    "sgx-book": "SGX three-level books (csv)",
    "emp-market": "market data that a run has journalled (RUN/market)",
}
"""Formats that no mapping describes."""


@app.command()
def formats(
    name: Annotated[str | None, typer.Argument(help="Show this one's mapping.")] = None,
    mapping: Annotated[
        list[Path] | None, typer.Option(help="A mapping file of your own: checked, and listed first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """List the formats that are read, or show the mapping of one."""
    from emp.access.recordings.mapping import load_mappings, shipped

    known = [*load_mappings(mapping or []), *shipped()]
    if name is not None:
        _show(name, known, as_json)
        return
    if as_json:
        print(json.dumps({**BUILT_IN, **{one.name: one.about for one in known}}))
        return
    table = Table(box=None)
    for column in ("name", "lines", "what"):
        table.add_column(column)
    for built_in, about in BUILT_IN.items():
        table.add_row(built_in, "", about)
    for one in known:
        table.add_row(one.name, one.lines, escape(f"refused: {one.about}" if one.refuse else one.about))
    console = make_console(stderr=False)
    console.print(table)
    console.print("`emp formats NAME` shows a mapping; --mapping FILE adds your own (docs/recordings.md)")


def _show(name: str, known: "list[Mapping]", as_json: bool) -> None:
    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise UsageError(f"no mapping is called {name!r}; `emp formats` lists them")
    values: dict[str, Any] = msgspec.to_builtins(found)
    defaults = msgspec.to_builtins(Mapping(name="", about=""))
    told = {key: value for key, value in values.items() if value != defaults.get(key)}
    print(json.dumps(told) if as_json else yaml.safe_dump(told, sort_keys=False, allow_unicode=True))
