"""A password in the address of a service is found however libpq would read it; nothing else is taken for one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from emp.core.config.addresses import PASSWORDS, carries_password
from emp.core.config.config import SystemConfig
from emp.core.errors import ConfigError


@pytest.mark.parametrize(
    "address",
    [
        "host=h password=secret",
        "password = 'a b' host=h",
        r"host=a\ b password=secret",
        "host='a' sslpassword=secret",
        "host=h PASSWORD=secret",
        "postgresql://u:secret@h/db",
        "postgresql://u:secret@h1:1,h2:2/db",
        "postgresql://u:p%40ss@/db?host=%2Frun",
        "postgresql://h/db?password=secret",
        "postgresql://h/db?connect_timeout=3&%70assword=secret",
        "redis://:secret@h:1/0",
        "redis://h:1/0?password=secret",
        "host='h password=secret",  # the quote does not end: it cannot be read
    ],
)
def test_a_password_is_found(address: str) -> None:
    assert carries_password(address)


@pytest.mark.parametrize(
    "address",
    [
        "host=127.0.0.1 dbname=emp user=emp",
        "host=h application_name='password=none of mine'",
        "host=h passfile=/etc/emp/pgpass",
        "host= user=emp",
        "postgresql://u@h/db?passfile=/etc/emp/pgpass",
        "redis://127.0.0.1:6379/0",
        "127.0.0.1:9092,127.0.0.1:9093",
        "",
    ],
)
def test_nothing_else_is_taken_for_one(address: str) -> None:
    assert not carries_password(address)


_words = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=8)
_names = st.sampled_from(
    ["host", "dbname", "user", "password", "sslpassword", "passfile", "application_name"]
)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@given(st.lists(st.tuples(_names, _words, st.sampled_from(["=", " = ", " ="])), max_size=5))
def test_libpq_reads_the_same(pairs: list[tuple[str, str, str]]) -> None:
    address = " ".join(f"{name}{between}{_quoted(value)}" for name, value, between in pairs)
    assert carries_password(address) == bool(PASSWORDS & set(conninfo_to_dict(address)))


def test_a_configuration_with_one_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "mode: mock\ninstruments: {names: [GOOG]}\nmirrors: {timescale: 'host=h password=hunter2'}\n"
    )
    with pytest.raises(ConfigError, match=r"mirrors\.timescale: a password has no place") as refused:
        SystemConfig.load(path)
    assert "hunter2" not in str(refused.value)
