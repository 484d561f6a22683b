"""The kill switch as a file: for who reaches the box, but neither the page nor a shell of the engine's user."""

from collections.abc import Callable
from pathlib import Path

NAME = "KILL"
"""Of the file, in the run's folder; what stands in it does not matter."""


class KillFile:
    """Looks whether somebody has put the file there."""

    def __init__(self, folder: Path | None, kill: Callable[[str], None]) -> None:
        self._path = None if folder is None else folder / NAME
        self._kill = kill
        self._pulled = False

    @property
    def there(self) -> bool:
        """Whether the file is there: nothing is resumed until it is removed."""
        try:
            return self._path is not None and self._path.exists()
        except OSError:  # a folder that is gone is the disk's alarm
            return False

    def look(self) -> None:
        """Pull the kill switch where the file has come, once for each time."""
        before, self._pulled = self._pulled, self.there
        if self._pulled and not before:
            self._kill("file")
