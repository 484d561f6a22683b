"""A process that dies at any I/O, the venue that it leaves, and the start that follows."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from emp.core.approval import Cleared, command_of
from emp.core.clock import SimClock
from emp.core.codes import OrderStatus
from emp.core.contracts import (
    CancelOrder,
    Command,
    NewOrder,
    OrderUpdate,
    QueryOrder,
    VenuePosition,
)
from emp.core.ids import cl_ord_id
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.rebuild import rebuild
from emp.engine.recover import Recovered, Recovery
from emp.execution.orders import OrderManager
from emp.execution.reconcile import CorrectionKind
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from tests.kit.orders import cancel_order, new_order
from tests.live.world import BTC, buyer

S = OrderStatus
RUN = "RUN"
INSTRUMENTS = ("GOOG", "MSFT")


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


def order(n: int) -> NewOrder:
    return new_order(cl_ord_id(RUN, n), 1, 5, 100, instrument="GOOG", ts=n, seq=n)


def filled(bought: NewOrder, exec_id: str) -> OrderUpdate:
    return OrderUpdate(
        clOrdID=bought.cl_ord_id, execID=exec_id, status=S.FILLED, filled=bought.qty, price=bought.px, ts=1
    )


class RenamingVenue(Venue):
    """One that knows an order by its newest id alone."""

    def __init__(self, orders: Sequence[NewOrder]) -> None:
        super().__init__(0)
        self.orders = {one.cl_ord_id: Held(one) for one in orders}

    def trade(self) -> None:
        """Nothing more happens."""


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
