"""A scripted venue and a model that always wants to buy: what the live wiring is tested against."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from emp.access.port import MarketAccess, Sink
from emp.access.pump import Pump
from emp.bus.bus import EventBus
from emp.core.approval import Cleared, command_of
from emp.core.clock import LiveClock
from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, Replace, VenuePosition
from emp.core.errors import VenueError
from emp.core.instrument import Instrument, catalogue
from emp.core.records import EVENT, Array
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.guard import LatencyGuard
from emp.engine.journal_tap import JournalTap
from emp.engine.limits import EngineLimits
from emp.engine.live import Live
from emp.engine.load import LoadedModel
from emp.engine.succession import Models, Succession
from emp.engine.tap import Taps
from emp.engine.upkeep import Home
from emp.engine.verdict import Verdict
from emp.engine.view import Viewer
from emp.journal.ledger import Ledger
from emp.journal.place import Place
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder
from emp.model.artifact import Artifact, Manifest
from emp.model.calibration import pack_calibration
from emp.model.heads import MEANS_AT, OUTPUTS
from emp.model.linear import linear_params
from emp.observe.board import Board
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUTS
from tests.kit.journal import unseal

BTC = msgspec.structs.replace(catalogue()["BTCUSDT"], taker_fee=0.1, maker_fee=0.0)
MS = 1_000_000


def buyer() -> LoadedModel:
    """A model that always expects the price to rise by fifty units."""
    bias = np.zeros((1, OUTPUTS), np.float32)
    bias[:, MEANS_AT:] = 50.0
    manifest = Manifest(
        kind="linear", schema="test", domains=["any"], k_sigma=0.5, thresholds=[[0.5] * 6], warmup_events=0
    )
    params = linear_params(np.zeros((1, INPUTS, OUTPUTS), np.float32), bias, pack_calibration({}, 1, "test"))
    return LoadedModel(Artifact(manifest, {}), params, np.zeros(1, ENCODER)[0], 0)


def book(seq: int, ts: int, n: int = 1, spread: int = 2) -> Array:
    """EVENT rows [n] from number `seq` on: a book that moves by a tick to and fro."""
    rows = np.zeros(n, EVENT)
    rows["seq"] = np.arange(seq, seq + n)
    rows["ts"] = rows["ts_recv"] = ts
    rows["flags"] = EventFlag.VISIBLE
    rows["n_bid"] = rows["n_ask"] = 1
    rows["bid_px"][:, 0] = 100_000 + rows["seq"] % 2
    rows["ask_px"][:, 0] = rows["bid_px"][:, 0] + spread
    rows["bid_sz"][:, 0] = rows["ask_sz"][:, 0] = 10_000
    return rows


class Venue:
    """A market that does what the test says. Immediate orders fill at their price, others rest.

    With `lazy` it answers only as its market goes on, as a simulated one does.
    """

    def __init__(self) -> None:
        self.feed: asyncio.Queue[Array | Exception | None] = asyncio.Queue()
        self.commands: list[Command] = []
        self.resting: dict[str, NewOrder] = {}
        self.position = 0
        self.connected = self.closed = False
        self.sink: Sink
        self.pump = Pump(self.run)
        self.answers = True
        self.refuses_orders = False
        self.refuses: str | None = None
        self.before_send: Callable[[Command], None] = lambda _: None
        self._report: Callable[[OrderUpdate], None] = lambda _: None
        self._seq = 0
        self._exec = 0
        self.name = "e"
        self.lazy = False
        self._unsaid: list[OrderUpdate] = []

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        if self.refuses:
            raise VenueError(self.refuses)
        self._report = sink.report
        self.sink = sink
        self.pump.start(sink)
        self.connected = True

    async def run(self, sink: Sink) -> None:
        while True:
            if self.lazy and self.feed.empty():
                await asyncio.sleep(0.005)
                self.tick()
            events = await self.feed.get()
            while self._unsaid:
                self._report(self._unsaid.pop(0))
            if events is None:
                return
            if isinstance(events, Exception):
                raise events
            sink.events(events)

    def send(self, cleared: Cleared) -> None:
        command = command_of(cleared)
        self.before_send(command)
        self.commands.append(command)
        if not self.answers:
            return
        if isinstance(command, NewOrder) and self.refuses_orders:
            self.report(command, OrderStatus.REJECTED, 0)
        elif isinstance(command, NewOrder) and command.immediate:
            self.position += command.side * command.qty
            self.report(command, OrderStatus.FILLED, command.qty)
        elif isinstance(command, NewOrder):
            self.resting[command.cl_ord_id] = command
            self.report(command, OrderStatus.NEW, 0)
        elif isinstance(command, CancelOrder):
            order = self.resting.pop(command.orig, None)
            if order is not None:
                self.report(order, OrderStatus.CANCELED, 0)
        elif isinstance(command, Replace):
            self.replace(command)

    def replace(self, command: Replace) -> None:
        order = self.resting.pop(command.orig, None)
        if order is not None:
            changed = {"cl_ord_id": command.cl_ord_id, "qty": command.qty, "px": command.px, "ts": command.ts}
            self.resting[command.cl_ord_id] = order = msgspec.structs.replace(order, **changed)
            self.report(order, OrderStatus.NEW, 0)

    def report(self, order: NewOrder, status: OrderStatus, filled: int) -> OrderUpdate:
        update = self.report_of(order, status, filled)
        if self.lazy:
            self._unsaid.append(update)
        else:
            self._report(update)
        return update

    def report_of(self, order: NewOrder, status: OrderStatus, filled: int) -> OrderUpdate:
        self._exec += 1
        return OrderUpdate(
            clOrdID=order.cl_ord_id,
            execID=f"{self.name}{self._exec}",
            status=status,
            filled=filled,
            price=order.px,
            ts=order.ts,
            instrument=order.instrument,
            side=order.side,
        )

    def repeat(self, update: OrderUpdate) -> None:
        self._report(update)

    async def open_orders(self) -> Sequence[OrderUpdate]:
        return [self.report_of(order, OrderStatus.NEW, 0) for order in self.resting.values()]

    async def positions(self) -> Sequence[VenuePosition]:
        return [VenuePosition(instrument=BTC.name, qty=self.position, avg_px=100_000.0)]

    async def close(self) -> None:
        await self.pump.stop()
        self.closed = True

    def tick(self, n: int = 1, spread: int = 2) -> None:
        """Let `n` changes of the book arrive in one batch."""
        self._seq += n
        rows = book(self._seq - n + 1, LiveClock().now_ns(), n, spread)
        self.feed.put_nowait(rows)


class World:
    """Everything that `Live` takes, with the folder of the run."""

    instrument = BTC
    others: Sequence[Instrument] = ()  # of which the venue does not speak

    def __init__(
        self,
        folder: Path,
        *,
        queue_bound: int = 256,
        limits: EngineLimits | None = None,
        venue: Venue | None = None,
        actions: str = "actions",
        model: LoadedModel | None = None,
        guard: LatencyGuard | None = None,
        standby: LoadedModel | None = None,
        load: Callable[[], Models] | None = None,
        socket: bool = False,
    ) -> None:
        self.clock = LiveClock()
        self.venue = venue or Venue()
        access: MarketAccess = self.venue
        instruments = [self.instrument, *self.others]
        limits = limits or EngineLimits(max_position_lots=4, max_order_lots=2)
        model = model or buyer()
        self.engine = Engine(instruments, model, limits, "TEST0001")
        names = [one.name for one in instruments]
        self.bus = EventBus(names, queue_bound=queue_bound, max_age_ms=200, clock=self.clock)
        folder.mkdir(exist_ok=True)
        self.ledger_path = folder / "ledger.sqlite"
        self.ledger = Ledger(self.ledger_path, run="TEST0001", mode="mock")
        run = RunFolder.__new__(RunFolder)
        run.path, run.actions, run.market = folder, folder / actions, folder / f"{actions}-market"
        self.journal = JournalTap(run, instruments, self.engine.served, self.clock)
        self.actions = self.journal.actions
        self.board = Board(self.clock)
        self.taps = Taps()
        self.driver = Driver(self.engine, access.send, ledger=self.ledger, taps=self.taps)
        self.verdicts: deque[Verdict] = deque()  # of a monitor that is not there
        succession = Succession(
            self.driver,
            self.board,
            guard or LatencyGuard(1_000.0, 1_000.0),
            Models(model, standby),
            load,
            verdicts=self.verdicts,
        )
        self.viewer = Viewer(
            self.driver,
            self.bus,
            self.clock,
            self.board,
            succession.view,
            mode="mock",
            stale_after_ms=1_000,
        )
        self.taps.attach(self.journal)
        self.taps.attach(self.viewer)
        self.live = Live(
            access=access,
            bus=self.bus,
            driver=self.driver,
            ledger=self.ledger,
            taps=self.taps,
            board=self.board,
            clock=self.clock,
            succession=succession,
            home=Home(folder, None, Place(folder, self.ledger_path)) if socket else None,
        )

    @property
    def position(self) -> int:
        return int(self.engine.desk.account["position"][0])

    def unseal(self) -> None:
        """Let the ledger look as if its process had died."""
        unseal(self.ledger_path)

    def recorded(self) -> LedgerReader:
        return LedgerReader(self.ledger_path)

    async def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Let the loop run until the condition holds; fail after a while."""
        deadline = self.clock.monotonic_ns() + int(seconds * 1e9)
        while not condition():
            assert self.clock.monotonic_ns() < deadline, "it never came true"
            await asyncio.sleep(0.002)


def play(world: World, script: Callable[[World], "object"]) -> None:
    """Run the live engine and a script beside it; stop when the script ends; leave no task behind."""

    async def both() -> None:
        running = asyncio.create_task(world.live.run())
        try:
            await script(world)  # type: ignore[misc]
        finally:
            world.live.owner.stop()
            try:
                await running
            finally:
                assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(both())
