"""Folders of a cache that are marked as used, and removed once nobody has used them for a while.

A folder's time of change is when it was last used. Who works with a folder that another process removes finds
it empty, as on a new machine, and does the work again: nothing in a cache may be the only copy.
"""

import os
import shutil
from pathlib import Path

from emp.core.clock import LiveClock

DAY_NS = 86_400_000_000_000


def mark_used(folder: Path) -> None:
    """Set a folder's time of change to now, where that is permitted."""
    try:
        os.utime(folder)
    except OSError:
        return


def prune(parent: Path, unused_days: float) -> list[Path]:
    """Remove the folders in `parent` that were not marked as used for so many days; return them."""
    oldest = LiveClock().now_ns() - unused_days * DAY_NS
    removed = []
    try:
        folders = [entry for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    for entry in folders:
        try:
            if entry.stat(follow_symlinks=False).st_mtime_ns >= oldest:
                continue
        except OSError:
            continue  # another process was faster
        shutil.rmtree(entry.path, ignore_errors=True)
        removed.append(Path(entry.path))
    return removed
