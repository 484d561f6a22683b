"""A run that goes on, as a crash at this moment would have left it: what can be replayed while the run trades on.

The journal is copied first and the ledger after it, so that the ledger tells of all that the journal's events led to,
as it does after a crash. Nothing of the run is locked or changed; parts that are whole are linked, not copied.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from emp.core.errors import JournalError
from emp.core.platform import exists
from emp.journal.files import is_there
from emp.journal.high_water import mark_path
from emp.journal.latency_log import LATENCY
from emp.journal.monitor_log import MONITOR, read_monitor
from emp.journal.run import RunFolder
from emp.journal.tail import TAIL, read_head, read_tail

TRIES = 50
"""Looks at a tail that is just being begun anew, which takes no longer than a write."""


def snapshot(folder: RunFolder, into: Path) -> RunFolder:
    """Copy a run into a new folder.

    Raises:
        JournalError: the run has journalled nothing yet, or cannot be read.
    """
    try:
        into.mkdir(parents=True)
        shutil.copyfile(folder.path / "manifest.json", into / "manifest.json")
        if exists(folder.path / LATENCY):  # before the rows that it times
            shutil.copyfile(folder.path / LATENCY, into / LATENCY)
        (into / TAIL).write_bytes(_tail(folder.path / TAIL))
        newest = read_tail(into / TAIL)[-1]
        for name in ("market", "actions"):
            (into / name).mkdir()
            for part in sorted((folder.path / name).glob("part-*.parquet")):
                (into / name / part.name).symlink_to(part.resolve())
        found = read_monitor(folder.path)
        known = [line for line, told in found if told["at"] <= newest.first + len(newest.events)]
        (into / MONITOR).write_bytes(b"".join(known))
        (into / "models").symlink_to(folder.models.resolve())
        _copy_ledger(folder.ledger, into / folder.ledger.name)
    except OSError as error:
        raise JournalError(f"{folder.path}: cannot be copied: {error}") from error
    return RunFolder(into)


def _tail(path: Path) -> bytes:
    """A tail with its head. Between two parts it is begun anew, and for a moment there is none."""
    for _ in range(TRIES):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        if read_head(data) is not None:
            return data
    raise JournalError(f"{path}: holds nothing yet")


def _copy_ledger(ledger: Path, into: Path) -> None:
    """Copy a ledger, and before it the companion that says how far it had come at least."""
    if is_there(mark_path(ledger)):
        shutil.copyfile(mark_path(ledger), mark_path(into))
    uri = f"file:{quote(str(ledger.resolve()))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as source, closing(sqlite3.connect(into)) as copy:
            source.backup(copy)
    except sqlite3.Error as error:
        raise JournalError(f"{ledger}: cannot be copied: {error}") from error
