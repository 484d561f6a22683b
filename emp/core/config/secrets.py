"""Credentials: from the environment or an owner-only file, in a type that never shows itself.

A secret is named like the variable that carries it (`EMP_FIX_PASSWORD`). The file is named by
`EMP_SECRETS_FILE` and holds `NAME=value` lines; the environment wins over the file.
"""

import hmac
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from emp.core.errors import ConfigError
from emp.core.platform import is_ours

SECRETS_FILE = "EMP_SECRETS_FILE"

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "fix": ("EMP_FIX_USERNAME", "EMP_FIX_PASSWORD"),
    "ctrader": ("EMP_CTRADER_CLIENT_ID", "EMP_CTRADER_CLIENT_SECRET", "EMP_CTRADER_ACCESS_TOKEN"),
}
"""Credentials by connection protocol; other protocols need none."""

HEARTBEAT_KEY: Final = "EMP_HEARTBEAT_KEY"
"""What `emp watch` on another machine knows a heartbeat by."""

REDIS_PASSWORD: Final = "EMP_REDIS_PASSWORD"
"""What the mirror in Redis logs in with, where Redis asks for one."""

OPTIONAL: Final = ("EMP_CTRADER_REFRESH_TOKEN", HEARTBEAT_KEY, REDIS_PASSWORD)
"""What renews a token, and what not every run has."""

ALERTS: Final = (
    "EMP_ALERT_WEBHOOK_URL",
    "EMP_ALERT_WEBHOOK_TOKEN",
    "EMP_ALERT_PUSH_URL",
    "EMP_ALERT_PUSH_TOKEN",
    "EMP_ALERT_SMTP_USERNAME",
    "EMP_ALERT_SMTP_PASSWORD",
)
"""What receivers of alerts may need; an address that is itself the secret stands here, not in the configuration."""

KNOWN: Final = (
    frozenset(name for names in NEEDED.values() for name in names) | frozenset(OPTIONAL) | frozenset(ALERTS)
)

_HIDDEN = "<secret>"


class Secret:
    """A value that only `reveal()` gives out: never repr, str, format, pickle, copy, JSON or an exception."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The value itself: call this only where it goes onto the wire."""
        return self.__value

    def __repr__(self) -> str:
        return _HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return _HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(
            self.__value.encode(), other.reveal().encode()
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")


def refuse_if_shared(path: Path) -> None:
    """Raise ConfigError unless the file is ours and closed to group and others."""
    try:
        facts = path.stat()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the secrets file: {error.strerror}") from None
    if not stat.S_ISREG(facts.st_mode):
        raise ConfigError(f"{path}: the secrets file is not a regular file")
    if _is_credential(path, facts):
        return
    if not is_ours(facts):
        raise ConfigError(f"{path}: the secrets file belongs to another user; run chown $USER {path}")
    if facts.st_mode & 0o077:
        mode = stat.S_IMODE(facts.st_mode)
        raise ConfigError(f"{path}: others can read the secrets file (mode {mode:04o}); run chmod 600 {path}")


def _is_credential(path: Path, facts: os.stat_result) -> bool:
    """Whether systemd has laid the file there for this service alone: root's, and readable by an entry for its user,
    which shows as a right of the group.
    """
    folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return bool(folder) and path.parent == Path(folder) and facts.st_uid == 0 and not facts.st_mode & 0o037


def read_secrets_file(path: Path) -> dict[str, Secret]:
    """Secrets of a `NAME=value` file; blank lines and lines that start with # are skipped.

    Raises ConfigError, never quoting a line of the file, where the file is open to others or malformed.
    """
    refuse_if_shared(path)
    found: dict[str, Secret] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the secrets file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the secrets file cannot be read as UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().partition("=")
        if not name or name.startswith("#"):
            continue
        name = name.strip()
        if not equals:
            raise ConfigError(f"{path}: line {number}: expected NAME=value")
        if name not in KNOWN:
            raise ConfigError(f"{path}: line {number}: no such credential; known: {', '.join(sorted(KNOWN))}")
        if name in found:
            raise ConfigError(f"{path}: line {number}: {name} is given twice")
        if value.strip():
            found[name] = Secret(value.strip())
    return found


def load_secrets(environ: Mapping[str, str] | None = None) -> dict[str, Secret]:
    """Every known credential that is present, by name; an empty value counts as absent. ConfigError as of the file."""
    environ = os.environ if environ is None else environ
    named = environ.get(SECRETS_FILE)
    try:
        found = read_secrets_file(Path(named).expanduser()) if named else {}
    except RuntimeError:
        raise ConfigError(
            f"{SECRETS_FILE}: {named}: there is no such home folder; give the whole path"
        ) from None
    found.update({name: Secret(environ[name]) for name in sorted(KNOWN) if environ.get(name)})
    return found


def heartbeat_key() -> Secret:
    """The key of heartbeats; ConfigError where there is none, or one so short that it could be guessed."""
    key = load_secrets().get(HEARTBEAT_KEY)
    if key is None or len(key.reveal()) < 16:
        raise ConfigError(
            f"a heartbeat needs {HEARTBEAT_KEY}, the same 16 characters or more on both machines, in the environment or"
            f" in the file that {SECRETS_FILE} names"
        )
    return key


def missing_secrets(protocol: str, found: Mapping[str, Secret]) -> Sequence[str]:
    """Names of the credentials that a connection protocol needs and `found` lacks."""
    return [name for name in NEEDED.get(protocol, ()) if name not in found]
