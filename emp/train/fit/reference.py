"""The drift reference of a model that was trained before artifacts carried one."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from emp.core.errors import UsageError
from emp.model.artifact import Artifact
from emp.train.data.data import Dataset
from emp.train.fit.fit import Trained, drift_reference, provenance

_SAME = ("instrument", "files", "rows", "train_ns", "calibrate_ns")
"""What says that a series is the one that a model was trained on."""


def with_reference(artifact: Artifact, datasets: Sequence[Dataset]) -> Trained:
    """An artifact's manifest and tensors with the drift reference of its own training series.

    Raises:
        UsageError: the series are not those that it was trained on.
    """
    manifest = artifact.manifest
    trained = {one["series"]: _identity(one) for one in manifest.provenance.get("series", [])}
    if trained != {data.series: _identity(provenance(data)) for data in datasets}:
        raise UsageError(
            f"model {artifact.hash[:12]} was trained on {', '.join(sorted(trained)) or 'nothing'}, on spans that its"
            " manifest names: its reference is of the same rows and no others"
        )
    tensors = artifact.tensors | drift_reference(datasets, manifest.domains)
    return Trained(msgspec.structs.replace(manifest, hash=""), tensors)


def _identity(series: Mapping[str, Any]) -> list[Any]:
    return [series[name] for name in _SAME]
