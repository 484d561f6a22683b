"""The engine in real time: the one sink of a market, a bus before the engine, and the driver behind it.

    access -> sink.events -> bus -> driver.events
    access -> sink.report -> bus (a queue of its own, served first) -> driver.report

Everything that touches the engine runs on one event loop, and nothing that goes wrong here reaches a transport. Ending,
whether asked for or forced by an error, is one path: no decision any more, our resting orders withdrawn (after a
failure: everything flattened), the venue's answers awaited for a bounded time, the access closed, the journal sealed.
Market data is read to the end, because a simulated venue answers only as its market goes on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from emp.access.port import LinkState, MarketAccess, Resumes, StatesTerms
from emp.bus.bus import ControlMessage, EventBus
from emp.core.background import background
from emp.core.clock import Clock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import (
    CancelOrder,
    Control,
    DegradedMode,
    OrderUpdate,
    RiskBreach,
)
from emp.core.errors import LeaseError, VenueError
from emp.core.records import Array
from emp.engine.context import SlowContext
from emp.engine.control_socket import ControlSocket
from emp.engine.driver import Driver
from emp.engine.ending import Ending, cancelled, left_open
from emp.engine.engine import FAILURE, POSITIONS, TRADE_LINK
from emp.engine.history import verify_history
from emp.engine.journal_tap import known_until
from emp.engine.kill_file import KillFile
from emp.engine.market_clock import MarketClock
from emp.engine.opening import Opening
from emp.engine.owner import Owner, RunState
from emp.engine.reconciliation.agreement import Agreement
from emp.engine.reconciliation.audit import PositionAudit
from emp.engine.reconciliation.earlier import EarlierOrders
from emp.engine.reconciliation.first_book import FirstBooks, KnownPrice
from emp.engine.reconciliation.others import OthersTrades
from emp.engine.recover import Recovery
from emp.engine.reloads import Reloads
from emp.engine.rolls import Rolls
from emp.engine.scheduled import Scheduled
from emp.engine.succession import Succession
from emp.engine.tap import Taps
from emp.engine.upkeep import Home, Upkeep
from emp.engine.venue_terms import TERMS_S, VenueTerms
from emp.engine.watchdog import LIMIT_MS, Watchdog
from emp.journal.ledger import Ledger
from emp.observe.board import Board
from emp.observe.brief import brief

BATCH = 64
"""Most events between two looks at the queue of reports."""

TICK_S = 0.02
MARK_S = 5.0
"""How often what loss limits measure from is recorded, where it has changed; after a stall at once."""

CONTEXT_S = 1.0
"""How often providers of the slow context look at what they rest on."""

SHUTDOWN_S = 2.0
"""How long the venue's answers to the last cancels are awaited."""

CLOSING_S = 10.0
"""How long a venue that refuses to close what is held is asked again, at the end after a failure."""

_log = structlog.get_logger(__name__)


class Live(Ending):
    """One engine on one market access, and the access's `Sink`; `run` returns when it has ended in order."""

    def __init__(
        self,
        *,
        access: MarketAccess,
        bus: EventBus,
        driver: Driver,
        ledger: Ledger,
        taps: Taps,
        board: Board,
        clock: Clock,
        succession: Succession,
        home: Home | None = None,
        context: SlowContext | None = None,
    ) -> None:
        """Without a `home` there is no control socket, and the run is no account's; without a `context` size is never
        multiplied.
        """
        home = home or Home()
        self._folder = home.folder
        super().__init__(board)
        self._access = access
        self._bus = bus
        self._driver = driver
        self._engine = driver.engine
        self._ledger = ledger
        self._taps = taps
        self._clock = clock
        self._succession = succession
        self._names = self._engine.orders.instruments
        self._market = MarketClock(len(self._names), clock)
        self._context = context
        self._rolls = Rolls(self._engine)
        self._scheduled = Scheduled(self._rolls, context, driver.control)
        self._opening = Opening(driver, board, clock, self._market)
        self._account = home.account
        self._lease = home.lease
        self._upkeep = Upkeep(driver, ledger, access, board, clock, self._market, home, self._surviving)
        self._others = OthersTrades(self._engine.orders, self._engine.run, access)
        self._agreement = Agreement(
            self._engine.positions,
            PositionAudit(self._engine.positions, lambda: self._engine.sequence, access),
            self._others,
            self._market,
            driver.control,
            board,
            lambda known: self._degrade(POSITIONS, active=not known),
        )
        self._first_books = FirstBooks(self._names, board, clock)
        self._recovery: Recovery | None = None
        self._earlier: EarlierOrders | None = None
        self._trade_up = True
        self.connected = asyncio.Event()
        self._over = asyncio.Event()  # the market has ended
        self._reloads = Reloads(succession, self._surviving, self._opening.trust_model)
        self._kill_file = KillFile(home.folder, lambda why: self.owner.kill(why))
        self.owner = Owner(
            RunState(
                self.connected,
                self._stop,
                lambda: self._failure is not None,
                self._surviving,
                self._kill_file,
            ),
            driver,
            ledger,
            board,
            self._market,
            self._agreement,
            self._opening,
            self._reloads,
        )
        self._over_in_order = ledger.last_seq == 0  # a run that never began leaves nothing to recover
        self._closed = False
        self._prepared = False
        self._socket = (
            None
            if home.folder is None
            else ControlSocket(home.folder, self._names, self.owner.ask, lambda: brief(board))
        )
        self._arrived_ns: int | None = None  # when the oldest event of the batch that is decided on came
        self._watchdog = Watchdog(clock, self._stalled, lambda: board.clear_alarm("loop"))
        driver.attach(
            bus.publish,
            self._fail,
            self._is_late,
            None if home.place is None else home.place.check,
            None if home.lease is None else home.lease.valid,
        )

    # --- the sink: what an access calls ---------------------------------------------------------------------

    def events(self, rows: Array) -> None:
        """Queue EVENT rows."""
        with self._surviving():
            self._bus.publish(self._first_books.believed(rows), self._watchdog.lain_ns())

    def old(self, rows: Array, age_ns: int) -> None:
        """Queue EVENT rows that were long on their way, as if they had waited here for so long: sizes are 0."""
        with self._surviving():
            self._bus.publish(self._first_books.believed(rows), max(age_ns, self._watchdog.lain_ns()))

    def report(self, update: OrderUpdate) -> None:
        """Take a report: into the recovery while there is one, else into its queue."""
        with self._surviving():
            if self._recovery is not None:
                self._recovery.report(update)
            elif self._earlier is not None and self._earlier.tell_nothing(update):
                _log.info(
                    "of an order that the start has withdrawn, nothing new",
                    order=update.clOrdID,
                    status=update.status,
                )
            else:
                self._bus.publish(update)

    def link(self, state: LinkState) -> None:
        """A connection changed: said, and while no order could leave none is decided."""
        with self._surviving():
            self._taps.link(state)
            self._say_link(state)
            if state.channel == "trade":
                self._agreement.link(up=state.up)
                if state.up != self._trade_up:
                    self._trade_up = state.up
                    self._degrade(TRADE_LINK, active=not state.up)

    def ended(self, error: Exception | None) -> None:
        """The market is over, or lost."""
        if error is not None:
            self._fail(error)
        else:
            _log.info("the market has ended")
        self._over.set()

    async def ready(self) -> None:
        """Return when the queues and the journal have room."""
        while not self._stop.is_set() and not (self._bus.room and self._taps.room):
            await asyncio.sleep(TICK_S / 4)

    def _degrade(self, reason: str, *, active: bool) -> None:
        for name in self._names:
            mode = DegradedMode(
                reason=reason,
                queue_depth=0,
                lag_ms=0.0,
                instrument=name,
                active=active,
                ts=self._clock.now_ns(),
            )
            self._bus.publish(mode)

    # --- the run --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, trade until stopped or the market ends, and end in order; raise what forced the end."""
        keeping = None if self._lease is None else self._start(self._keep_lease)
        try:
            self.prepare()
            self._recovery = Recovery(self._driver, self._ledger, self._access, self._clock, self._others)
            self._recovery.rebuild()
            self._know_prices(self._recovery.left_ns)
            if isinstance(self._access, Resumes):
                self._access.begin_after(known_until(self._folder, len(self._names)))
            for known in self._rolls.known():  # an earlier process of the run was told; its taps are gone
                self._taps.control(known)
            self._opening.restore()
            self.owner.record_what_waits()
            if self._socket is not None:
                await self._socket.start()
            await self._unless_over(self._access.connect(self._engine.instruments, self))
            await self._unless_over(self._recover(self._recovery))
            if self._stop.is_set():
                return
            self._over_in_order = False
            if self._lease is None and Reason.LEASE in self._engine.bars.every():
                self._opening.bar(Reason.LEASE, False, "the account is traded without a lease now")
            self.connected.set()
            _log.info("connected", instruments=list(self._names), run=self._engine.run)
            self.owner.apply_what_waits()
            await self._trade()
            self._over_in_order = True
        finally:
            self.owner.record_what_waits()
            await self._close()
            if keeping is not None:
                await cancelled(keeping)
            if self._lease is not None:
                if self.connected.is_set():
                    self._lease.state(self._upkeep.left())
                await asyncio.to_thread(self._lease.stop)
            if self._failure is not None:
                raise self._failure

    def prepare(self) -> None:
        """Compile what the engine runs, which may take minutes the first time. Nothing has begun before this is over,
        so that whoever calls it outside the loop may be ended by any signal at once.
        """
        if not self._prepared:
            self._prepared = True
            self._succession.warm_up()

    def _know_prices(self, left_ns: int) -> None:
        """Hold the first books against where the market was when the account, or else the ledger, knew it last."""
        for i in range(len(self._names)):
            left = self._upkeep.known_price(i)
            told = KnownPrice(self._engine.orders.prices[i], left_ns)
            self._first_books.know(i, left if left.px != 0.0 else told)

    async def _recover(self, recovery: Recovery) -> None:
        """Agree with ledger and venue; what cannot be true halts everything before it begins."""
        recovered = await recovery.run()
        self._upkeep.foreign, self._earlier, self._recovery = recovery.foreign, recovery.earlier, None
        for i, px in recovery.trades.items():
            self._first_books.traded(i, px)
        for correction in recovered.corrections:
            _log.warning("corrected", kind=correction.kind, reason=correction.reason)
        for one in recovered.quarantined:
            _log.error("report contradicts the ledger; quarantined", reason=one.reason, text=one.text)
        if recovered.quarantined:
            self.owner.keep(Control(action="kill", ts=self._market.newest(), reason="recovery"))

    async def _trade(self) -> None:
        """Run the loops until one ends or `stop` is called, then shut down."""
        with background().undisturbed():
            await self._run_loops()

    async def _run_loops(self) -> None:
        self._watchdog.start()
        tasks = [self._start(self._tick), self._start(self._until_over), self._start(self._serve)]
        tasks.append(self._start(self._agreement.run))
        if self._ledger.unread:
            tasks.append(self._start(self._verify_history))
        if isinstance(self._access, StatesTerms):
            tasks.append(self._start(self._watch_terms))
        if self._context is not None:
            tasks.append(self._start(self._watch_context))
        try:
            await self._stop.wait()
            if tasks[2].done():  # it has failed: reports must be served to the end
                tasks.append(self._start(self._serve))
            if tasks[0].done():  # so has this: what is not answered must be asked for
                tasks.append(self._start(self._tick))
            await self._shutdown()
        finally:
            await cancelled(*tasks, *self._reloads.tasks)
            self._watchdog.stop()

    def _start(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
        """Run a loop as a task; its end ends the run, and what it failed with is kept for the end."""

        async def guarded() -> None:
            try:
                await loop()
            except Exception as error:
                self._fail(error)
            self._stop.set()

        return asyncio.create_task(guarded())

    # --- the three loops ------------------------------------------------------------------------------------

    async def _until_over(self) -> None:
        await self._over.wait()
        while any(self._bus.depth(i) for i in range(len(self._names))):
            await asyncio.sleep(TICK_S)

    async def _serve(self) -> None:
        while True:
            await self._bus.wait()
            while self._serve_control() or (not self._stop.is_set() and self._serve_market()):
                await asyncio.sleep(0)

    async def _verify_history(self) -> None:
        await verify_history(self._ledger)
        _log.info("ledger read whole", events=self._ledger.unread)
        await self._stop.wait()

    async def _watch_context(self) -> None:
        assert self._context is not None
        while True:
            if await asyncio.to_thread(self._context.look):
                self._context.renew()
            await asyncio.sleep(CONTEXT_S)

    async def _keep_lease(self) -> None:
        """Tell the lease that the loop turns; open nothing while it is in doubt, and end where it is lost."""
        lease = self._lease
        assert lease is not None
        while not lease.lost:
            trades = self.connected.is_set() and not self._closed
            # a start compiles, and waits for answers within limits of its own: it is no loop that hangs
            if self.connected.is_set() and lease.beat() and trades:
                lease.state(self._upkeep.left())
            if trades and lease.doubtful != (Reason.LEASE in self._engine.bars.every()):
                self._opening.bar(Reason.LEASE, lease.doubtful, "the lease is not renewed")
            await asyncio.sleep(TICK_S)
        self._fail(
            LeaseError(f"the lease is lost: {lease.lost}; orders and position are left to whoever has it")
        )
        if self.connected.is_set():
            self._driver.control(Control(action="leave", ts=self._market.newest(), reason=lease.lost))
        else:
            self._engine.stand_down()

    async def _watch_terms(self) -> None:
        assert isinstance(self._access, StatesTerms)
        terms = VenueTerms(self._engine, self._access)
        while True:
            for control in await terms.look(self._market.newest):
                self._driver.control(control)
            if terms.problem:
                self._board.raise_alarm("margin", terms.problem)
            else:
                self._board.clear_alarm("margin")
            await asyncio.sleep(TERMS_S)

    async def _tick(self) -> None:
        looked_ns = 0
        while True:
            self._watchdog.beat()
            self._note_stall()
            self._kill_file.look()
            self._bus.check()
            if not self._bus.empty:
                self._bus.wake()  # what was left while the journal had no room
            self._scheduled.by_time(self._market, len(self._names))
            self._look_at_rule()
            self._look_at_model()
            self._opening.look()
            self._driver.tick(self._market.newest())
            self._upkeep.look_at_stops()
            if self.connected.is_set():
                self._upkeep.note_first_prices()
            now = self._clock.monotonic_ns()
            if now - looked_ns >= MARK_S * 1e9:
                looked_ns = now
                self._upkeep.look(connected=self.connected.is_set())
            if self._taps.failure is not None:
                self._fail(self._taps.failure)
            await asyncio.sleep(TICK_S)

    # --- what they do ---------------------------------------------------------------------------------------

    def _serve_control(self) -> bool:
        """Deal with everything in the queue of reports and alarms; whether there was anything."""
        found = False
        while True:
            reports = self._bus.next_reports()
            if reports:
                self._take_reports(reports)
            message = self._bus.next_control()
            if message is not None:
                self._deal_with(message)
            elif not reports:
                return found
            found = True

    def _take_reports(self, reports: Sequence[OrderUpdate]) -> None:
        self._driver.reports(reports)
        self._opening.answered(reports)
        for one in reports:
            if one.status is OrderStatus.REJECTED:
                _log.warning("order refused", instrument=one.instrument, order=one.clOrdID, reason=one.text)
        self._agreement.reported()

    def _deal_with(self, message: ControlMessage) -> None:
        self._taps.message(message)
        if isinstance(message, DegradedMode):
            self._driver.control(
                Control(
                    action="degraded",
                    ts=message.ts,
                    instrument=message.instrument,
                    reason=message.reason if message.reason in (TRADE_LINK, POSITIONS) else "queue",
                    value=float(message.active),
                )
            )
            _log.warning("degraded" if message.active else "recovered", reason=message.reason)
        elif isinstance(message, RiskBreach):
            _log.error("risk breach", reason=message.reason, metric=message.metric, value=message.value)

    def _serve_market(self) -> bool:
        """Process one batch of one instrument; whether there was one and the journal had room for it.

        Not after a stall, nor where its oldest event has waited for too long: that sizes are 0 now must reach the
        engine first.
        """
        if self._note_stall():
            return True
        waiting = self._bus.peek(BATCH) if self._taps.room else None
        if waiting is None:
            return False
        instrument, events = waiting
        if self._bus.overdue(instrument):
            return True
        events = events[: self._scheduled.until(instrument, events)]
        lag_ms = self._bus.lag_ms(instrument)
        self._arrived_ns = self._clock.monotonic_ns() - int(lag_ms * 1e6)
        output = self._driver.events(events, lag_ms)
        self._arrived_ns = None
        self._opening.decided(output)
        last = events[output.consumed - 1].copy()
        self._market.note(instrument, int(last["ts"]))
        self._bus.release(instrument, output.consumed, output.states)
        with self._surviving():
            self._succession.delivered(instrument, last, output.laps)
            self._watch_planner()
        return True

    def _watch_planner(self) -> None:
        """Switch the planner off where its searches take too long, and on where they do no more."""
        switch = self._succession.planner_switch()
        if switch is None:
            return
        self._driver.control(
            Control(
                action="planner",
                ts=self._market.newest(),
                reason="in_time" if switch.on else "slow",
                value=float(switch.on),
            )
        )
        if switch.on:
            self._board.clear_alarm("planner")
            _log.warning("the planner decides again", why=switch.why)
        else:
            self._board.raise_alarm("planner", f"the rule decides without the planner: {switch.why}")
            _log.warning("the planner is off, the rule decides", why=switch.why)

    def _is_late(self) -> bool:
        """Whether what is decided now rests on old data: the loop is blocked, or the batch came long ago."""
        arrived = self._arrived_ns
        if arrived is not None and self._clock.monotonic_ns() - arrived > LIMIT_MS * 1e6:
            return True
        return self._watchdog.blocked()

    def _look_at_rule(self) -> None:
        """A rule of the user's own that has failed decides nothing any more: what it holds is closed."""
        why = self._succession.rule_failure()
        if why:
            _log.error("the rule failed: everything is closed", error=why)
            self.owner.kill("own_rule")

    def _look_at_model(self) -> None:
        """A model that has failed is replaced, or opens nothing any more until the owner lets it."""
        with self._surviving():
            why = self._succession.judge()
            if why:
                self._opening.model_failed(why)
                if self._succession.own_model_failed:  # it cannot say when what is held is to be closed
                    self.owner.kill("own_model")

    def _note_stall(self) -> bool:
        """After a blocked loop the newest data may still lie in a socket: trade size 0 until caught up."""
        silent_ms = self._watchdog.take_stall()
        if silent_ms is not None:
            self._bus.degrade("stall", silent_ms)
        return silent_ms is not None

    def _stalled(self, silent_ms: float) -> None:
        text = f"the loop is blocked for {silent_ms:.0f} ms"
        self._board.raise_alarm("loop", text)
        _log.error(text)

    def left_open(self) -> str:
        """What is held, may still fill or is in doubt, in words; "" where nothing is."""
        return left_open(self._engine, range(len(self._names)))

    def left_closing(self) -> str:
        """The same of what was to be closed and is not."""
        return left_open(self._engine, self._engine.flattening)

    # --- the end --------------------------------------------------------------------------------------------

    async def _shutdown(self) -> None:
        """Withdraw our orders, or flatten after a failure, and await the venue's answers; without the lease neither."""
        if isinstance(self._failure, LeaseError):
            return
        now = self._market.newest()
        with contextlib.suppress(VenueError):
            if self._failure is None:
                self._driver.send(self._withdrawals(now))
            if self._failure is not None:
                self._driver.control(Control(action="flatten", ts=now, reason=FAILURE))
        began = self._clock.monotonic_ns()
        while self._unfinished():
            refused = any(self._engine.closing.is_refused(i) for i in self._engine.flattening)
            if self._clock.monotonic_ns() - began >= int((CLOSING_S if refused else SHUTDOWN_S) * 1e9):
                break
            await asyncio.sleep(TICK_S / 4)
        if self.left_open():
            _log.warning(self.left_open())

    def _withdrawals(self, now_ns: int) -> list[CancelOrder]:
        every = [self._engine.cancels(i, now_ns, Reason.HALTED) for i in range(len(self._names))]
        return [command for commands in every for command in commands]

    def _unfinished(self) -> bool:
        return bool(self._engine.orders.open_orders() or self._engine.flattening)

    async def _close(self) -> None:
        self._closed = True
        self.owner.hear_no_more()
        if self._socket is not None:
            await self._socket.close()
        with self._surviving(), contextlib.suppress(VenueError):
            await self._access.close()
        with self._surviving():
            await asyncio.to_thread(self._taps.close)
        with self._surviving():
            done = self._ended_in_order() and not self._engine.orders.open_orders()
            if self.connected.is_set():
                self._upkeep.mark_earned(last=True)
                self._upkeep.write_account(is_open=not done)
            if done:
                self._ledger.seal()
        self._ledger.close()
        self._upkeep.release()

    def _ended_in_order(self) -> bool:
        """Whether trading ended as it was asked to, or never began and leaves nothing to recover."""
        nothing_waits = self.connected.is_set() or not self.owner.waited
        return self._failure is None and self._over_in_order and nothing_waits
