"""What a model's differences are taken to: a weak reference would make any model look better than it."""

from typing import Literal

from emp.core.errors import ArtifactError
from emp.engine.choose import artifact_folder
from emp.model.artifact import Manifest, read_manifest

Likeness = Literal["shipped", "same training", "promoted", "other"]

FAIR = ("shipped", "same training", "promoted")
"""References that nobody could choose to make a model look better."""

LINEAR = "linear"


def likeness(model: Manifest, reference: Manifest, *, promoted: bool) -> Likeness:
    """What a reference is to a model: the shipped linear one, a linear one trained on the same rows, one that is
    approved by the same gates and code (`promoted`), or any other, which somebody could have chosen because it is bad.
    """
    if reference.hash == _shipped_linear():
        return "shipped"
    rows = trained_rows(model)
    if reference.kind == LINEAR and rows and trained_rows(reference) == rows:
        return "same training"
    return "promoted" if promoted else "other"


def trained_rows(manifest: Manifest) -> frozenset[str]:
    """Of each series of a model's training the content of its rows; nothing where one does not say."""
    series = manifest.provenance.get("series", [])
    rows = frozenset(str(one.get("rows_sha256", "")) for one in series)
    return frozenset() if "" in rows else rows


def _shipped_linear() -> str:
    try:
        return read_manifest(artifact_folder(LINEAR)).hash
    except ArtifactError:
        return ""  # none is shipped: no reference is that one
