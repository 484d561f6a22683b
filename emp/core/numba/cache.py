"""Where caches lie, and what becomes of folders that nobody uses.

A folder's time of change is when it was last used. Who works with a folder that another process removes finds
it empty, as on a new machine, and does the work again: nothing in a cache may be the only copy.
"""

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from emp.core.clock import LiveClock
from emp.core.platform import home, is_ours, say

DAY_NS = 86_400_000_000_000

UNUSED_DAYS = 7.0
"""Code or data that no process has used for so long is removed: that of older sources would pile up."""

PACKAGE = Path(__file__).resolve().parents[2]


def cache_root() -> Path:
    """Where caches are kept: `EMP_CACHE`, else `.cache` of the checkout, else the user's cache.

    Compiled code is run when it is read, so a folder of another user is not used, and one that cannot be written
    would mean compiling at each start: the user's own cache takes its place, which is said when it is first made.
    A user without a home has his own among temporary files. Where none of them is usable, what was wanted is named:
    who runs what he reads there looks at `unusable` first.
    """
    ours = home()
    own = ours / ".cache" / "emp" if ours else Path(tempfile.gettempdir()) / f"emp-cache-{os.geteuid()}"
    return _root(os.environ.get("EMP_CACHE", ""), own)


@cache
def _root(named: str, own: Path) -> Path:
    wanted = own
    if named:
        wanted = Path(named)
    elif (PACKAGE.parent / "pyproject.toml").exists():
        wanted = PACKAGE.parent / ".cache"
    why_not = unusable(wanted)
    if not why_not or wanted == own or unusable(own):
        return wanted
    if not (own / "numba").exists():
        say(f"emp: {why_not}: compiled code is kept in {own} instead (EMP_CACHE names another folder)")
    return own


def unusable(folder: Path) -> str:
    """Why a folder cannot serve as a cache, or "" where it can; it is made where it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = folder.stat()
    except OSError as error:
        return f"{folder} cannot be made ({(error.strerror or str(error)).lower()})"
    if not is_ours(facts):
        return f"{folder} belongs to another user"
    return "" if os.access(folder, os.W_OK) else f"{folder} cannot be written"


def mark_used(folder: Path) -> None:
    """Set a folder's time of change to now, where that is permitted."""
    try:
        os.utime(folder)
    except OSError:
        return


def last_use_ns(parent: Path) -> int:
    """When the cache was last used, by its own account: the newest folder that is not marked after now.

    Age is counted from there, not from now: a clock that jumps ahead, or a holiday, must not empty a cache before
    the first start after it has had the time to mark what it uses.
    """
    now = LiveClock().now_ns()
    return max((used for used in (_used_ns(entry) for entry in _folders(parent)) if used <= now), default=now)


def prune(parent: Path, unused_days: float, as_of_ns: int | None = None) -> list[Path]:
    """Remove the folders in `parent` last used so many days before `as_of_ns`; return them.

    Without `as_of_ns` it is when the cache was last used. What is marked after now, by a clock that has been set
    back since, is marked now, so that it ages.
    """
    now = LiveClock().now_ns()
    oldest = (last_use_ns(parent) if as_of_ns is None else as_of_ns) - unused_days * DAY_NS
    removed = []
    for entry in _folders(parent):
        used = _used_ns(entry)
        if used > now:
            mark_used(Path(entry.path))
        elif used < oldest:
            shutil.rmtree(entry.path, ignore_errors=True)
            removed.append(Path(entry.path))
    return removed


def size_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(at, name)).st_size
            except OSError:
                continue  # another process was faster
    return total


def _folders(parent: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(parent) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _used_ns(entry: "os.DirEntry[str]") -> int:
    """When a folder was last used; what another process has just removed counts as used now."""
    try:
        return entry.stat(follow_symlinks=False).st_mtime_ns
    except OSError:
        return LiveClock().now_ns()
