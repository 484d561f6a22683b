"""A planner on disk: the weights of its transition model, and a manifest that says what it was made from.

    planner.safetensors   the unpadded weights, location and scale of the essentials
    planner.json          step, depth, the model whose forecasts it was trained on, its training, its gate, its hash

The content hash names it. It is read with nothing but NumPy: a machine that trades has no torch.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from emp.core.errors import ArtifactError
from emp.core.records import Array
from emp.plan.essentials import ACTIONS, ESSENTIALS, WIDTH
from emp.plan.transition import TransitionModel, pack

TENSORS, MANIFEST = "planner.safetensors", "planner.json"

WEIGHTS = (
    "w1",
    "b1",
    "action",
    "change",
    "change_bias",
    "logits",
    "logits_bias",
    "rewards",
    "rewards_bias",
    "value_hidden",
    "value",
    "policy",
    "policy_bias",
)
SCALES = ("centre", "spread")

MOST_HIDDEN, MOST_OUTCOMES, MOST_DEPTH = 256, 4, 3


class PlannerManifest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What stands beside the weights."""

    model: str  # hash of the artifact whose forecasts it was trained on
    essentials: list[str]
    step: int  # visible events between two choices
    depth: int  # of the search that it serves with
    outcomes: int
    hidden: int
    value_bias: float
    provenance: dict[str, Any] = {}
    gate: dict[str, Any] = {}  # what `emp plan gate` found last; not part of the hash
    format: int = 1
    hash: str = ""


class PlannerArtifact(msgspec.Struct, frozen=True):
    """A verified planner in memory."""

    manifest: PlannerManifest
    tensors: dict[str, Array]

    @property
    def hash(self) -> str:
        """The content hash, 64 hex digits."""
        return self.manifest.hash

    @property
    def passed(self) -> bool:
        """Whether its gate has passed."""
        return self.manifest.gate.get("verdict") == "pass"

    @property
    def centre(self) -> Array:
        """Location of the essentials, float32[WIDTH]."""
        return self.tensors["centre"]

    @property
    def spread(self) -> Array:
        """Scale of the essentials, float32[WIDTH]."""
        return self.tensors["spread"]

    def transition(self) -> TransitionModel:
        """The compiled model."""
        weights: dict[str, Any] = {name: self.tensors[name] for name in WEIGHTS}
        return pack(**weights, value_bias=self.manifest.value_bias)


def content_hash(manifest: PlannerManifest, tensors: dict[str, Array]) -> str:
    """Hash of everything that decides: not of the hash itself, nor of what the gate found."""
    bare = msgspec.structs.replace(manifest, hash="", gate={})
    digest = hashlib.sha256(msgspec.json.encode(bare, order="sorted"))
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def save_planner(folder: Path, manifest: PlannerManifest, tensors: dict[str, Array]) -> PlannerArtifact:
    """Write a planner; return it with its hash set.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    packed = {name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}
    sealed = msgspec.structs.replace(manifest, hash=content_hash(manifest, packed))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / TENSORS, save_tensors(packed))
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot write the planner: {error.strerror}") from error
    write_manifest(folder, sealed)
    return PlannerArtifact(sealed, packed)


def write_manifest(folder: Path, manifest: PlannerManifest) -> None:
    """Write the manifest of a planner whose weights are there."""
    text = json.dumps(msgspec.to_builtins(manifest), indent=1, sort_keys=True)
    try:
        _write(folder / MANIFEST, f"{text}\n".encode())
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot write the planner: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def load_planner(folder: Path) -> PlannerArtifact:
    """Read and verify a planner.

    Raises:
        ArtifactError: in one line: it is missing, damaged, changed, or was made for other essentials.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=PlannerManifest)
        tensors = load_tensors((folder / TENSORS).read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(f"{error.filename}: no such file: not a planner (emp plan train)") from error
    except NotADirectoryError as error:
        raise ArtifactError(f"{folder}: is a file, not the folder of a planner") from error
    except (OSError, SafetensorError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{folder}: not a readable planner: {error}") from error
    if content_hash(manifest, tensors) != manifest.hash:
        raise ArtifactError(f"{folder}: content does not match its hash: changed or damaged after training")
    _check(folder, manifest, tensors)
    return PlannerArtifact(manifest, tensors)


def _check(folder: Path, manifest: PlannerManifest, tensors: dict[str, Array]) -> None:
    if manifest.essentials != list(ESSENTIALS):
        raise ArtifactError(f"{folder}: made for other essentials than this program computes: train it again")
    if manifest.step < 1 or not 1 <= manifest.depth <= MOST_DEPTH:
        raise ArtifactError(f"{folder}: a step of {manifest.step} events and depth {manifest.depth}")
    h, c = manifest.hidden, manifest.outcomes
    if not (1 <= h <= MOST_HIDDEN and 1 <= c <= MOST_OUTCOMES):
        raise ArtifactError(
            f"{folder}: {h} hidden units and {c} outcomes are not 1 to {MOST_HIDDEN}, {MOST_OUTCOMES}"
        )
    shapes = {
        "w1": (WIDTH, h),
        "b1": (h,),
        "action": (ACTIONS, h),
        "change": (c, h, WIDTH),
        "change_bias": (c, WIDTH),
        "logits": (h, c),
        "logits_bias": (c,),
        "rewards": (h, c),
        "rewards_bias": (c,),
        "value_hidden": (h,),
        "value": (h,),
        "policy": (h, ACTIONS),
        "policy_bias": (ACTIONS,),
        "centre": (WIDTH,),
        "spread": (WIDTH,),
    }
    for name, shape in shapes.items():
        found = tensors.get(name)
        if found is None or found.shape != shape or found.dtype != np.float32:
            raise ArtifactError(f"{folder}: tensor {name} is missing, or is not float32{list(shape)}")
        if not math.isfinite(float(np.abs(found).max(initial=0.0))):
            raise ArtifactError(f"{folder}: tensor {name} holds values that are not finite")
    if not math.isfinite(manifest.value_bias):
        raise ArtifactError(f"{folder}: the bias of its value is not finite")
    if not (tensors["spread"] > 0.0).all():
        raise ArtifactError(f"{folder}: a scale of its essentials is not above 0")
