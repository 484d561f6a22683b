"""Check machine, configuration, credentials' presence, data, services and ports; say how to fix each."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from emp.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from emp.app.doctor import Finding

app = typer.Typer()

COLOURS = {"ok": "green", "warn": "yellow", "bad": "bold red", "silent": "dim"}


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
    production: Annotated[
        bool,
        typer.Option("--production", help="Judge this machine as the box that is to hold money; as root."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Check this machine and a configuration, one line each with how to fix it; exit 1 where any is bad.

    With --connect FILE, log on at its broker instead and tell, within half a minute, what is to be known before any
    money: symbols, tick, lot, commission, hours and swap beside the catalogue, the kind of account, what it may do, the
    clock, spread and depth, open orders and positions. Nothing in it could send an order.

    With --production, judge the box that `deploy/provision` has made: units, firewall, logins, updates, clock, disk,
    processor, secrets, a backup that is brought back, mirrors, the engine, who is told, the two weeks on paper; a score
    for each. What cannot be looked at is bad.
    """
    if production:
        if config is not None or connect is not None:
            raise UsageError("--production looks at /etc/emp/emp.yaml: leave --config and --connect away")
        _judge_box(as_json)
        return
    from emp.app.doctor import examine
    from emp.app.terminal.console import make_console
    from emp.app.wiring.examples import default_config

    console = make_console()
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
        _show(console, one)
    bad = [one.what for one in findings if one.verdict == "bad"]
    if connect is not None:
        verdict = "bad" if bad else "ok"
        console.print(f"[{COLOURS[verdict]}]{_conclusion(bad)}[/]", highlight=False)
    if as_json:
        print(json.dumps({"ok": not bad, "bad": bad, "findings": [_fields(one) for one in findings]}))
    if bad:
        raise typer.Exit(1)


def _conclusion(bad: Sequence[str]) -> str:
    return (
        f"in the way of trading: {', '.join(dict.fromkeys(bad))}"
        if bad
        else "nothing stands in the way of trading"
    )


def _show(console: "Console", one: "Finding") -> None:
    fix = f" -> {one.fix}" if one.fix else ""
    mark = "-" if one.verdict == "silent" else one.verdict
    console.print(f"[{COLOURS[one.verdict]}]{mark:4}[/]  {one.what}: ", end="")
    console.print(f"{one.found}{fix}", markup=False, highlight=False)


def _fields(one: "Finding") -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def _judge_box(as_json: bool) -> None:
    import time

    from emp.app.production.examine import examine_box, total
    from emp.app.production.host import Host
    from emp.app.terminal.console import make_console

    console = make_console()
    scored = []
    for area in examine_box(Host(time.time_ns())):
        scored.append(area)
        console.print(f"[bold]{area.area}[/] {area.score:.0f}", highlight=False)
        for one in area.findings:
            _show(console, one)
    bad = [what for area in scored for what in area.bad]
    verdict = "bad" if bad else "ok"
    words = (
        f"{len(bad)} in the way of money: {', '.join(bad)}" if bad else "nothing stands in the way of money"
    )
    console.print(f"[{COLOURS[verdict]}]{total(scored)} of 100: {words}[/]", highlight=False)
    if as_json:
        areas = {
            one.area: {"score": round(one.score, 1), "findings": [_fields(f) for f in one.findings]}
            for one in scored
        }
        print(json.dumps({"ok": not bad, "bad": bad, "score": total(scored), "areas": areas}))
    if bad:
        raise typer.Exit(1)
