"""Which process has a run: whoever writes its ledger, and, behind a paper run, whoever has yet to tell its days."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emp.core.disk import disk
from emp.core.errors import JournalError
from emp.core.platform import lock, locked_by

LEDGER_LOCK = "ledger.sqlite.lock"
DAYS_LOCK = "days.lock"


def written_by(path: Path) -> int | None:
    """The process that has the ledger of the run in a folder open; None where there is none, or nobody can tell."""
    return locked_by(path / LEDGER_LOCK)


def held_by(path: Path) -> int | None:
    """The process that writes the run in a folder, or holds it until its days are told; None as above."""
    pid = written_by(path)
    return locked_by(path / DAYS_LOCK) if pid is None else pid


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the run in a folder while the block lasts, or until this process dies.

    Raises:
        JournalError: the lock cannot be had.
    """
    name = path / DAYS_LOCK
    descriptor = None
    try:
        descriptor = disk().open(name, os.O_RDWR | os.O_CREAT)
        lock(descriptor)
    except OSError as error:
        if descriptor is not None:
            disk().close(descriptor)
        raise JournalError(f"cannot lock {name}: {error.strerror}") from error
    try:
        yield
    finally:
        disk().close(descriptor)
