"""Databases that nobody closed: Python tells them from 3.13 on, and here every Python does."""

import functools
import sqlite3
import sys
import warnings


class Watched(sqlite3.Connection):
    """A connection that warns where it goes without having been closed."""

    def __del__(self) -> None:
        try:
            _ = self.total_changes
        except sqlite3.ProgrammingError:  # closed
            return
        warnings.warn(f"unclosed database in {self!r}", ResourceWarning, source=self, stacklevel=1)


def watch_databases() -> None:
    """From now on whoever connects, wherever, is given a connection that warns."""
    if sys.version_info < (3, 13):
        sqlite3.connect = functools.partial(sqlite3.connect, factory=Watched)  # type: ignore[assignment]
