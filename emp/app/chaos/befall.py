"""How each kind of fault befalls a world (`emp.sim.chaos.plan`), and how all of them end."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing

import msgspec
import numpy as np

from emp.app.chaos.life import Life
from emp.app.chaos.market import eager_model
from emp.app.chaos.scene import Scene
from emp.core.records import Array
from emp.journal.reader import chained_crc, is_blank
from emp.sim.chaos.disk import SIZE
from emp.sim.chaos.exchange import Shortcomings
from emp.sim.chaos.loop import Process
from emp.sim.chaos.pit import Pit, Wrong
from emp.sim.chaos.plan import Fault
from emp.sim.venues.fix.faults import Faults

MS = 1_000_000
FULL_MS = 20_000
STEP_MS = 15_000
FLAP_MS = 300

_COUNTED = {
    "drop_row": "dropped_rows",
    "twice_row": "twice_rows",
    "swapped_row": "swapped_rows",
    "reject": "rejects",
    "silent_order": "silent_orders",
    "cancel_race": "cancel_races",
    "refused_cancel": "refused_cancels",
    "lost_report": "lost_reports",
    "twice_report": "twice_reports",
    "swapped_report": "swapped_reports",
    "late_report": "late_reports",
    "same_execution": "same_executions",
    "overfill": "overfills",
    "less_filled": "less_filled",
}
"""Kinds that are a number of things to come, by the name of the exchange's counter."""

FLIPPED = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite.mark", "tail.bin")


class Befalls:
    """Lets faults befall one world."""

    def __init__(self, world: Scene) -> None:
        self._world = world
        self.counts: Counter[str] = Counter()
        self.pending = 0  # faults that are not over
        self.resume_due = False  # the owner has halted it, and wants it to trade again by now
        self.flipped = False  # a file was changed: a start may be refused
        self.tampered = False  # it must be
        self.crash_next_start: int | None = None
        self.healthy: tuple[Array, Array] | None = None  # the model's numbers, where they were taken away
        self._slow_until_ns = self._slow_ms = 0

    def befall(self, fault: Fault) -> None:
        """Let one happen, now."""
        self.counts[fault.kind] += 1
        self._world.note("fault", f"{fault.kind} {fault.size}")
        counter = _COUNTED.get(fault.kind)
        if counter is not None:
            faults = self._world.exchange.faults
            setattr(faults, counter, getattr(faults, counter) + fault.size)
        else:
            getattr(self, f"_{fault.kind}")(fault.size)

    def lift(self) -> None:
        """Nothing befalls it any more."""
        world = self._world
        world.exchange.faults = Shortcomings()
        exchange = world.exchange
        exchange.refuses_until_ns = 0
        for pit in exchange.pits:
            pit.silent_until_ns = pit.bare_until_ns = pit.crossed_until_ns = pit.wild = pit.hurried = 0
            pit.wrong_until_ns = 0
        network = world.loop.network
        network.stands_until_ns = network.refuses_until_ns = network.one_way_until_ns = 0
        network.next_cut = network.next_flip = None
        self._weather(Faults())
        world.disk.sync_ns = world.disk.failing_syncs = world.disk.failing_reads = 0
        world.disk.free = SIZE
        world.disk.crash_in = self.crash_next_start = None
        self._slow_until_ns = 0
        self.heal()

    def _later(self, ms: float, what: Callable[[], object]) -> None:
        self.pending += 1

        def act() -> None:
            self.pending -= 1
            what()

        loop = self._world.loop
        loop.schedule(loop.world, loop.now_ns + int(ms * MS), act)

    @property
    def _now_ns(self) -> int:
        return self._world.loop.now_ns

    def _running(self) -> Life | None:
        life = self._world.life
        return None if life is None or life.over or life.process.dead else life

    def _refuse_orders(self, ms: int) -> None:
        self._world.exchange.refuses_until_ns = self._now_ns + ms * MS

    def _lost_order(self, n: int) -> None:
        self._world.door.lose_orders(n)

    def _withdrawn(self, orders: int) -> None:
        def withdraw() -> None:
            with self._world.loop.inside(self._world.venue_process):
                self._world.exchange.withdraw()

        for k in range(orders):
            self._later(1_000 * k, withdraw)

    def _bust(self, trades: int) -> None:
        for k in range(trades):
            self._later(1_000 * k, lambda: self._take_back(0))

    def _corrected_trade(self, off: int) -> None:
        self._take_back(off)

    def _take_back(self, off: int) -> None:
        """The venue takes back or corrects a trade, where its dialect has a word for it."""
        world = self._world
        if world.door.tells_corrections:
            with world.loop.inside(world.venue_process):
                world.exchange.take_back(off)

    # --- market and wire

    def _feed_stall(self, ms: int) -> None:
        for pit in self._met_by(ms):
            pit.silent_until_ns = self._now_ns + ms * MS

    def _bare_side(self, ms: int) -> None:
        for pit in self._met_by(ms):
            pit.bare_side = ("bid", "ask")[ms % 2]
            pit.bare_until_ns = self._now_ns + ms * MS

    def _crossed_book(self, ms: int) -> None:
        for pit in self._met_by(ms):
            pit.crossed_until_ns = self._now_ns + ms * MS

    def _wild_price(self, rows: int) -> None:
        for pit in filter(self._is_itself, self._met_by(rows)):
            pit.wild = rows

    def _wrong_feed(self, ms: int) -> None:
        for pit in filter(self._is_itself, self._met_by(ms)):
            factor, offset = ((3, 0), (1, -80_000))[ms // 2 % 2]
            pit.wrong = Wrong(factor, offset, trades=bool(ms % 2))
            pit.wrong_until_ns = self._now_ns + ms * MS

    def _is_itself(self, pit: Pit) -> bool:
        """Whether a market has shown its own prices for a while: what is wrong for long is believed."""
        return self._now_ns - pit.wild_ns > 20_000 * MS

    def _met_by(self, size: int) -> Sequence[Pit]:
        """What a fault of the market meets: one instrument, or all."""
        pits = self._world.exchange.pits
        which = size // 2 % (len(pits) + 1)
        return pits[which : which + 1] or pits

    def _cut_server(self, part: int) -> None:
        self._world.loop.network.next_cut = (True, part / 100)

    def _cut_client(self, part: int) -> None:
        self._world.loop.network.next_cut = (False, part / 100)

    def _flip_server(self, part: int) -> None:
        self._world.loop.network.next_flip = (True, part / 100)

    def _flip_client(self, part: int) -> None:
        self._world.loop.network.next_flip = (False, part / 100)

    def _half_open(self, _: int) -> None:
        network = self._world.loop.network
        for stream in network.streams:
            if not stream.lost:
                network.half_open(stream)

    def _network_stall(self, ms: int) -> None:
        self._world.loop.network.stands_until_ns = self._now_ns + ms * MS

    def _cut_all(self) -> None:
        network = self._world.loop.network
        for stream in network.streams:
            if not stream.lost:
                network.cut(stream)

    def _refuse(self, ms: int) -> None:
        self._world.loop.network.refuses_until_ns = self._now_ns + ms * MS
        self._cut_all()

    def _flapping(self, ms: int) -> None:
        for k in range(0, ms, FLAP_MS):
            self._later(k, self._cut_all)

    def _away(self, ms: int) -> None:
        self._refuse(ms)
        self._later(ms - 500, lambda: self._sequence_reset(1))

    def _weather(self, faults: Faults) -> None:
        self._world.door.weather(faults)

    def _for_a_while(self, ms: int, faults: Faults) -> None:
        self._weather(msgspec.structs.replace(faults, seed=self._world.plan.seed))
        self._later(ms, lambda: self._weather(Faults()))

    def _swap_messages(self, ms: int) -> None:
        self._for_a_while(ms, Faults(reorder=0.1))

    def _bad_checksum(self, ms: int) -> None:
        self._for_a_while(ms, Faults(checksum=0.1))

    def _venue_silent(self, ms: int) -> None:
        self._for_a_while(ms, Faults(silence=0.1, silence_s=1.5))

    def _sequence_reset(self, _: int) -> None:
        with self._world.loop.inside(self._world.venue_process):
            self._world.door.forget()

    # --- time

    def _stop(self, ms: int) -> None:
        life = self._running()
        if life is not None:
            self._world.loop.stop_process(life.process, ms * MS, after=ms % 16)

    def _slow_disk(self, ms: int) -> None:
        model = self._world.disk
        model.sync_ns = ms * MS

        def fast() -> None:
            model.sync_ns = 0

        self._later(1_000, fast)

    def _clock_step(self, seconds: int) -> None:
        clock = self._world.clock
        clock.step(seconds * 1_000 * MS)
        self._later(STEP_MS, lambda: clock.step(-seconds * 1_000 * MS))

    def _summer_time(self, forth: int) -> None:
        self._clock_step(3_600 if forth else -3_600)

    # --- the model

    def _nan_model(self, ms: int) -> None:
        params = eager_model().params
        self.healthy = self.healthy or (params.weight.copy(), params.bias.copy())
        params.weight[:] = params.bias[:] = np.nan
        self._later(ms, self.heal)

    def heal(self) -> None:
        """All engines of this process have the one model: it must be whole before the next world begins."""
        if self.healthy is not None:
            params = eager_model().params
            params.weight[:], params.bias[:] = self.healthy

    def _slow_model(self, ms: int) -> None:
        self._slow_until_ns = self._now_ns + ms * MS
        self._slow_ms = 20 + ms % 180

    def on_events(self, life: Life) -> None:
        """Market data reach an engine: a slow model takes its time over them, and so does the loop."""
        if self._now_ns < self._slow_until_ns and not life.process.dead:
            self._world.loop.stop_process(life.process, self._slow_ms * MS, after=0)

    # --- the disk and the box

    def _failed_sync(self, n: int) -> None:
        self._world.disk.failing_syncs = n

    def _failed_read(self, n: int) -> None:
        self._kill(1_000)  # a process that runs has read its ledger: one that begins must read it
        self._world.disk.failing_reads = n
        self._world.sqlite.reads_fail()

    def _disk_full(self, left: int) -> None:
        model = self._world.disk
        model.free = left

        def freed() -> None:
            model.free = SIZE

        self._later(FULL_MS, freed)

    def _again(self, ms: int) -> None:
        self._world.start_at_ns = self._now_ns + ms * MS

    def _kill(self, ms: int) -> None:
        life = self._running()
        if life is not None:
            self._world.die(life.process, power=False)
            self._again(ms)

    def _power(self, ms: int) -> None:
        life = self._running()
        if life is not None:
            self._world.die(life.process, power=True)
            self._again(ms)

    def _crash_io(self, operations: int) -> None:
        self._world.power_fails_at_io = False
        self._world.disk.crash_in = operations

    def _power_io(self, operations: int) -> None:
        self._world.power_fails_at_io = True
        self._world.disk.crash_in = operations

    def _crash_start(self, operations: int) -> None:
        self._kill(1_000)
        self.crash_next_start = operations

    def _crash_new(self, operations: int) -> None:
        self._owner_restart(1_000)
        self.crash_next_start = operations

    def _crash_end(self, operations: int) -> None:
        self._owner_restart(1_000)
        self._crash_io(operations)

    def _bit_flip(self, which: int) -> None:
        self._kill(2_000)
        self.flipped = True

        def flip() -> None:
            if self._world.unlit and FLIPPED[which].endswith("-wal"):
                return  # with the mark that the power took, nothing would tell: not promised (docs/reliability.md)
            for path in sorted((self._world.home / "runs").rglob(FLIPPED[which])):
                self._world.disk.flip_bit(path)

        self._later(1_000, flip)

    def _tamper(self, at: int) -> None:
        self._kill(2_000)

        def change() -> None:
            self._kill(
                1_000
            )  # the owner may have started it in between, and what it has read it does not read again
            disk = self._world.disk
            failing = disk.failing_syncs, disk.failing_reads
            disk.failing_syncs = disk.failing_reads = (
                0  # the engine's, not those of whoever changes its files
            )
            self._change_a_row(at)
            disk.failing_syncs, disk.failing_reads = failing

        self._later(1_000, change)

    def _change_a_row(self, at: int) -> None:
        """Change one row of each ledger that has enough of them, and give it the checksum that it would have."""
        for path in sorted((self._world.home / "runs").rglob("ledger.sqlite")):
            if is_blank(path):
                continue
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                rows = db.execute("SELECT seq, kind, payload, crc, at FROM events ORDER BY seq").fetchall()
                sealed = db.execute("SELECT value FROM meta WHERE key='sealed'").fetchone()[0] == "yes"
                if len(rows) < 4 or sealed:
                    continue
                before, (seq, kind, payload, _, then) = (
                    rows[at % (len(rows) - 2)],
                    rows[at % (len(rows) - 2) + 1],
                )
                changed = payload[:-1] + bytes([payload[-1] ^ 1])
                crc = chained_crc(seq, kind, changed, before[3], then)
                db.execute("UPDATE events SET payload=?, crc=? WHERE seq=?", (changed, crc, seq))
                self.flipped = self.tampered = True

    # --- the owner

    def _owner_restart(self, ms: int) -> None:
        life = self._running()
        if life is not None and life.running is not None:
            self._world.note("owner", "stop")
            with self._world.loop.inside(life.process):
                life.running.live.owner.stop()
        self._again(ms)

    def _owner_config(self, ms: int) -> None:
        self._world.use_other_limits()
        self._owner_restart(ms)

    def _and_resume(self, ms: int) -> None:
        def resume() -> None:
            self.resume_due = True

        self._later(ms, resume)

    def _owner_halt(self, ms: int) -> None:
        self._world.ask("halt")
        self._and_resume(ms)

    def _owner_flatten(self, ms: int) -> None:
        self._world.ask("flatten")
        self._and_resume(ms)

    def _owner_kill(self, ms: int) -> None:
        self._world.ask("kill")
        self._and_resume(ms)

    def _flatten_stop(self, ms: int) -> None:
        self._owner_flatten(10_000)
        self._stop(ms)

    def _flatten_kill(self, operations: int) -> None:
        self._owner_flatten(15_000)
        self._crash_io(operations)

    def _kill_in_the_dark(self, ms: int) -> None:
        self._kill(1_000)
        self._bare_side(1_000 + ms)
        self._later(1_000 + ms / 2, lambda: self._world.ask("kill"))
        self._and_resume(1_000 + ms + STEP_MS)

    def _wild_start(self, rows: int) -> None:
        self._kill(1_000)
        self._later(900, lambda: self._wild_price(rows))
        self._later(1_600, lambda: self._world.ask("kill"))
        self._and_resume(1_000 + STEP_MS)

    def _wild_burst(self, rows: int) -> None:
        self._kill(1_000)
        self._later(400, lambda: self._wild_price(rows + 12))
        self._later(1_100, lambda: self._hurry(rows))
        self._later(2_400, lambda: self._world.ask("kill"))
        self._and_resume(1_400 + STEP_MS)

    def _hurry(self, rows: int) -> None:
        for pit in self._world.exchange.pits:
            pit.hurried = min(rows, pit.wild)

    def _by_hand(self, lots: int) -> None:
        self._trade_by_hand(lots, told=True)

    def _in_silence(self, lots: int) -> None:
        self._trade_by_hand(lots, told=False)

    def _trade_by_hand(self, lots: int, *, told: bool) -> None:
        instruments = self._world.exchange.instruments
        by_hand = sum(self.counts[kind] for kind in ("by_hand", "in_silence"))
        with self._world.loop.inside(self._world.venue_process):
            self._world.door.by_hand(instruments[by_hand % len(instruments)].name, lots, told=told)

    def _second_engine(self, _: int) -> None:
        first = self._running()
        if first is None or not first.trading:
            return
        world = self._world
        second = Life(Process("second engine"), self._now_ns, second=True)
        world.assemble(second)
        if second.running is not None:
            world.checks.violated("two_engines", "a second engine was let at the account")
            world.let_go(second)
