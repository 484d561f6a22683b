"""Rolls in the engine: booked at the instant, once, to what is held there; the same over a restart and in a replay."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.codes import AssetClass
from emp.core.contracts import Control
from emp.core.records import Array
from emp.core.rolls import next_roll, roll_time
from emp.engine.carry import carried
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.protection import stop_price
from emp.engine.recover import begin
from emp.engine.replay import Backtest
from emp.engine.rolls import FOREVER_NS, Rolls
from emp.journal.actionlog import read_actions
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder, build_manifest
from tests.engine.test_account_limits import Desk, one
from tests.kit.models import Events
from tests.live.world import book, buyer

pytestmark = pytest.mark.usefixtures("compiled_engine")

S = 1_000_000_000
EURUSD = one(
    "EURUSD", "EUR", "USD", asset_class=AssetClass.FX_SPOT, swap_long=-7.0, swap_short=2.0, swap_triple="wed"
)


def rolls(desk: Desk) -> Rolls:
    found = Rolls(desk.engine)
    before = desk.driver.events

    def events(rows: Array, wait_ms: float = 0.0) -> Any:
        for control in found.due(0, int(rows["ts"][0])):
            desk.driver.control(control)
        return before(rows, wait_ms)

    desk.driver.events = events  # type: ignore[method-assign]
    return found


def account(desk: Desk) -> Any:
    return desk.engine.desk.account[0]


def test_a_roll_is_told_before_it_comes_and_booked_when_it_has(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", run="TEST0001", mode="mock")
    desk = Desk(EURUSD, ledger=ledger)
    found = rolls(desk)
    desk.move(0)
    roll = next_roll(roll_time(EURUSD), desk.ts)
    assert roll.nights == 3, "it begins on a Wednesday afternoon"
    financing = desk.engine.desk.financing[0]
    assert (financing["roll_ns"], financing["long"], financing["short"]) == (roll.ts, -21.0, 6.0)
    desk.move(0)
    held = desk.held[0]
    assert held > 0
    desk.move(0, wait=roll.ts - desk.ts - 1)
    held = desk.held[0]
    assert account(desk)["financing"] == 0.0
    at = desk.ts
    desk.move(0, wait=1)
    assert desk.ts == at + 1 == roll.ts
    assert account(desk)["financing"] == -21.0 * held
    desk.control("halt")
    desk.move(0)
    assert account(desk)["financing"] == -21.0 * held, "it was booked twice"
    seen = desk.engine.desk.perception[0]
    worth = account(desk)["cash"] + desk.held[0] * 0.5 * (seen["bid"] + seen["ask"]) - account(desk)["fees"]
    assert account(desk)["pnl"] == pytest.approx(worth - 21.0 * held)
    assert found.until(0) == next_roll(roll_time(EURUSD), roll.ts).ts
    notes = [e.body.data for e in ledger.events() if getattr(e.body, "kind", "") == "financing"]
    assert notes == [{"lots": held, "received": -21.0 * held}]
    ledger.close()


def test_what_was_held_over_several_rolls_is_financed_at_each() -> None:
    desk = Desk(EURUSD)
    rolls(desk)
    desk.move(0)
    desk.move(0)
    held = desk.held[0]
    desk.move(
        0, wait=5 * 86_400 * S
    )  # Wednesday (three nights), Thursday, Friday; Monday's roll is still to come
    assert account(desk)["financing"] == pytest.approx(-7.0 * (3 + 1 + 1) * held)


def test_a_short_position_receives_its_own_rate_and_a_flat_one_nothing() -> None:
    desk = Desk(EURUSD)
    rolls(desk)
    desk.move(0)
    financing = desk.engine.desk.account
    for position, received in ((-4, 6.0 * 4), (0, 0.0)):
        financing["position"][0], financing["financing"][0] = position, 0.0
        ts = int(desk.engine.desk.financing["roll_ns"][0])
        nights = float(desk.engine.desk.financing["short"][0]) / 2.0
        desk.driver.control(Control(action="finance", ts=ts, instrument="EURUSD"))
        assert financing["financing"][0] == pytest.approx(received * nights / 3)
        desk.move(0, wait=ts - desk.ts)  # tells the next one


def test_the_shadow_pays_as_we_do() -> None:
    desk = Desk(EURUSD)
    rolls(desk)
    desk.move(0)
    desk.engine.desk.shadow_account["position"][0] = 1
    roll = int(desk.engine.desk.financing["roll_ns"][0])
    desk.driver.control(Control(action="finance", ts=roll, instrument="EURUSD"))
    assert desk.engine.desk.shadow_account["financing"][0] == -21.0


def test_without_rates_there_are_no_rolls() -> None:
    desk = Desk(msgspec.structs.replace(EURUSD, swap_long=0.0, swap_short=0.0))
    found = rolls(desk)
    desk.move(0)
    desk.move(0, wait=9 * 86_400 * S)
    assert found.until(0) == FOREVER_NS
    assert account(desk)["financing"] == 0.0
    assert not desk.engine.desk.standing["carry_buy"].any()


def test_what_the_venue_states_comes_before_the_catalogue() -> None:
    desk = Desk(EURUSD)
    rolls(desk)
    desk.move(0)
    for reason, value in (("minute", 22 * 60.0), ("triple", 4.0), ("long", -1.5), ("short", 0.5)):
        control = Control(action="terms", ts=desk.ts, instrument="EURUSD", reason=reason, value=value)
        desk.driver.control(control)
    desk.move(0)
    financing = desk.engine.desk.financing[0]
    assert (financing["long"], financing["short"]) == (-1.5, 0.5), "Wednesday is no longer the triple day"
    assert financing["roll_ns"] % (86_400 * S) == 22 * 3_600 * S


def test_a_restart_finds_what_was_booked_and_what_is_next(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, run="TEST0001", mode="mock")
    desk = Desk(EURUSD, ledger=ledger)
    rolls(desk)
    for reason, value in (("long", -2.0), ("triple", 0.0)):
        control = Control(action="terms", ts=desk.ts, instrument="EURUSD", reason=reason, value=value)
        desk.driver.control(control)
    desk.move(0)
    desk.move(0)
    desk.move(0, wait=86_400 * S)
    assert account(desk)["financing"] < 0.0
    ledger.close()
    ledger = Ledger(path, run="TEST0001", mode="mock")
    again = Desk(EURUSD, ledger=ledger)
    begin(ledger, again.engine)
    for name in ("position", "cash", "fees", "financing"):
        assert account(again)[name] == account(desk)[name], name
    assert again.engine.desk.financing.tobytes() == desk.engine.desk.financing.tobytes()
    held, before = again.held[0], float(account(again)["financing"])
    again.ts, again.seq = desk.ts, desk.seq
    rolls(again)
    again.move(0, wait=86_400 * S)  # it was down while the next roll came
    assert account(again)["financing"] == pytest.approx(before - 2.0 * held)
    ledger.close()


def test_money_from_rolls_is_in_everything_that_adds_money_up() -> None:
    desk = Desk(EURUSD)
    rolls(desk)
    desk.move(0)
    desk.move(0)
    before, stop = carried(desk.engine, 0), stop_price(desk.engine, 0)
    desk.engine.limits = msgspec.structs.replace(desk.engine.limits, max_daily_loss=100.0, max_drawdown=100.0)
    stop = stop_price(desk.engine, 0)
    desk.engine.desk.account["financing"][0] = -10.0 * desk.held[0]
    assert carried(desk.engine, 0).day_pnl == pytest.approx(before.day_pnl - 10.0 * desk.held[0])
    assert stop_price(desk.engine, 0) >= stop + 10 or stop == 0


class _Days:
    """A recording of three days and nights whose market always lets a buyer in."""

    @staticmethod
    def events() -> Array:
        rows = np.concatenate([book(n * 400 + 1, 0, 400) for n in range(3)])
        start = 1_709_737_200 * S
        for day in range(3):
            rows["ts"][day * 400 : (day + 1) * 400] = start + day * 86_400 * S + np.arange(400) * S // 4
        rows["ts_recv"] = rows["ts"]
        return rows


@pytest.mark.parametrize("batch", [7, 400, 5_000])
def test_a_backtest_books_the_same_whatever_its_batches(tmp_path: Path, batch: int) -> None:
    limits = EngineLimits(max_position_lots=4, max_order_lots=2, max_daily_loss=1e9, max_drawdown=1e9)
    engine = Engine([EURUSD], buyer(), limits, "TESTRUN0")
    manifest = build_manifest(
        run="TESTRUN0",
        mode="replay",
        config={},
        instruments=["EURUSD"],
        model_hashes=[engine.model.artifact.hash],
    )
    folder = RunFolder.open_or_create(tmp_path / "run", manifest)
    source = Events(_Days.events(), EURUSD, batch)
    summary = Backtest(source, engine, PaperVenue(EURUSD), folder).run()
    ledger = LedgerReader(folder.ledger)
    booked = [e.body for e in ledger.events() if getattr(e.body, "kind", "") == "financing"]
    assert len(booked) == 2
    nights = (3, 1)
    for note, n in zip(booked, nights, strict=True):
        assert note.data["received"] == pytest.approx(-7.0 * n * note.data["lots"])
        assert note.data["lots"] > 0
    assert summary["financing"] == pytest.approx(sum(n.data["received"] for n in booked))
    account = engine.desk.account[0]
    mid = 0.5 * float(engine.desk.perception["bid"][0] + engine.desk.perception["ask"][0])
    expected = account["cash"] + account["position"] * mid - account["fees"] + account["financing"]
    assert summary["pnl_ticks"] == pytest.approx(expected)
    rows = read_actions(folder.actions)
    assert (rows["carry_buy"] <= 0.0).all()
    assert (rows["carry_sell"] >= 0.0).all()
    ledger.close()
