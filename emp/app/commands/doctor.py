"""Check machine, configuration, credentials' presence, data, services and ports; say how to fix each."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def doctor(
    config: Annotated[
        Path | None,
        typer.Option(help="What to check; without it: emp.yaml here, else the shipped mock.yaml."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Check this machine and a configuration, one line each with how to fix it; exit 1 where any is bad."""
    from emp.app.doctor import examine
    from emp.app.terminal.console import make_console
    from emp.app.wiring.examples import default_config

    console = make_console()
    colours = {"ok": "green", "warn": "yellow", "bad": "bold red"}
    findings = []
    for one in examine(config or default_config()):
        findings.append(one)
        fix = f" -> {one.fix}" if one.fix else ""
        console.print(f"[{colours[one.verdict]}]{one.verdict:4}[/]  {one.what}: ", end="")
        console.print(f"{one.found}{fix}", markup=False, highlight=False)
    bad = [one.what for one in findings if one.verdict == "bad"]
    if as_json:
        shown = [{f: getattr(one, f) for f in one.__struct_fields__} for one in findings]
        print(json.dumps({"ok": not bad, "bad": bad, "findings": shown}))
    if bad:
        raise typer.Exit(1)
