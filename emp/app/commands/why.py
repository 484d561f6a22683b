"""What a run decided, and for which reasons: over a day within a second."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.terminal.completion import RUNS

app = typer.Typer()

SHOWN = 20


@app.command()
def why(
    run: Annotated[str, typer.Argument(help="A run: its folder, name or id.", autocompletion=RUNS)],
    reason: Annotated[str | None, typer.Option(help="Only rows of this reason: list them.")] = None,
    action: Annotated[str | None, typer.Option(help="Only rows of this action: list them.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From then on, UTC: HH:MM[:SS], an ISO stamp, or ns.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Before then, likewise.")] = None,
    instrument: Annotated[str | None, typer.Option(help="Where the run has several.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Rows to list.")] = SHOWN,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Say what a run decided, and for which reasons; with --reason or --action list those rows, for `emp explain`."""
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table
    from emp.app.wiring.why import by_reason, chosen, find_folder, instrument_of_run, moment, read_why
    from emp.core.errors import UsageError

    folder = find_folder(run, runs)
    rows = read_why(folder)
    rows = rows[rows["instrument"] == instrument_of_run(folder, instrument)]
    if not len(rows):
        raise UsageError(f"{folder.path} has no decision of that instrument")
    day = int(rows["ts"][0])
    if since is not None:
        rows = rows[rows["ts"] >= moment(since, day)]
    if until is not None:
        rows = rows[rows["ts"] < moment(until, day)]
    rows = chosen(rows, reason, action)
    reasons = by_reason(rows) if len(rows) else []
    table = Table(box=None)
    listed: list[dict[str, Any]] = []
    if reason is None and action is None:
        for column in (
            "action",
            "reason",
            "rows",
            "share",
            "mean edge",
            "mean gain",
            "first seq",
            "last seq",
        ):
            table.add_column(column, justify="left" if column in ("action", "reason") else "right")
        for one in reasons:
            table.add_row(
                one["action"],
                one["reason"],
                f"{one['n']:,}",
                f"{one['share']:.1%}",
                f"{one['edge_ticks']:+.2f}",
                f"{one['gain']:+.2f}",
                str(one["first_seq"]),
                str(one["last_seq"]),
            )
    else:
        listed = [_listed(row) for row in rows[:limit]]
        for column in ("time UTC", "seq", "action", "reason", "edge", "gain", "held", "PnL ticks"):
            table.add_column(
                column, justify="left" if column in ("time UTC", "action", "reason") else "right"
            )
        for one in listed:
            table.add_row(*(str(value) for value in one.values()))
    print_table(make_console(), table)
    if len(rows) > len(listed) > 0:
        typer.echo(f"{len(listed)} of {len(rows):,} rows; --since and --limit choose others")
    if not len(rows):
        typer.echo("no such row")
    if as_json:
        print(json.dumps({"rows": len(rows), "reasons": reasons, "listed": listed}))


def _listed(row: Any) -> dict[str, Any]:
    """One row for the eye."""
    from datetime import UTC, datetime

    from emp.core.codes import Action, Reason

    ts = int(row["ts"])
    clock = datetime.fromtimestamp(ts // 10**9, UTC)
    return {
        "time": f"{clock:%m-%d %H:%M:%S}.{ts % 10**9 // 10**6:03d}",
        "seq": int(row["seq"]),
        "action": Action(int(row["action"])).name.lower(),
        "reason": Reason(int(row["reason_code"])).name.lower(),
        "edge": round(float(row["edge_ticks"]), 3),
        "gain": round(float(row["gain"]), 3),
        "held": int(row["inventory"]),
        "pnl_ticks": round(float(row["pnl_ticks"]), 1),
    }
