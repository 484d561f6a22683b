"""What is configured: every setting in force with where it comes from, and all settings that there are."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

File = Annotated[
    Path | None, typer.Argument(help="YAML file; without it: emp.yaml here, else the shipped mock.yaml.")
]


@app.callback()
def _root() -> None:
    """What is configured: every setting in force with where it comes from, and all settings that there are."""


@app.command()
def show(
    file: File = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Every setting in force, with where it comes from: the file, a variable over it, or the default."""
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table
    from emp.app.wiring.examples import default_config
    from emp.core.config.config import SystemConfig

    path = file or default_config()
    found = SystemConfig.load(path).origins(path)
    if changed:
        found = {name: one for name, one in found.items() if one.source != "default"}
    if as_json:
        print(json.dumps({name: one._asdict() for name, one in found.items()}))
        return
    table = Table(box=None)
    for column in ("setting", "value", "from"):
        table.add_column(column)
    for name, one in found.items():
        table.add_row(name, json.dumps(one.value), one.source)
    print_table(make_console(stderr=False), table)


@app.command()
def schema() -> None:
    """All settings that there are, as a JSON schema: for editors, and for whoever writes a file by program."""
    from emp.core.config.config import SystemConfig

    print(json.dumps(SystemConfig.model_json_schema(), indent=2))
