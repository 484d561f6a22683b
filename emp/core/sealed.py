"""Weights in a folder beside a manifest that names them by their content: what a planner and a surrogate are kept as.

    WORD.safetensors   float32 tensors
    WORD.json          the manifest; `hash` is over all of it, but what was found out later, and over every tensor

Read with nothing but NumPy: a machine that trades has no torch.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from emp.core.errors import ArtifactError
from emp.core.records import Array

Tensors = dict[str, Array]


class SealedManifest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What stands beside every kind of weights."""

    provenance: dict[str, Any] = {}
    format: int = 1
    hash: str = ""  # content hash, 64 hex digits


M = TypeVar("M", bound=SealedManifest)


class Sealed(NamedTuple):
    """A kind of artifact."""

    word: str  # by which its files and errors call it
    made_by: str  # the command that trains one
    later: str  # field of the manifest for what is found out afterwards: not part of the hash


def content_hash(kind: Sealed, manifest: SealedManifest, tensors: Tensors) -> str:
    """Hash of everything that decides."""
    bare = msgspec.structs.replace(manifest, hash="", **{kind.later: {}})
    digest = hashlib.sha256(msgspec.json.encode(bare, order="sorted"))
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def save_sealed(kind: Sealed, folder: Path, manifest: M, tensors: Tensors) -> tuple[M, Tensors]:
    """Write an artifact; the manifest with its hash, and the tensors as they will be read.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    packed = {name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}
    sealed = msgspec.structs.replace(manifest, hash=content_hash(kind, manifest, packed))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot write the {kind.word}: {error.strerror}") from error
    _write(kind, folder / f"{kind.word}.safetensors", save_tensors(packed))
    write_manifest(kind, folder, sealed)
    return sealed, packed


def write_manifest(kind: Sealed, folder: Path, manifest: SealedManifest) -> None:
    """Write the manifest of weights that are there."""
    text = json.dumps(msgspec.to_builtins(manifest), indent=1, sort_keys=True)
    _write(kind, folder / f"{kind.word}.json", f"{text}\n".encode())


def _write(kind: Sealed, path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise ArtifactError(f"{path.parent}: cannot write the {kind.word}: {error.strerror}") from error


def load_sealed(kind: Sealed, folder: Path, manifest_type: type[M]) -> tuple[M, Tensors]:
    """Read an artifact whose content is what its hash says.

    Raises:
        ArtifactError: in one line: it is missing, damaged, or changed.
    """
    try:
        manifest = msgspec.json.decode((folder / f"{kind.word}.json").read_bytes(), type=manifest_type)
        tensors = load_tensors((folder / f"{kind.word}.safetensors").read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: no such file: not a {kind.word} ({kind.made_by})") from error
    except NotADirectoryError as error:
        raise ArtifactError(f"{folder}: is a file, not the folder of a {kind.word}") from error
    except (OSError, SafetensorError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{folder}: not a readable {kind.word}: {error}") from error
    if content_hash(kind, manifest, tensors) != manifest.hash:
        raise ArtifactError(f"{folder}: content does not match its hash: changed or damaged after training")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not math.isfinite(float(np.abs(tensor).max(initial=0.0))):
            raise ArtifactError(
                f"{folder}: tensor {name} is not float32, or holds values that are not finite"
            )
    return manifest, tensors


def check_shapes(folder: Path, tensors: Tensors, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise ArtifactError where a tensor is missing, or has another shape."""
    for name, shape in shapes.items():
        if name not in tensors or tensors[name].shape != shape:
            raise ArtifactError(f"{folder}: tensor {name} is missing, or is not float32{list(shape)}")
