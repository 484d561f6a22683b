"""The engine in real time: market data and reports in through the bus, commands out through the ledger.

    access.events -> bus -> engine.process -> ledger.record_intent -> access.send
    access.on_report -> bus (own lane) -> ledger.record_report -> engine.on_report

Everything that touches the engine runs on one event loop. Ending, whether asked for or forced by an error,
is one path: no decision any more, our resting orders withdrawn (after a failure: everything flattened), the
venue's answers awaited for a bounded time, the access closed, the journal sealed. Market data is read to the
end, because a simulated venue answers only as its market goes on.
"""

import asyncio
import contextlib
import gc
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from typing import Any

import structlog

from emp.access.port import MarketAccess
from emp.bus.bus import ControlMessage, EventBus
from emp.core.clock import Clock
from emp.core.codes import Reason
from emp.core.contracts import CancelOrder, Command, DegradedMode, Message, OrderUpdate, RiskBreach
from emp.core.errors import VenueError
from emp.engine.engine import Engine, Output
from emp.engine.recover import account_note, recover
from emp.engine.succession import Succession
from emp.engine.view import Viewer
from emp.engine.watchdog import Watchdog
from emp.journal.actionlog import ActionLog
from emp.journal.ledger import Ledger
from emp.observe.board import Board

BATCH = 64
"""Most events between two looks at the lane of reports."""

TICK_S = 0.02
VIEW_TICKS = 5  # a view every 100 ms
MARK_TICKS = 250  # what loss limits measure from is recorded every 5 s where it has changed
GOODBYE_S = 2.0
"""How long the venue's answers to the last cancels are awaited."""

_log = structlog.get_logger(__name__)


class Live:
    """One engine on one market access; `run` returns when it has ended in order."""

    def __init__(
        self,
        *,
        access: MarketAccess,
        bus: EventBus,
        engine: Engine,
        ledger: Ledger,
        actions: ActionLog,
        board: Board,
        viewer: Viewer,
        clock: Clock,
        succession: Succession,
        flush_seconds: float = 60.0,
    ) -> None:
        self._access = access
        self._bus = bus
        self._engine = engine
        self._ledger = ledger
        self._actions = actions
        self._board = board
        self._viewer = viewer
        self._clock = clock
        self._succession = succession
        viewer.models = succession.view
        self._flush_ticks = max(1, int(flush_seconds / TICK_S))
        self._index = {one.name: i for i, one in enumerate(engine.instruments)}
        self._marked: dict[int, tuple[int, float] | None] = dict.fromkeys(self._index.values())
        self.connected = asyncio.Event()
        self._stop = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._watchdog = Watchdog(clock, self._stalled, lambda: board.clear_alarm("loop"))

    def stop(self) -> None:
        """End in order; to be called on the loop."""
        self._stop.set()

    def kill(self, why: str) -> None:
        """Pull the kill switch: cancel all, flatten, halt; the engine runs on, halted. Call it on the loop."""
        now = self._market_now()
        self._bus.publish(RiskBreach(reason=why, metric="kill_switch", value=1.0, limit=0.0, ts=now))
        self._send_all(self._engine.flatten(Reason.KILL_SWITCH, now))

    def reload(self) -> None:
        """Bring the model that the owner names now, while trading goes on; call it on the loop."""
        if self._reloading is not None and not self._reloading.done():
            _log.warning("reload not begun: one is under way")
            return
        self._reloading = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        with self._surviving():
            await self._succession.reload()

    async def run(self) -> None:
        """Connect, trade until stopped or the market ends, and end in order; raise what forced the end."""
        try:
            self._succession.warm_up()
            await self._access.connect(self._engine.instruments)
            await self._recover()
            self.connected.set()
            _log.info("connected", instruments=list(self._index), run=self._engine.run)
            await self._trade()
        finally:
            await self._close()
        if self._failure is not None:
            raise self._failure

    async def _recover(self) -> None:
        """Agree with ledger and venue; what cannot be true halts everything before it begins."""
        recovery = await recover(self._ledger, self._engine.orders, self._access, self._clock)
        self._engine.sequence = max(self._engine.sequence, recovery.next_sequence - 1)
        self._access.on_report(self._bus.publish)
        for correction in recovery.corrections:
            _log.warning("corrected", kind=correction.kind, reason=correction.reason)
        for one in recovery.quarantined:
            _log.error("cannot be true", reason=one.reason, text=one.text)
        if recovery.quarantined:
            self.kill("recovery")

    async def _trade(self) -> None:
        """Run the three loops until one ends or `stop` is called, then say goodbye."""
        gc.collect()
        gc.freeze()  # what is here now stays: a full collection later must not walk it
        self._watchdog.start()
        tasks = [self._start(self._tick()), self._start(self._feed()), self._start(self._serve())]
        try:
            await self._stop.wait()
            if tasks[2].done():  # it has failed: reports must be served to the end
                tasks.append(self._start(self._serve()))
            await self._goodbye()
        finally:
            await _cancelled(*tasks, *([self._reloading] if self._reloading else []))
            self._watchdog.stop()
            gc.unfreeze()

    def _start(self, loop: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run a loop as a task; its end ends the run, and what it failed with is kept for the end."""

        async def guarded() -> None:
            try:
                await loop
            except Exception as error:
                self._fail(error)
            self._stop.set()

        return asyncio.create_task(guarded())

    def _fail(self, error: Exception) -> None:
        """Note the first failure: from now on nothing new, and what we hold is closed."""
        if self._failure is None:
            self._failure = error
            self._board.raise_alarm("failure", f"failed: {error}")
            _log.error("failed", error=str(error), kind=type(error).__name__)
        self._stop.set()

    # --- the three loops ----------------------------------------------------------------------------------

    async def _feed(self) -> None:
        async for events in self._access.events():
            await self._bus.publish_async(events)
        _log.info("the market has ended")
        while any(self._bus.depth(i) for i in self._index.values()):
            await asyncio.sleep(TICK_S)

    async def _serve(self) -> None:
        while True:
            await self._bus.wait()
            while self._serve_control() or (not self._stop.is_set() and self._serve_market()):
                await asyncio.sleep(0)

    async def _tick(self) -> None:
        ticks = 0
        while True:
            self._watchdog.beat()
            self._note_stall()
            self._bus.check()
            self._act(self._engine.on_timer(self._market_now()))
            if ticks % VIEW_TICKS == 0:
                self._board.publish(self._viewer.view())
            if ticks % MARK_TICKS == 0:
                self._mark_accounts()
            ticks += 1
            if ticks % self._flush_ticks == 0:
                self._actions.flush()
            await asyncio.sleep(TICK_S)

    # --- what they do -------------------------------------------------------------------------------------

    def _serve_control(self) -> bool:
        """Deal with everything in the lane of reports and alarms; whether there was anything."""
        found = False
        while (message := self._bus.next_control()) is not None:
            found = True
            self._control(message)
        return found

    def _control(self, message: ControlMessage) -> None:
        if isinstance(message, OrderUpdate):
            self._report(message)
        elif isinstance(message, DegradedMode):
            self._engine.set_degraded(self._index[message.instrument], message.active)
            _log.warning("degraded" if message.active else "recovered", reason=message.reason)
        elif isinstance(message, RiskBreach):
            self._viewer.breached(message)
            _log.error("risk breach", reason=message.reason, metric=message.metric, value=message.value)
            with self._surviving():
                self._ledger.record_note(message)
        else:
            self._send_all([message])

    def _report(self, update: OrderUpdate) -> None:
        """Record a report, then apply it; one that cannot be recorded has happened all the same."""
        new = True
        with self._surviving():
            new = self._ledger.record_report(update)
        if new:
            self._act(self._engine.on_report(update))

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """What a step that fails means (a lost journal): halt and flatten, but first finish what is at hand."""
        try:
            yield
        except Exception as error:
            self._fail(error)

    def _serve_market(self) -> bool:
        """Carry one batch of one instrument through the engine; whether there was one.

        Where anyone subscribes to market_data_update the batch is one event, so that each update goes out with
        the MarketState that was made from it.
        """
        self._note_stall()
        watched = self._bus.watched("market_data_update")
        waiting = self._bus.peek(1 if watched else BATCH)
        if waiting is None:
            return False
        instrument, events = waiting
        wait_ms = self._bus.lag_ms(instrument)
        output = self._engine.process(events)
        last = events[output.consumed - 1].copy()
        self._viewer.delivered(instrument, last, wait_ms, output)
        self._actions.append(output.rows)
        made = watched and len(output.rows) > 0 and self._engine.desk.perception["has_book"][instrument]
        states = self._engine.desk.state[instrument : instrument + 1].copy() if made else None
        self._bus.release(instrument, output.consumed, states)
        self._act(output)
        with self._surviving():
            self._succession.delivered(instrument, last, output.laps)
        return True

    def _act(self, output: Output) -> None:
        """Publish what the engine has to say and send what it asks for."""
        self._say(output.messages)
        self._send_all(output.commands)

    def _say(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if isinstance(message, (RiskBreach, DegradedMode)):
                self._bus.publish(message)

    def _send_all(self, commands: Sequence[Command]) -> None:
        """Send what is in the ledger, and nothing else; after a failure even what the ledger cannot take.

        After a failure the engine only asks for what lowers the risk, and that outweighs the record. What is
        sent together is synced together: twenty cancels wait for the disk once.
        """
        if not commands:
            return
        failed_before = self._failure is not None
        with self._surviving(), self._ledger.batch():
            for command in commands:
                self._ledger.record_intent(command)
        if self._failure is not None and not failed_before:
            return
        for command in commands:
            self._engine.sent(command)
            self._viewer.commands += 1
            self._access.send(command)

    def _note_stall(self) -> None:
        """After a blocked loop the newest data may still lie in a socket: trade size 0 until caught up."""
        silent_ms = self._watchdog.take_stall()
        if silent_ms is not None:
            self._bus.degrade("stall", silent_ms)

    def _stalled(self, silent_ms: float) -> None:
        text = f"the loop is blocked for {silent_ms:.0f} ms"
        self._board.raise_alarm("loop", text)
        _log.error(text)

    def _mark_accounts(self) -> None:
        """Record what fills alone cannot restore, so that loss limits hold across a restart."""
        for i, name in enumerate(self._index):
            account = self._engine.desk.account[i]
            mark = (int(account["day"]), float(account["peak"]))
            if account["fills"] and self._marked[i] != mark:
                self._marked[i] = mark
                with self._surviving():
                    self._ledger.record_note(account_note(name, account, self._viewer.market_now(i)))

    def _market_now(self) -> int:
        return max(self._viewer.market_now(i) for i in self._index.values())

    # --- the end ------------------------------------------------------------------------------------------

    async def _goodbye(self) -> None:
        """Withdraw our orders, or flatten after a failure, and await the venue's answers."""
        now = self._market_now()
        with contextlib.suppress(VenueError):
            if self._failure is None:
                self._send_all(self._cancels(now))
            if self._failure is not None:
                self._send_all(self._engine.flatten(Reason.KILL_SWITCH, now))
        deadline = self._clock.monotonic_ns() + int(GOODBYE_S * 1e9)
        while self._unfinished() and self._clock.monotonic_ns() < deadline:
            await asyncio.sleep(TICK_S / 4)
        left = self._engine.orders.open_orders()
        if left:
            _log.error("orders without an answer at the end", orders=[o.command.cl_ord_id for o in left])

    def _cancels(self, now_ns: int) -> list[Command]:
        return [
            CancelOrder(
                cl_ord_id=self._engine.next_id(),
                orig=order.command.cl_ord_id,
                instrument=order.command.instrument,
                ts=now_ns,
                reason=Reason.HALTED,
            )
            for order in self._engine.orders.open_orders()
            if order.cancel is None and not order.command.immediate
        ]

    def _unfinished(self) -> bool:
        return bool(self._engine.orders.open_orders() or self._engine.flattening)

    async def _close(self) -> None:
        with self._surviving(), contextlib.suppress(VenueError):
            await self._access.close()
        with self._surviving():
            self._actions.close()
        with self._surviving():
            if self._failure is None:
                self._ledger.seal()
        self._ledger.close()
        self._board.publish(self._viewer.view())


async def _cancelled(*tasks: "asyncio.Task[None]") -> None:
    """Cancel tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
