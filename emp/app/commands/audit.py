"""The trail of decisions about models, verified line by line."""

import json
from datetime import UTC, datetime

import typer

from emp.app.governed import HOME, Home, Json

app = typer.Typer()


@app.command()
def audit(registry: Home = HOME, as_json: Json = False) -> None:
    """Verify everything that the registry holds signed, and show what was decided, when, on which verdict."""
    from rich.table import Table

    from emp.app.governed import open_registry
    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    here = open_registry(registry)
    entries = here.audit.entries()
    evidence = here.verify()
    table = Table(box=None)
    for column in ("#", "when", "what", "model", "verdict", "note"):
        table.add_column(column)
    for entry in entries:
        body = entry.body
        when = datetime.fromtimestamp(body["ts"] / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
        note = str(body.get("reason", ""))
        verdict = str(body.get("verdict", ""))[:12]
        table.add_row(str(entry.number), when, body["action"], body["model"][:12], verdict, note)
    console = make_console(stderr=as_json)
    if entries:
        print_table(console, table)
    console.print(
        f"{len(entries)} decisions and {evidence} pieces of evidence, all as they were signed",
        highlight=False,
    )
    if as_json:
        found = [{"n": entry.number, "hash": entry.hash, **entry.body} for entry in entries]
        print(json.dumps({"audit": found, "evidence": evidence}))
