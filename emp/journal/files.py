"""Files that are there whole or not at all; and whether they are, which a disk that cannot be read does not say."""

import hashlib
import os
import stat
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from emp.core.disk import disk, write_new
from emp.core.errors import JournalError


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder.

    Raises JournalError where nobody can say (`Path.exists` says no, from Python 3.14 on whatever the reason), and
    where it is a link to something that is not there: a disk that is not mounted is no file that was never made.
    """
    return bool(_mode(path))


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name; raises as `is_there`."""
    return stat.S_ISDIR(_mode(path))


def _mode(path: Path) -> int:
    """What a path is, links followed; 0 where nothing is there."""
    try:
        return os.stat(path).st_mode
    except ValueError:  # no file can have that name
        return 0
    except (FileNotFoundError, NotADirectoryError):
        refuse_dangling(path)
        return 0
    except OSError as error:
        raise JournalError(f"cannot look at {path}: {error.strerror}") from error


def is_link(path: Path) -> bool:
    """Whether a path is a link; JournalError where nobody can say."""
    try:
        return stat.S_ISLNK(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise JournalError(f"cannot look at {path}: {error.strerror}") from error


def refuse_dangling(path: Path) -> None:
    """JournalError where a path is a link to something that is not there."""
    if not is_link(path) or os.path.exists(path):
        return
    with suppress(OSError):
        raise JournalError(
            f"{path} is a link to {os.readlink(path)}, which is not there: mount it, or remove the link"
        )


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """What a folder holds by names like `pattern`, in order of names; nothing where there is no such folder.

    Raises JournalError where it cannot be read, which `Path.glob` takes for an empty one.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        refuse_dangling(folder)
        return []
    except OSError as error:
        raise JournalError(f"cannot read {folder}: {error.strerror}") from error
    return [folder / name for name in sorted(names) if fnmatch(name, pattern)]


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
