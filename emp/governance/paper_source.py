"""Where a paper run's market came from, and by which code it ran."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Source(NamedTuple):
    """Where a run's market came from."""

    run: str
    protocol: str  # of access: "fix", "ctrader", "recording" or "mock"
    code: str


def source_of(manifest: Mapping[str, Any]) -> Source:
    """Of a run, from its manifest."""
    protocol = str(manifest["config"]["access"]["connection_protocol"])
    return Source(str(manifest["run"]), protocol, str(manifest["code"]))
