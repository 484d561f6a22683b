"""The kill switch as a file: for who reaches the box's disk, but neither the page nor the commands."""

import os
from collections.abc import Callable
from pathlib import Path

NAME = "KILL"
"""Of the file, in the run's folder or the folder of runs; what stands in it does not matter."""


class KillFile:
    """Looks whether somebody has put the file there."""

    def __init__(self, folder: Path | None, kill: Callable[[str], None]) -> None:
        """`folder` is the run's; None: it has none, and nobody can."""
        self._paths = () if folder is None else (folder / NAME, folder.parent / NAME)
        self._kill = kill
        self._pulled = False

    @property
    def there(self) -> bool:
        """Whether the file is there, or nobody can tell: nothing is resumed then."""
        return any(_is_there(path, unknown=True) for path in self._paths)

    def look(self) -> None:
        """Pull the kill switch where the file has come, once for each time; a folder that is gone pulls nothing."""
        before, self._pulled = self._pulled, any(_is_there(path, unknown=False) for path in self._paths)
        if self._pulled and not before:
            self._kill("file")

    def forget(self) -> None:
        """Trading was resumed: a file that comes from now on is another one."""
        self._pulled = False


def _is_there(path: Path, *, unknown: bool) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return unknown
    return True
