"""Old runs give way to new ones, where the owner has said how much disk runs may take (`journal.keep_gb`).

Only runs that ended in order are removed, the oldest first, and never one of the last `KEPT_DAYS` days: what did not
end in order may hold positions, and is its owner's to look at. A run is renamed before it is removed, so that a process
that dies meanwhile leaves no half of one; the next look removes what is left.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from emp.core.errors import JournalError
from emp.journal.run import RunFolder

KEPT_DAYS = 2.0
"""Days for which a run that has ended stays, whatever it takes: what happened yesterday is looked at today."""

_DOOMED = ".removed-"


class Removed(NamedTuple):
    """A run that was removed."""

    name: str
    bytes: int


def size_of(folder: Path) -> int:
    """Bytes of disk that a folder's files take; what vanishes meanwhile counts for nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            facts = path.lstat()
        except OSError:
            continue
        total += facts.st_blocks * 512
    return total


def make_room(runs: Path, keep_bytes: int, now_s: float) -> Iterator[Removed]:
    """Remove the oldest runs that have ended until all runs together take `keep_bytes` at most, and yield each.

    `now_s` is the wall time, s since the epoch. JournalError where one cannot be removed.
    """
    for half in runs.glob(f"{_DOOMED}*"):
        shutil.rmtree(half, ignore_errors=True)
    sizes = {path.parent: size_of(path.parent) for path in runs.glob("*/manifest.json")}
    over = sum(sizes.values()) - keep_bytes
    for path, ended_s in _ended(list(sizes)):
        if over <= 0 or now_s - ended_s < KEPT_DAYS * 86_400:
            return
        doomed = path.with_name(f"{_DOOMED}{path.name}")
        try:
            path.rename(doomed)
        except OSError as error:
            raise JournalError(
                f"cannot remove {path}, which journal.keep_gb asks for: {error.strerror}"
            ) from error
        shutil.rmtree(doomed, ignore_errors=True)
        over -= sizes[path]
        yield Removed(path.name, sizes[path])


def _ended(folders: list[Path]) -> list[tuple[Path, float]]:
    """Runs that have ended in order, oldest first, and when that was, in s since the epoch."""
    found = []
    for path in folders:
        try:
            if RunFolder(path).finished:
                found.append((path, (path / "summary.json").stat().st_mtime))
        except (JournalError, OSError):
            continue  # what cannot be read is nobody's to remove
    return sorted(found, key=lambda one: one[1])
