"""A learned surrogate on disk: weights, tables, and a manifest that says what it may be used for.

    surrogate.safetensors   weights, location and scale of the input, quantiles of moves and residuals
    surrogate.json          kind, market, events of a leap, training, verdict, hash

Its verdict is that of `emp surrogate validate`, and names the weights that were judged. Whoever would put it in the
simulator's place loads it with `load_passed`, which refuses one that did not pass, or was not judged. It is not signed:
this keeps mistakes apart, not somebody who edits it.
"""

from pathlib import Path
from typing import Any

import msgspec

from emp.core import sealed
from emp.core.errors import ArtifactError
from emp.core.records import Array
from emp.core.sealed import Tensors
from emp.sim.surrogate.encode import scale_of
from emp.sim.surrogate.equivalence import EQUIVALENT
from emp.sim.surrogate.network import Network, pack_network
from emp.sim.surrogate.outcome import Tables
from emp.train.data.leaps import INPUTS, KINDS, MOVES, OUTPUTS, PARTS, REALS

QUESTIONS = ("alpha", "turnover", "fills", "inventory", "ranks")
"""What a verdict answers, each with a word of `equivalence`."""
KIND = sealed.Sealed("surrogate", "emp surrogate train", later="verdict")
TABLES = {
    "centre": (INPUTS,),
    "spread": (INPUTS,),
    "moves": (MOVES, PARTS),
    "residuals": (REALS, 4 * PARTS),
    "follow": (2, REALS),
}


class SurrogateManifest(sealed.SealedManifest, kw_only=True):
    """What stands beside the weights."""

    kind: str  # of KINDS
    market: str  # the flow's name, and
    params: str  # the hash of its parameters
    every: int  # events of a leap
    scale: list[float]  # SCALE
    verdict: dict[str, Any] = msgspec.field(default_factory=dict)  # what `emp surrogate validate` found last


class Learned(msgspec.Struct, frozen=True):
    """A verified surrogate in memory."""

    manifest: SurrogateManifest
    tensors: Tensors

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


def save_surrogate(folder: Path, manifest: SurrogateManifest, tensors: Tensors) -> Learned:
    """Write a surrogate; return it with its hash set. ArtifactError where the folder cannot be written."""
    return Learned(*sealed.save_sealed(KIND, folder, manifest, tensors))


def write_manifest(folder: Path, manifest: SurrogateManifest) -> None:
    """Write the manifest of a surrogate whose weights are there."""
    sealed.write_manifest(KIND, folder, manifest)


def load_surrogate(folder: Path) -> Learned:
    """Read and verify a surrogate, whatever its verdict.

    Raises:
        ArtifactError: in one line: it is missing, damaged, or changed.
    """
    manifest, tensors = sealed.load_sealed(KIND, folder, SurrogateManifest)
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


def _check(folder: Path, manifest: SurrogateManifest, tensors: Tensors) -> None:
    if manifest.kind not in KINDS or manifest.every < 1 or len(manifest.scale) != 4:
        raise ArtifactError(
            f"{folder}: its manifest is not one of a surrogate of this version: train it again"
        )
    last = tensors.get("heads.weight" if manifest.kind == "graph" else "out.weight")
    if last is None or (manifest.kind != "graph" and last.shape[1] != OUTPUTS):
        raise ArtifactError(f"{folder}: made for other outputs than this program has: train it again")
    sealed.check_shapes(folder, tensors, TABLES)
