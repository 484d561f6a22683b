"""`emp evaluate --integrity`: hold artifacts against themselves: that they look at no future, and that what serves is
what was trained and judged.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from emp.engine.load import LoadedModel
    from emp.governance.integrity import Held
    from emp.train.data.data import Series

MASKED_EVENTS = 20_000
"""Of each test part, whose future is masked, and over which the step is compared with its definition."""

PLAYED_EVENTS = 5_000
"""Of each test part that go through the whole live path."""


class Asked(NamedTuple):
    """What was asked for."""

    artifacts: Sequence[str]
    data: Sequence[str]
    seed: int
    as_json: bool
    evidence: Path | None


def integrity(asked: Asked) -> None:
    """Hold every artifact against itself on the test part of every series, and print what differed.

    Raises:
        typer.Exit: with 1, where anything did, or where too little was compared.
    """
    from emp.core.errors import UsageError
    from emp.governance.evidence import Store
    from emp.governance.integrity import of_masking, of_parity
    from emp.train.data.data import parse_series
    from emp.train.data.recipe import SHIPPED, recipe
    from emp.train.judge.contenders import parse_contenders

    series = [parse_series(text) for text in asked.data] if asked.data else recipe(SHIPPED)
    rows: list[dict[str, Any]] = []
    names: list[str] = []
    for contender in parse_contenders(asked.artifacts):
        for model in contender.seeds:
            if model.owner is not None:
                raise UsageError(
                    f"--integrity: {contender.name}: of a model of your own nothing says what its step should be"
                )
            held = [hold(model, one, asked.seed) for one in series]
            rows += [_row(contender.name, model.artifact.hash, one) for one in held]
            if asked.evidence is not None:
                store = Store(asked.evidence)
                made = (of_masking, of_parity)
                names += [store.add(make(model.artifact.hash, held, asked.seed)) for make in made]
    passed = not any(_differs(row) or row["too_few"] for row in rows)
    _show(rows, names, passed=passed, as_json=asked.as_json)
    if not passed:
        raise typer.Exit(1)


def hold(model: "LoadedModel", series: "Series", seed: int) -> "Held":
    """What an artifact comes to on the beginning of a series' test part.

    Raises:
        DataError: nothing can be looked at there: no event has a believable book.
    """
    from emp.app.terminal.progress import Work
    from emp.app.wiring.assembly import engine_limits
    from emp.app.wiring.played import play
    from emp.core.clock import LiveClock
    from emp.core.errors import DataError
    from emp.governance.integrity import Held, data_of_stretch
    from emp.train.data.data import load_dataset
    from emp.train.data.table import extract_features
    from emp.train.judge.forecasts import serving_head
    from emp.train.judge.masking import masked
    from emp.train.judge.step_parity import step_differences
    from emp.train.judge.stretch import Stretch, read_stretch

    manifest = model.artifact.manifest
    with Work(f"{manifest.kind} on {series.name}") as work:
        data = load_dataset(series, manifest.k_sigma, work.bytes_read)
        events = read_stretch(series, data.instrument, data.split.test_ns, MASKED_EVENTS)
        seen = extract_features([events], data.instrument, model.encoder)
        if not len(seen.rows):
            raise DataError(
                f"{series.name}: no believable book among the first {len(events):,} events of the test part"
            )
        step, n = step_differences(model, serving_head(model, data.instrument), seen)
        cuts = masked(model, data.instrument, events, engine_limits(), seed, progress=work.report)
        played = play(model, Stretch(data.instrument, events[:PLAYED_EVENTS]), LiveClock())
    if played.why:
        typer.echo(f"{series.name}: {played.why}", err=True)
    return Held(data_of_stretch(data.series, data.instrument, seen), cuts, step, n, played.differing)


def _row(name: str, model: str, held: "Held") -> dict[str, Any]:
    """What `--json` says of one artifact on one series."""
    from emp.train.judge.masking import total

    row: dict[str, Any] = {
        "artifact": name,
        "model_hash": model,
        "series": held.data.series,
        "cuts": len(held.masked),
        "rows": sum(cut.rows for cut in held.masked),
        "actions": sum(cut.actions for cut in held.masked),
        "changed": total(held.masked),
        "step_rows": held.step_rows,
        "step_difference": max(held.step, default=0.0),
        "path_rows": len(held.differing),
        "path_differing": sum(held.differing),
    }
    return {**row, "too_few": too_few(row)}


def too_few(row: dict[str, Any]) -> list[str]:
    """Counts of a row of the table that are smaller than the gates ask for: what was compared shows nothing."""
    from emp.governance.bounds import LEAST_BLOCKS
    from emp.governance.gates import MASKED_ROWS, PATH_ROWS, STEP_ROWS

    least = {"cuts": LEAST_BLOCKS, "rows": MASKED_ROWS, "step_rows": STEP_ROWS, "path_rows": PATH_ROWS}
    return [name for name, n in least.items() if row[name] < n]


def _differs(row: dict[str, Any]) -> bool:
    from emp.train.fit.export import PARITY_LIMIT

    changed = any(row["changed"].values()) or row["path_differing"]
    return bool(changed) or not row["step_difference"] <= PARITY_LIMIT


def _show(rows: list[dict[str, Any]], names: list[str], *, passed: bool, as_json: bool) -> None:
    from rich.table import Table

    from emp.app.terminal.console import make_console
    from emp.app.terminal.table import print_table

    table = Table(box=None)
    for column in (
        "artifact",
        "series",
        "cuts",
        "rows",
        "changed",
        "step: rows",
        "off by",
        "live: rows",
        "differ",
    ):
        table.add_column(column, justify="left" if column in ("artifact", "series", "changed") else "right")
    for row in rows:
        changed = ", ".join(f"{part} {n}" for part, n in row["changed"].items() if n) or "none"
        figures = (
            row["cuts"],
            f"{row['rows']:,}",
            changed,
            f"{row['step_rows']:,}",
            f"{row['step_difference']:.1e}",
        )
        table.add_row(
            row["artifact"],
            row["series"],
            *map(str, figures),
            f"{row['path_rows']:,}",
            str(row["path_differing"]),
        )
    print_table(make_console(stderr=as_json), table)
    for row in rows:
        if row["too_few"]:
            typer.echo(f"{row['artifact']} on {row['series']}: too few {', '.join(row['too_few'])}", err=True)
    if as_json:
        print(json.dumps({"passed": passed, "table": rows, "evidence": names}))
