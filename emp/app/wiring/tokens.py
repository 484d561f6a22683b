"""Where renewed cTrader tokens are kept: renewing makes the old ones void, so a restart needs the new.

One file per account, readable by its owner only, replaced whole. It also holds a fingerprint of the refresh
token that the owner had given: when the owner gives another, that one counts and the file is forgotten.
"""

import hashlib
import os
from pathlib import Path

import msgspec

from emp.access.ctrader.settings import Credentials
from emp.core.config.secrets import Secret, refuse_if_shared
from emp.core.disk import disk
from emp.core.errors import ConfigError, JournalError
from emp.core.platform import exists


class _Kept(msgspec.Struct, frozen=True):
    given: str  # fingerprint of the owner's refresh token
    access_token: str
    refresh_token: str
    expires_at_ns: int


class TokenFile:
    """Tokens of one account in `path`."""

    def __init__(self, path: Path, given: Credentials) -> None:
        self._path = path
        self._given = given
        token = given.refresh_token or given.access_token
        self._fingerprint = hashlib.sha256(token.reveal().encode()).hexdigest()

    def newest(self) -> Credentials:
        """The owner's credentials, with the tokens that replaced theirs where they were renewed."""
        if not exists(self._path):
            return self._given
        refuse_if_shared(self._path)
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError):
            raise ConfigError(
                f"{self._path}: not readable as kept tokens: remove it and give new tokens"
            ) from None
        if kept.given != self._fingerprint:
            return self._given
        return msgspec.structs.replace(
            self._given,
            access_token=Secret(kept.access_token),
            refresh_token=Secret(kept.refresh_token),
            expires_at_ns=kept.expires_at_ns,
        )

    def keep(self, renewed: Credentials) -> None:
        """Write renewed tokens; they are on disk when this returns."""
        assert renewed.refresh_token is not None
        kept = _Kept(
            self._fingerprint,
            renewed.access_token.reveal(),
            renewed.refresh_token.reveal(),
            renewed.expires_at_ns or 0,
        )
        beside = self._path.with_name(f".{self._path.name}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.unlink(missing_ok=True)
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(msgspec.json.encode(kept))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            disk().sync_folder(self._path.parent)
        except OSError as error:
            raise JournalError(f"{self._path}: new tokens cannot be kept: {error.strerror}") from None
