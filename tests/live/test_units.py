"""A tick or a lot that is another one than when an account was traded last: what is counted in it is converted."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from emp.app.wiring.live import Running
from emp.app.wiring.unfinished import carry_over, refuse_other_units
from emp.core.clock import LiveClock
from emp.core.errors import JournalError, UsageError
from emp.core.instrument import Instrument
from emp.engine.carry import CARRIED
from emp.engine.rebuild import begin, rebuild
from emp.engine.reconciliation.units import in_units
from emp.execution.orders import OrderManager
from emp.journal.account_file import AccountState, Carried, Claimed
from emp.journal.ledger import Ledger
from emp.journal.records import Note
from emp.journal.run import CONTINUED, RunFolder

from .test_account import gone, settings, started
from .world import BTC, Venue


def with_(**changes: float) -> Instrument:
    return msgspec.structs.replace(BTC, **changes)


LEFT = Carried(
    position=6,
    value=6_000.0,
    day=3,
    day_pnl=-90.0,
    drawdown=-120.0,
    halted="drawdown",
    earned={"lots": 4},
    price=1_000.0,
    price_ns=5,
    tick=BTC.tick,
    lot=BTC.lot,
    point_value=BTC.point_value,
)


def test_what_an_account_has_left_is_worth_the_same_in_other_ticks() -> None:
    now = in_units(LEFT, with_(tick=BTC.tick * 5))
    money = (now.value, now.day_pnl, now.drawdown, now.price)
    assert now.position == 6
    assert money == pytest.approx((1_200.0, -18.0, -24.0, 200.0))
    assert (now.halted, now.day, now.earned) == ("drawdown", 3, {})
    assert in_units(LEFT, BTC) is LEFT


def test_lots_of_another_size_are_counted_anew_where_they_are_whole() -> None:
    halves = in_units(LEFT, with_(lot=BTC.lot / 2, point_value=BTC.point_value / 2))
    assert (halves.position, halves.value, halves.price) == (12, 12_000.0, 1_000.0)
    with pytest.raises(UsageError, match="no whole number"):
        in_units(LEFT, with_(lot=BTC.lot * 4))


def test_claims_are_counted_in_the_units_of_now_or_left_to_the_market() -> None:
    told = Claimed(order="hand", side=-1, qty=2, px=1_000, fee=3.0, ts=7, filled=5)
    left = msgspec.structs.replace(LEFT, claims=[told])
    finer = in_units(left, with_(tick=BTC.tick / 10, lot=BTC.lot / 2, point_value=BTC.point_value / 2))
    (claim,) = finer.claims
    assert (claim.order, claim.side, claim.qty, claim.filled, claim.px) == ("hand", -1, 4, 10, 10_000)
    assert claim.fee == pytest.approx(3.0 * finer.value / left.value)
    assert in_units(left, with_(tick=BTC.tick * 3)).claims == [], "a third of a tick is no price"


def test_what_an_older_release_left_is_taken_as_it_stands() -> None:
    older = msgspec.structs.replace(LEFT, tick=0.0)
    assert in_units(older, with_(tick=BTC.tick * 5)) is older


def test_a_new_run_begins_with_the_loss_in_its_own_ticks_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", run="R")
    finer = with_(tick=BTC.tick / 10)
    carry_over(AccountState(run="OLD", instruments={BTC.name: LEFT}), [finer], ledger, LiveClock())
    manager = OrderManager([BTC.name])
    rebuild(ledger, manager)
    account = manager.accounts[0]
    assert (account["position"], account["cash"], account["day_start"]) == (6, -60_000.0, 900.0)
    assert manager.prices == [10_000.0]
    assert not ledger.notes("earned")
    told = capsys.readouterr()
    lines = [line for line in (told.out + told.err).splitlines() if "other units" in line]
    assert len(lines) == 1
    assert f"tick {BTC.tick:g}, now {finer.tick:g}" in lines[0]
    ledger.close()


@pytest.mark.parametrize("noted", [False, True])
def test_a_run_that_goes_on_is_not_read_in_other_units(tmp_path: Path, noted: bool) -> None:
    facts = [msgspec.to_builtins(BTC)]
    run = RunFolder.create(tmp_path / "live-R", {"run": "R", "instruments": [BTC.name], "facts": facts})
    ledger = Ledger(run.ledger, run="R")
    if noted:  # it went on once by another catalogue already, whose facts are in force since
        now = [msgspec.to_builtins(with_(taker_fee=9.0))]
        ledger.record_note(Note(kind=CONTINUED, ts=1, data={"facts": json.dumps(now)}))
    refuse_other_units(run, ledger, [with_(taker_fee=3.0)])
    for changed in ({"tick": BTC.tick / 10}, {"lot": BTC.lot * 10}, {"point_value": BTC.point_value * 2}):
        with pytest.raises(UsageError, match="other units") as refused:
            refuse_other_units(run, ledger, [with_(**changed)])
        assert "\n" not in str(refused.value)
    ledger.close()


def test_a_run_in_other_units_that_was_moved_away_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    config, venue = settings(tmp_path / "runs"), Venue()
    before = started(config, venue)
    before.engine.desk.risk["halted"] = True
    before.engine.desk.account["fees"] = 30.0
    before.live._upkeep.write_account(is_open=True)
    before.live._ledger.record_note(Note(kind="x", ts=1, data={}))
    gone(before)
    finer = with_(tick=BTC.tick / 10)
    with pytest.raises(UsageError, match="move it away"):
        started(config, venue, instrument=finer)
    before.folder.path.rename(tmp_path / "away")
    after = started(config, venue, instrument=finer)
    begin(after.live._ledger, after.engine)
    account = after.engine.desk.account[0]
    assert account["pnl"] - account["day_start"] == pytest.approx(-300.0)
    assert after.engine.halted
    gone(after)


def ended_with(running: Running, lots: int) -> None:
    """The run ends in order, with so many lots more than it held."""
    running.engine.orders.adjust(BTC.name, lots)
    running.live._upkeep.write_account(is_open=False)
    running.live._ledger.seal()
    gone(running)


def test_a_start_that_is_refused_for_its_lots_leaves_the_way_back_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    config, venue = settings(tmp_path / "runs"), Venue()
    ended_with(started(config, venue), 6)
    folders = sorted(config.run_dir.iterdir())
    coarser = with_(lot=BTC.lot * 4, point_value=BTC.point_value * 4)
    with pytest.raises(
        UsageError, match="no whole number of them; close the position with the catalogue as it was"
    ):
        started(config, venue, instrument=coarser)
    assert sorted(config.run_dir.iterdir()) == folders
    closing = started(config, venue)
    begin(closing.live._ledger, closing.engine)
    assert closing.engine.orders.position(BTC.name) == 6
    ended_with(closing, -6)
    after = started(config, venue, instrument=coarser)
    begin(after.live._ledger, after.engine)
    assert after.engine.orders.position(BTC.name) == 0
    assert len(list(config.run_dir.iterdir())) == len(folders) + 2
    gone(after)


def test_a_run_that_died_before_it_took_over_is_not_filled_in_other_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    config, venue = settings(tmp_path / "runs"), Venue()
    ended_with(started(config, venue), 6)

    def dies(_state: object, _names: object, ledger: Ledger, *_: object) -> None:
        ledger.close()
        raise JournalError("the process dies here")

    with monkeypatch.context() as patch:
        patch.setattr("emp.app.wiring.open_run.carry_over", dies)
        with pytest.raises(JournalError, match="dies here"):
            started(config, venue)
    finer = with_(tick=BTC.tick / 10)
    after = started(config, venue, instrument=finer)
    begin(after.live._ledger, after.engine)
    assert after.engine.orders.position(BTC.name) == 6
    (note,) = after.live._ledger.notes(CARRIED)
    assert note.data["tick"] == finer.tick
    assert after.folder.manifest["facts"][0]["tick"] == finer.tick, "one folder, one unit"
    gone(after)


@pytest.mark.parametrize("changed", [{"lot": BTC.lot * 4}, {"name": "ETHUSDT"}], ids=["lots", "instruments"])
def test_what_a_refused_start_of_an_older_release_left_is_closed_by_the_next(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
) -> None:
    """It left a folder, which the next start, with the catalogue as it was, took for a run in other units."""
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    config, venue = settings(tmp_path / "runs"), Venue()
    ended_with(started(config, venue), 6)

    def refused(_state: object, _names: object, ledger: Ledger, *_: object) -> None:
        ledger.close()
        raise UsageError("no whole number of them")

    with monkeypatch.context() as older:
        older.setattr("emp.app.wiring.open_run.refuse_parts_of_lots", lambda *_: None)
        older.setattr("emp.app.wiring.open_run.carry_over", refused)
        with pytest.raises(UsageError, match="no whole number of them"):
            started(config, venue, instrument=msgspec.structs.replace(BTC, **changed))
    after = started(config, venue)
    begin(after.live._ledger, after.engine)
    assert after.engine.orders.position(BTC.name) == 6
    assert sum("with nothing in it: closed" in line for line in capsys.readouterr().err.splitlines()) == 1
    gone(after)


def test_a_run_whose_facts_nobody_told_goes_on(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "live-R", {"run": "R", "instruments": [BTC.name]})
    ledger = Ledger(run.ledger, run="R")
    refuse_other_units(run, ledger, [with_(tick=BTC.tick / 10)])
    ledger.close()
