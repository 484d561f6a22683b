"""Turn a run into one self-contained page with plots."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from emp.app.terminal.completion import RUNS

app = typer.Typer()


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="A run: its folder, name or id.", autocompletion=RUNS)],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; default: report.html in the run.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Turn a run into one self-contained page: price with fills, forecast, position, PnL, reasons, latency."""
    from emp.app.report.data import alpha_table, reasons
    from emp.app.report.page import write_report
    from emp.app.terminal.console import make_console

    folder = _folder(run, runs)
    page = out if out is not None else folder / "report.html"
    console = make_console()
    with console.status("reading the run and drawing"):
        told = write_report(folder, page)
    console.print(f"wrote {page} ({page.stat().st_size // 1024} KiB)")
    if as_json:
        given = sum((Counter(reasons(one.rows)) for one in told), Counter[str]())
        alphas = [{"instrument": one.instrument, **row} for one in told for row in alpha_table(one)]
        print(json.dumps({"page": str(page), "reasons": given, "alpha_after_fees": alphas}))


def _folder(run: str, runs: Path) -> Path:
    """The folder of a run; a path under which none is found, for the line that says what it lacks."""
    from emp.core.errors import UsageError
    from emp.core.platform import exists
    from emp.journal.find import find_run

    if not run:
        raise UsageError("name a run: its folder, name or id")
    try:
        return find_run(run, runs)
    except UsageError:
        if exists(Path(run)):
            return Path(run)
        raise
