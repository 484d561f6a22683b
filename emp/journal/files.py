"""Files that are there whole or not at all."""

import hashlib
from contextlib import suppress
from pathlib import Path

from emp.core.disk import disk, write_new
from emp.core.errors import JournalError


def remove(path: Path) -> None:
    """Remove a file where it is there; raises OSError."""
    with suppress(FileNotFoundError):
        disk().unlink(path)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content: a reader, or a crash, sees the old or the new, durably the new on return.

    The file is its owner's alone.
    """
    beside = path.with_name(f".{path.name}.tmp")
    try:
        write_new(beside, data)
        disk().replace(beside, path)
        disk().sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            remove(beside)
        raise JournalError(f"cannot write {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
