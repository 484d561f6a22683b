"""Where a paper run's market came from, and by which code it ran."""

from typing import NamedTuple


class Source(NamedTuple):
    """Where a run's market came from."""

    run: str
    protocol: str  # of access: "fix", "ctrader", "recording" or "mock"
    code: str
