"""A live run under a lease: asked before each send, in doubt, lost, given back; and what its successor begins with."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from emp.access.port import LinkState
from emp.app.wiring.lease import _leased, open_account, stand_by
from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.rerun import replay_run
from emp.core.approval import Cleared, command_of
from emp.core.clock import LiveClock
from emp.core.codes import OrderStatus, Reason
from emp.core.config.config import SystemConfig
from emp.core.contracts import CancelOrder, Control, NewOrder, OrderUpdate, QueryOrder
from emp.core.errors import ConfigError, LeaseError, UsageError, VenueError
from emp.core.ids import token_of
from emp.engine.lease import Lease, LeaseTerms
from emp.engine.lease_keeper import LeaseKeeper
from emp.engine.succession import Models
from emp.journal.account_file import Carried, known_token
from emp.journal.lease.left import Left, decode_left, encode_left
from emp.journal.lease.memory import MemoryStore
from emp.journal.reader import LedgerReader
from emp.observe.board import Board
from emp.observe.metrics import exposition, registry
from tests.kit.killed import Forgetful
from tests.kit.models import buying_model, eager_model
from tests.live.world import BTC

pytestmark = pytest.mark.usefixtures("compiled_engine")

S = 1_000_000_000
FIRST = 1 << 24  # the first token here


class Shifted(LiveClock):
    """The machine's clock, which a test moves on for the lease alone."""

    ahead_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.ahead_ns


class Account:
    """A store, and what a test does to it."""

    def __init__(self, term_s: float = 60.0) -> None:
        self.clock = Shifted()
        self.store = MemoryStore(lambda: self.clock.monotonic_ns() // 1_000)
        term = int(term_s * S)
        self.terms = LeaseTerms(term, term // 10, term // 3)
        self.board = Board(LiveClock())

    def taken(self, holder: str, floor: int = FIRST - 1) -> Lease:
        lease = Lease(self.store, (BTC.name,), holder, self.terms, self.clock, floor)
        while not lease.try_take():
            self.clock.ahead_ns += self.terms.term_ns
        return lease

    def keeper(self, holder: str = "one") -> LeaseKeeper:
        keeper = LeaseKeeper(self.taken(holder), self.clock, self.board)
        keeper.start()
        return keeper

    def left(self) -> Left | None:
        return decode_left(self.store.look((BTC.name,))[0].state)


def assembled(
    folder: Path,
    venue: Forgetful,
    lease: LeaseKeeper,
    board: Board,
    model: Callable[[Path], Any] = buying_model,
) -> Running:
    config = SystemConfig(
        mode="live",
        run_dir=folder / "runs",
        warm_up_events=0,
        cool_down_events=0,
        context={"enabled": False},
        instruments={"names": [BTC.name]},
        access={"connection_protocol": "fix"},
        model={"ssm_impl": "linear", "fallback_impl": "none"},
        risk={"max_position_lots": 1_000},
    )
    return assemble_live(
        config, [BTC], Models(model(folder / "model")), venue, board, LiveClock(), None, lease
    )


async def beside(running: Running, script: Coroutine[Any, Any, None]) -> None:
    """Run, and do something meanwhile; what the run ended with is raised."""
    run = asyncio.create_task(running.live.run())
    try:
        await running.live.connected.wait()
        if running.engine.halted:
            running.live.owner.control("resume", "test")
        await script
    finally:
        running.live.owner.stop()
        await run


async def until(venue: Forgetful, condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        venue.tick()
        await asyncio.sleep(0.005)


def sent(venue: Forgetful) -> int:
    return sum(isinstance(one, NewOrder) for one in venue.commands)


def left(venue: Forgetful) -> int:
    """Commands that change something."""
    return sum(not isinstance(one, QueryOrder) for one in venue.commands)


def test_its_orders_tell_the_token_and_its_end_gives_the_lease_back(tmp_path: Path) -> None:
    account, venue = Account(), Forgetful()
    running = assembled(tmp_path, venue, account.keeper(), account.board)

    async def script() -> None:
        assert running.engine.halted is False  # resumed: nobody knew what was lost today
        await until(venue, lambda: sent(venue) > 2)
        assert "lease_held 1.0" in exposition(registry(account.board)).decode()

    asyncio.run(beside(running, script()))
    assert {token_of(one.cl_ord_id) for one in venue.commands} == {FIRST}
    record = account.store.look((BTC.name,))[0]
    assert record.free
    left = account.left()
    assert left is not None
    assert (left.run, left.carried.position) == (running.engine.run, venue.position)
    controls = [e.body for e in events(running) if isinstance(e.body, Control)]
    assert [one.action for one in controls[:4]] == ["begin", "halt", "start", "halt"]
    assert controls[0].reason == str(FIRST)


def events(running: Running) -> list[Any]:
    ledger = LedgerReader(running.folder.ledger)
    found = list(ledger.events())
    ledger.close()
    return found


def test_a_run_under_a_lease_is_replayed(tmp_path: Path) -> None:
    account, venue = Account(), Forgetful()
    running = assembled(tmp_path, venue, account.keeper(), account.board, eager_model)

    async def script() -> None:
        await until(venue, lambda: sent(venue) > 3)

    asyncio.run(beside(running, script()))
    running.folder.write_summary({})
    assert replay_run(running.folder, lambda *_: None)["actions"] > 0


def test_nothing_leaves_at_the_moment_at_which_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process that was paused for a term: nothing has told the loop yet."""
    monkeypatch.setattr(LeaseKeeper, "doubtful", False)
    account, venue = Account(), Forgetful()
    running = assembled(tmp_path, venue, account.keeper(), account.board)

    async def script() -> None:
        await until(venue, lambda: sent(venue) > 2)
        account.store.answers = False
        account.clock.ahead_ns += 55 * S
        before = left(venue)

        def refused() -> bool:  # what was decided meanwhile did not leave, and is known to be dead
            told = [e.body for e in events(running) if e.kind == "report"]
            return any(one.text.startswith("not sent: the lease") for one in told)

        await until(venue, refused)
        assert left(venue) == before

    asyncio.run(beside(running, script()))


def test_in_doubt_it_withdraws_what_rests_and_goes_on_when_it_is_renewed(tmp_path: Path) -> None:
    account, venue = Account(), Forgetful()
    running = assembled(tmp_path, venue, account.keeper(), account.board)

    async def script() -> None:
        await until(venue, lambda: sent(venue) > 2)
        account.store.answers = False
        account.clock.ahead_ns += 36 * S  # of its 60, less a margin
        await until(venue, lambda: Reason.LEASE in running.engine.bars.every())
        await until(venue, lambda: any("cannot be renewed" in one for one in account.board.unhealthy()))
        account.store.answers = True
        await until(venue, lambda: not running.engine.bars.every())
        before = sent(venue)
        await until(venue, lambda: sent(venue) > before)

    asyncio.run(beside(running, script()))
    assert not venue.resting


def test_lost_it_ends_at_once_and_closes_nothing(tmp_path: Path) -> None:
    account, venue = Account(), Forgetful()
    running = assembled(tmp_path, venue, account.keeper(), account.board)
    before = 0

    async def script() -> None:
        nonlocal before
        await until(venue, lambda: sent(venue) > 2 and venue.position != 0)
        marks = [one.mark for one in account.store.look((BTC.name,))]
        account.store._entries[BTC.name].until_us = 0
        assert account.store.take((BTC.name,), "two", 60 * 10**6, marks, floor=0, waited=True) == FIRST + 1
        before = len(venue.commands)
        account.clock.ahead_ns += 25 * S  # it is time to renew, and the term is not over
        while running.live._failure is None:
            await asyncio.sleep(0.005)

    with pytest.raises(LeaseError, match=f"two has it, under token {FIRST + 1}, ours was {FIRST}"):
        asyncio.run(beside(running, script()))
    assert len(venue.commands) == before
    assert all(isinstance(one, NewOrder | CancelOrder) for one in venue.commands)
    assert venue.closed
    assert (running.engine.desk.risk["halt_reason"] == Reason.LEASE).all()
    assert account.store.look((BTC.name,))[0].holder == "two"  # nothing was given back
    ledger = LedgerReader(running.folder.ledger)
    assert not ledger.sealed  # whoever has it goes on from here, or from the venue
    ledger.close()


class Tardy(Forgetful):
    """A venue that says nothing of closing orders until it is asked to."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.closing: list[NewOrder] = []

    def send(self, cleared: Cleared) -> None:
        command = command_of(cleared)
        if isinstance(command, NewOrder) and command.reason is Reason.KILL_SWITCH:
            self.commands.append(command)
            self.closing.append(command)
        else:
            super().send(cleared)

    def answer(self) -> None:
        """A lot of each was closed, and no more."""
        for one in self.closing:
            self._report(
                OrderUpdate(
                    clOrdID=one.cl_ord_id, execID=f"late{one.cl_ord_id}", status=OrderStatus.CANCELED, filled=1,
                    price=one.px, ts=one.ts,
                )
            )  # fmt: skip
        self.closing.clear()


def test_one_that_fails_and_loses_it_while_it_closes_is_replayed(tmp_path: Path) -> None:
    account, venue = Account(), Tardy()
    running = assembled(tmp_path, venue, account.keeper(), account.board)

    async def script() -> None:
        await until(venue, lambda: abs(venue.position) > 1)
        running.live._fail(VenueError("the market is gone"))
        await until(venue, lambda: bool(venue.closing))
        running.live._lease._lease.give_up("the test says so")  # type: ignore[union-attr]
        await until(venue, lambda: not running.engine.flattening)
        venue.answer()
        running.live.link(
            LinkState(channel="trade", up=False, reason="gone")
        )  # something is recorded behind it
        await until(venue, lambda: not running.engine.orders.open_orders())

    with pytest.raises(VenueError, match="is gone"):
        asyncio.run(beside(running, script()))
    assert venue.position != 0
    told = [one.body for one in events(running)]
    left_at = next(k for k, one in enumerate(told) if isinstance(one, Control) and one.action == "leave")
    assert not any(isinstance(one, NewOrder | CancelOrder) for one in told[left_at:])
    running.folder.write_summary({})
    assert replay_run(running.folder, lambda *_: None)["actions"] > 0


def test_a_loop_that_hangs_is_followed(tmp_path: Path) -> None:
    account = Account(0.6)
    keeper = account.keeper()
    keeper.beat()
    second = Lease(account.store, (BTC.name,), "two", account.terms, account.clock)
    deadline = time.monotonic() + 60
    while not second.try_take():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not keeper.valid()
    keeper.stop()
    assert account.store.look((BTC.name,))[0].holder == "two"


# --- the successor ---------------------------------------------------------------------------------------------


def test_another_machine_begins_with_the_loss_and_the_halt_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, venue = Account(), Forgetful()
    lost = Carried(position=3, value=300.0, day=1, day_pnl=-70.0, drawdown=-90.0, halted="daily_loss")
    first = account.taken("one")
    first.renew((encode_left(Left(run="ELSEWHER", ts=1, carried=lost)),))
    account.clock.ahead_ns += 3 * account.terms.term_ns
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    venue.position = 3
    running = assembled(tmp_path, venue, account.keeper("two"), account.board)

    async def script() -> None:
        assert running.engine.desk.risk["halted"].all()
        assert running.engine.orders.position(BTC.name) == 3

    async def watched() -> None:
        run = asyncio.create_task(running.live.run())
        await running.live.connected.wait()
        await script()
        running.live.owner.stop()
        await run

    asyncio.run(watched())
    assert running.engine.desk.account["peak"][0] == 90.0
    left = account.left()
    assert left is not None
    assert left.carried.halted == "daily_loss"
    assert left.run != "ELSEWHER"


def test_a_run_that_was_overtaken_is_closed_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    account, venue = Account(), Forgetful()
    running = assembled(tmp_path, venue, account.keeper(), account.board)

    async def trade() -> None:
        run = asyncio.create_task(running.live.run())
        await running.live.connected.wait()
        running.live.owner.control("resume", "test")
        await until(venue, lambda: sent(venue) > 2)
        account.clock.ahead_ns += 25 * S  # it is time to renew
        await until(venue, lambda: account.left() is not None)
        running.live._lease._lease.give_up("the test says so")  # type: ignore[union-attr]
        await run

    with pytest.raises(LeaseError):
        asyncio.run(trade())
    unfinished = running.folder
    # this machine itself takes over, and nobody has traded meanwhile: the same run goes on
    account.clock.ahead_ns += 3 * account.terms.term_ns
    again = assembled(tmp_path, Forgetful(), account.keeper("one again"), account.board)
    assert again.folder.path == unfinished.path
    again.live._ledger.close()
    again.live._upkeep.release()
    again.live._lease.stop()  # type: ignore[union-attr]
    # another one has traded since
    other = account.taken("two")
    elsewhere = Carried(position=1, value=100.0, day=1, day_pnl=-5.0, drawdown=-5.0)
    other.renew((encode_left(Left(run="ELSEWHER", ts=1, carried=elsewhere)),))
    account.clock.ahead_ns += 3 * account.terms.term_ns
    newer = assembled(tmp_path, Forgetful(), account.keeper("three"), account.board)
    assert newer.folder.path != unfinished.path
    ledger = LedgerReader(unfinished.ledger)
    assert ledger.sealed
    assert [note.kind for note in ledger.notes("superseded")] == ["superseded"]
    ledger.close()
    assert newer.engine.token > FIRST + 1
    newer.live._ledger.close()
    newer.live._upkeep.release()
    newer.live._lease.stop()  # type: ignore[union-attr]


HOLDS = """
import sys, time
from pathlib import Path
from emp.journal.account_file import AccountFile
account = AccountFile({"account": "1"})
account.say_who(Path("/run"), int(sys.argv[1]), sys.argv[2].split(","))
print("has", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("theirs", "names", "ends"),
    [
        (FIRST - 1, "BTCUSDT", True),
        (FIRST - 1, "BTCUSDT,GC", False),  # it trades something else too
        (FIRST + 1, "BTCUSDT", False),
        (0, "BTCUSDT", False),  # it trades without a lease
    ],
)
def test_a_process_that_had_the_lease_before_and_still_has_the_lock_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: int, names: str, ends: bool
) -> None:
    monkeypatch.setenv("EMP_STATE", str(tmp_path))
    monkeypatch.setattr("emp.app.wiring.lease._EVICTS_S", 10.0 if ends else 0.2)
    account = Account()
    keeper = account.keeper()
    assert keeper.token == FIRST
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(theirs), names], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"has\n"
        os.kill(process.pid, signal.SIGSTOP)
        try:
            if ends:
                open_account({"account": "1"}, keeper).close()
                assert process.wait(20) == -signal.SIGKILL
            else:
                with pytest.raises(UsageError, match="traded by another engine"):
                    open_account({"account": "1"}, keeper)
                assert process.poll() is None
        finally:
            process.kill()
    keeper.stop()
    assert known_token({"account": "1"}) == 0


# --- the configuration -----------------------------------------------------------------------------------------


def configured(tmp_path: Path, text: str) -> SystemConfig:
    path = tmp_path / "c.yaml"
    path.write_text(
        f"mode: live\ninstruments: {{names: [BTCUSDT]}}\naccess: {{connection_protocol: fix}}\n{text}\n"
    )
    return SystemConfig.load(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lease: {redis: 'redis://:secret@h:1/0'}", "a password has no place"),
        ("lease: {redis: 'redis://h:1/0', term_s: 0.1}", "lease.term_s"),
        ("lease: {redis: 'redis://h:1/0', margin_s: 2.0, term_s: 3}", "is above a third of lease.term_s"),
        ("lease: {server: x}", "lease.server"),
    ],
)
def test_a_lease_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(tmp_path, text)


def test_a_lease_in_another_mode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("mode: mock\ninstruments: {names: [BTCUSDT]}\nlease: {redis: 'redis://h:1/0'}\n")
    with pytest.raises(ConfigError, match="contradicts mode: mock"):
        SystemConfig.load(path)


def test_two_sessions_of_an_account_are_one_account() -> None:
    known = {"host": "h", "account": "1", "sender_comp_id": "A", "target_comp_id": "B"}
    assert _leased(known) == _leased({**known, "sender_comp_id": "C"})
    unnamed = {**known, "account": None}
    assert _leased(unnamed) != _leased({**unnamed, "sender_comp_id": "C"})


def test_who_does_not_wait_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = Board(LiveClock())
    config = configured(tmp_path, "lease: {redis: 'redis://127.0.0.1:1/0', term_s: 0.5, wait: false}")
    with pytest.raises(LeaseError, match=r"the lease is not to be had: an answer: redis at .*refused"):
        stand_by(config, board)
    assert any(one.startswith("standing by: an answer") for one in board.unhealthy())
    assert "lease_held 0.0" in exposition(registry(board)).decode()
    assert "emp: standing by" in capsys.readouterr().err
    assert stand_by(configured(tmp_path, ""), board) is None
