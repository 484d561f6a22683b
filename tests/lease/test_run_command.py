"""`emp run` under a lease: it waits, trades, gives it back; and is refused where it is told not to wait."""

import time
from pathlib import Path
from typing import Any

import pytest

from emp.app.commands import run as command
from emp.core.codes import OrderStatus
from emp.core.contracts import OrderUpdate
from emp.core.errors import LeaseError, PositionLeftError
from emp.core.ids import cl_ord_id, token_of
from emp.engine.reconciliation.earlier import EarlierOrders
from emp.engine.succession import Models
from emp.journal.lease.left import decode_left
from emp.journal.lease.memory import MemoryStore
from tests.kit.killed import Forgetful
from tests.kit.models import buying_model
from tests.live.world import BTC


class Lazy(Forgetful):
    """Its market goes on by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.lazy = True


def configured(folder: Path, **more: str) -> Path:
    config = folder / "run.yaml"
    told = {"redis": "redis://nowhere:1/0", "term_s": "60"} | more
    lease = ", ".join(f"{name}: {value}" for name, value in told.items())
    config.write_text(
        "mode: live\ninstruments: {names: [BTCUSDT]}\nhttp: {port: 0}\nwarm_up_events: 0\ncool_down_events: 0\n"
        "access: {connection_protocol: fix}\ncontext: {enabled: false}\n"
        "model: {ssm_impl: linear, fallback_impl: none, monitor: false}\n"
        f"run_dir: {folder / 'runs'}\nlease: {{{lease}}}\n"
    )
    return config


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled_engine: None) -> MemoryStore:
    made = MemoryStore(lambda: time.monotonic_ns() // 1_000)
    monkeypatch.setattr("emp.journal.lease.redis_store.RedisStore", lambda *_: made)
    marks = [one.mark for one in made.look((BTC.name,))]
    made.take((BTC.name,), "before", 1, marks, floor=4, waited=True)
    made.give_back((BTC.name,), "before", 5, ("",))  # so that nobody has to wait for a term
    models = Models(buying_model(tmp_path / "model"))
    monkeypatch.setattr("emp.app.wiring.live.checked", lambda *_: ([BTC], models, {}))
    return made


def test_it_waits_for_its_lease_trades_under_it_and_gives_it_back(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    venues: list[Lazy] = []

    def opened(*_: Any) -> Lazy:
        venues.append(Lazy())
        venues[-1].position = 0 if len(venues) == 1 else venues[0].position
        return venues[-1]

    monkeypatch.setattr("emp.app.wiring.live.open_access", opened)
    command.run(configured(tmp_path), 1.0, False, False)  # halted: nobody knows what was lost today
    assert not venues[0].commands
    assert store.look((BTC.name,))[0].free
    first = store.look((BTC.name,))[0].token
    left = decode_left(store.look((BTC.name,))[0].state)
    assert left is not None
    assert left.carried.halted == "halted"
    said = capsys.readouterr().err
    assert f"emp: has the lease on the account, token {first}" in said
    assert "halted until `emp resume`" in said
    # the owner has let it trade, somewhere
    entry = store._entries[BTC.name]
    entry.state = entry.state.replace('"halted":"halted"', '"halted":""')
    (tmp_path / "elsewhere").mkdir()
    config = configured(tmp_path / "elsewhere")
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "elsewhere" / "state"))
    with pytest.raises(PositionLeftError):
        command.run(config, 4.0, False, False)
    assert {token_of(one.cl_ord_id) for one in venues[1].commands} == {first + 1}
    assert store.look((BTC.name,))[0].free


def test_who_may_not_wait_is_refused(tmp_path: Path, store: MemoryStore) -> None:
    store.answers = False
    with pytest.raises(LeaseError, match="the lease is not to be had: an answer: the store does not answer"):
        command.run(configured(tmp_path, wait="false", term_s="0.5"), None, False, False)
    assert LeaseError.exit_code == 10
    assert not (tmp_path / "runs").exists()


# --- orders of earlier holders ----------------------------------------------------------------------------------


def told(name: str, filled: int, status: OrderStatus = OrderStatus.CANCELED) -> OrderUpdate:
    return OrderUpdate(clOrdID=name, execID="x", status=status, filled=filled, price=1, ts=1)


def test_orders_of_an_earlier_holder_are_known_by_their_ids() -> None:
    earlier = EarlierOrders("0ABCDEFG", 9)
    theirs = cl_ord_id("1ABCDEFG", 4, 8)
    assert earlier.are(theirs)
    assert not earlier.are(cl_ord_id("0ABCDEFG", 4, 8))  # our own run's, which our ledger has
    assert not earlier.are(cl_ord_id("1ABCDEFG", 4))  # of an engine without a lease: somebody else's
    assert not earlier.are("by hand")
    earlier.note(told(theirs, 2))
    assert earlier.tell_nothing(told(theirs, 2))  # told at the start: part of the position
    assert not earlier.tell_nothing(told(theirs, 3))  # a fill that came behind it
    assert earlier.tell_nothing(told(cl_ord_id("1ABCDEFG", 3, 8), 5))  # it had ended before the start
    assert not earlier.tell_nothing(told("by hand", 0))
    with pytest.raises(LeaseError, match="a later holder"):
        earlier.are(cl_ord_id("1ABCDEFG", 4, 10))
    assert not EarlierOrders("0ABCDEFG", 0).are(theirs)
