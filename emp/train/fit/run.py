"""A training run in its own folder: configuration, checkpoint, losses, curve, and the artifact beside it.

OUT/            model.safetensors, manifest.json
OUT.run/        config.json, provenance.json (data, code, packages), checkpoint.pt (to resume from), losses.csv,
                curve.png, metrics.json
"""

import csv
import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.core.code_version import code_version
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.model.artifact import Artifact, content_hash
from emp.model.ssm_config import SSMConfig
from emp.train.data.data import Dataset
from emp.train.fit.config import TrainConfig
from emp.train.fit.export import PARITY_EVENTS, export
from emp.train.fit.fit import Trained, provenance
from emp.train.fit.loop import Report
from emp.train.fit.sequence import encoder_record, heads_of, train_sequence
from emp.train.fit.took import Took

CHECKPOINT = "checkpoint.pt"

PACKAGES = ("numpy", "numba", "torch", "scikit-learn", "pyarrow", "safetensors")
"""Those on which the numbers of a run depend."""


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
    device: str = "cpu",
    took: Took | None = None,
) -> Artifact:
    """Train, write the run's files, and export the artifact after comparing the compiled step with the network.

    `took` counts the seconds of the stages features, sequences, calibration and check.

    Raises:
        UsageError: `resume` without a checkpoint, or with one of another run.
        ArtifactError: training diverged, or the step differs from the network.
    """
    took = took or Took()
    folder = run_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    if resume and not checkpoint.exists():
        raise UsageError(f"{checkpoint}: no checkpoint to resume from: start without --resume")
    _write_json(
        folder / "config.json", {"model": msgspec.to_builtins(model), "train": msgspec.to_builtins(config)}
    )
    _write_json(folder / "provenance.json", made_of(datasets, linear))
    done = train_sequence(datasets, linear, model, config, report, checkpoint, resume, device, took)
    _write_losses(folder, done.losses)
    draw_curve(folder / "curve.png", done.losses, done.history)
    with took.stage("check"):
        artifact = export(
            out,
            done.network,
            done.manifest,
            done.calibration,
            done.extra,
            parity_inputs(datasets, linear.tensors, done.network.domains),
        )
    manifest = artifact.manifest
    told = {name: manifest.config[name] for name in ("calibration_loss", "calibration")}
    found = {"model_hash": artifact.hash, "windows": len(done.losses), **told, **manifest.metrics}
    _write_json(folder / "metrics.json", found)
    return artifact


def made_of(datasets: Sequence[Dataset], linear: Trained) -> dict[str, Any]:
    """What a run's numbers come from: data by content, code by the hash of its sources, packages, kind of machine."""
    return {
        "series": [provenance(data) for data in datasets],
        "linear": content_hash(linear.manifest, linear.tensors),
        "code": code_version(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}",
    }


def parity_inputs(
    datasets: Sequence[Dataset], tensors: dict[str, Array], domains: Sequence[str]
) -> list[Array]:
    """Real events to compare step and network on, by head: the first of a series that it serves, through the encoder.

    On another market's events a head may say numbers so large that single precision cannot tell what is left of them.
    """
    encoder = encoder_record(tensors)
    seen: dict[int, Array] = {}
    found = []
    for at in range(len(domains)):
        k = next((i for i, data in enumerate(datasets) if at in heads_of(data, domains)), 0)
        if k not in seen:
            seen[k] = np.ascontiguousarray(datasets[k].encoded(encoder).x[:PARITY_EVENTS], np.float32)
        found.append(seen[k])
    return found


def write_adaptation(
    folder: Path, told: dict[str, Any], losses: Sequence[dict[str, float]], history: Sequence[float]
) -> None:
    """What an adaptation leaves beside its artifact: config.json, and of its sequences losses.csv and curve.png."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", told)
    if losses:
        _write_losses(folder, losses)
        draw_curve(folder / "curve.png", losses, history)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


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
    left.legend(loc="upper right")
    right.plot(range(len(history)), history, marker="o")
    right.set(xlabel="epoch (0: before the sequences)", ylabel="log loss", title="calibration part")
    figure.savefig(path, dpi=110)
