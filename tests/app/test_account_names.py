"""Whose money a run trades is known by one name, however its settings are spelt: else two engines would trade it."""

from pathlib import Path

import pytest

from emp.app.wiring.unfinished import account_of, adopt_spelling
from emp.core.config.config import SystemConfig
from emp.core.errors import UsageError
from emp.journal.account_file import AccountFile, AccountState, Carried


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))


def config_of(**access: str) -> SystemConfig:
    told = {"connection_protocol": "fix", "host": "broker.example", "account": "7"} | access
    return SystemConfig(mode="live", instruments={"names": ["GC"]}, access=told)


@pytest.mark.parametrize(
    ("protocol", "host", "account", "same"),
    [
        ("fix", "Broker.Example", "7", True),
        ("fix", "broker.example.", "7", True),
        ("fix", "broker.example", "07", False),  # over FIX it is text
        ("ctrader", "broker.example", "07", True),  # over the Open API a number
        ("ctrader", "BROKER.EXAMPLE", "7", True),
        ("fix", "other.example", "7", False),
    ],
)
def test_two_spellings_of_an_account_are_one(protocol: str, host: str, account: str, same: bool) -> None:
    first = AccountFile(account_of(config_of(connection_protocol=protocol)))
    second = account_of(config_of(connection_protocol=protocol, host=host, account=account))
    try:
        if same:
            with pytest.raises(UsageError, match="traded by another engine"):
                AccountFile(second)
        else:
            AccountFile(second).close()
    finally:
        first.close()


def test_what_an_older_release_kept_by_another_spelling_is_known() -> None:
    config = config_of(host="Broker.Example")
    state = AccountState(run="R1", instruments={"GC": Carried(day=9, day_pnl=-40.0)})
    before = AccountFile({**account_of(config), "host": "Broker.Example"})
    before.write(state)
    before.close()
    adopt_spelling(config)
    now = AccountFile(account_of(config))
    assert now.read() == state
    newer = AccountState(run="R2")
    now.write(newer)
    before.write(state)
    adopt_spelling(config)
    assert now.read() == newer, "what is known by the one name is not put back"
    now.close()
