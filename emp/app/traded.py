"""`emp evaluate --trade`: the unseen parts of recordings traded on paper, expected against realised value in one table;
and what each part of the decision rule is worth before them.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from emp.engine.load import LoadedModel
    from emp.train.data.data import Dataset, Series


class Asked(NamedTuple):
    """What was asked for."""

    artifact: str
    data: Sequence[str]
    parts: bool
    seed: int
    as_json: bool


class Unseen(NamedTuple):
    """A series, and how much of it the model has not seen."""

    series: "Series"
    data: "Dataset"
    part: str  # "last 30 %", "last 3 days", "all"


def trade(asked: Asked) -> None:
    """Trade, and print the tables.

    Raises:
        UsageError: a test part reaches into what the model was trained on.
        DataError: a recording cannot be read, or is too short to be split.
    """
    from emp.app.report import trade_text
    from emp.app.report.evaluation_text import training_lines
    from emp.engine.choose import load_model
    from emp.model.artifact import tells_training, title
    from emp.train.judge.evaluate import refuse_overlap
    from emp.train.judge.outcomes import outcome_rows

    model = load_model(asked.artifact, own=True)
    series = _series(asked.data, model)
    for one in series:
        refuse_overlap(model, one.data)
    traded = _traded(model, series, asked.seed)
    rows = [{**one, **row} for one, row in zip(traded, outcome_rows(traded), strict=True)]
    tables = [trade_text.outcome_lines(rows), trade_text.queue_lines(rows)]
    parts = _parts(model, series) if asked.parts else []
    if parts:
        tables.append(trade_text.part_lines(parts))
    if not tells_training(model.artifact.manifest):
        tables.append(training_lines({"training_not_known": [title(model.artifact.manifest)]}))
    for line in (line for table in tables for line in table):
        typer.echo(line)
    if asked.as_json:
        print(json.dumps({"trading": rows, "parts": parts}))


def _series(texts: Sequence[str], model: "LoadedModel") -> list[Unseen]:
    """What was named; else the shipped model's series, and those of which nothing was trained on."""
    from emp.train.data.data import parse_series
    from emp.train.data.recipe import SHIPPED, UNSEEN, recipe

    k_sigma = model.artifact.manifest.k_sigma
    if texts:
        return [_loaded(parse_series(text), k_sigma, whole=False) for text in texts]
    return [
        *(_loaded(one, k_sigma, whole=False) for one in recipe(SHIPPED)),
        *(_loaded(one, k_sigma, whole=True) for one in recipe(UNSEEN)),
    ]


def _loaded(series: "Series", k_sigma: float, *, whole: bool) -> Unseen:
    import numpy as np

    from emp.app.terminal.progress import Work
    from emp.train.data.data import TEST_SHARE, load_dataset

    with Work(f"see {series.name}") as work:
        data = load_dataset(series, k_sigma, work.bytes_read)
    if whole:
        return Unseen(series, data.all_test(), "all")
    days = len(np.unique(data.seen.rows["day"][data.part("test")]))
    return Unseen(series, data, f"last {days} days" if data.split.whole_days else f"last {TEST_SHARE:.0%}")


def _traded(model: "LoadedModel", series: Sequence[Unseen], seed: int) -> list[dict[str, Any]]:
    from emp.app.terminal.progress import Work
    from emp.app.wiring.assembly import engine_limits
    from emp.train.judge.alpha import trade_test_part

    found = []
    for one in series:
        with Work(f"trade {one.series.name}") as work:
            result = trade_test_part(model, one.series, one.data, engine_limits(), seed, work.bytes_read)
        manifest = model.artifact.manifest
        found.append({**result, "model": manifest.kind, "model_hash": manifest.hash, "part": one.part})
    return found


def _parts(model: "LoadedModel", series: Sequence[Unseen]) -> list[dict[str, Any]]:
    """What each part of the rule brings before the test parts; of a series that is all test part nothing."""
    from emp.app.terminal.progress import Work
    from emp.app.wiring.assembly import engine_limits
    from emp.decision.rule import Part
    from emp.train.judge.rule_parts import rows_of_parts, trade_before_test

    traded = []
    for one in series:
        if one.part == "all":
            continue
        came = {}
        for part in (Part(0), *Part):
            with Work(f"{one.series.name} without {str(part.name).lower() if part else 'nothing'}") as work:
                came[part] = trade_before_test(
                    model, one.series, one.data, engine_limits(), part, work.bytes_read
                )
        traded.append((one.series.name, came))
    return rows_of_parts(traded)
