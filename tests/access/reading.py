"""Reading a recording whole, with what holds of every recording checked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emp.access.recordings.mapping import Mapping
from emp.access.recordings.source import Recording, open_recording
from emp.core.instrument import find
from emp.core.records import Array


def read(
    path: Path | Sequence[Path],
    instrument: str = "GOOG",
    *,
    accept_losses: bool = True,
    catalogue: Path | None = None,
    mappings: Sequence[Mapping] = (),
) -> tuple[Array, Recording]:
    """All events, in order; every row is accounted for. Most inputs are small: much of them may be lost."""
    source = open_recording(
        path if isinstance(path, Path) else list(path),
        find(instrument, catalogue),
        accept_losses=accept_losses,
        mappings=mappings,
    )
    assert isinstance(source, Recording)
    events = np.concatenate(list(source.batches()))
    counts = source.counts
    assert counts.rows == counts.events + counts.merged + sum(counts.quarantined.values())
    assert counts.events == len(events)
    assert (np.diff(events["seq"]) > 0).all()
    assert (np.diff(events["ts"]) >= 0).all()
    return events, source
