"""Rebuild a recording's book from its messages and compare with what the recording says, at every event."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.commands.sim.parts import Json, ProgressBar, show, standard_console

app = typer.Typer()


@app.command()
def verify(
    recording: Annotated[
        Path,
        typer.Argument(
            help="LOBSTER message file with its orderbook file beside it, or a Databento MBO file."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Rebuild a recording's book from its messages and compare with what the recording says, at every event."""
    import msgspec

    from emp.sim.tape.recording import load_recording

    with ProgressBar("replaying") as step:
        made = load_recording(recording)
        step(0.3)
        result = _verify_orders(made) if made.after is not None else _verify_levels(made)
        step(1.0)
    if as_json:
        print(json.dumps(msgspec.to_builtins(result)))


def _verify_levels(made: Any) -> dict[str, Any]:
    import msgspec

    from emp.sim.tape.verify import verify as hold

    report, whole = hold(made)
    _show_report(report)
    result: dict[str, Any] = msgspec.to_builtins(report)
    result["rates"] = [round(x, 6) for x in report.rates()]
    result["messages"] = len(whole.msgs)
    return result


def _verify_orders(made: Any) -> dict[str, Any]:
    import msgspec
    from rich.table import Table

    from emp.sim.tape.mbo import MISFITS
    from emp.sim.tape.verify_orders import verify_orders

    report = verify_orders(made)
    out = Table(title=f"{report.name}: {report.records} rows, {report.events} events of the exchange")
    for column in ("what a row did", "rows", ""):
        out.add_column(column)
    bad = {m.name.lower() for m in MISFITS}
    for name, n in sorted(report.meaning.items(), key=lambda x: -x[1]):
        out.add_row(name.replace("_", " "), str(n), "[red]fits no order[/]" if name in bad else "")
    console = standard_console()
    show(console, out)
    console.print(
        f"{report.messages} messages of the book: {report.fits}; orders as the feed says at the end of an event: "
        f"{report.matched} of {report.compared}; {report.crossed_events} events with a crossed book; "
        f"{report.misfits} rows or messages that fit no order",
        highlight=False,
    )
    result: dict[str, Any] = msgspec.to_builtins(report)
    result["misfits"] = report.misfits
    return result


def _show_report(report: Any) -> None:
    from rich.table import Table

    out = Table(title=f"{report.name}: {report.events} events")
    for column in ("level", "match rate", "mismatches", *report.causes, "without accounting"):
        out.add_column(column, justify="right")
    for k, rate in enumerate(report.rates()):
        causes = [str(v[k]) for v in report.causes.values()]
        bare = report.matched_without_accounting[k] / max(1, report.compared[k])
        missed = report.compared[k] - report.matched[k]
        out.add_row(str(k + 1), f"{rate:.5%}", str(missed), *causes, f"{bare:.2%}")
    console = standard_console()
    show(console, out)
    console.print(
        f"unseen orders placed {report.unseen_orders}, nameless {report.nameless_orders}, "
        f"forgotten {report.forgotten_orders}, messages that fit no order {report.misfits}"
    )
