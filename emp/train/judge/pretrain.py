"""A small model of some series, trained in minutes on one core: what tables of many trainings are made with."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from emp.model.artifact import save
from emp.model.ssm_config import SSMConfig
from emp.train.data.data import Dataset
from emp.train.fit import run
from emp.train.fit.config import TrainConfig
from emp.train.fit.export import export
from emp.train.fit.fit import MAX_ROWS, train_linear
from emp.train.fit.sequence import train_sequence

LINEAR, STATE_SPACE = "linear", "mamba3"

Report = Callable[[str, float], None]
"""Called with what is being done and the share that is done."""

SIZES = SSMConfig(d_model=32, layers=2, d_state=16, headdim=16, attention_heads=2, window=32)


class Effort(msgspec.Struct, frozen=True):
    """How much a training may cost."""

    rows: int = 4_000  # of each series that the linear fit uses
    epochs: int = 3  # of sequences
    features_epochs: int = 3  # of single rows, before the sequences
    lanes: int = 2


def pretrain(
    datasets: Sequence[Dataset], k_sigma: float, effort: Effort, seed: int, folder: Path, report: Report
) -> None:
    """Train the linear and the state-space model of some series into folders of their names, the second last."""
    linear = train_linear(
        datasets, k_sigma, seed, lambda text, share: report(text, 0.3 * share), min(effort.rows, MAX_ROWS)
    )
    save(folder / LINEAR, linear.manifest, linear.tensors)
    how = TrainConfig(
        seed=seed,
        lr=1.5e-3,
        warmup_steps=40,
        average=0.98,
        class_weight=0.0,
        features_epochs=effort.features_epochs,
        lanes=effort.lanes,
        curriculum=((4096, effort.epochs),),
    )
    done = train_sequence(
        datasets, linear, SIZES, how, lambda step: report("sequences", 0.3 + 0.7 * step.done / step.total)
    )
    export(
        folder / STATE_SPACE,
        done.network,
        done.manifest,
        done.calibration,
        done.extra,
        run.parity_inputs(datasets, linear.tensors, done.network.domains),
    )
