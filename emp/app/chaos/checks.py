"""What must hold in a world, looked at as things happen; by the venue's own books, not by what the engine says.

Each check has a name. The first violation of each name is kept, with when it was and what was found.
"""

import hashlib

from emp.app.chaos.account import AccountLosses
from emp.app.chaos.closings import Closings
from emp.app.chaos.feeds import Feed
from emp.app.chaos.life import Life
from emp.app.chaos.others import Others
from emp.app.chaos.promises import CHECKS, Violation
from emp.app.chaos.records import check_records, differs
from emp.app.chaos.rest import UNHEARD, Rest
from emp.app.chaos.scene import Scene
from emp.core.codes import Reason
from emp.core.contracts import Command, NewOrder, OrderUpdate, Replace
from emp.core.errors import EmpError
from emp.core.records import Array
from emp.engine.rebuild import rebuild
from emp.execution.orders import OrderManager
from emp.journal.reader import LedgerReader
from emp.sim.chaos.exchange import Held
from emp.sim.chaos.loop import Process

MS = 1_000_000
S = 1_000_000_000
ASKED_NS = 5 * S
LATE_MS = 400  # what may wait for a send, what may lie in a socket uncounted, and a look of the loop


class Checks:
    """Watches one world."""

    def __init__(self, world: Scene) -> None:
        self._world = world
        self.violations: list[Violation] = []
        self.orders = 0
        self.rest = Rest(world, self)
        self.arrived: dict[str, int] = {}  # ids that reached the venue, and when
        self.sent: list[str] = []
        self.unrecorded: set[str] = set()  # ids that left when the ledger had failed: they close, and may
        self.logs: list[str] = []  # hashes of the action logs
        self.halted = False  # by the owner, as far as he was told
        self.reports = 0
        self._pits = world.exchange.pits
        self.feeds = {pit.instrument.name: Feed(world, self, pit) for pit in self._pits}
        self._closings = {
            pit.instrument.name: Closings(world, self, pit, self.feeds[pit.instrument.name])
            for pit in self._pits
        }
        self.arrivals: dict[
            tuple[int, int], int
        ] = {}  # (instrument, ts) of a row -> when it reached the engine's box
        self._instrument_of: dict[str, str] = {}  # ids that were sent
        self.losses = AccountLosses(world, self)
        self._others = Others(self)
        self.cuts = 0  # of connections
        self._back_ns = 0  # when the links were whole again, until it is looked at

    def violated(self, check: str, what: str) -> None:
        """Note the first violation of a check."""
        assert check in CHECKS, check
        if all(one.check != check for one in self.violations):
            at_ms = (self._world.loop.now_ns - 1_000_000_000) // MS
            self.violations.append(Violation(check, at_ms, what))
            self._world.note("check", f"{check}: {what}")

    # --- what leaves --------------------------------------------------------------------------------------------

    def on_send(self, life: Life, command: Command) -> None:
        """The engine sends."""
        if life.process.dead:
            return
        self.sent.append(repr(command))
        if life.running.live._ledger._dead:
            self.unrecorded.add(command.cl_ord_id)
        if not isinstance(command, NewOrder | Replace):
            return
        self._instrument_of[command.cl_ord_id] = command.instrument
        self.feeds[command.instrument].on_send(life, command)
        if life.running.live._failure is not None and not life.failed:
            life.failed = True
            self.afresh()
        if command.reason is Reason.KILL_SWITCH:
            self._closings[command.instrument].on_send(command)
        else:
            self._adding(life, command)

    def _adding(self, life: Life, command: NewOrder | Replace) -> None:
        now, name = self._world.loop.now_ns, command.cl_ord_id
        pit = self._world.exchange.pit(command.instrument)
        if not life.trading:
            self.violated("unrecovered", name)
        if self.halted:
            self.violated("halted", name)
        silent_ms = (now - life.newest_ns.get(pit.index, 0)) / MS
        if silent_ms > self._world.config.risk.stale_after_ms + 50:
            self.violated("stale", f"{name} after {silent_ms:.0f} ms of silence")
        if life.links.get("trade") is False:
            self.violated("link_down", name)
        came = self.arrivals.get((pit.index, command.ts))
        if came is not None and now - came > LATE_MS * MS:
            self.violated("late", f"{name} on data {(now - came) / MS:.0f} ms old")
        if self.losses.breached_ns and now - self.losses.breached_ns > 2 * S:
            self.violated("account_loss", f"{name} after a loss of {self.losses.lost:.0f}")
        self.losses.look_at_order(command)
        losses = self.losses.each[pit.index]
        if losses.breached_ns and now - losses.breached_ns > 2 * S:
            self.violated("loss_limit", f"{name} after a loss of {losses.lost:.0f}")
        if losses.drawn_ns and now - losses.drawn_ns > 2 * S:
            self.violated("drawdown", f"{name} after a fall of {losses.best - losses.worth:.0f}")
        misled = self.feeds[command.instrument].misleads(life)
        if pit.mid == pit.mid and abs(command.px - pit.mid) > 0.02 * pit.mid and not misled:
            self.violated("order_price", f"{name} at {command.px}, the market is at {pit.mid}")

    def on_arrival(self, name: str, kind: str, repeated: bool) -> None:
        """An order, or a change of one, reaches the venue."""
        self.orders += 1
        if name in self._instrument_of:
            self.rest.arrived(self._instrument_of[name])
        if name in self.arrived and not repeated:
            self.violated("duplicate_id", f"{kind} {name}")
        self.arrived.setdefault(name, self._world.loop.now_ns)

    # --- what comes in ----------------------------------------------------------------------------------------------

    def on_events(self, life: Life, rows: Array) -> None:
        """Market data reach the engine."""
        now = self._world.loop.now_ns
        came = life.process.came_ns or now
        for key in zip(rows["instrument"].tolist(), rows["ts"].tolist(), strict=True):
            life.newest_ns[key[0]], self.arrivals[key] = now, came
        for feed in self.feeds.values():
            feed.on_events(life, rows)
        if len(self.arrivals) > 512:
            self.arrivals = dict(list(self.arrivals.items())[256:])
        self.losses.look(life)
        self.losses.mark(life)
        self.losses.look_at_kept(life)
        self._world.befalls.on_events(life)
        self._reconnected(life)
        self._others.look(now)

    def _reconnected(self, life: Life) -> None:
        """What ended while the engine was away, it knows soon after it is back."""
        back_ns, now = self._back_ns, self._world.loop.now_ns
        if not back_ns or now - back_ns < ASKED_NS or not life.trading:
            return
        self._back_ns = 0
        if UNHEARD & self._world.befalls.counts.keys():
            return  # what the venue keeps to itself is learnt by asking again and again
        for order in life.running.engine.orders.open_orders():
            if self._world.exchange.ended_before(order.command.cl_ord_id, back_ns):
                self.violated("not_asked", order.command.cl_ord_id)

    def on_report(self, life: Life, update: OrderUpdate) -> None:
        """A report reaches the engine."""
        self.reports += 1
        self._others.on_report(life, update, self._world.loop.now_ns)
        if update.instrument in self.feeds:
            self.feeds[update.instrument].on_report(life, update)
        for closings in self._closings.values():
            closings.on_report(update)

    def on_fill(self, held: Held, _lots: int, _px: int) -> None:
        """The venue has filled an order."""
        pit, most = self._world.exchange.pit(held.order.instrument), self._world.most_position
        if abs(pit.position) > most + pit.others:
            what = f"{pit.position} lots of {pit.instrument.name}, {most} are allowed"
            self.violated("position_limit", what)
        self.losses.look_at_held()
        self.losses.mark(self._world.life)

    def afresh(self) -> None:
        """Another process, another state of the link, or the owner's word: the next closing order is due at once."""
        for closings in self._closings.values():
            closings.afresh()

    # --- processes --------------------------------------------------------------------------------------------------

    def after_step(self, process: Process) -> None:
        """A callback of some process is over."""
        life = self._world.life
        if life is None or life.process is not process or process.dead or life.running is None:
            return
        running = life.running
        bound = self._world.config.bus.queue_bound
        for pit in self._pits:
            depth = running.bus.depth(pit.index)
            if depth > bound:
                self.violated("queue_bound", f"{depth} events wait, {bound} may")
        ledger = running.live._ledger
        if not ledger._in_batch and not ledger._dead:
            life.acknowledged = ledger._seq
            if ledger._checkpoint != life.summed_up:
                life.summed_up = ledger._checkpoint
                self._sum_up(ledger, life)
        if not life.began and life.trading:
            life.began = True
            self.losses.begin(life)
            self.afresh()

    def on_assembled(self, life: Life) -> None:
        """A start has opened what there is on the disk."""
        ledger = life.running.live._ledger
        before = next((one for one in reversed(self._world.lives[:-1]) if one.run), None)
        life.run = life.running.engine.run
        if life.second:
            return
        if before is not None and before.run != life.run and not self._sealed(before):
            self.violated("passed_over", f"{before.run} did not end in order, {life.run} was begun")
        if before is not None and before.run == life.run and self._fills(ledger, life) < before.knew:
            self.violated("recorded_first", f"{before.knew} fills were applied, fewer are recorded")
        self._sum_up(ledger, life)
        if before is not None and before.run == life.run and ledger._seq < before.acknowledged:
            self.violated("lost_record", f"{ledger._seq} rows, {before.acknowledged} were acknowledged")
        known = {name for (name,) in ledger._db.execute("SELECT cl_ord_id FROM events WHERE kind='intent'")}
        for name in self.arrived:
            if name.startswith(life.run) and name not in known | self.unrecorded:
                self.violated("unknown_order", name)

    def _sum_up(self, ledger: LedgerReader, life: Life) -> None:
        """What a start takes in is what all rows say."""
        try:
            difference = differs(ledger, [one.name for one in life.running.engine.instruments])
        except EmpError:
            if not self._world.befalls.flipped:  # else an old row was changed: it is found while it trades
                raise
            return
        if difference:
            self.violated("checkpoint", difference)

    def _fills(self, ledger: LedgerReader, life: Life) -> int:
        """How many fills a ledger knows."""
        manager = OrderManager([one.name for one in life.running.engine.instruments])
        rebuild(ledger, manager)
        return int(manager.accounts["fills"].sum())

    def _has_traded(self, life: Life) -> bool:
        """Whether there is anything to recover of a process's run: one that never came to trade leaves nothing."""
        others = [one for one in self._world.lives if one is not life and one.run == life.run]
        return bool(others) or life.running.live.connected.is_set()

    def _sealed(self, life: Life) -> bool:
        """Whether a process's run ended in order, by its ledger."""
        try:
            ledger = LedgerReader(self._world.home / "runs" / f"live-{life.run}" / "ledger.sqlite")
        except EmpError:
            return False
        try:
            return ledger.sealed
        finally:
            ledger.close()

    def on_death(self, life: Life) -> None:
        """A process dies."""
        life.said = life.said or "killed"
        self.losses.end(life)
        if life.running is not None and not life.running.live._ledger._dead:
            life.knew = int(life.running.engine.desk.account["fills"].sum())

    def on_end(self, life: Life) -> None:
        """A process is over, whatever ended it."""
        if life.running is not None and not life.process.dead:
            self.logs.append(life.running.journal.actions.sha256)
            self.losses.end(life)
            if life.said and not life.second and self._has_traded(life) and self._sealed(life):
                self.violated("sealed_early", f"{life.run}: {life.said}")
        kind = life.said.partition(":")[0]
        if life.said and kind not in _WORDS:
            self.violated("unhandled", life.said)
        world = self._world
        if not life.trading and life.running is None and kind in _REFUSED:
            if world.befalls.flipped:
                world.refused = life.said
            elif not any(
                kind in world.befalls.counts for kind in ("disk_full", "failed_sync", "failed_read")
            ):
                self.violated("start_refused", life.said)
                world.refused = life.said
        for context in world.loop.failures:
            error = context.get("exception")
            self.violated("unhandled", f"{context.get('message')}: {type(error).__name__}: {error}")
        world.loop.failures.clear()

    def on_link(self, up: bool) -> None:
        """A connection came up or went down."""
        self.cuts += not up
        self.afresh()
        life = self._world.life
        whole = life is not None and life.trading and all(life.links.values())
        self._back_ns = self._world.loop.now_ns if whole else 0

    def on_asked(self, action: str, life: Life) -> None:
        """The owner has asked for something."""
        if action in ("halt", "flatten", "kill"):
            self.halted = True
        elif action == "resume" and life.trading:
            self.halted = False

    # --- the end --------------------------------------------------------------------------------------------------

    def at_end(self) -> None:
        """The run is over in order: what it has left on the disk is whole."""
        if not self._world.refused:
            check_records(self._world, self)

    def action_log(self) -> str:
        """SHA-256 of the action logs of the processes that ended in order."""
        return hashlib.sha256(" ".join(self.logs).encode()).hexdigest()

    def told(self) -> str:
        """SHA-256 of everything that was sent and that befell."""
        digest = hashlib.sha256()
        for line in (*self.sent, *(f"{at} {who} {what}" for at, who, what in self._world.timeline)):
            digest.update(line.encode() + b"\n")
        return digest.hexdigest()


_REFUSED = frozenset({"JournalError", "CorruptLedgerError", "UsageError"})
"""How a start ends that is refused."""

_WORDS = frozenset({"", "killed", "power lost", "VenueError", "ConfigError", "ArtifactError"}) | _REFUSED
"""How a process may end."""
