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
    """The folders in `runs` that hold a run, by name, or may: one that cannot be looked into says so when opened.

    Raises OSError where `runs` itself cannot be read, which `Path.glob` takes for an empty folder; there may be none.
    """
    try:
        names = sorted(os.listdir(runs))
    except FileNotFoundError:
        return []
    return [runs / name for name in names if _may_hold_a_run(runs / name)]


def _may_hold_a_run(folder: Path) -> bool:
    try:
        return exists(folder / "manifest.json")
    except OSError:  # another user's, say: it must not hide the runs beside it
        return True


def _id(folder: Path) -> str:
    """The run's id: the last word of its folder's name."""
    return folder.name.rpartition("-")[2]
