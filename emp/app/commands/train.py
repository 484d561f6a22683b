"""Train a model on recordings and write it as an artifact."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from emp.app.options import takes_options

if TYPE_CHECKING:
    from emp.model.artifact import Artifact
    from emp.train.data.data import Dataset
    from emp.train.fit.fit import Trained
    from emp.train.fit.took import Took

app = typer.Typer()


class Model(StrEnum):
    """Kinds of model that can be trained."""

    LINEAR = "linear"
    MAMBA2 = "mamba2"
    MAMBA3 = "mamba3"


class Options(NamedTuple):
    """What `emp train` can be told."""

    out: Annotated[Path, typer.Option(help="Folder to write the artifact to.")]
    model: Annotated[Model, typer.Option(help="Kind of model.")] = Model.LINEAR
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A series, [INSTRUMENT=]PATH[,PATH...]; wildcards allowed, may be given often. "
            "Without it: the recordings of the shipped model, below EMP_DATA."
        ),
    ] = None
    k_sigma: Annotated[float, typer.Option(min=0.0, help="k of unit = max(spread, k sigma).")] = 0.5
    seed: Annotated[int, typer.Option(min=0, help="Names the run of random numbers.")] = 0
    linear: Annotated[
        str | None,
        typer.Option(
            help="Linear artifact of the same series (a folder, or 'linear': the shipped one) that a "
            "state-space model starts from; fitted first where it is not given."
        ),
    ] = None
    reference: Annotated[
        str | None,
        typer.Option(
            help="Train nothing: write this artifact (a folder, or the kind of a shipped one) again, with the drift"
            " reference of the series that it was trained on."
        ),
    ] = None
    settings: Annotated[
        Path | None, typer.Option(help="YAML of a state-space model: model: (sizes), train: (how to train).")
    ] = None
    device: Annotated[
        str,
        typer.Option(
            help="Where a state-space model is trained: auto (a GPU where there is one), cpu or cuda."
        ),
    ] = "auto"
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint of the run that writes OUT.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")] = False


@app.command()
@takes_options(Options)
def train(options: Options) -> None:
    """Train a model on the earlier part of each series (and calibrate on the next), and write it as an artifact.

    Of a series of three or more trading days the first 60 % of days train, the next 10 % calibrate, and the
    rest is left for `emp evaluate`; a shorter one is cut at the same shares of its events.
    """
    from emp.app.terminal.progress import Work
    from emp.model.artifact import save
    from emp.train.data.data import load_dataset, parse_series
    from emp.train.data.recipe import SHIPPED, recipe
    from emp.train.fit.fit import train_linear
    from emp.train.fit.settings import pick_device
    from emp.train.fit.took import Took

    where = pick_device(options.device)
    _read_what_is_named(options)
    series = [parse_series(text) for text in options.data] if options.data else recipe(SHIPPED)
    began = time.perf_counter()
    took = Took()
    datasets = []
    for one in series:
        with Work(f"see {one.name}") as work, took.stage("recordings"):
            datasets.append(load_dataset(one, options.k_sigma, work.bytes_read))
    if options.reference is not None:
        trained = _referred(options.reference, datasets)
        artifact = save(options.out, trained.manifest, trained.tensors)
        typer.echo(f"{artifact.hash}  {options.out}", err=True)
        if options.as_json:
            print(
                json.dumps(
                    {"model": artifact.manifest.kind, "model_hash": artifact.hash, "out": str(options.out)}
                )
            )
        return
    if options.linear is not None:
        trained = _linear(options.linear, options.k_sigma)
    else:
        with Work("train") as work, took.stage("linear"):
            trained = train_linear(datasets, options.k_sigma, options.seed, work.report)
    if options.model is Model.LINEAR:
        artifact = save(options.out, trained.manifest, trained.tensors)
    else:
        artifact = _state_space(options, datasets, trained, where, took)
    result = {
        "model": options.model.value,
        "model_hash": artifact.hash,
        "out": str(options.out),
        "domains": artifact.manifest.domains,
        "rows": {d.series: {part: len(d.part(part)) for part in ("train", "calibrate")} for d in datasets},
        "train_span": {d.series: list(d.span("train")) for d in datasets},
        "seconds": round(time.perf_counter() - began, 1),
        "stages": took.seconds,
    }
    typer.echo(f"{artifact.hash}  {options.out}", err=True)
    if options.as_json:
        print(json.dumps(result))


def _read_what_is_named(options: Options) -> None:
    """Refuse what will not do before the recordings are read, which takes its time."""
    from emp.core.errors import UsageError
    from emp.engine.choose import load_model
    from emp.train.fit.settings import read_settings

    if options.settings is not None:
        if options.model is Model.LINEAR:
            raise UsageError("--settings are those of a state-space model: give --model mamba2 or mamba3")
        read_settings(options.settings, "mamba3", options.seed)
    for name in (options.linear, options.reference):
        if name is not None:
            load_model(name)


def _referred(name: str, datasets: "list[Dataset]") -> "Trained":
    """A trained model and its drift reference."""
    from emp.engine.choose import load_model
    from emp.train.fit.reference import with_reference

    return with_reference(load_model(name).artifact, datasets)


def _linear(name: str, k_sigma: float) -> "Trained":
    """The linear model that a state-space model starts from."""
    from emp.core.errors import UsageError
    from emp.engine.choose import load_model
    from emp.train.fit.fit import Trained

    artifact = load_model(name).artifact
    if artifact.manifest.kind != "linear" or artifact.manifest.k_sigma != k_sigma:
        raise UsageError(f"--linear {name}: must be a linear model trained with --k-sigma {k_sigma}")
    return Trained(artifact.manifest, artifact.tensors)


def _state_space(
    options: Options, datasets: "list[Dataset]", linear: "Trained", device: str, took: "Took"
) -> "Artifact":
    """Train a state-space model, saying throughput and time left."""
    import torch

    from emp.app.terminal.progress import Work
    from emp.core.errors import UsageError
    from emp.train.fit.loop import Step
    from emp.train.fit.run import run_training
    from emp.train.fit.sequence import head_of
    from emp.train.fit.settings import read_settings

    missing = [d.series for d in datasets if head_of(d, linear.manifest.domains) == 0]
    if missing:
        raise UsageError(
            f"--linear: knows nothing of the domain of {', '.join(missing)}: fit it on these series"
        )
    torch.set_num_threads(1)  # the same sums in the same order, whatever the machine
    sizes, how = read_settings(
        options.settings, "mamba2" if options.model is Model.MAMBA2 else "mamba3", options.seed
    )
    with Work(f"train {options.model.value}") as work:

        def tick(step: Step) -> None:
            text = f"length {step.length}, loss {step.losses['total']:.3f}, {step.events_per_s:,.0f} events/s"
            work.report(text, step.done / step.total)

        return run_training(options.out, datasets, linear, sizes, how, tick, options.resume, device, took)
