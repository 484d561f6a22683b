"""Bring a model artifact into the compiled path: parameters of its kind, the depth encoder, the state's size."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emp.core.errors import ArtifactError
from emp.core.records import Array
from emp.model.artifact import Artifact, load
from emp.model.build_ssm import build
from emp.model.calibration import pack_calibration
from emp.model.heads import OUTPUTS
from emp.model.linear import linear_params
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUTS
from emp.perception.schema import schema_hash


class LoadedModel(NamedTuple):
    """A verified model, ready for the engine."""

    artifact: Artifact
    params: Any  # of a type known to `emp.model.port.register`
    encoder: Any  # ENCODER record
    state_size: int  # float32 per instrument in the state table


def load_folder(folder: Path) -> LoadedModel:
    """Read the artifact of a folder, check it, and build what the engine's step takes.

    Raises:
        ArtifactError: it is missing, damaged, made for another input schema, or of an unknown shape.
    """
    return ready(load(folder, schema_hash()), folder)


def ready(artifact: Artifact, folder: Path) -> LoadedModel:
    """Build what the engine's step takes of an artifact that is in memory; `folder` names it in errors.

    Raises:
        ArtifactError: it is of an unknown shape.
    """
    encoder = _encoder(folder, artifact.tensors)
    if artifact.manifest.kind == "linear":
        domains = len(artifact.manifest.domains)
        weight = _tensor(folder, artifact.tensors, "weight", (domains, INPUTS, OUTPUTS))
        bias = _tensor(folder, artifact.tensors, "bias", (domains, OUTPUTS))
        calibration = pack_calibration(artifact.tensors, domains, str(folder))
        return LoadedModel(artifact, linear_params(weight, bias, calibration), encoder, 0)
    built = build(artifact, INPUTS, folder)
    return LoadedModel(artifact, built.params, encoder, built.state_size)


def _encoder(folder: Path, tensors: dict[str, Array]) -> Any:
    encoder = np.zeros(1, ENCODER)
    for name in ENCODER.names or ():
        encoder[name] = _tensor(folder, tensors, f"encoder.{name}", ENCODER[name].shape)
    return encoder[0]


def _tensor(folder: Path, tensors: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    if name not in tensors:
        raise ArtifactError(f"{folder}: the tensor {name} is missing")
    if tensors[name].shape != shape:
        raise ArtifactError(f"{folder}: the tensor {name} is {tensors[name].shape}, expected {shape}")
    return tensors[name]
