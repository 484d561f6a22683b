"""A training run in its own folder: configuration, checkpoint, losses, curve, and the artifact beside it.

OUT/            model.safetensors, manifest.json
OUT.run/        config.json, checkpoint.pt (to resume from), losses.csv, curve.png
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.core.records import Array
from emp.model.artifact import Artifact
from emp.model.ssm_config import SSMConfig
from emp.train.data import Dataset
from emp.train.export import PARITY_EVENTS, export
from emp.train.fit import Trained
from emp.train.loop import Report, TrainConfig, Trainer
from emp.train.sequence import encoder_record, train_sequence

CHECKPOINT = "checkpoint.pt"


def run_folder(out: Path) -> Path:
    """Where the run that writes the artifact `out` keeps its files."""
    return out.with_name(out.name + ".run")


def run_training(
    out: Path,
    datasets: Sequence[Dataset],
    linear: Trained,
    model: SSMConfig,
    config: TrainConfig,
    report: Report,
    resume: bool = False,
) -> Artifact:
    """Train, write the run's files, and export the artifact after comparing the compiled step with the network.

    Raises:
        UsageError: `resume` without a checkpoint, or with one of another run.
        ArtifactError: training diverged, or the step differs from the network.
    """
    folder = run_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    if resume and not checkpoint.exists():
        raise UsageError(f"{checkpoint}: no checkpoint to resume from: start without --resume")
    _write_config(folder, datasets, model, config)

    def before(trainer: Trainer) -> None:
        if resume:
            trainer.resume(checkpoint)

    done = train_sequence(datasets, linear, model, config, report, before, checkpoint=checkpoint)
    _write_losses(folder, done.losses)
    draw_curve(folder / "curve.png", done.losses, done.history)
    return export(
        out, done.network, done.manifest, done.calibration, done.encoder, parity_inputs(datasets, linear)
    )


def parity_inputs(datasets: Sequence[Dataset], linear: Trained) -> Array:
    """Real events to compare step and network on: the first of the first series, through the encoder."""
    first = datasets[0].encoded(encoder_record(linear.tensors))
    return np.ascontiguousarray(first.x[:PARITY_EVENTS], np.float32)


def _write_config(folder: Path, datasets: Sequence[Dataset], model: SSMConfig, config: TrainConfig) -> None:
    values = {
        "model": msgspec.to_builtins(model),
        "train": msgspec.to_builtins(config),
        "series": [{"series": d.series, "files": list(d.files)} for d in datasets],
    }
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _write_losses(folder: Path, losses: Sequence[dict[str, float]]) -> None:
    with (folder / "losses.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", *losses[0]])
        writer.writeheader()
        writer.writerows({"step": step, **row} for step, row in enumerate(losses))


def draw_curve(path: Path, losses: Sequence[dict[str, float]], history: Sequence[float]) -> None:
    """Losses by step, and the log loss of the calibration part after every epoch."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("direction", "quantile", "next_event", "depletion"):
        left.plot([row[name] for row in losses], label=name, linewidth=0.8)
    left.set(xlabel="step", ylabel="loss", title="training")
    left.legend()
    right.plot(range(len(history)), history, marker="o")
    right.set(xlabel="epoch (0: the linear model)", ylabel="log loss", title="calibration part")
    figure.savefig(path, dpi=110)
