"""`emp evaluate --leave-out`: train without a group of markets, judge on it, in turn, and print one table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from emp.core.errors import DataError, UsageError

if TYPE_CHECKING:
    from emp.train.data.markets import Market, Skipped
    from emp.train.judge.leave_out import Budget

K_SIGMA = 0.5
"""The k of the model that is served."""

BY = ("group", "class")


class Asked(NamedTuple):
    """What was asked for."""

    catalogue: Path | None
    by: str
    single: Sequence[str]
    events: int
    epochs: int
    own: bool
    seed: int
    markdown: bool
    as_json: bool


def leave_out(asked: Asked) -> None:
    """Make the table and print it in the form that was asked for.

    Raises:
        UsageError: there is no such grouping or market.
        ConfigError: the catalogue is not one.
        DataError: fewer than two markets, or nothing to train on when some are left out.
    """
    from emp.app.terminal.progress import Work
    from emp.train.judge.leave_out import Budget, folds, judge_fold
    from emp.train.judge.leave_out_table import summary_of, table_of

    if asked.by not in BY:
        raise UsageError(f"--by {asked.by}: must be one of {', '.join(BY)}")
    markets, skipped = _markets(asked)
    budget = Budget(events=asked.events, epochs=asked.epochs)
    cells, facts = [], []
    for fold in folds(markets, asked.by, asked.single):
        with Work(f"without {fold.name}") as work:
            found, told = judge_fold(fold, K_SIGMA, budget, asked.seed, asked.own, work.report)
        cells += found
        facts.append({"name": fold.name, **told})
    rows = table_of(cells)
    judged = {cell.market for cell in cells}
    left = [m.name for fold in facts for m in markets if m.name in fold["left_out"] and m.name not in judged]
    result = {
        "by": "market" if asked.single else asked.by,
        "budget": _budget(budget),
        "thresholds": "own" if asked.own else "head",
        "seed": asked.seed,
        "folds": facts,
        "skipped": [one._asdict() for one in skipped],
        "too_short": left,
        "summary": summary_of(rows),
        "table": rows,
    }
    for name in left:
        typer.echo(f"{name}: too short to be judged", err=True)
    if asked.as_json:
        print(json.dumps(result))
    else:
        _show(result, asked.markdown)


def _markets(asked: Asked) -> "tuple[list[Market], list[Skipped]]":
    from emp.app.terminal.progress import Work
    from emp.app.wiring.examples import examples
    from emp.train.data.markets import load_markets, read_catalogue
    from emp.train.data.recipe import recorded_markets

    entries = read_catalogue(asked.catalogue or examples()["markets"])
    unknown = sorted(set(asked.single) - set(entries))
    if unknown:
        raise UsageError(f"--market {unknown[0]}: not in the catalogue: {', '.join(entries)}")
    with Work("see the markets") as work:
        markets, skipped = load_markets(
            entries, recorded_markets(), K_SIGMA, lambda name: _told(work, f"see {name}")
        )
    for one in skipped:
        typer.echo(f"{one.market}: left out of the table: {one.why}", err=True)
    if len(markets) < 2:
        raise DataError("--leave-out needs at least two markets that can be read")
    gone = sorted(set(asked.single) - {market.name for market in markets})
    if gone:
        raise DataError(f"--market {gone[0]}: cannot be read")
    return markets, skipped


def _told(work: Any, text: str) -> Any:
    def tell(done: int, total: int) -> None:
        work.report(text, done / max(1, total))

    return tell


def _budget(budget: "Budget") -> dict[str, int]:
    import msgspec

    return dict(msgspec.to_builtins(budget))


def _show(result: dict[str, Any], markdown: bool) -> None:
    from emp.train.judge.leave_out_table import lines_of, markdown_lines

    typer.echo(f"budget: {', '.join(f'{name} {value:,}' for name, value in result['budget'].items())}")
    for model, found in result["summary"].items():
        typer.echo("")
        if markdown:
            typer.echo(f"**{model}**\n")
        for line in (markdown_lines if markdown else lines_of)(result["table"], model):
            typer.echo(line)
        typer.echo("")
        verdicts = "; ".join(
            f"against {other} " + ", ".join(f"{n} {verdict}" for verdict, n in said.items())
            for other, said in found["against"].items()
        )
        typer.echo(
            f"{model}, {found['pairs']} pairs of market and horizon, corrected together (Holm): {verdicts}"
        )
        typer.echo(
            f"of {found['enough_rows']} pairs with enough rows {found['skill_above_shares']} have skill above the "
            f"market's own past class shares, {found['ece_over_limit']} have an ECE over 0.08"
        )
