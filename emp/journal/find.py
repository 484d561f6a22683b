"""Find a run by what a person calls it."""

from pathlib import Path

from emp.core.errors import UsageError


def find_run(name: str, runs: Path) -> Path:
    """The folder of a run: a path, the folder's name below `runs`, its run id, or the beginning of either.

    Raises:
        UsageError: no run or several are called so; the line names those that there are.
    """
    path = Path(name)
    if (path / "manifest.json").exists():
        return path
    folders = [folder.parent for folder in sorted(runs.glob("*/manifest.json"))]
    exact = [folder for folder in folders if name in (folder.name, _id(folder))]
    found = exact or [f for f in folders if f.name.startswith(name) or _id(f).startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found:
        known = ", ".join(folder.name for folder in folders[-5:]) or "none"
        raise UsageError(f"no run {name} in {runs}; the newest there: {known}")
    raise UsageError(f"{name} is the beginning of several runs: {', '.join(f.name for f in found[:5])}")


def _id(folder: Path) -> str:
    """The run's id: the last word of its folder's name."""
    return folder.name.rpartition("-")[2]
