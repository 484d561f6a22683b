"""Model artifacts: a folder with `model.safetensors` and `manifest.json`, named by the hash of its content.

The hash covers every tensor's name, type, shape and bytes and the whole manifest, so that an artifact that was
changed anywhere, or lost its end, is refused in one line. The hash is the model's name in the state table, the
action log and the registry.
"""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from emp.core.disk import disk, make_folders, write_new
from emp.core.errors import ArtifactError
from emp.core.records import HORIZON_NAMES, Array

Kind = Literal["linear", "mamba2", "mamba3", "own"]
OWN: Literal["own"] = "own"
"""Kind of a model of the user's own: a function, or a network of another make."""

ENCODER = "encoder"
"""Entry of a provenance: of a model of the user's own, the series that the depth encoder of its base was trained on."""

UNNAMED = ("source", "folder")
"""Entries of an artifact's `config` that say where it was found: how a file was named on a day makes no other model."""

TENSORS = "model.safetensors"
MANIFEST = "manifest.json"

_HASH = re.compile("[0-9a-f]{64}")


class Manifest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What stands beside the tensors."""

    kind: Kind
    schema: str  # hash of the input schema that the model was trained on
    domains: list[str]  # "asset_class/venue[/INSTRUMENT]" of each head; head 0 serves whatever is not named
    k_sigma: float  # k of unit = max(spread_ticks, k * sigma_ticks)
    thresholds: list[list[float]]  # [domain][horizon]: |delta_hat| above which a move is up or down
    warmup_events: int  # events after a reset before a forecast may be traded
    config: dict[str, Any] = {}
    provenance: dict[str, Any] = {}  # data files, spans, seeds
    metrics: dict[str, Any] = {}
    horizons: list[str] = msgspec.field(default_factory=lambda: list(HORIZON_NAMES))
    format: int = 1
    hash: str = ""


class Artifact(msgspec.Struct, frozen=True):
    """A verified artifact in memory."""

    manifest: Manifest
    tensors: dict[str, Array]

    @property
    def hash(self) -> str:
        """The content hash, 64 hex digits."""
        return self.manifest.hash

    def domain(self, asset_class: str, venue: str, instrument: str = "") -> int:
        """Index of the head that serves an instrument: its own, else that of its asset class and venue, else 0."""
        for name in (f"{asset_class}/{venue}/{instrument}", f"{asset_class}/{venue}"):
            if name in self.manifest.domains:
                return self.manifest.domains.index(name)
        return 0


def trained_on(manifest: Manifest) -> frozenset[str]:
    """Names of the instruments in a model's training; empty for what was not trained, a rule in a model's place."""
    return frozenset(series["instrument"] for series in manifest.provenance.get("series", []))


def saw_in_training(manifest: Manifest) -> frozenset[str]:
    """Names of the instruments that a model was trained on, or the depth encoder that shows it the market."""
    return frozenset(series["instrument"] for series in seen_series(manifest))


def seen_series(manifest: Manifest) -> list[dict[str, Any]]:
    """What went into a model, and into the depth encoder that shows it the market, as its provenance has it."""
    return [*manifest.provenance.get("series", []), *manifest.provenance.get(ENCODER, [])]


def tells_training(manifest: Manifest) -> bool:
    """Whether a model says what it and its depth encoder were trained on: one of the user's own may not."""
    return manifest.kind != OWN or {"series", ENCODER} <= manifest.provenance.keys()


def learns_from_outcomes(manifest: Manifest) -> bool:
    """Whether outcomes correct what a model says; a rule in a model's place is taken at its word."""
    return bool(trained_on(manifest)) or manifest.kind == OWN


def title(manifest: Manifest) -> str:
    """What a model is called: its kind, and of one of the user's own its name."""
    return f"{OWN} {manifest.config['name']}" if manifest.kind == OWN else manifest.kind


def content_hash(manifest: Manifest, tensors: dict[str, Array]) -> str:
    """Hash of everything an artifact holds, apart from the hash itself, and of one's own from where it lies."""
    named = msgspec.structs.replace(manifest, hash="")
    if (
        manifest.kind == OWN and "folder" in manifest.config
    ):  # else of an earlier build, which hashed its name too
        named.config = {name: one for name, one in manifest.config.items() if name not in UNNAMED}
    digest = hashlib.sha256(msgspec.json.encode(named, order="sorted"))
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def save(folder: Path, manifest: Manifest, tensors: dict[str, Array]) -> Artifact:
    """Write an artifact, both files or none; return it with its hash set."""
    packed = {name: np.ascontiguousarray(t) for name, t in tensors.items()}
    sealed = msgspec.structs.replace(manifest, hash=content_hash(manifest, packed))
    text = json.dumps(msgspec.to_builtins(sealed), indent=1, sort_keys=True)
    try:
        make_folders(folder)
        files = {TENSORS: save_tensors(packed), MANIFEST: f"{text}\n".encode()}
        for name, data in files.items():
            write_new(folder / f".{name}.tmp", data)
        for name in files:
            disk().replace(folder / f".{name}.tmp", folder / name)
        disk().sync_folder(folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot write the artifact: {error.strerror}") from error
    return Artifact(sealed, packed)


def is_whole(folder: Path) -> bool:
    """Whether the process that wrote an artifact there came to its end."""
    return (folder / TENSORS).exists() and (folder / MANIFEST).exists()


def load(folder: Path, schema: str) -> Artifact:
    """Read and verify an artifact; raise ArtifactError in one line when anything about it is wrong.

    Args:
        folder: where `model.safetensors` and `manifest.json` lie.
        schema: hash of the input schema that this program computes.
    """
    manifest = read_manifest(folder)
    try:
        tensors = load_tensors((folder / TENSORS).read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"{folder / TENSORS}: no such file: the artifact is incomplete") from error
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{folder / TENSORS}: corrupt or truncated: {error}") from error
    if content_hash(manifest, tensors) != manifest.hash:
        raise ArtifactError(f"{folder}: content does not match its hash: changed or damaged after export")
    if (
        _HASH.fullmatch(folder.name) and folder.name != manifest.hash
    ):  # as in a registry, or in a run's folder
        raise ArtifactError(f"{folder}: holds another model than its name says: {manifest.hash[:12]}")
    if manifest.schema != schema:
        raise ArtifactError(
            f"{folder}: made for input schema {manifest.schema[:12]}, this program computes {schema[:12]}: "
            "train or export it again with this version"
        )
    if manifest.horizons != list(HORIZON_NAMES):
        raise ArtifactError(f"{folder}: horizons {manifest.horizons} are not {list(HORIZON_NAMES)}")
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not math.isfinite(float(np.abs(tensor).max(initial=0.0))):
            raise ArtifactError(f"{folder}: tensor {name} holds values that are not finite")
    return Artifact(manifest, tensors)


def read_manifest(folder: Path) -> Manifest:
    """What an artifact says of itself, not yet verified; raise ArtifactError where it cannot be read."""
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: no such file: not a model artifact") from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{path}: not a readable manifest: {error}") from error
