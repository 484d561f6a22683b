"""How far a log of a registry had come, remembered outside of it: a log whose end was cut off is whole in itself.

    EMP_STATE/registries/HASH.json    one for each log, by its path: how many lines it had, and the hash of the newest

What is remembered counts for as long as the registry trusts the key that had signed that line: a registry that is
made anew in the same place has keys of its own.
"""

import hashlib
import os
import threading
from collections.abc import Container
from pathlib import Path

import msgspec

from emp.core.disk import disk, make_folders, write_new
from emp.core.errors import GovernanceError, JournalError
from emp.journal.account_file import state_folder


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The newest line that was seen."""

    lines: int
    hash: str
    key: str  # id of the key that signed it


def mark_path(log: Path) -> Path:
    """Where the mark of a log lies.

    Raises:
        GovernanceError: this user has no place for it.
    """
    name = hashlib.sha256(os.fsencode(log.resolve())).hexdigest()
    try:
        return state_folder("registries") / f"{name}.json"
    except JournalError as error:
        raise GovernanceError(str(error)) from error


def read_mark(log: Path, trusted: Container[str]) -> Mark | None:
    """What is remembered of a log; None where nothing is, or of another registry.

    Raises:
        GovernanceError: it cannot be read.
    """
    path = mark_path(log)
    try:
        mark = msgspec.json.decode(path.read_bytes(), type=Mark)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GovernanceError(f"{path}: how far {log} had come cannot be read: {error}") from error
    return mark if mark.key in trusted else None


def write_mark(log: Path, mark: Mark) -> None:
    """Remember, durably."""
    path = mark_path(log)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        make_folders(path.parent, 0o700)
        write_new(beside, msgspec.json.encode(mark))
        disk().replace(beside, path)
        disk().sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise GovernanceError(f"{path}: cannot remember how far {log} has come: {error.strerror}") from error
