"""Whose money a run trades is known by one name, however its settings are spelt: else two engines would trade it."""

import os
from pathlib import Path
from typing import Any

import pytest

from emp.app.wiring.lease import open_account, stand_by
from emp.app.wiring.unfinished import account_of, written_account_of
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.errors import JournalError, LeaseError, UsageError
from emp.journal.account_file import AccountFile, AccountState, Carried
from emp.observe.board import Board


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


def test_hosts_of_other_letters_are_others() -> None:
    one, other = (account_of(config_of(host=host)) for host in ("stra\u00dfe.example", "strasse.example"))
    assert one != other


def opened(config: SystemConfig) -> AccountFile:
    return open_account(account_of(config), None, written_account_of(config))


def left_by_an_older_release(config: SystemConfig, state: AccountState) -> Path:
    """That knew the account by its settings as they are written; returns the file."""
    before = AccountFile(written_account_of(config))
    before.write(state)
    before.close()
    return before.path


def test_what_an_older_release_kept_by_another_spelling_is_known() -> None:
    config = config_of(host="Broker.Example")
    state = AccountState(run="R1", instruments={"GC": Carried(day=9, day_pnl=-40.0)})
    left_by_an_older_release(config, state)
    now = opened(config)
    assert now.read() == state
    now.close()
    now = opened(config)
    assert now.read() == state
    now.close()


@pytest.mark.parametrize("first", ["written", "one"], ids=["the_one_is_newer", "the_written_is_newer"])
def test_an_account_with_a_state_by_each_spelling_is_refused(first: str) -> None:
    """Either may have today's loss and its halt."""
    config = config_of(host="Broker.Example")
    yesterday = AccountState(run="R1", instruments={"GC": Carried(day=8)})
    today = AccountState(run="R2", instruments={"GC": Carried(day=9, day_pnl=-900.0, halted="daily_loss")})
    files = {}
    for name in ("written", "one") if first == "written" else ("one", "written"):
        spelt = config if name == "written" else config_of()
        files[name] = left_by_an_older_release(spelt, today if files else yesterday)
        os.utime(files[name], ns=(len(files), len(files)))
    newer = list(files.values())[-1]
    with pytest.raises(JournalError, match=f"{newer.name} was written last.*move away") as refused:
        opened(config)
    assert "\n" not in str(refused.value)
    assert all(str(file) in str(refused.value) and file.exists() for file in files.values())
    next(iter(files.values())).unlink()
    now = opened(config)
    assert now.read() == today
    now.close()


def test_the_same_state_by_each_spelling_is_one() -> None:
    config, state = config_of(host="Broker.Example"), AccountState(run="R1")
    left_by_an_older_release(config, state)
    left_by_an_older_release(config_of(), state)
    now = opened(config)
    assert now.read() == state
    now.write(AccountState(run="R2"))
    now.close()
    opened(config).close()


def test_an_engine_of_an_older_release_holds_the_account_by_its_spelling() -> None:
    config = config_of(host="Broker.Example")
    before = AccountFile(written_account_of(config))
    before.write(AccountState(run="R1"))
    before.say_who(Path("/runs/r1"))
    with pytest.raises(UsageError, match=r"traded by another engine on this machine \(pid .*/runs/r1\)"):
        opened(config)
    assert before.path.exists(), "it is not taken from the one that runs"
    before.close()
    now = opened(config)
    with pytest.raises(UsageError, match="traded by another engine"):
        AccountFile(written_account_of(config))
    now.close()
    AccountFile(written_account_of(config)).close()


def test_a_stand_by_knows_the_token_of_an_older_release(monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(host="Broker.Example")
    config = config.model_copy(
        update={"lease": config.lease.model_copy(update={"redis": "redis://127.0.0.1:1/0"})}
    )
    left_by_an_older_release(config, AccountState(run="R1", token=41))
    taken = []

    def lease(*of: Any) -> None:
        taken.append(of[-1])
        raise LeaseError("seen")

    monkeypatch.setattr("emp.app.wiring.lease.Lease", lease)
    with pytest.raises(LeaseError, match="seen"):
        stand_by(config, Board(LiveClock()))
    assert taken == [41]
