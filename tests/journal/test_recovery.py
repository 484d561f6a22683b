"""Recovery: stopped at every single I/O, and again during the recovery, the engine ends where the venue is."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.port import OthersTrade
from emp.core.approval import Cleared, command_of
from emp.core.clock import SimClock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import (
    CancelOrder,
    Command,
    Control,
    ControlAction,
    NewOrder,
    OrderUpdate,
    QueryOrder,
    Replace,
    VenuePosition,
)
from emp.core.errors import VenueError
from emp.core.ids import cl_ord_id
from emp.core.instrument import Instrument
from emp.core.records import ACCOUNT, Array
from emp.engine.checkpoint import account_note
from emp.engine.driver import Driver
from emp.engine.engine import Engine, EngineLimits
from emp.engine.others import CLOCKS_APART_NS
from emp.engine.rebuild import begin, rebuild
from emp.engine.recover import Recovered, Recovery
from emp.execution.orders import OrderManager
from emp.execution.reconcile import CorrectionKind
from emp.journal.decisions import layout_note
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.records import Note
from emp.journal.run import CONTINUED
from tests.kit.orders import cancel_order, new_order
from tests.live.world import BTC, book, buyer

S = OrderStatus
RUN = "RUN"
INSTRUMENTS = ("GOOG", "MSFT")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder whose syncs cost nothing: these crashes are of the process, not of the power."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else tmp_path) as folder:
        yield Path(folder)


class Crash(KeyboardInterrupt):
    """The process is gone. (asyncio lets a KeyboardInterrupt out of a callback and catches everything else.)"""


class Fuse:
    """Burns at the n-th I/O of the process: just before it has its effect, or just after."""

    def __init__(self, at: int, after: bool) -> None:
        self.left, self.after, self.count = at, after, 0

    def io(self, effect: Callable[[], None]) -> None:
        self.count += 1
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Crash
        effect()
        if self.left == 0:
            raise Crash


class Held:
    """What the venue knows of one order."""

    def __init__(self, order: NewOrder) -> None:
        self.order, self.filled, self.status = order, 0, S.NEW


class Venue:
    """A venue behind a connection: it survives our crashes, what was on the wire may not."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.orders: dict[str, Held] = {}
        self.arrived: list[str] = []
        self.wire: list[Command] = []
        self.outbox: list[OrderUpdate] = []
        self.callback: Callable[[OrderUpdate], None] | None = None
        self.fuse = Fuse(-1, False)
        self.execs = 0
        self.silent = False

    # the port

    async def connect(self, instruments: Sequence[Instrument]) -> None:
        raise NotImplementedError

    def events(self) -> AsyncIterator[Array]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError

    def on_report(self, callback: Callable[[OrderUpdate], None]) -> None:
        self.callback = callback

    def send(self, cleared: Cleared) -> None:
        self.arrive(command_of(cleared))

    def arrive(self, command: Command) -> None:
        self.fuse.io(lambda: self.wire.append(command))
        asyncio.get_running_loop().call_soon(self.pump)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        return [self.status(h) for h in self.orders.values() if not h.status.terminal]

    async def positions(self) -> Sequence[VenuePosition]:
        return [VenuePosition(instrument=i, qty=self.position(i)) for i in INSTRUMENTS]

    # the other side

    def position(self, instrument: str) -> int:
        return sum(h.order.side * h.filled for h in self.orders.values() if h.order.instrument == instrument)

    def drop(self) -> None:
        """Our process died: a tail of what it sent never arrives, and the reports under way are lost."""
        arriving = int(self.rng.integers(0, len(self.wire) + 1))
        for command in self.wire[:arriving]:
            self.take(command)
        self.wire, self.outbox, self.callback = [], [], None
        self.trade()
        self.outbox = []

    def pump(self) -> None:
        """Take what arrived, trade a little, tell."""
        while self.wire:
            self.take(self.wire.pop(0))
        self.trade()
        while self.outbox and self.callback is not None and not self.silent:
            self.callback(self.outbox.pop(0))

    def status(self, held: Held, name: str = "", **change: object) -> OrderUpdate:
        self.execs += 1
        fields = {
            "clOrdID": name or held.order.cl_ord_id,
            "execID": f"E{self.execs}",
            "status": held.status,
            "filled": held.filled,
            "price": held.order.px,
            "ts": self.execs,
            "instrument": held.order.instrument,
            "side": held.order.side,
        }
        return msgspec.convert(fields | change, OrderUpdate)

    def take(self, command: Command) -> None:
        if isinstance(command, NewOrder):
            self.arrived.append(command.cl_ord_id)
            self.orders[command.cl_ord_id] = held = Held(command)
            self.outbox.append(self.status(held))
            return
        held_or_none = self.orders.get(command.cl_ord_id if isinstance(command, QueryOrder) else command.orig)
        if isinstance(command, CancelOrder):
            self.arrived.append(command.cl_ord_id)
            assert held_or_none is not None
            if held_or_none.status.terminal:
                self.outbox.append(self.status(held_or_none, command.cl_ord_id, status=S.REJECTED, filled=0))
            else:
                held_or_none.status = S.CANCELED
                self.outbox.append(self.status(held_or_none, command.cl_ord_id))
        elif held_or_none is not None:
            self.outbox.append(self.status(held_or_none))
        else:
            never = OrderUpdate(
                clOrdID=command.cl_ord_id, execID=f"E{self.execs}", status=S.REJECTED, filled=0, price=0, ts=0
            )
            self.execs += 1
            self.outbox.append(never)

    def trade(self) -> None:
        for held in self.orders.values():
            if not held.status.terminal and self.rng.random() < 0.6:
                held.filled = min(held.order.qty, held.filled + int(self.rng.integers(1, 4)))
                held.status = S.FILLED if held.filled == held.order.qty else S.PARTIALLY_FILLED
                self.outbox.append(self.status(held))


class CrashingLedger(Ledger):
    """A ledger whose commits are I/O operations."""

    fuse = Fuse(-1, False)

    def _commit(self) -> None:
        self.fuse.io(super()._commit)


class Process:
    """A minimal engine: decides, records, sends, listens."""

    def __init__(self, path: Path, venue: Venue, fuse: Fuse) -> None:
        self.venue = venue
        self.known: list[str] = []  # reports that record_report has acknowledged
        venue.fuse = fuse
        self.ledger = CrashingLedger(path, run=RUN, mode="paper")
        self.ledger.fuse = fuse
        named = [msgspec.structs.replace(BTC, name=name) for name in INSTRUMENTS]
        self.engine = Engine(named, buyer(), EngineLimits(), RUN)
        self.manager = self.engine.orders
        self.recovery: Recovered | None = None

    async def start(self) -> None:
        clock = SimClock(self.venue.execs * 1000)
        driver = Driver(self.engine, self.venue.send, ledger=self.ledger)
        recovery = Recovery(driver, self.ledger, self.venue, clock)
        self.venue.on_report(recovery.report)
        recovery.rebuild()
        self.recovery = await recovery.run(5.0)
        self.venue.on_report(self.report)

    def report(self, update: OrderUpdate) -> None:
        if self.ledger.record_report(update):
            self.known.append(update.execID)
            assert self.manager.apply(update).alarm is None

    def next_id(self) -> str:
        return self.engine.next_id()

    async def trade(self, steps: int) -> None:
        for step in range(steps):
            instrument = INSTRUMENTS[step % 2]
            orders = self.manager.open_orders(instrument)
            if not orders:
                self.order(instrument, step)
            elif step % 3 == 0 and orders[0].cancel is None:
                self.cancel(orders[0].command)
            await asyncio.sleep(0)
            self.venue.pump()

    def order(self, instrument: str, step: int) -> None:
        side, qty = 1 if step % 4 else -1, 5 + step % 3
        made = new_order(
            self.next_id(), side, qty, 100 + step, instrument=instrument, ts=self.venue.execs, seq=step
        )
        self.command(made)

    def cancel(self, order: NewOrder) -> None:
        self.command(
            cancel_order(self.next_id(), order.cl_ord_id, instrument=order.instrument, ts=self.venue.execs)
        )

    def command(self, command: Command) -> None:
        self.ledger.record_intent(command)
        self.manager.sent(command)
        self.venue.arrive(command)


def live(path: Path, venue: Venue, fuse: Fuse, steps: int) -> tuple[Process, bool]:
    """Run a process until it ends or crashes; say whether it crashed."""
    loop = asyncio.new_event_loop()
    process = Process(path, venue, fuse)

    async def whole() -> None:
        await process.start()
        await process.trade(steps)

    task = loop.create_task(whole())
    crashed = False
    try:
        loop.run_until_complete(task)
    except Crash:
        crashed = True
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    finally:
        loop.close()
        process.ledger.close()
        venue.fuse = Fuse(-1, False)
        venue.drop()
    return process, crashed


def agree(path: Path, venue: Venue, acknowledged: list[str]) -> None:
    """Start once more and check every promise."""
    process, crashed = live(path, venue, Fuse(-1, False), steps=0)
    assert not crashed
    assert process.recovery is not None
    assert process.recovery.quarantined == ()
    assert process.manager.open_orders() == []
    assert not [c for c in process.recovery.corrections if c.kind is CorrectionKind.ADJUST]
    assert not [h for h in venue.orders.values() if not h.status.terminal]
    for instrument in INSTRUMENTS:
        assert process.manager.position(instrument) == venue.position(instrument)
    assert len(set(venue.arrived)) == len(venue.arrived)  # nothing was sent twice
    reader = LedgerReader(path)
    recorded = [e.body for e in reader.events()]
    told = {b.execID for b in recorded if isinstance(b, OrderUpdate)}
    assert set(acknowledged) <= told  # nothing acknowledged is lost
    intents = {b.cl_ord_id for b in recorded if isinstance(b, NewOrder | CancelOrder)}
    assert set(venue.arrived) <= intents  # nothing left before it was in the ledger
    again = OrderManager(INSTRUMENTS)
    rebuilt = rebuild(reader, again)
    assert (
        again.accounts.tobytes() == process.manager.accounts.tobytes()
    )  # recovering twice is recovering once
    assert again.working.tobytes() == process.manager.working.tobytes()
    assert rebuilt.next_sequence > max((int(name.rpartition("-")[2]) for name in intents), default=-1)
    reader.close()


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


def order(n: int) -> NewOrder:
    return new_order(cl_ord_id(RUN, n), 1, 5, 100, instrument="GOOG", ts=n, seq=n)


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
    assert driver.engine.claims.lots(driver.engine.orders.instruments.index("GOOG")) == 2
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


def filled(bought: NewOrder, exec_id: str) -> OrderUpdate:
    return OrderUpdate(
        clOrdID=bought.cl_ord_id, execID=exec_id, status=S.FILLED, filled=bought.qty, price=bought.px, ts=1
    )


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


class RenamingVenue(Venue):
    """One that knows an order by its newest id alone."""

    def __init__(self, orders: Sequence[NewOrder]) -> None:
        super().__init__(0)
        self.orders = {one.cl_ord_id: Held(one) for one in orders}

    def trade(self) -> None:
        """Nothing more happens."""


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


# --- what a difference is worth -----------------------------------------------------------------------------


class Closed(RenamingVenue):
    """One at which somebody has changed the position: it is `lots` now, at an average of `average`."""

    def __init__(self, lots: int, average: float) -> None:
        super().__init__([])
        self.lots, self.average = lots, average

    async def positions(self) -> Sequence[VenuePosition]:
        return [VenuePosition(instrument="GOOG", qty=self.lots, avg_px=self.average)]


def restarted(path: Path, venue: Venue) -> Driver:
    """The driver of an engine that has recovered from a ledger and is not yet warm."""
    return recovered(path, venue)[0]


def recovered(
    path: Path, venue: Venue, token: int = 0, said: Sequence[OrderUpdate] = ()
) -> tuple[Driver, Recovery]:
    """The same with what recovered it, to which the venue has `said` something at once."""
    ledger = Ledger(path, run=RUN, mode="paper")
    named = [msgspec.structs.replace(BTC, name=name) for name in INSTRUMENTS]
    engine = Engine(named, buyer(), EngineLimits(warmup_events=100), RUN)
    engine.token = token
    driver = Driver(engine, venue.send, ledger=ledger)
    recovery = Recovery(driver, ledger, venue, SimClock(1))
    venue.on_report(recovery.report)
    recovery.rebuild()
    for update in said:
        recovery.report(update)
    asyncio.run(asyncio.wait_for(recovery.run(1.0), 5))
    return driver, recovery


def closed(driver: Driver) -> None:
    """Its process is gone."""
    assert driver.ledger is not None
    driver.ledger.close()


def five_bought_at_100_000(path: Path) -> None:
    ledger = Ledger(path, run=RUN, mode="paper")
    bought = msgspec.structs.replace(order(0), px=100_000)
    ledger.record_intent(bought)
    ledger.record_report(filled(bought, "E1"))
    ledger.close()


@pytest.mark.parametrize(("lots", "average"), [(0, 0.0), (3, 100_000.0), (-2, 50.0), (9, 1.0)])
def test_a_position_that_was_changed_while_the_engine_was_down_is_no_gain(
    tmp_path: Path, lots: int, average: float
) -> None:
    """At the venue's average (0 where it is flat) it was a gain or a loss of everything that was held."""
    path = tmp_path / "ledger.sqlite"
    five_bought_at_100_000(path)
    driver = restarted(path, Closed(lots, average))
    driver.events(book(1, 1_000_000_000))
    account = driver.engine.desk.account[0]
    assert account["position"] == lots
    assert abs(account["pnl"]) <= 5 * 2  # five lots, a mid within two ticks of what was paid
    assert account["peak"] <= 10
    closed(driver)


def test_an_adjustment_has_one_price_whenever_the_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    five_bought_at_100_000(path)
    driver = restarted(path, Closed(0, 0.0))
    closed(driver)
    driver = restarted(path, Closed(0, 0.0))  # it died before there was a price
    assert driver.engine.unvalued
    driver.events(book(1, 1_000_000_000))
    cash = float(driver.engine.desk.account["cash"][0])
    closed(driver)
    driver = restarted(path, Closed(0, 0.0))  # and after it
    assert not driver.engine.unvalued
    assert driver.engine.desk.account["cash"][0] == cash
    closed(driver)
    reader = LedgerReader(path)
    (note,) = reader.notes("valued")
    assert note.data == {"qty": -5, "px": 100_002.0}
    reader.close()


def test_an_adjustment_that_an_older_release_booked_at_0_is_valued_now(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", run=RUN, mode="paper")
    for px in (0.0, 70.0):
        data: dict[str, Any] = {"qty": -5, "px": px, "reason": "closed"}
        ledger.record_note(Note(kind="adjustment", ts=1, instrument="GOOG", data=data))
    manager = OrderManager(INSTRUMENTS)
    rebuilt = rebuild(ledger, manager)
    assert rebuilt.unvalued == {"GOOG": -5}
    assert manager.position("GOOG") == -10
    assert manager.accounts["cash"][0] == 350.0
    ledger.close()


class StoppedOut(Closed):
    """A venue that tells at which price a stop has closed what was held, once the ledger was left."""

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        assert since == 1 - CLOCKS_APART_NS, "starts that failed since then are no trade"
        assert is_ours(f"{RUN}-00000001")
        return [OthersTrade(instrument="GOOG", qty=-5, px=99_900.5, order="77", ts=2)]


def test_a_stop_that_was_reached_while_the_engine_was_down_is_booked_at_its_price(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    five_bought_at_100_000(path)
    ledger = Ledger(path, run=RUN, mode="paper")  # a start that came no further, an hour later
    later = 3_600 * 10**9
    ledger.record_control(Control(action="begin", ts=later, value=1_000.0))
    ledger.record_note(layout_note(later))
    ledger.record_note(Note(kind=CONTINUED, ts=later, data={}))
    ledger.close()
    for _ in range(2):
        driver = restarted(path, StoppedOut(0, 0.0))
        assert not driver.engine.unvalued
        driver.events(book(1, 1_000_000_000))
        account = driver.engine.desk.account[0]
        assert account["position"] == 0
        assert float(account["pnl"] + account["fees"]) == -5 * 99.5
        closed(driver)
    reader = LedgerReader(path)
    (note,) = reader.notes("adjustment")
    assert (note.data["qty"], note.data["px"]) == (-5, 99_900.5)
    assert not reader.notes("valued")
    reader.close()
