"""What outlives a run: its account's loss of the day, drawdown and halts; and only one engine trades an account."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.rerun import replay_run
from emp.app.wiring.unfinished import carry_over
from emp.core.clock import LiveClock
from emp.core.codes import OrderStatus, Reason
from emp.core.config.config import SystemConfig
from emp.core.contracts import NewOrder, OrderUpdate, VenuePosition
from emp.core.errors import JournalError, UsageError, VenueError
from emp.core.instrument import Instrument
from emp.engine.carry import carried, carried_note
from emp.engine.checkpoint import ACCOUNT_MARK
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.rebuild import begin
from emp.engine.succession import Models
from emp.journal.account_file import AccountFile, AccountState, Carried
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.records import Note, Scalar
from emp.observe.board import Board
from tests.kit import journal
from tests.kit.models import buying_model

from .world import BTC, Venue, book, buyer

Script = Callable[[Running, Venue], Awaitable[None]]


def settings(folder: Path, **more: object) -> SystemConfig:
    access = {
        "connection_protocol": "fix",
        "host": "broker.example",
        "account": "7",
        **more.pop("access", {}),
    }  # type: ignore[dict-item]
    return SystemConfig(
        mode="live",
        run_dir=folder,
        warm_up_events=0,
        cool_down_events=0,
        context={"enabled": False},
        instruments={"names": ["BTCUSDT"]},
        model={"ssm_impl": "linear", "fallback_impl": "none"},
        access=access,
        **more,
    )


def started(
    config: SystemConfig, venue: Venue, models: Models | None = None, instrument: Instrument = BTC
) -> Running:
    clock = LiveClock()
    models = models or Models(buying_model(config.run_dir.parent / "model"))
    return assemble_live(config, [instrument], models, venue, Board(clock), clock)


def run(config: SystemConfig, venue: Venue, script: Script, models: Models | None = None) -> Running:
    """One run from start to orderly end."""
    running = started(config, venue, models)

    async def whole() -> None:
        task = asyncio.create_task(running.live.run())
        await asyncio.wait_for(running.live.connected.wait(), 120)
        try:
            await script(running, venue)
        finally:
            running.live.owner.stop()
            await task

    asyncio.run(whole())
    return running


def gone(running: Running) -> None:
    """A run that was assembled and never began."""
    running.live._taps.close()
    running.live._ledger.close()
    running.live._account.close()  # type: ignore[union-attr]


def later(venue: Venue, name: str) -> Venue:
    """The same venue as another process finds it."""
    again = Venue()
    again.name, again.position, again._seq = name, venue.position, venue._seq + 1_000
    return again


ALL_LOTS = 10
"""What the limits let this account hold: the model buys until it is reached."""


async def trade(running: Running, venue: Venue) -> None:
    """Until all lots that the limits allow are held and marked: from then on the loss stays as it is."""
    for _ in range(6_000):
        venue.tick()
        await asyncio.sleep(0.01)
        if running.engine.desk.account["position"][0] == ALL_LOTS:
            break
    assert running.engine.desk.account["position"][0] == ALL_LOTS
    await look(running, venue)


async def look(running: Running, venue: Venue) -> None:
    """Until the engine has seen the lower of the two mids between which the market goes to and fro."""
    venue.tick(2 - venue._seq % 2)
    for _ in range(6_000):
        await asyncio.sleep(0.01)
        if running.engine.desk.state[0]["seq"] == venue._seq:
            break
    await asyncio.sleep(0.05)
    assert running.engine.desk.state[0]["seq"] == venue._seq
    assert venue._seq % 2 == 0


def day_pnl(running: Running) -> float:
    account = running.engine.desk.account[0]
    return float(account["pnl"] - account["day_start"])


@pytest.mark.parametrize("elsewhere", [False, True])
def test_the_loss_of_the_day_holds_over_clean_restarts(tmp_path: Path, elsewhere: bool) -> None:
    """Each start with a limit of its own loses it again: three starts lost seven times the limit."""
    venue, losses = Venue(), [0.0]
    for k in range(3):
        config = settings(tmp_path / ("runs" + str(k) * elsewhere))
        running = run(config, venue, trade if k == 0 else look)
        losses.append(day_pnl(running))
        assert running.folder.path.parent == config.run_dir
        venue = later(venue, f"p{k}-")
    assert losses[1] <= -ALL_LOTS / 2
    assert losses[2] == pytest.approx(losses[1], abs=1), "the next run knows nothing of the loss"
    assert losses[3] == pytest.approx(losses[2], abs=1)


def test_where_the_market_is_outlives_a_process_that_dies_at_once(tmp_path: Path) -> None:
    """Nothing was traded and no minute has passed: the next start has something to hold a first book against."""

    def price(running: Running) -> float:
        left = running.live._account.read().instruments.get("BTCUSDT", Carried())  # type: ignore[union-attr]
        return left.price

    async def see(running: Running, venue: Venue) -> None:
        assert price(running) == 0.0
        await look(running, venue)
        for _ in range(50):
            await asyncio.sleep(0.01)
            if price(running):
                break
        assert price(running) == pytest.approx(100_001, abs=1)

    run(settings(tmp_path / "runs"), Venue(), see)


def test_the_limit_is_one_for_all_runs_of_a_day(tmp_path: Path) -> None:
    config = settings(tmp_path / "runs")
    venue = Venue()
    first = run(config, venue, trade)
    lost = -day_pnl(first)
    assert lost > 0
    tight = settings(tmp_path / "runs", risk={"max_daily_loss_ticks": lost / 2})

    async def wait_for_the_breach(running: Running, venue: Venue) -> None:
        for _ in range(100):
            venue.tick()
            await asyncio.sleep(0.01)
            if running.engine.halted and venue.position == 0:
                return
        raise AssertionError("the loss of the first run counts for nothing in the second")

    run(tight, later(venue, "p1-"), wait_for_the_breach)


def test_a_start_that_dies_before_it_has_taken_over_leaves_it_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is made, the process dies, and the next start goes on with a run that knows nothing of the loss."""
    config = settings(tmp_path / "runs")
    venue = Venue()
    lost = day_pnl(run(config, venue, trade))
    around = pytest.approx(lost, abs=1)

    def dies(_state: object, _names: object, ledger: Ledger, *_: object) -> None:
        ledger.close()
        raise JournalError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr("emp.app.wiring.open_run.carry_over", dies)
        with pytest.raises(JournalError, match="dies here"):
            started(config, venue)
    running = run(config, later(venue, "p1-"), look)
    assert len(list((tmp_path / "runs").glob("live-*"))) == 2, "it goes on with the run that was being made"
    assert day_pnl(running) == around, f"the loss of the day, {lost:g}, is forgotten"
    again = run(config, later(venue, "p2-"), look)
    assert day_pnl(again) == around, "nor is it taken over twice"


def test_what_several_instruments_take_over_is_recorded_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[bool] = []
    monkeypatch.setattr(Ledger, "record_note", lambda self, _: together.append(self._in_batch))
    ledger = Ledger(tmp_path / "ledger.sqlite", run="R")
    state = AccountState(instruments={name: Carried(day_pnl=-5.0, day=3) for name in ("A", "B")})
    carry_over(state, [msgspec.structs.replace(BTC, name=name) for name in "ABC"], ledger, LiveClock())
    assert together == [True, True]
    ledger.close()


def test_what_was_killed_is_halted_in_the_next_run_and_replays(tmp_path: Path) -> None:
    async def kill(running: Running, venue: Venue) -> None:
        await trade(running, venue)
        assert running.live._account.read().open  # type: ignore[union-attr]
        running.live.owner.kill("operator")
        for _ in range(200):
            await asyncio.sleep(0.01)
            if venue.position == 0:
                return

    config = settings(tmp_path / "runs")
    venue = Venue()
    first = run(config, venue, kill)
    assert not first.live._account.read().open, "it may be read without the lock"  # type: ignore[union-attr]
    again = later(venue, "p1-")
    running = run(config, again, look)
    assert running.engine.halted
    assert running.engine.desk.risk["halt_reason"][0] == Reason.KILL_SWITCH
    assert again.commands == []

    async def resume(running: Running, venue: Venue) -> None:
        running.live.owner.control("resume", "operator")
        await trade(running, venue)

    third = run(config, later(again, "p2-"), resume)
    assert not third.engine.halted
    assert replay_run(running.folder, lambda *_: None)["equal"]
    assert replay_run(third.folder, lambda *_: None)["equal"]


def test_an_unfinished_run_in_another_folder_is_not_passed_over(tmp_path: Path) -> None:
    config, venue = settings(tmp_path / "one"), Venue()
    running = run(config, venue, trade)
    unseal(running)
    other = settings(tmp_path / "two")
    with pytest.raises(UsageError, match=f"set run_dir to {tmp_path / 'one'}"):
        started(other, later(venue, "p1-"))
    shutil.rmtree(running.folder.path)  # its disk is lost: what the account's state knows is all there is
    again = run(other, later(venue, "p2-"), look)
    assert day_pnl(again) == pytest.approx(day_pnl(running), abs=10)


def unseal(running: Running) -> None:
    """Let a run look as if its process had died."""
    journal.unseal(running.folder.ledger)
    file = AccountFile(running.live._account.account)  # type: ignore[union-attr]
    file.write(msgspec.structs.replace(file.read(), open=True))
    file.close()


def test_a_second_engine_on_the_account_is_refused_whatever_folder_and_port(tmp_path: Path) -> None:
    running = started(settings(tmp_path / "one"), Venue())
    try:
        other = settings(tmp_path / "two", access={"port": 9999})
        with pytest.raises(
            UsageError, match=r"account 7 at broker\.example is traded by another engine"
        ) as refused:
            started(other, Venue())
        assert f"pid {os.getpid()}, {running.folder.path}" in str(refused.value)
        gone(started(settings(tmp_path / "two", access={"account": "8"}), Venue()))
    finally:
        gone(running)


def test_the_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    code = (
        "from emp.journal.account_file import AccountFile; import sys, time;"
        "f = AccountFile({'account': '7'}); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="traded by another engine"):
            AccountFile({"account": "7"})
        holder.kill()
        holder.wait()
    AccountFile({"account": "7"}).close()


def test_a_damaged_state_is_refused_and_one_that_cannot_be_kept_too(tmp_path: Path) -> None:
    file = AccountFile({"account": "7"}, tmp_path)
    file.write(AccountState(run="R", instruments={"GC": Carried(day_pnl=-5.0)}))
    assert file.read().instruments["GC"].day_pnl == -5.0
    file.path.write_bytes(file.path.read_bytes()[:-4])
    with pytest.raises(JournalError, match="is damaged"):
        file.read()
    file.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="EMP_STATE names another folder"):
        AccountFile({"account": "7"}, tmp_path / "file" / "below")


def test_what_is_carried_is_marked_at_the_newest_mid() -> None:
    engine = Engine([BTC], buyer(), EngineLimits(warmup_events=100), "RUN")
    engine.process(book(1, 1_000_000_000))
    account = engine.desk.account[0]
    account["position"], account["cash"], account["fees"] = (
        2,
        -2 * 100_010.0,
        1.0,
    )  # filled after the last mark
    left = carried(engine, 0)
    assert left.position == 2
    assert left.value == 2 * 100_002.0
    assert left.day_pnl == left.drawdown == -17.0
    engine.positions.unvalued.add(0, 2)
    assert carried(engine, 0).position == 0, "what has no price is found again by the next run"


def rebuilt(folder: Path, *bodies: NewOrder | OrderUpdate | Note) -> Engine:
    """An engine that has taken in a ledger of these, and has seen no market."""
    ledger = Ledger(folder / "ledger.sqlite", run="RUN")
    for body in bodies:
        if isinstance(body, NewOrder):
            ledger.record_intent(body)
        elif isinstance(body, OrderUpdate):
            ledger.record_report(body)
        else:
            ledger.record_note(body)
    engine = Engine([BTC], buyer(), EngineLimits(warmup_events=100), "RUN")
    begin(ledger, engine)
    ledger.close()
    return engine


def bought_and_sold(lots_sold: int) -> list[NewOrder | OrderUpdate | Note]:
    """4 lots at 100, of which some go at 70; what loss limits rest on was marked between, at 90."""
    bodies: list[NewOrder | OrderUpdate | Note] = []
    for k, (side, qty, px) in enumerate([(1, 4, 100), (-1, lots_sold, 70)]):
        name = f"RUN-0000000{k + 1}"
        bodies.append(
            NewOrder(
                cl_ord_id=name, instrument="BTCUSDT", side=side, qty=qty, px=px, immediate=True, ts=5,
                reason=Reason.CROSS_EDGE, decision_seq=1,
            )
        )  # fmt: skip
        bodies.append(
            OrderUpdate(
                clOrdID=name, execID=f"x{k}", status=OrderStatus.FILLED, filled=qty, price=px, ts=6,
                instrument="BTCUSDT", side=side, fee=1.0,
            )
        )  # fmt: skip
    data: dict[str, Scalar] = {"pnl": -41.0, "peak": 0.0, "day": 9, "day_start": 0.0}
    bodies.insert(2, Note(kind=ACCOUNT_MARK, ts=7, instrument="BTCUSDT", data=data))
    return bodies


@pytest.mark.parametrize(("lots_sold", "value", "pnl"), [(4, 0.0, -122.0), (1, 210.0, -122.0)])
def test_what_is_carried_by_who_saw_no_market_is_not_as_old_as_the_last_mark(
    tmp_path: Path, lots_sold: int, value: float, pnl: float
) -> None:
    left = carried(rebuilt(tmp_path, *bought_and_sold(lots_sold)), 0)
    assert (left.position, left.value) == (4 - lots_sold, value)
    assert left.day_pnl == left.drawdown == pnl


def test_what_is_carried_by_who_saw_no_market_is_valued_at_the_newest_mark(tmp_path: Path) -> None:
    left = carried(rebuilt(tmp_path, *bought_and_sold(1)[:3]), 0)
    assert (left.position, left.value, left.day_pnl) == (4, 360.0, -41.0)


def test_what_is_carried_twice_without_a_market_is_the_same(tmp_path: Path) -> None:
    first = Carried(position=3, value=290.0, day=9, day_pnl=-7.0, drawdown=-9.0)
    again = carried(rebuilt(tmp_path, carried_note("BTCUSDT", first, 1)), 0)
    assert msgspec.structs.replace(again, earned={}, tick=0.0, lot=0.0, point_value=0.0) == first


def test_a_user_without_a_home_is_told_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    monkeypatch.delenv("EMP_STATE")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with pytest.raises(JournalError, match="has no home folder; set EMP_STATE"):
        AccountFile({"account": "7"})


def test_what_was_in_doubt_at_the_end_is_booked_at_what_was_told_of_it_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run is sealed; what a report had told of a hand's trade was forgotten with it, and worth the market's mid."""
    config, venue = settings(tmp_path / "runs"), Venue()
    told = OrderUpdate(
        clOrdID="by-hand",
        execID="h1",
        status=OrderStatus.FILLED,
        filled=3,
        price=90_000,
        fee=7.0,
        ts=9,
        instrument=BTC.name,
        side=1,
    )

    async def mute() -> Sequence[VenuePosition]:
        raise VenueError("no answer")

    async def in_doubt(running: Running, venue: Venue) -> None:
        monkeypatch.setattr(venue, "positions", mute)
        venue.sink.report(told)
        for _ in range(500):
            await asyncio.sleep(0.01)
            if running.engine.positions.claims:
                return

    first = run(config, venue, in_doubt)
    assert first.live.left_open()
    again = later(venue, "p1-")
    again.position += 3
    second = run(config, again, lambda *_: asyncio.sleep(0))
    assert "told and not borne out by the venue +3 lots" in "".join(capsys.readouterr())
    account = second.engine.desk.account[0]
    assert (second.engine.orders.position(BTC.name), account["cash"], account["fees"]) == (3, -270_000.0, 7.0)
    assert second.engine.halted
    ledger = LedgerReader(second.folder.ledger)
    (note,) = ledger.notes("adjustment")
    assert (note.data["qty"], note.data["px"]) == (3, 90_000.0)
    ledger.close()
    third = run(config, later(again, "p2-"), lambda *_: asyncio.sleep(0))
    assert third.engine.orders.position(BTC.name) == 3
    assert not LedgerReader(third.folder.ledger).notes("adjustment"), "it is booked once"
    assert replay_run(second.folder, lambda *_: None)["equal"]
