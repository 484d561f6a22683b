"""Check machine, configuration, credentials' presence, data, services and ports; say how to fix each."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from emp.core.errors import UsageError

app = typer.Typer()


@app.command()
def doctor(
    config: Annotated[
        Path | None,
        typer.Option(help="What to check; without it: emp.yaml here, else the shipped mock.yaml."),
    ] = None,
    connect: Annotated[
        Path | None,
        typer.Option(
            help="A configuration whose broker is to be asked: logs on as `emp run` would, sends no order."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Check this machine and a configuration, one line each with how to fix it; exit 1 where any is bad.

    With --connect FILE, log on at its broker instead and tell, within half a minute, what is to be known before any
    money: symbols, tick, lot, commission, hours and swap beside the catalogue, the kind of account, what it may do, the
    clock, spread and depth, open orders and positions. Nothing in it could send an order.
    """
    from emp.app.doctor import Finding, examine
    from emp.app.terminal.console import make_console
    from emp.app.wiring.examples import default_config

    console = make_console()
    colours = {"ok": "green", "warn": "yellow", "bad": "bold red", "silent": "dim"}
    findings = []
    found: Iterator[Finding]
    if connect is not None:
        if config is not None:
            raise UsageError("--connect names a configuration already: leave --config away")
        from emp.app.connection import examine_connection

        found = examine_connection(connect)
    else:
        found = examine(config or default_config())
    for one in found:
        findings.append(one)
        fix = f" -> {one.fix}" if one.fix else ""
        mark = "-" if one.verdict == "silent" else one.verdict
        console.print(f"[{colours[one.verdict]}]{mark:4}[/]  {one.what}: ", end="")
        console.print(f"{one.found}{fix}", markup=False, highlight=False)
    bad = [one.what for one in findings if one.verdict == "bad"]
    if connect is not None:
        verdict = "bad" if bad else "ok"
        console.print(f"[{colours[verdict]}]{_conclusion(bad)}[/]", highlight=False)
    if as_json:
        shown = [{f: getattr(one, f) for f in one.__struct_fields__} for one in findings]
        print(json.dumps({"ok": not bad, "bad": bad, "findings": shown}))
    if bad:
        raise typer.Exit(1)


def _conclusion(bad: Sequence[str]) -> str:
    return (
        f"in the way of trading: {', '.join(dict.fromkeys(bad))}"
        if bad
        else "nothing stands in the way of trading"
    )
