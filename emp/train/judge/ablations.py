"""What each part of the model's inputs is worth (I.1): the linear model trained again without it, and beside the whole.

    trained = train_ablated(dataset_at_k, "no_depth", seed, report)

An input that is taken away is nought in training, so the fit gives it no weight, and the artifact serves as any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from emp.core.records import Array
from emp.engine.load import LoadedModel
from emp.perception.normalise import INPUT_NAMES
from emp.train.data.data import Dataset
from emp.train.fit.fit import Trained, train_linear
from emp.train.judge.evaluate import LINEAR, Contender, Evaluation, evaluate

K_SIGMA = 0.5
"""The k of the model that is served."""


class Variant(NamedTuple):
    """A model of the matrix."""

    name: str
    k_sigma: float
    without: tuple[str, ...]  # beginnings of the names of inputs that are taken away


WHOLE = Variant("whole", K_SIGMA, ())
MATRIX = (
    WHOLE,
    Variant("no_depth", K_SIGMA, ("slope_", "curve_", "depth_")),
    Variant("no_ofi", K_SIGMA, ("ofi_norm",)),
    Variant("k=0.3", 0.3, ()),
    Variant("k=0.7", 0.7, ()),
)
"""The roadmap's; LoRA against a head per domain is of another model (`emp.app.finetune.against_head`)."""


class Ablated(Dataset):
    """A dataset in which some inputs are nought, whatever encoder it is seen through."""

    without: Array  # int64[m]: numbers of the inputs

    @property
    def x(self) -> Array:
        """Model inputs, float32[n, INPUTS]."""
        found = self.seen.x.copy()
        found[:, self.without] = 0.0
        return found

    def encoded(self, encoder: Any) -> "Ablated":
        """The same data through another depth encoder."""
        return ablated(super().encoded(encoder), self.without)


def ablated(data: Dataset, without: Array) -> Ablated:
    """A dataset without the inputs of these numbers."""
    found = Ablated(**{one.name: getattr(data, one.name) for one in fields(Dataset)})
    object.__setattr__(found, "without", without)
    return found


def inputs_of(variant: Variant) -> Array:
    """Numbers of the inputs that a variant does without."""
    return np.array([i for i, name in enumerate(INPUT_NAMES) if name.startswith(variant.without)], np.int64)


def train_variant(
    variant: Variant, datasets: Sequence[Dataset], seed: int, report: Callable[[str, float], None]
) -> Trained:
    """Train the linear model of a variant on datasets that were labelled with its k."""
    gone = inputs_of(variant)
    trained = train_linear([ablated(one, gone) for one in datasets], variant.k_sigma, seed, report)
    trained.tensors["weight"][:, gone] = 0.0  # as the fit has left them, but for the sign of a nought
    trained.manifest.config["ablation"] = {"name": variant.name, "without": list(variant.without)}
    return trained


def judge_variants(
    models: Sequence[tuple[Variant, LoadedModel]],
    datasets: Sequence[Dataset],
    seed: int,
    report: Callable[[str, float], None],
) -> tuple[list[Contender], Evaluation]:
    """Judge variants of one k on the test parts; the one that has all inputs is what the others are compared with."""
    contenders = [
        Contender(variant.name if variant.without else LINEAR, (model,)) for variant, model in models
    ]
    return contenders, evaluate(contenders, datasets, seed, False, report)
