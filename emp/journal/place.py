"""Where a run is written: looked at before an order leaves, since a file that is gone takes writes without a word.

A folder that was deleted or unmounted keeps its open files alive, out of reach; a disk that is full, or read-only now,
is found by the write that fails, which is too late for what that write was about. Some room is kept for what must still
be written then: how the position was closed.
"""

import contextlib
import os
from pathlib import Path

from emp.core.disk import disk
from emp.core.errors import JournalError
from emp.journal.files import remove

LEAST_FREE = 16 << 20
"""Bytes that must be free for an order to leave."""

RESERVED = 8 << 20
"""Bytes that are kept, and let go when there is less than LEAST_FREE."""

ALARM_FREE = 1 << 30
"""Bytes below which an alarm is raised."""

LEAST_FILES = 64
"""Files that it must be possible to make for an order to leave: parts of logs are begun while a position is closed."""

ALARM_FILES = 4_096
"""The same, below which an alarm is raised."""


class Place:
    """The folder of one live run."""

    def __init__(self, folder: Path, ledger: Path) -> None:
        """Keep room in the folder; raises JournalError where there is none."""
        self._folder = folder
        self._ledger = ledger
        self._reserve = folder / "reserve.bin"
        try:
            found = os.stat(ledger)
            self._keep()
        except OSError as error:
            raise JournalError(
                f"cannot keep {RESERVED >> 20} MiB in {folder} for what must be written when the disk is full:"
                f" {error.strerror}"
            ) from error
        self._identity = (found.st_dev, found.st_ino)

    def _keep(self) -> None:
        handle = disk().open(self._reserve, os.O_RDWR | os.O_CREAT)
        try:
            disk().reserve(handle, RESERVED)
        finally:
            disk().close(handle)

    def check(self) -> None:
        """Raise JournalError where an order that leaves now could not be recorded so that it is found again."""
        try:
            found = os.stat(self._ledger)
            room = disk().room(self._folder)
        except OSError as error:
            raise JournalError(
                f"{self._ledger} is gone ({error.strerror}): what is written of this run cannot be found again"
            ) from error
        if (found.st_dev, found.st_ino) != self._identity:
            raise JournalError(
                f"{self._ledger} is another file now: this run is written where nobody finds it"
            )
        if room.read_only:
            raise JournalError(f"the disk of {self._folder} is read-only now")
        if room.free < LEAST_FREE:
            self.release()
            raise JournalError(
                f"the disk of {self._folder} has less than {LEAST_FREE >> 20} MiB left: free it, then restart"
            )
        if room.files < LEAST_FILES:
            raise JournalError(
                f"the disk of {self._folder} takes less than {LEAST_FILES} more files: remove some, then restart"
            )

    def alarm(self) -> str:
        """Why somebody should look at the disk soon; "" where nobody need."""
        try:
            room = disk().room(self._folder)
        except OSError as error:
            return f"the run's folder {self._folder} cannot be looked at: {error.strerror}"
        words = []
        if room.free < ALARM_FREE:
            words.append(f"has {room.free >> 20} MiB left; at {LEAST_FREE >> 20} MiB trading ends")
        if room.files < ALARM_FILES:
            words.append(f"takes {room.files} more files; at {LEAST_FILES} trading ends")
        return f"the disk of {self._folder} {', and '.join(words)}" if words else ""

    def release(self) -> None:
        """Let the room that was kept be used."""
        with contextlib.suppress(OSError):
            remove(self._reserve)
