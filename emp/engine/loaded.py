"""A model in memory, whatever it came from: what the engine's step takes of it."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from emp.core.errors import ArtifactError
from emp.core.records import Array
from emp.model.artifact import Artifact
from emp.model.own import OwnModel
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUTS
from emp.perception.own import OwnFeatures


class Owner(Protocol):
    """What stands behind a model of the user's own."""

    @property
    def failed(self) -> bool:
        """Whether it has failed; it is not asked again."""

    def check(self) -> None:
        """Raise what it failed with: UsageError in one line."""


class LoadedModel(NamedTuple):
    """A verified model, ready for the engine."""

    artifact: Artifact
    params: Any  # of a type known to `emp.model.port.register`
    encoder: Any  # ENCODER record
    state_size: int  # float32 per instrument in the state table
    features: OwnFeatures | None = None  # what perceives for it; None: the built-in features
    width: int = INPUTS  # float32 of a row of inputs, with what features remember
    owner: Owner | None = None  # of a model of the user's own: kept alive as long as the model


def apart(model: LoadedModel) -> LoadedModel:
    """The same model for another thread: a model of the user's own has scratch that two would share."""
    if not isinstance(model.params, OwnModel) or model.features is None:
        return model
    at = np.zeros(1, np.int64)
    params = model.params._replace(
        at=at, x=np.zeros_like(model.params.x), said=np.zeros_like(model.params.said)
    )
    features = model.features._replace(
        at=at, seen=np.zeros_like(model.features.seen), own=np.zeros_like(model.features.own)
    )
    return model._replace(params=params, features=features)


def encoder_of(folder: Path, tensors: dict[str, Array]) -> Any:
    """The depth encoder of an artifact: ENCODER record.

    Raises:
        ArtifactError: a part is missing or of another shape; `folder` names it.
    """
    encoder = np.zeros(1, ENCODER)
    for name in ENCODER.names or ():
        encoder[name] = tensor_of(folder, tensors, f"encoder.{name}", ENCODER[name].shape)
    return encoder[0]


def tensor_of(folder: Path, tensors: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """A tensor of an artifact; ArtifactError where it is missing or of another shape."""
    if name not in tensors:
        raise ArtifactError(f"{folder}: the tensor {name} is missing")
    if tensors[name].shape != shape:
        raise ArtifactError(f"{folder}: the tensor {name} is {tensors[name].shape}, expected {shape}")
    return tensors[name]
