"""The token that controls a run over HTTP: made anew for each run, kept in a file that its owner alone can read."""

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from emp.core.errors import JournalError, UsageError
from emp.core.small_file import read_small

NAME = "console.token"
SHORTEST = 24
"""Characters of a token of the owner's own."""


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(24)


def read_token(path: Path) -> str:
    """The token in the owner's own file; UsageError in one line where the file will not do."""
    try:
        mode = path.stat().st_mode
        token = read_small(path).decode(errors="replace").strip()
    except OSError as error:
        raise UsageError(f"http.token_file: cannot read {path}: {error.strerror or error}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"http.token_file: {path} can be read by others: chmod 600 it")
    if len(token) < SHORTEST or not token.isascii() or any(c.isspace() for c in token):
        raise UsageError(
            f"http.token_file: {path} must hold one line of at least {SHORTEST} ASCII characters without blanks"
        )
    return token


def write_token(folder: Path, token: str) -> Path:
    """Leave the token in a run's folder, for its owner alone; JournalError where that cannot be."""
    path = folder / NAME
    try:
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(handle, "w", encoding="ascii") as file:
            file.write(token + "\n")
    except OSError as error:
        raise JournalError(f"cannot write {path}: {error.strerror or error}") from None
    return path


def is_token(shown: str, token: str) -> bool:
    """Whether what was shown is the token, in a time that says nothing of how much of it is right."""
    return hmac.compare_digest(shown.encode(), token.encode())


def session_of(token: str) -> str:
    """What a cookie holds of who has logged in: made of the token, and no way back to it."""
    return hashlib.sha256(b"emp console session " + token.encode()).hexdigest()
