"""Train a model on recordings and write it as an artifact."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


class Model(StrEnum):
    """Kinds of model that can be trained."""

    LINEAR = "linear"


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder to write the artifact to.")],
    model: Annotated[Model, typer.Option(help="Kind of model.")] = Model.LINEAR,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A series, [INSTRUMENT=]PATH[,PATH...]; wildcards allowed, may be given often. "
            "Without it: the recordings of the shipped model, below EMP_DATA."
        ),
    ] = None,
    k_sigma: Annotated[float, typer.Option(min=0.0, help="k of unit = max(spread, k sigma).")] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Names the run of random numbers.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False,
) -> None:
    """Train a model on the earlier part of each series (and calibrate on the next), and write it as an artifact.

    Of a series of three or more trading days the first 60 % of days train, the next 10 % calibrate, and the
    rest is left for `emp evaluate`; a shorter one is cut at the same shares of its events.
    """
    from emp.app.progress import Work
    from emp.model.artifact import save
    from emp.train.data import load_dataset, parse_series
    from emp.train.fit import train_linear
    from emp.train.recipe import SHIPPED, recipe

    series = [parse_series(text) for text in data] if data else recipe(SHIPPED)
    began = time.perf_counter()
    datasets = []
    for one in series:
        with Work(f"see {one.name}") as work:
            datasets.append(load_dataset(one, k_sigma, work.bytes_read))
    with Work("train") as work:
        trained = train_linear(datasets, k_sigma, seed, work.report)
    artifact = save(out, trained.manifest, trained.tensors)
    result = {
        "model": model.value,
        "model_hash": artifact.hash,
        "out": str(out),
        "domains": trained.manifest.domains,
        "rows": {d.series: {part: len(d.part(part)) for part in ("train", "calibrate")} for d in datasets},
        "train_span": {d.series: list(d.span("train")) for d in datasets},
        "seconds": round(time.perf_counter() - began, 1),
    }
    typer.echo(f"{artifact.hash}  {out}", err=True)
    if as_json:
        print(json.dumps(result))
