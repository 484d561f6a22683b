"""Hold a broker's statement against the ledgers of runs: fills, fees, swap, cash."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emp.app.statements.read import Statement

app = typer.Typer()

DIFFERENT = 1
"""Exit code where anything differs, or a row could not be read."""


@app.command()
def reconcile(  # noqa: PLR0913
    statement: Annotated[Path, typer.Argument(help="The broker's statement, a csv file.")],
    run: Annotated[list[str], typer.Argument(help="The runs of its days: folders, names or ids.")],
    mapping: Annotated[
        Path | None, typer.Option(help="What its columns mean, where none of the known formats fits.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(help="Zone of its times, as in Europe/Athens; else the mapping's.")
    ] = None,
    symbol: Annotated[
        list[str] | None, typer.Option(help="THEIRS=OURS: the broker's name of an instrument.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="The account's; else as the run's limits say.")] = None,
    rate: Annotated[
        list[str] | None, typer.Option(help="CURRENCY=VALUE: what a unit is worth in the account's.")
    ] = None,
    within: Annotated[
        float, typer.Option(min=0.0, help="Seconds that broker's and our stamp of a fill may be apart.")
    ] = 60.0,
    since: Annotated[
        str | None, typer.Option(help="Its first instant, UTC; else the day of its first fill.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Before this one; else the end of its last fill's day.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Hold a broker's statement against the ledgers of runs: fills, fees, swap, cash; each difference is named.

    Exit code 1 where anything differs, or a row of the statement could not be read. Formats and mappings:
    docs/statements.md.
    """
    from emp.app.statements.compare import compare
    from emp.app.statements.mapping import load_statement_mapping, shipped_statements
    from emp.app.statements.ours import read_ours
    from emp.app.statements.read import read_statement
    from emp.app.statements.shown import print_comparison, record_of
    from emp.app.terminal.console import make_console
    from emp.journal.find import find_run
    from emp.journal.run import RunFolder

    mappings = shipped_statements() if mapping is None else load_statement_mapping(mapping)
    symbols = _pairs(symbol, "--symbol", "THEIRS=OURS")
    rates = {name: _rate(name, value) for name, value in _pairs(rate, "--rate", "CURRENCY=VALUE").items()}
    folders = list({path: RunFolder(path) for path in (find_run(name, runs) for name in run)}.values())
    told = read_statement(statement, mappings, own=mapping is not None, zone=zone)
    console = make_console(stderr=as_json)
    ours = read_ours(folders, lambda name: console.print(f"reading {name}", highlight=False))
    known = {name: target for one in mappings for name, target in one.symbols.items()} | symbols
    _known(known, list(ours.instruments))
    found = compare(
        told,
        ours,
        symbols=known,
        within_ns=round(within * 1e9),
        span=_span(told, since, until),
        currency=(currency or "").upper(),
        rates=rates,
    )
    print_comparison(console, told, found)
    if as_json:
        print(json.dumps(record_of(told, found, ours.runs)))
    if found.differences or told.quarantined:
        raise typer.Exit(DIFFERENT)


def _pairs(texts: list[str] | None, option: str, form: str) -> dict[str, str]:
    from emp.core.errors import UsageError

    found = {}
    for text in texts or ():
        name, given, value = text.partition("=")
        if not given or not name.strip() or not value.strip():
            raise UsageError(f"{option} {text}: expected {form}")
        found[name.strip()] = value.strip()
    return found


def _rate(name: str, text: str) -> float:
    from emp.core.errors import UsageError

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise UsageError(f"--rate {name}={text}: expected a number above 0")
    return value


def _known(symbols: dict[str, str], instruments: list[str]) -> None:
    from emp.core.errors import UsageError

    for theirs, ours in symbols.items():
        if ours not in instruments:
            raise UsageError(f"--symbol {theirs}={ours}: these runs trade {', '.join(instruments)}")


def _span(told: "Statement", since: str | None, until: str | None) -> Any:
    from emp.app.statements.compare import days_of
    from emp.app.statements.totals import Span
    from emp.app.wiring.why import moment
    from emp.core.errors import UsageError

    whole = days_of(told)
    span = Span(
        whole.since if since is None else moment(since, whole.since),
        whole.until if until is None else moment(until, whole.until - 1),
    )
    if span.since >= span.until:
        raise UsageError("--since must lie before --until")
    return span
