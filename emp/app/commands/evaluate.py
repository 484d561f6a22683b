"""Judge a model on later data than it was trained on, beside baselines; or compare its inputs across markets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emp.engine.load import LoadedModel
    from emp.train.data import Dataset, Series
    from emp.train.psi import Cell

app = typer.Typer()

MATRIX_WIDTH = 120
"""Columns that the PSI matrix needs, also where the output is no terminal."""

SHOWN = (
    "n",
    "f1_macro",
    "mcc",
    "ece",
    "brier",
    "brier_skill",
    "pinball",
    "pinball_skill",
    "coverage",
    "ic",
    "alpha_after_fees",
)
WITH_INTERVAL = ("f1_macro", "brier_skill", "ic", "alpha_after_fees")


@app.command()
def evaluate(
    artifact: Annotated[
        str | None,
        typer.Option(
            help="Folder of a model artifact, or the kind of a shipped one. Without it: the default."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A series, [INSTRUMENT=]PATH[,PATH...]; wildcards allowed, may be given often. "
            "Without it: the recordings of the shipped model (with --psi: of four markets), below EMP_DATA."
        ),
    ] = None,
    psi: Annotated[
        bool, typer.Option("--psi", help="Compare the inputs between the series instead.")
    ] = False,
    trees: Annotated[
        bool, typer.Option(help="Also grow gradient-boosted trees as a baseline (slow).")
    ] = False,
    trade: Annotated[bool, typer.Option(help="Trade the test parts on paper: alpha after fees.")] = True,
    page: Annotated[Path | None, typer.Option(help="Also write a page of plots to this HTML file.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Names the run of random numbers.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Judge a model on the test part of each series, beside baselines, with block-bootstrap intervals.

    The parts are those of `emp train`: nothing of the test part may have been trained on, or the command refuses.
    With --psi: exit code 1 where an input drifts between series without a measured reason.
    """
    from emp.app.progress import Work
    from emp.engine.choose import load_model
    from emp.train.data import load_dataset, parse_series
    from emp.train.recipe import ALIGNED, SHIPPED, recipe

    series = [parse_series(text) for text in data] if data else recipe(ALIGNED if psi else SHIPPED)
    model = None if psi else load_model(artifact)
    k_sigma = model.artifact.manifest.k_sigma if model is not None else 0.0
    datasets = []
    for one in series:
        with Work(f"see {one.name}") as work:
            datasets.append(load_dataset(one, k_sigma, work.bytes_read))
    if model is None:
        _psi(datasets, as_json)
        return

    from emp.train import evaluate as judging

    with Work("evaluate") as work:
        found = judging.evaluate(model, datasets, seed, trees, work.report)
    traded = _trade(model, series, datasets, found.table, seed) if trade else []
    if page is not None:
        from emp.app.report.evaluation import write_page

        write_page(page, model.artifact, found)
    if not as_json:
        _show(found.table)
        for summary in traded:
            typer.echo(", ".join(f"{name} {value}" for name, value in summary.items() if name != "alpha"))
        return
    manifest = model.artifact.manifest
    trained = {one["series"]: one["train_ns"] for one in manifest.provenance.get("series", [])}
    tested = {name: parts["test"] for name, parts in found.spans.items()}
    result = {
        "model_hash": model.artifact.hash,
        "train_span": trained,
        "test_span": tested,
        "thresholds": dict(zip(manifest.domains, manifest.thresholds, strict=True)),
        "table": found.table,
        "trading": traded,
    }
    print(json.dumps(result))


def _trade(
    model: "LoadedModel",
    series: "list[Series]",
    datasets: "list[Dataset]",
    table: list[dict[str, Any]],
    seed: int,
) -> list[dict[str, Any]]:
    """Trade every test part on paper and write its alpha after fees into the model's rows of the table."""
    from emp.app.alpha import trade_test_part
    from emp.app.assembly import engine_limits
    from emp.app.progress import Work

    found = []
    for one, data in zip(series, datasets, strict=True):
        with Work(f"trade {one.name}") as work:
            result = trade_test_part(model, one, data, engine_limits(), seed, work.bytes_read)
        found.append(result)
        marks = {mark["horizon"]: mark for mark in result["alpha"]["all"]}
        for row in table:
            if row["series"] == data.series and row["model"] == "model":
                mark = marks[row["horizon"]]
                row["alpha_after_fees"] = mark["alpha_bps"]
                row["ci"]["alpha_after_fees"] = [mark["low"], mark["high"]]
    return found


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    for name in dict.fromkeys(row["series"] for row in rows):
        table = Table(title=name)
        for column in ("horizon", "model", *SHOWN):
            table.add_column(column.replace("_", " "), justify="left" if column == "model" else "right")
        last = ""
        for row in rows:
            if row["series"] == name:
                shown = "" if row["horizon"] == last else row["horizon"]
                last = row["horizon"]
                table.add_row(shown, row["model"], *(_figure(row, column) for column in SHOWN))
        Console().print(table)


def _figure(row: dict[str, Any], name: str) -> str:
    value, interval = row[name], row["ci"].get(name)
    if value is None:
        return "-"
    if name == "n":
        return f"{value:,}"
    if interval is None or None in interval or name not in WITH_INTERVAL:
        return f"{value:.3f}"
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _psi(datasets: "list[Dataset]", as_json: bool) -> None:
    from emp.train.psi import compare, measured, verdict

    if len(datasets) < 2:
        from emp.core.errors import UsageError

        raise UsageError("--psi compares series: give at least two with --data")
    cells = compare(datasets)
    said = verdict(cells)
    reasons = measured(datasets)
    if as_json:
        print(json.dumps({**said, "table": [cell._asdict() for cell in cells], "reasons": reasons}))
    else:
        _show_psi(cells, said, reasons)
    if not said["passed"]:
        raise typer.Exit(1)


def _show_psi(cells: "list[Cell]", said: dict[str, Any], reasons: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.width = max(console.width, MATRIX_WIDTH)
    names = list(dict.fromkeys(cell.reference for cell in cells))
    kinds = sorted({cell.exception for cell in cells if cell.exception})
    table = Table(
        title=f"PSI, limit {said['limit']}; a>b: deciles of a, shares of b; chance: highest 95 % point by chance alone",
        caption=", ".join(f"{kind[0]} {kind}" for kind in kinds) + ", ! over the limit without a reason",
        box=None,
    )
    table.add_column("input")
    for i, reference in enumerate(names):
        console.print(f"{i + 1}  {reference}")
        for j in range(len(names)):
            if i != j:
                table.add_column(f"{i + 1}>{j + 1}", justify="right")
    table.add_column("chance", justify="right")
    for name in dict.fromkeys(cell.input for cell in cells):
        mine = [cell for cell in cells if cell.input == name]
        marks = [c.exception[0] if c.exception else "!" if c.psi > said["limit"] else " " for c in mine]
        shown = (f"{c.psi:.2f}{mark}" for c, mark in zip(mine, marks, strict=True))
        table.add_row(name, *shown, f"{max(c.chance for c in mine):.2f}")
    console.print(table)
    for row in reasons:
        if row["holds"]:
            found = f"{row['series']}: {row['input']}: {row['measured']} >= {row['at_least']}"
            console.print(f"{row['reason']}: {found}: {row['why']}")
    console.print(
        f"{said['over']} of {said['cells']} over the limit, {said['excused']} of them for a measured reason"
    )
    for line in said["failed"]:
        console.print(f"not excused: {line}")
