"""Renewed tokens survive a restart, stay with their owner, and never show themselves."""

import stat
from pathlib import Path

import msgspec
import pytest

from emp.access.ctrader.settings import Credentials
from emp.app.wiring.tokens import TokenFile
from emp.core.config.secrets import Secret
from emp.core.errors import ConfigError

GIVEN = Credentials(Secret("id"), Secret("application"), Secret("access-1"), Secret("refresh-1"))
RENEWED = msgspec.structs.replace(
    GIVEN, access_token=Secret("access-2"), refresh_token=Secret("refresh-2"), expires_at_ns=77
)


def test_renewed_tokens_are_those_of_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "ctrader-1.tokens"
    assert TokenFile(path, GIVEN).newest() == GIVEN
    TokenFile(path, GIVEN).keep(RENEWED)
    assert TokenFile(path, GIVEN).newest() == RENEWED
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    later = msgspec.structs.replace(
        RENEWED, access_token=Secret("access-3"), refresh_token=Secret("refresh-3")
    )
    TokenFile(path, GIVEN).keep(later)
    assert TokenFile(path, GIVEN).newest() == later
    assert list(path.parent.iterdir()) == [path]


def test_tokens_that_the_owner_gives_anew_count(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    TokenFile(path, GIVEN).keep(RENEWED)
    fresh = msgspec.structs.replace(GIVEN, refresh_token=Secret("refresh-9"))
    assert TokenFile(path, fresh).newest() == fresh


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    TokenFile(path, GIVEN).keep(RENEWED)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        TokenFile(path, GIVEN).newest()


def test_a_torn_file_is_refused_without_quoting_it(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    TokenFile(path, GIVEN).keep(RENEWED)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ConfigError) as refused:
        TokenFile(path, GIVEN).newest()
    assert "access" not in str(refused.value)
