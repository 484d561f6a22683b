"""A comparison as it is read: sums, differences, what could not be read."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from emp.app.statements.compare import Comparison, Difference
from emp.app.statements.read import Statement
from emp.app.statements.totals import Total
from emp.app.terminal.table import print_table

SHOWN = 40


def print_comparison(console: Console, told: Statement, found: Comparison) -> None:
    """Print what agrees, and every difference, SHOWN at most."""
    if found.totals:
        print_table(console, _sums(found.totals))
    if found.differences:
        print_table(console, _differences(found.differences[:SHOWN]))
    for line in _notes(told, found):
        console.print(line, highlight=False)
    right = not found.differences and not told.quarantined
    console.print(
        f"{len(told.fills)} fills by {told.mapping}, {len(found.matched.pairs)} found in the ledgers:"
        f" {len(found.differences)} differences",
        style="green" if right else "red",
        highlight=False,
    )


def _sums(totals: list[Total]) -> Table:
    table = Table(box=None)
    for column in ("", "instrument", "statement", "ledger"):
        table.add_column(column, justify="left" if column in ("", "instrument") else "right")
    table.add_column("note")
    for one in totals:
        table.add_row(one.what, one.instrument, _money(one.theirs), _money(one.ours), one.why)
    return table


def _differences(differences: list[Difference]) -> Table:
    table = Table(box=None)
    for column in ("difference", "instrument", "when", "line", "event"):
        table.add_column(column)
    table.add_column("money", justify="right")
    table.add_column("what")
    for one in differences:
        event = f"{one.run} {one.seq}" if one.seq else ""
        money = "" if one.money is None else f"{one.money:+,.2f}"
        table.add_row(one.kind, one.instrument, _when(one.ts), str(one.line or ""), event, money, one.text)
    return table


def _notes(told: Statement, found: Comparison) -> list[str]:
    lines = []
    if len(found.differences) > SHOWN:
        lines.append(f"… and {len(found.differences) - SHOWN} more: --json has all")
    for reason, n in sorted(told.quarantined.items()):
        lines.append(f"{n} rows cannot be read ({reason}): {told.samples[reason]}")
    for name, n in sorted(found.foreign.items()):
        lines.append(f"{n} fills of {name}, which these runs do not trade")
    if found.outside:
        lines.append(f"{found.outside} fills of the ledgers lie outside the statement's days")
    if found.explained:
        lines.append(f"{found.explained} fills are what the ledgers hold as adjustments")
    return lines


def record_of(told: Statement, found: Comparison, runs: list[str]) -> dict[str, Any]:
    """The same for machines."""
    matched = found.matched
    return {
        "statement": told.label,
        "mapping": told.mapping,
        "runs": runs,
        "rows": told.rows,
        "quarantined": dict(told.quarantined),
        "since": found.since,
        "until": found.until,
        "clock_shift_s": matched.shift_ns / 1e9,
        "fills": {
            "statement": len(told.fills),
            "matched": len(matched.pairs),
            "not_in_ledger": len(matched.theirs),
            "not_in_statement": len(matched.ours),
            "outside": found.outside,
            "foreign": found.foreign,
            "adjustments": found.explained,
        },
        "totals": [msgspec.to_builtins(one) for one in found.totals],
        "differences": [msgspec.to_builtins(one) for one in found.differences],
    }


def _money(value: float | None) -> str:
    return "not told" if value is None else f"{value:+,.2f}"


def _when(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S") if ts else ""
