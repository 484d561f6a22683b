"""Bring a model artifact into the compiled path: parameters of its kind, the depth encoder, the state's size."""

from pathlib import Path

from emp.engine.loaded import LoadedModel as LoadedModel
from emp.engine.loaded import encoder_of, tensor_of
from emp.engine.named import load_again
from emp.model.artifact import OWN, Artifact, load
from emp.model.build_ssm import build
from emp.model.calibration import pack_calibration
from emp.model.heads import OUTPUTS
from emp.model.linear import linear_params
from emp.perception.normalise import INPUTS
from emp.perception.schema import schema_hash


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
    if artifact.manifest.kind == OWN:
        return load_again(artifact, folder)
    encoder = encoder_of(folder, artifact.tensors)
    if artifact.manifest.kind == "linear":
        domains = len(artifact.manifest.domains)
        weight = tensor_of(folder, artifact.tensors, "weight", (domains, INPUTS, OUTPUTS))
        bias = tensor_of(folder, artifact.tensors, "bias", (domains, OUTPUTS))
        calibration = pack_calibration(artifact.tensors, domains, str(folder))
        return LoadedModel(artifact, linear_params(weight, bias, calibration), encoder, 0)
    built = build(artifact, INPUTS, folder)
    return LoadedModel(artifact, built.params, encoder, built.state_size)
