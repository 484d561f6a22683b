"""Artifacts by name: those that are shipped with the package, else a folder."""

import difflib
from importlib import resources
from pathlib import Path
from typing import get_args

from emp.core.config.config import Impl
from emp.core.errors import ArtifactError
from emp.model.artifact import MANIFEST

IMPLS: tuple[str, ...] = get_args(Impl)


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
