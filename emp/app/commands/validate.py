"""The system validation report: named checks, green or red; exit 1 where any is red."""

import json
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def validate(
    only: Annotated[str, typer.Option(help="Only the checks whose name or room holds this word.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Run every check of the system on this machine and print the report; exit 1 where any is red."""
    from rich.table import Table

    from emp.app.checks import CHECKS
    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table
    from emp.core.errors import UsageError
    from emp.observe.validation import run_checks

    checks = [check for check in CHECKS if only in check.name or only in check.room]
    if not checks:
        raise UsageError(
            f"--only {only}: no such check; rooms: {', '.join(sorted({c.room for c in CHECKS}))}"
        )
    console = make_console()
    with console.status("validating") as status:
        results = run_checks(checks, lambda result: status.update(f"{result.name}: {result.status}"))
    table = Table("", "check", "room", "ms", "found", box=None)
    for one in results:
        colour = {"green": "green", "red": "bold red", "skipped": "yellow"}[one.status]
        table.add_row(f"[{colour}]{one.status}[/]", one.name, one.room, f"{one.ms:.0f}", one.detail)
    print_table(console, table)
    red = [one.name for one in results if one.status == "red"]
    counts = {status: sum(one.status == status for one in results) for status in ("green", "red", "skipped")}
    if as_json:
        shown = [{f: getattr(one, f) for f in one.__struct_fields__} for one in results]
        print(json.dumps({"ok": not red, **counts, "failed": red, "checks": shown}))
    if red:
        raise typer.Exit(1)
