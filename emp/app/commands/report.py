"""Turn a run into one self-contained page with plots."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, as `emp replay` and `emp run` leave it.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; default: report.html in the run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Turn a run into one self-contained page: price with fills, forecast, position, PnL, reasons, latency."""
    from emp.app.report.data import alpha_table, reasons
    from emp.app.report.page import write_report
    from emp.app.terminal.console import make_console

    page = out if out is not None else run / "report.html"
    console = make_console()
    with console.status("reading the run and drawing"):
        runs = write_report(run, page)
    console.print(f"wrote {page} ({page.stat().st_size // 1024} KiB)")
    if as_json:
        given = sum((Counter(reasons(one.rows)) for one in runs), Counter[str]())
        alphas = [{"instrument": one.instrument, **row} for one in runs for row in alpha_table(one)]
        print(json.dumps({"page": str(page), "reasons": given, "alpha_after_fees": alphas}))
