"""Which artifact serves and which stands by, as the configuration says.

`ssm_impl` and `fallback_impl` name artifacts that are shipped with the package, `artifact` and
`fallback_artifact` folders of one's own. Where nothing names what stands by, it is the next simpler kind that is
shipped: Mamba-3, Mamba-2, linear.
"""

import difflib
from importlib import resources
from pathlib import Path
from typing import get_args

from emp.core.config.config import DEFAULT_IMPL, Impl, Model
from emp.core.errors import ArtifactError
from emp.engine.load import LoadedModel, load_folder
from emp.model.artifact import MANIFEST

IMPLS: tuple[str, ...] = get_args(Impl)
SIMPLER: dict[str, tuple[Impl, ...]] = {"mamba3": ("mamba2", "linear"), "mamba2": ("linear",), "linear": ()}


def shipped() -> list[str]:
    """Names of the artifacts that this package holds."""
    return [name for name in IMPLS if (_shipped_folder(name) / MANIFEST).is_file()]


def artifact_folder(name: str | Path) -> Path:
    """Folder of an artifact: a shipped one for a name of IMPLS, else the folder of that name."""
    if str(name) not in IMPLS:
        if Path(name).name == str(name) and not Path(name).exists():
            near = difflib.get_close_matches(str(name), shipped(), 1)
            hint = f": did you mean {near[0]}?" if near else ";"
            raise ArtifactError(
                f"no model {name}{hint} shipped are {', '.join(shipped())}, others are named by their folder"
            )
        return Path(name)
    folder = _shipped_folder(str(name))
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(
            f"no {name} artifact is shipped with this package (it has {', '.join(shipped())}):"
            " train one and name its folder, or choose another"
        )
    return folder


def _shipped_folder(name: str) -> Path:
    return Path(str(resources.files("emp.model").joinpath("artifacts", name)))


def load_model(name: str | Path | None = None) -> LoadedModel:
    """Read the artifact of a shipped name or a folder (without either: the default), check it, and build what the
    engine's step takes.

    Raises:
        ArtifactError: it is missing, damaged, made for another input schema, or of an unknown shape.
    """
    return load_folder(artifact_folder(name or DEFAULT_IMPL))


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
    loaded = load_model(folder)
    kind = loaded.artifact.manifest.kind
    if wanted not in (None, kind):
        other = "ssm_impl" if field == "artifact" else "fallback_impl"
        raise ArtifactError(f"model.{field}: {folder} is a {kind} model, model.{other} says {wanted}")
    return loaded
