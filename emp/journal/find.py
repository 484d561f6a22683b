"""Find a run by what a person calls it."""

import os
from pathlib import Path

from emp.core.errors import UsageError
from emp.core.platform import exists


def find_run(name: str, runs: Path) -> Path:
    """The folder of a run: a path, the folder's name below `runs`, its run id, or the beginning of either.

    Raises:
        UsageError: no run or several are called so; the line names those that there are.
    """
    path = Path(name)
    if exists(path / "manifest.json"):
        return path
    folders = run_folders(runs)
    exact = [folder for folder in folders if name in (folder.name, _id(folder))]
    found = exact or [f for f in folders if f.name.startswith(name) or _id(f).startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(folder.name for folder in folders[-5:]) or "none"
        raise UsageError(f"no run {name} in {runs}; the newest there: {known}")
    raise UsageError(f"{name} is the beginning of several runs: {', '.join(f.name for f in found[:5])}")


def run_folders(runs: Path) -> list[Path]:
    """The folders in `runs` that hold a run, by name; none where there is no such folder.

    Raises OSError where that cannot be known: `Path.glob` finds nothing in a folder that may not be read.
    """
    try:
        names = sorted(os.listdir(runs))
    except FileNotFoundError:
        return []
    return [runs / name for name in names if exists(runs / name / "manifest.json")]


def _id(folder: Path) -> str:
    """The run's id: the last word of its folder's name."""
    return folder.name.rpartition("-")[2]
