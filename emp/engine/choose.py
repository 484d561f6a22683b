"""Which artifact serves and which stands by, as the configuration says.

`ssm_impl` and `fallback_impl` name artifacts that are shipped with the package, `artifact` and
`fallback_artifact` folders of one's own. Where nothing names what stands by, it is the next simpler kind that is
shipped: Mamba-3, Mamba-2, linear.
"""

from pathlib import Path
from typing import Any

from emp.core.config.config import DEFAULT_IMPL, Impl, Model
from emp.core.errors import ArtifactError
from emp.engine.load import LoadedModel, load_folder
from emp.engine.named import is_own, load_own
from emp.engine.own_model import make_model
from emp.engine.shipped import IMPLS as IMPLS
from emp.engine.shipped import artifact_folder as artifact_folder
from emp.engine.shipped import shipped as shipped
from emp.model.artifact import OWN, read_manifest

SIMPLER: dict[str, tuple[Impl, ...]] = {
    "mamba3": ("mamba2", "linear"),
    "mamba2": ("linear",),
    "linear": (),
    OWN: ("linear",),
}


def load_model(name: str | Path | None = None, *, own: bool = False) -> LoadedModel:
    """Read the artifact of a shipped name or a folder (without either: the default), check it, and build what the
    engine's step takes.

    Args:
        own: whether a model of one's own may be named (`file.py:object`, `module:object`, `net.onnx`): whoever runs it
            asks it whether it has failed (`LoadedModel.owner`).

    Raises:
        ArtifactError: it is missing, damaged, made for another input schema, or of an unknown shape.
        UsageError: a model of one's own is none, or cannot be imported.
    """
    named = name is not None and is_own(name)
    folder = None if named else artifact_folder(name or DEFAULT_IMPL)
    if not own and (folder is None or read_manifest(folder).kind == OWN):  # of one that a run has kept, too
        raise ArtifactError(f"{name}: a model of your own: here only what emp train writes is taken")
    return load_own(str(name)).load() if folder is None else load_folder(folder)


def model_of(given: Any) -> LoadedModel:
    """What `load_model` reads under a name, or what somebody hands over: a model of his own, or a function."""
    if given is None or isinstance(given, str | Path):
        return load_model(given, own=True)
    return make_model(given).load()


def load_serving(model: Model) -> LoadedModel:
    """The model that serves."""
    if model.artifact is None:
        return _shipped("ssm_impl", model.ssm_impl)
    wanted = model.ssm_impl if "ssm_impl" in model.model_fields_set else None
    return _own("artifact", model.artifact, wanted)


def load_standby(model: Model, serving: LoadedModel) -> LoadedModel | None:
    """The model that takes over where the serving one is too slow; None where there is none."""
    if model.fallback_artifact is not None:
        return _own("fallback_artifact", model.fallback_artifact, model.fallback_impl)
    if model.fallback_impl is not None:
        return None if model.fallback_impl == "none" else _shipped("fallback_impl", model.fallback_impl)
    at_hand = shipped()
    name = next((kind for kind in SIMPLER[serving.artifact.manifest.kind] if kind in at_hand), None)
    return None if name is None else load_model(name)


def _shipped(field: str, name: str) -> LoadedModel:
    try:
        return load_model(name)
    except ArtifactError as error:
        raise ArtifactError(f"model.{field}: {error}") from error


def _own(field: str, folder: str, wanted: str | None) -> LoadedModel:
    loaded = load_model(folder, own=True)
    kind = loaded.artifact.manifest.kind
    if wanted not in (None, kind):
        other = "ssm_impl" if field == "artifact" else "fallback_impl"
        raise ArtifactError(f"model.{field}: {folder} is a {kind} model, model.{other} says {wanted}")
    return loaded
