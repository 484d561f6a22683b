"""Recovery: stopped at every single I/O, and again during the recovery, the engine ends where the venue is."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.core.clock import SimClock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import (
    Control,
    ControlAction,
    OrderUpdate,
    Replace,
)
from emp.core.errors import VenueError
from emp.core.ids import cl_ord_id
from emp.core.records import ACCOUNT
from emp.engine.checkpoint import account_note
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.rebuild import begin, rebuild
from emp.engine.recover import Recovery
from emp.execution.orders import OrderManager
from emp.execution.reconcile import CorrectionKind
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from tests.journal.crashing import (
    INSTRUMENTS,
    RUN,
    Fuse,
    RenamingVenue,
    S,
    Venue,
    agree,
    closed,
    filled,
    live,
    order,
    recovered,
)
from tests.live.world import BTC, buyer


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder whose syncs cost nothing: these crashes are of the process, not of the power."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("after", [False, True])
def test_stopped_at_every_io_and_started_again(memory: Path, seed: int, after: bool) -> None:
    at, crashed = 0, True
    while crashed:
        at += 1
        path, venue = memory / f"{at}.sqlite", Venue(seed)
        process, crashed = live(path, venue, Fuse(at, after), steps=12)
        known = list(process.known)
        process, _ = live(path, venue, Fuse(-1, False), steps=4)
        agree(path, venue, known + process.known)
    assert at > 25


def test_stopped_again_during_the_recovery(memory: Path) -> None:
    trials = 0
    for at in range(2, 40, 5):
        second, crashed = 0, True
        while crashed:
            second += 1
            trials += 1
            path, venue = memory / f"{at}-{second}.sqlite", Venue(at)
            process, _ = live(path, venue, Fuse(at, at % 2 == 0), steps=8)
            known = list(process.known)
            process, crashed = live(path, venue, Fuse(second, second % 2 == 0), steps=0)
            agree(path, venue, known)
    assert trials > 40


FIRST_TOKEN = 1 << 24


def test_an_intent_the_venue_never_saw_is_dead_and_not_sent_again(tmp_path: Path) -> None:
    path, venue = tmp_path / "ledger.sqlite", Venue(0)
    ledger = Ledger(path, run=RUN, mode="paper")
    ledger.record_intent(order(0))
    ledger.close()
    process, _ = live(path, venue, Fuse(-1, False), steps=0)
    assert venue.arrived == []
    assert process.manager.open_orders() == []
    assert process.recovery is not None
    assert process.engine.sequence == 0
    assert [c.kind for c in process.recovery.corrections] in ([], [CorrectionKind.QUERY])


def test_orders_and_positions_the_ledger_does_not_know_are_withdrawn_and_booked(tmp_path: Path) -> None:
    path, venue = tmp_path / "ledger.sqlite", Venue(0)
    stranger = msgspec.structs.replace(order(0), cl_ord_id="STRANGER", qty=10**6)
    venue.take(stranger)
    venue.orders["STRANGER"].filled, venue.orders["STRANGER"].status = 7, S.PARTIALLY_FILLED
    process, _ = live(path, venue, Fuse(-1, False), steps=0)
    assert venue.orders["STRANGER"].status is S.CANCELED
    assert process.recovery is not None
    kinds = [c.kind for c in process.recovery.corrections]
    assert kinds[0] is CorrectionKind.FOREIGN
    held = venue.position("GOOG")
    assert process.manager.position("GOOG") == held
    assert process.recovery.quarantined == ()
    reader = LedgerReader(path)
    assert [n.data["qty"] for n in reader.notes("adjustment")] == [held]
    reader.close()
    agree_again, _ = live(path, venue, Fuse(-1, False), steps=0)
    assert agree_again.manager.position("GOOG") == held
    assert agree_again.recovery is not None
    assert agree_again.recovery.corrections == ()
    assert agree_again.recovery.quarantined == ()


@pytest.mark.parametrize("cancel", [False, True], ids=["its id", "our cancel's"])
def test_what_an_order_of_others_had_filled_before_the_start_is_not_counted_again(
    tmp_path: Path, cancel: bool
) -> None:
    path, venue = tmp_path / "ledger.sqlite", Venue(0)
    venue.take(msgspec.structs.replace(order(0), cl_ord_id="STRANGER", qty=10**6))
    held = venue.orders["STRANGER"]
    held.filled, held.status = 7, S.PARTIALLY_FILLED
    driver, recovery = recovered(path, venue)
    before, told = held.filled, venue.arrived[-1] if cancel else "STRANGER"
    assert driver.engine.orders.position("GOOG") == before >= 7
    assert recovery.earlier.tell_nothing(venue.status(held, told))
    held.filled += 2
    assert not recovery.earlier.tell_nothing(venue.status(held, told))
    driver.report(venue.status(held, told))
    assert driver.engine.orders.position("GOOG") == before
    assert driver.engine.positions.claims.lots(driver.engine.orders.instruments.index("GOOG")) == 2
    driver.control(Control(action="confirmed", ts=9, instrument="GOOG", value=2.0))
    assert driver.engine.orders.position("GOOG") == held.filled
    closed(driver)
    again, _ = recovered(path, venue)
    assert again.engine.orders.position("GOOG") == held.filled
    assert again.engine.orders.strangers == driver.engine.orders.strangers
    closed(again)


def test_a_fill_of_an_earlier_holder_that_is_told_to_a_start_stops_no_later_one(tmp_path: Path) -> None:
    """Its order is not at work any more, so that nothing of ours withdraws it."""
    path, venue = tmp_path / "ledger.sqlite", Venue(0)
    venue.take(msgspec.structs.replace(order(0), cl_ord_id=cl_ord_id("0ABCDEFG", 4, FIRST_TOKEN)))
    (held,) = venue.orders.values()
    held.filled, held.status = 5, S.FILLED
    driver, _ = recovered(path, venue, FIRST_TOKEN + 1, said=[venue.status(held)])
    closed(driver)
    again, _ = recovered(path, venue, FIRST_TOKEN + 2)
    assert again.engine.orders.quarantined == []
    assert again.engine.orders.position("GOOG") == 5
    assert again.engine.orders.strangers == driver.engine.orders.strangers
    closed(again)


def test_a_venue_that_does_not_answer_ends_in_one_line(tmp_path: Path) -> None:
    venue = Venue(0)
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    ledger.record_intent(order(0))
    venue.silent = True
    named = [msgspec.structs.replace(BTC, name=name) for name in INSTRUMENTS]
    driver = Driver(Engine(named, buyer(), EngineLimits(), RUN), venue.send, ledger=ledger)
    recovery = Recovery(driver, ledger, venue, SimClock(1))
    venue.on_report(recovery.report)
    recovery.rebuild()
    starting = recovery.run(0.05)
    with pytest.raises(VenueError, match="what became of RUN-00000000"):
        asyncio.run(starting)
    ledger.close()


def test_marks_survive_a_restart(tmp_path: Path) -> None:
    """A daily loss limit must not begin anew because the process did."""
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    account = np.zeros(1, ACCOUNT)[0]
    account["pnl"], account["peak"], account["day"], account["day_start"] = -7.5, 3.0, 12, 1.5
    ledger.record_note(account_note("MSFT", account, ts=5))
    manager = OrderManager(INSTRUMENTS)
    rebuild(ledger, manager)
    restored = manager.accounts[1]
    assert [restored[f] for f in ("pnl", "peak", "day", "day_start")] == [-7.5, 3.0, 12, 1.5]
    ledger.close()


def held(ledger: Ledger, *actions: ControlAction) -> None:
    """A ledger of 5 lots held, and control inputs after that."""
    bought = order(0)
    ledger.record_intent(bought)
    ledger.record_report(filled(bought, "E1"))
    for ts, action in enumerate(actions):
        ledger.record_control(Control(action=action, ts=ts, instrument=bought.instrument))


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        (("kill", "resume"), Reason.KILL_SWITCH),
        (("kill", "halt"), Reason.KILL_SWITCH),
        (("halt",), Reason.HALTED),
        (("kill", "halt", "halt"), Reason.KILL_SWITCH),
        (("halt", "flatten"), Reason.KILL_SWITCH),
        (("halt", "resume"), None),
    ],
)
def test_what_was_being_closed_is_closed_after_a_restart(
    tmp_path: Path, actions: tuple[ControlAction, ...], reason: Reason | None
) -> None:
    """A resume is not done while a position is being closed; a restart in the middle must not do it instead."""
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    held(ledger, *actions)
    rebuilt = rebuild(ledger, OrderManager(INSTRUMENTS))
    assert rebuilt.halted.get(order(0).instrument) == reason
    ledger.close()


def test_what_was_closed_before_a_restart_can_be_resumed_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    held(ledger, "kill")
    sold = msgspec.structs.replace(order(1), side=-1)
    ledger.record_intent(sold)
    ledger.record_report(filled(sold, "E2"))
    named = [msgspec.structs.replace(BTC, name=name) for name in INSTRUMENTS]
    engine = Engine(named, buyer(), EngineLimits(), RUN)
    begin(ledger, engine)
    assert engine.halted
    engine.control(Control(action="resume", ts=9))
    assert not engine.halted
    ledger.close()


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("status", [S.FILLED, S.NEW, S.CANCELED])
def test_an_order_whose_replacement_was_on_its_way_is_asked_for_by_both_ids(
    tmp_path: Path, carried_out: bool, status: OrderStatus
) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    was = order(0)
    ledger.record_intent(was)
    ledger.record_report(
        OrderUpdate(clOrdID=was.cl_ord_id, execID="N", status=S.NEW, filled=0, price=100, ts=1)
    )
    ledger.record_intent(
        Replace(
            cl_ord_id=cl_ord_id(RUN, 1),
            orig=was.cl_ord_id,
            instrument="GOOG",
            side=1,
            qty=7,
            px=101,
            ts=2,
            reason=Reason.POST_EDGE,
            decision_seq=2,
        )
    )
    renamed = msgspec.structs.replace(was, cl_ord_id=cl_ord_id(RUN, 1), qty=7, px=101)
    venue = RenamingVenue([renamed if carried_out else was])
    (held_there,) = venue.orders.values()
    held_there.status, held_there.filled = status, held_there.order.qty if status is S.FILLED else 0
    named = [msgspec.structs.replace(BTC, name=name) for name in INSTRUMENTS]
    engine = Engine(named, buyer(), EngineLimits(), RUN)
    recovery = Recovery(Driver(engine, venue.send, ledger=ledger), ledger, venue, SimClock(1))
    venue.on_report(recovery.report)
    recovery.rebuild()
    recovered = asyncio.run(asyncio.wait_for(recovery.run(1.0), 5))
    assert not recovered.quarantined
    assert CorrectionKind.ADJUST not in [c.kind for c in recovered.corrections], (
        "fills that were told are lost"
    )
    assert engine.orders.position("GOOG") == held_there.filled
    assert not engine.orders.open_orders()
    ledger.close()
