"""A planner on disk: the weights of its transition model, and a manifest that says what it was made from.

    planner.safetensors   the unpadded weights, location and scale of the essentials
    planner.json          step, depth, the model whose forecasts it was trained on, its training, its gate, its hash

The content hash names it (`emp.core.sealed`).
"""

import math
from pathlib import Path
from typing import Any

import msgspec

from emp.core import sealed
from emp.core.errors import ArtifactError
from emp.core.records import Array
from emp.core.sealed import Tensors
from emp.plan.essentials import ACTIONS, ESSENTIALS, WIDTH
from emp.plan.transition import TransitionModel, pack

KIND = sealed.Sealed("planner", "emp plan train", later="gate")

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


class PlannerManifest(sealed.SealedManifest, kw_only=True):
    """What stands beside the weights."""

    model: str  # hash of the artifact whose forecasts it was trained on
    essentials: list[str]
    step: int  # visible events between two choices
    depth: int  # of the search that it serves with
    outcomes: int
    hidden: int
    value_bias: float
    gate: dict[str, Any] = msgspec.field(default_factory=dict)  # what `emp plan gate` found last


class PlannerArtifact(msgspec.Struct, frozen=True):
    """A verified planner in memory."""

    manifest: PlannerManifest
    tensors: Tensors

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


def content_hash(manifest: PlannerManifest, tensors: Tensors) -> str:
    """Hash of everything that decides: not of what the gate found."""
    return sealed.content_hash(KIND, manifest, tensors)


def save_planner(folder: Path, manifest: PlannerManifest, tensors: Tensors) -> PlannerArtifact:
    """Write a planner; return it with its hash set. ArtifactError where the folder cannot be written."""
    return PlannerArtifact(*sealed.save_sealed(KIND, folder, manifest, tensors))


def write_manifest(folder: Path, manifest: PlannerManifest) -> None:
    """Write the manifest of a planner whose weights are there."""
    sealed.write_manifest(KIND, folder, manifest)


def load_planner(folder: Path) -> PlannerArtifact:
    """Read and verify a planner.

    Raises:
        ArtifactError: in one line: it is missing, damaged, changed, or was made for other essentials.
    """
    manifest, tensors = sealed.load_sealed(KIND, folder, PlannerManifest)
    _check(folder, manifest, tensors)
    return PlannerArtifact(manifest, tensors)


def _check(folder: Path, manifest: PlannerManifest, tensors: Tensors) -> None:
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
    sealed.check_shapes(folder, tensors, shapes)
    if not math.isfinite(manifest.value_bias):
        raise ArtifactError(f"{folder}: the bias of its value is not finite")
    if not (tensors["spread"] > 0.0).all():
        raise ArtifactError(f"{folder}: a scale of its essentials is not above 0")
