"""Files that are there whole or not at all."""

import hashlib
import os
from pathlib import Path

from emp.core.errors import JournalError
from emp.core.platform import open_folder


def sync_folder(folder: Path) -> None:
    """Make the names of new, renamed or removed files in a folder durable."""
    handle = open_folder(folder)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the content of a file that is written and closed durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content: a reader, or a crash, sees the old or the new, durably the new on return.

    The file is its owner's alone.
    """
    beside = path.with_name(f".{path.name}.tmp")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(data)
        sync_file(beside)
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise JournalError(f"cannot write {path}: {error.strerror}") from error


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
