"""List the runs that there are, or compare some."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from emp.app.terminal.completion import RUNS

app = typer.Typer()


@app.command()
def runs(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs to compare, by folder, name or id; all listed without.", autocompletion=RUNS
        ),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """List the runs that there are, with what came of each; or compare some: all in which they differ.

    Times are of the market: of the first and the last decision. A run that has not ended says what its newest decision
    says; of one that cannot be read, why.
    """
    from emp.app.wiring.run_list import differences, known_runs
    from emp.core.errors import UsageError
    from emp.journal.find import find_run
    from emp.journal.run import RunFolder

    if names is None or not names:
        found = known_runs(runs)
        _list(found, runs)
        if as_json:
            print(json.dumps({"runs": found}))
        return
    if len(names) == 1:
        raise UsageError(f"compare {names[0]} with what? name another run, or none for the list")
    paths = [find_run(name, runs) for name in names]
    differing = differences([RunFolder(path) for path in paths])
    _compare([path.name for path in paths], differing)
    if as_json:
        print(json.dumps({"runs": [path.name for path in paths], "differences": dict(differing)}))


def _list(found: list[dict[str, Any]], folder: Path) -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    console = make_console(stderr=False)
    if not found:
        console.print(f"no run in {folder}", highlight=False)
        return
    table = Table(box=None)
    for column in ("run", "instruments", "state", "began", "ended"):
        table.add_column(column)
    for column in ("PnL ticks", "fees", "fills", "PnL"):
        table.add_column(column, justify="right")
    table.add_column("note")
    for one in found:
        note = "halted" if one["halted"] else one.get("reason", "")
        table.add_row(
            Path(one["folder"]).name,
            " ".join(one["instruments"] or []),
            one["state"],
            *(one[name] or "" for name in ("began", "ended")),
            _plain(one["pnl_ticks"]),
            # ticks of instruments that are not worth the same do not add up: their money does
            _plain(one["fees"]) or _money(one["fees_money"]),
            _plain(one["fills"]),
            _money(one["pnl_money"]),
            note,
        )
    print_table(console, table)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:,g}"


def _money(sums: dict[str, float] | None) -> str:
    return ", ".join(f"{n:,.2f} {currency}" for currency, n in (sums or {}).items())


def _compare(names: list[str], differing: list[tuple[str, list[Any]]]) -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    console = make_console(stderr=False)
    if not differing:
        console.print("no difference", highlight=False)
        return
    table = Table(box=None)
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for name, values in differing:
        table.add_row(name, *("" if value is None else str(value) for value in values))
    print_table(console, table)
