"""The doctor says who has the lease on each instrument of the account, and what whoever takes it begins with."""

import time

import pytest

from emp.app.doctor import Finding, lease
from emp.core.config.config import SystemConfig
from emp.journal.lease.memory import MemoryStore
from emp.journal.lease.port import StoreError

NAMES = ("BTCUSDT", "EURUSD")
TERM_US = 60_000_000


def configured(redis: str = "redis://nowhere:1/0", names: tuple[str, ...] = NAMES) -> SystemConfig:
    return SystemConfig(
        mode="live",
        instruments={"names": list(names)},
        access={"connection_protocol": "fix"},
        lease={"redis": redis, "term_s": TERM_US / 1e6},
    )


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    made = MemoryStore(lambda: time.monotonic_ns() // 1_000)
    monkeypatch.setattr("emp.journal.lease.redis_store.RedisStore", lambda *_: made)
    return made


def take(store: MemoryStore, names: tuple[str, ...], holder: str, term_us: int = TERM_US) -> int:
    marks = [one.mark for one in store.look(names)]
    return store.take(names, holder, term_us, marks, floor=4, waited=True)


def said(*names: str) -> list[Finding]:
    return list(lease(configured(names=names or NAMES)))


def test_nothing_is_said_where_one_engine_trades_alone() -> None:
    alone = SystemConfig(mode="mock", instruments={"names": ["GOOG"]}, access={"connection_protocol": "mock"})
    assert list(lease(alone)) == []


def test_a_holder_is_named_and_a_lease_that_was_given_back(store: MemoryStore) -> None:
    token = take(store, NAMES, "box:7:ab")
    assert store.renew(NAMES, "box:7:ab", token, TERM_US, ("{}", "{}"), sure=True)
    found = said()
    assert [one.verdict for one in found] == ["ok", "ok"]
    assert found[0].found == f"BTCUSDT: held by box:7:ab, token {token}"
    store.give_back(NAMES, "box:7:ab", token, ("{}", "{}"))
    assert [one.found for one in said()] == [
        f"{name}: given back, last under token {token}" for name in NAMES
    ]


def test_a_holder_that_is_silent_and_one_of_another_term_are_told(store: MemoryStore) -> None:
    token = take(store, NAMES, "box:7:ab", 1)
    store.renew(NAMES, "box:7:ab", token, 1, ("{}", "{}"), sure=True)
    found = said()
    assert {one.verdict for one in found} == {"bad"}
    assert "asked for a term of 1e-06 s, this configuration for 60 s" in found[0].found
    assert "lease.term_s" in found[0].fix


def test_halted_starts_are_foretold(store: MemoryStore) -> None:
    (found,) = said("BTCUSDT")
    assert (found.verdict, "begins halted" in found.found) == ("warn", True)
    take(store, ("BTCUSDT",), "box:7:ab")  # which knew nothing either
    (found,) = said("BTCUSDT")
    assert "begins halted" in found.found


def test_a_redis_that_began_again_and_instruments_of_two_engines_are_told(store: MemoryStore) -> None:
    first = take(store, ("BTCUSDT",), "a:1:x")
    store.renew(("BTCUSDT",), "a:1:x", first, TERM_US, ("{}",), sure=True)
    second = take(store, ("EURUSD",), "b:2:y")
    store.renew(("EURUSD",), "b:2:y", second, TERM_US, ("{}",), sure=True)
    found = said()
    assert [one.verdict for one in found] == ["ok", "ok", "warn"]
    assert "not all instruments are one engine's" in found[-1].found
    store.restart(store.snapshot())
    assert all("before Redis began again" in one.found for one in said()[:2])


def test_a_redis_that_does_not_answer_is_bad_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = lease(configured("redis://127.0.0.1:1/0"))
    assert found.verdict == "bad"
    assert "\n" not in found.found
    (found,) = lease(configured("http://127.0.0.1:1/0"))
    assert (found.verdict, found.found.startswith("lease.redis")) == ("bad", True)

    def gone(*_: object) -> None:
        raise StoreError("Redis at x does not answer")

    monkeypatch.setattr("emp.journal.lease.redis_store.RedisStore", gone)
    assert [one.found for one in lease(configured())] == ["Redis at x does not answer"]
