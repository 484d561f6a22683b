"""A learned surrogate on disk: weights, tables, and a manifest that says what it may be used for.

    surrogate.safetensors   weights, location and scale of the input, quantiles of moves and residuals
    surrogate.json          kind, market, events of a leap, training, verdict, hash

Its verdict is that of `emp surrogate validate`, and names the weights that were judged. Whoever would put it in the
simulator's place loads it with `load_passed`, which refuses one that did not pass, or was not judged. It is not signed:
this keeps mistakes apart, not somebody who edits it. It is read with nothing but NumPy.
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
from emp.sim.surrogate.encode import scale_of
from emp.sim.surrogate.equivalence import EQUIVALENT
from emp.sim.surrogate.network import Network, pack_network
from emp.sim.surrogate.outcome import Tables
from emp.train.data.leaps import INPUTS, KINDS, MOVES, OUTPUTS, PARTS, REALS

QUESTIONS = ("alpha", "turnover", "fills", "inventory", "ranks")
"""What a verdict answers, each with a word of `equivalence`."""
TENSORS, MANIFEST = "surrogate.safetensors", "surrogate.json"
TABLES = {
    "centre": (INPUTS,),
    "spread": (INPUTS,),
    "moves": (MOVES, PARTS),
    "residuals": (REALS, 4 * PARTS),
    "follow": (2, REALS),
}


class SurrogateManifest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What stands beside the weights."""

    kind: str  # of KINDS
    market: str  # the flow's name, and
    params: str  # the hash of its parameters
    every: int  # events of a leap
    scale: list[float]  # SCALE
    provenance: dict[str, Any] = {}
    verdict: dict[str, Any] = {}  # what `emp surrogate validate` found last; not part of the hash
    format: int = 1
    hash: str = ""


class Learned(msgspec.Struct, frozen=True):
    """A verified surrogate in memory."""

    manifest: SurrogateManifest
    tensors: dict[str, Array]

    @property
    def passed(self) -> bool:
        """Whether its equivalence with the simulator was shown: of these weights, in every question."""
        said = self.manifest.verdict
        answers = said.get("answers", {})
        whole = set(answers) == set(QUESTIONS) and set(answers.values()) == {EQUIVALENT}
        return said.get("passed") is True and said.get("surrogate") == self.manifest.hash and whole

    @property
    def scale(self) -> Array:
        """SCALE, shape (1,)."""
        return scale_of(*self.manifest.scale)

    def network(self) -> Network:
        """The compiled network."""
        return pack_network(self.manifest.kind, self.tensors, self.tensors["centre"], self.tensors["spread"])

    def tables(self) -> Tables:
        """What turns its outputs into draws."""
        return Tables(*(self.tensors[name] for name in Tables._fields))


def content_hash(manifest: SurrogateManifest, tensors: dict[str, Array]) -> str:
    """Hash of everything that a rollout depends on: not of the hash itself, nor of the verdict."""
    bare = msgspec.structs.replace(manifest, hash="", verdict={})
    digest = hashlib.sha256(msgspec.json.encode(bare, order="sorted"))
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()


def save_surrogate(folder: Path, manifest: SurrogateManifest, tensors: dict[str, Array]) -> Learned:
    """Write a surrogate; return it with its hash set.

    Raises:
        ArtifactError: the folder cannot be written.
    """
    packed = {name: np.ascontiguousarray(t, np.float32) for name, t in tensors.items()}
    sealed = msgspec.structs.replace(manifest, hash=content_hash(manifest, packed))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / TENSORS, save_tensors(packed))
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot write the surrogate: {error.strerror}") from error
    write_manifest(folder, sealed)
    return Learned(sealed, packed)


def write_manifest(folder: Path, manifest: SurrogateManifest) -> None:
    """Write the manifest of a surrogate whose weights are there."""
    text = json.dumps(msgspec.to_builtins(manifest), indent=1, sort_keys=True)
    try:
        _write(folder / MANIFEST, f"{text}\n".encode())
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot write the surrogate: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def load_surrogate(folder: Path) -> Learned:
    """Read and verify a surrogate, whatever its verdict.

    Raises:
        ArtifactError: in one line: it is missing, damaged, or changed.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=SurrogateManifest)
        tensors = load_tensors((folder / TENSORS).read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{error.filename}: no such file: not a surrogate (emp surrogate train)"
        ) from error
    except NotADirectoryError as error:
        raise ArtifactError(f"{folder}: is a file, not the folder of a surrogate") from error
    except (OSError, SafetensorError, msgspec.DecodeError) as error:
        raise ArtifactError(f"{folder}: not a readable surrogate: {error}") from error
    if content_hash(manifest, tensors) != manifest.hash:
        raise ArtifactError(f"{folder}: content does not match its hash: changed or damaged after training")
    _check(folder, manifest, tensors)
    return Learned(manifest, tensors)


def load_passed(folder: Path) -> Learned:
    """Read a surrogate that may stand in for the simulator.

    Raises:
        ArtifactError: as `load_surrogate`; or its equivalence was not shown: it must be trained again.
    """
    found = load_surrogate(folder)
    if not found.manifest.verdict:
        raise ArtifactError(f"{folder}: refused: never judged; first emp surrogate validate {folder}")
    if not found.passed:
        answers = found.manifest.verdict.get("answers", {})
        failed = ", ".join(f"{name} {answer}" for name, answer in answers.items() if answer != EQUIVALENT)
        raise ArtifactError(
            f"{folder}: refused: not equivalent to the simulator ({failed or 'the verdict is of other weights'}):"
            " train it again (emp surrogate train)"
        )
    return found


def _check(folder: Path, manifest: SurrogateManifest, tensors: dict[str, Array]) -> None:
    if manifest.kind not in KINDS or manifest.every < 1 or len(manifest.scale) != 4:
        raise ArtifactError(
            f"{folder}: its manifest is not one of a surrogate of this version: train it again"
        )
    last = tensors.get("heads.weight" if manifest.kind == "graph" else "out.weight")
    if last is None or (manifest.kind != "graph" and last.shape[1] != OUTPUTS):
        raise ArtifactError(f"{folder}: made for other outputs than this program has: train it again")
    for name, shape in TABLES.items():
        if name not in tensors or tensors[name].shape != shape:
            raise ArtifactError(f"{folder}: tensor {name} is missing, or is not float32{list(shape)}")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or not math.isfinite(float(np.abs(tensor).max(initial=0.0))):
            raise ArtifactError(
                f"{folder}: tensor {name} is not float32, or holds values that are not finite"
            )
