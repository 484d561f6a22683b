"""A world of one seed: the real engine, journal and session, a FIX venue, an owner, and what befalls them.

Everything of the product is the product's own: `assemble_live`, `Live`, the driver, the ledger in SQLite, `FixAccess`
over byte streams to `FixVenue`. What is ours is the time, the network, the disk and the market behind the venue
(`emp.sim.chaos`). The owner starts the engine, starts it again where it ended, and asks of it what the plan says.
"""

import asyncio
import contextlib
import gc
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import structlog

from emp.app.chaos.befall import Befalls
from emp.app.chaos.checks import Checks
from emp.app.chaos.doors import Door, open_door
from emp.app.chaos.life import Life, watched_access
from emp.app.chaos.market import INSTRUMENTS, eager_model, market_rows, traded
from emp.app.chaos.promises import Violation
from emp.app.wiring.live import assemble_live
from emp.core.background import runs_on
from emp.core.config.config import SystemConfig
from emp.core.disk import writes_to
from emp.core.errors import EmpError
from emp.core.ids import generator
from emp.decision.standing import crossing_standing
from emp.engine.succession import Models
from emp.observe.board import Board
from emp.sim.chaos.beside import VirtualClock, VirtualThreads
from emp.sim.chaos.disk import SimDisk
from emp.sim.chaos.exchange import Exchange
from emp.sim.chaos.guard import guarded
from emp.sim.chaos.loop import START_NS, Died, Process, VirtualLoop
from emp.sim.chaos.pit import Pit
from emp.sim.chaos.plan import DOORS, Plan
from emp.sim.chaos.vfs import SqliteFiles

WALL_NS = 1_709_737_200_000_000_000
"""Wednesday 2024-03-06, 15:00 UTC: the market trades."""

MS = 1_000_000
S = 1_000_000_000
TICK_S = 0.05
"""Between two looks of the engine at what time demands: seldomer than on a machine, since most worlds are idle."""

CHECKPOINT_ROWS = 60
"""Rows of the ledger from one checkpoint to the next: worlds are short."""

KEPT_ENDED = 4
"""Ended orders that are still known, so that what is told late is about one that is not."""

APART = 1_700
"""Rows of the market between where one instrument begins and the next."""

QUIET_S = 150.0
"""How long after the last fault the engine may take until it trades again, or is flat and says why."""

RETRY_S = 5.0
"""How long the owner waits before starting again what has ended by itself or did not start."""

RUNS = Path("runs")


class Outcome(msgspec.Struct):
    """How a world went."""

    seed: int
    violations: list[Violation]
    faults: dict[str, int]  # kind -> how often it befell
    ended: str  # trading | halted | refused
    virtual_s: float
    starts: int
    orders: int
    fills: int
    action_log: str  # SHA-256 of what every process decided
    told: str  # SHA-256 of everything that befell and was said
    timeline: list[tuple[int, str, str]]  # ms, who, what


class World:
    """One seed's world; `run` once."""

    def __init__(self, plan: Plan, scratch: Path, *, guard: bool = True) -> None:
        """`scratch` is an empty folder, best in memory. Without `guard` nothing raises that slips past the ports: what
        is compiled for the first time does.
        """
        self.plan = plan
        self._guard = guarded if guard else contextlib.nullcontext
        self.loop = VirtualLoop()  # type: ignore[abstract]  # what a loop may also do, a world never asks
        draw = generator(plan.seed, "chaos", "world")
        self.draw = draw
        self.home = scratch / "box"
        self.home.mkdir()
        (scratch / "graves").mkdir()
        self.disk = SimDisk(self.home, scratch / "graves", self.loop, generator(plan.seed, "chaos", "disk"))
        self.disk.on_crash = lambda process: self.die(process, power=self.power_fails_at_io)
        self.power_fails_at_io = False
        self.unlit = False
        self.sqlite = SqliteFiles(self.disk, self.loop, generator(plan.seed, "chaos", "sqlite"))
        self.clock = VirtualClock(self.loop, WALL_NS)
        venue_clock = VirtualClock(self.loop, WALL_NS)
        self.loop.network.jitter = lambda: int(draw.integers(0, 3 * MS))
        self.venue_process = Process("venue")
        self.instruments = traded(plan.instruments)
        pits = [
            Pit(one, k, market_rows(plan.offset + k * APART, plan.wrong_from_ms / 1000))
            for k, one in enumerate(self.instruments)
        ]
        self.exchange = Exchange(pits, self.loop, self.venue_process, venue_clock.now_ns)
        self.checks = Checks(self)
        self.door: Door = open_door(
            plan.door, self.exchange, venue_clock, self.checks.on_arrival, self.loop.network, RUNS
        )
        self.config = self._config(8)
        self.most_position = 8  # of all configurations so far
        self.lives: list[Life] = []
        self.timeline: list[tuple[int, str, str]] = []
        self.exchange.on_fill = self.checks.on_fill
        self.befalls = Befalls(self)
        self.start_at_ns: int | None = START_NS  # when the owner starts the engine next
        self.wanted = True  # whether the owner wants it to run at all
        self.refused = ""  # why a start is refused for good

    def _config(self, position: int, **risk: Any) -> SystemConfig:
        return SystemConfig(
            mode="live",
            run_dir=RUNS,
            seed=self.plan.seed,
            warm_up_events=8,
            cool_down_events=4,
            instruments={"names": [one.name for one in self.instruments]},  # type: ignore[arg-type]
            access=self.door.settings(),  # type: ignore[arg-type]
            model={  # type: ignore[arg-type]
                "ssm_impl": "linear",
                "fallback_impl": "none",
                "p99_ms": 1e6,
                "total_p99_ms": 1e7,
                "monitor": self.plan.watched,  # it may bar a model that is made to trade whatever happens
            },
            risk={  # type: ignore[arg-type]
                "max_position_lots": position,
                "max_order_lots": 4,
                "max_daily_loss_ticks": self.plan.loss_limit,
                "max_drawdown_ticks": self.plan.drawdown_limit,
                "stale_after_ms": 3_000.0,
                **risk,
            },
            account=self._account(),  # type: ignore[arg-type]
            # what this machine takes for a decision is none of the world's; a pause ends within the rest
            breakers={"decision_p99_ms": 1e6, "reject_pause_s": 60.0},  # type: ignore[arg-type]
            context={"enabled": False},  # type: ignore[arg-type]
            journal={"flush_seconds": 10.0},  # type: ignore[arg-type]
        )

    def _account(self) -> dict[str, Any]:
        plan = self.plan
        limits = {
            "max_daily_loss": plan.account_loss,
            "max_net_exposure": plan.max_net,
            "max_gross_exposure": plan.max_gross,
        }
        asked: dict[str, Any] = {name: limit for name, limit in limits.items() if limit}
        return {"currency": "USD", **asked} if asked else {}

    def use_other_limits(self) -> None:
        """The owner writes another configuration: smaller positions, fewer orders."""
        self.config = self._config(6, max_orders_per_minute=60)

    # --- the run ------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Let it happen."""
        self.sqlite.register()
        try:
            with self._ported():
                longest = START_NS + self.plan.lasts_ms * MS + int((QUIET_S + 240) * S)
                self.loop.after_step = self.checks.after_step
                try:
                    self.loop.run(self._main(), longest)
                except Exception as error:  # of the world's own, or of a file that nobody can read any more
                    self.checks.violated("world", f"{type(error).__name__}: {error}")
                self._forget()
                outcome = self._outcome()
        finally:
            self.befalls.heal()
            self.disk.close_all()
            self.sqlite.unregister()
            self.loop.close()
        return outcome

    @contextlib.contextmanager
    def _ported(self) -> Iterator[None]:
        """Everything that a run could ask of the machine comes from the world."""
        before = structlog.get_config()
        structlog.configure(processors=[self._logged], cache_logger_on_first_use=False)
        logging.disable(logging.CRITICAL)
        environment = {"EMP_STATE": "state"}
        try:
            with (
                contextlib.chdir(self.home),  # no path of this machine enters what is hashed
                mock.patch.dict(os.environ, environment),
                mock.patch("emp.engine.control_socket._private_socket", str),
                mock.patch("emp.engine.desk.new_standing", crossing_standing),
                mock.patch("emp.engine.live.TICK_S", TICK_S),
                mock.patch("emp.engine.upkeep.EVERY", CHECKPOINT_ROWS),
                mock.patch("emp.execution.orders.KEPT_ENDED", KEPT_ENDED),
                runs_on(VirtualThreads(self.loop)),
                writes_to(self.disk),
                mock.patch("emp.app.wiring.unfinished.say", lambda words: self.note("owner", words)),
                mock.patch("emp.app.wiring.open_run.say", lambda words: self.note("owner", words)),
                self._guard(),
            ):
                yield
        finally:
            logging.disable(logging.NOTSET)
            structlog.configure(**before)

    def _logged(self, _logger: Any, level: str, record: Any) -> Any:
        if level in ("warning", "error") or record.get("event") in ("connected", "link up"):
            words = " ".join(f"{k}={v}" for k, v in record.items() if k != "event")
            self.note(self.loop.process.name, f"{record.get('event')} {words}".strip())
        raise structlog.DropEvent

    def note(self, who: str, what: str) -> None:
        """Put something into the timeline."""
        what = what.replace(str(self.home), "HOME")
        self.timeline.append(((self.loop.now_ns - START_NS) // MS, who, what))

    async def _main(self) -> None:
        with self.loop.inside(self.venue_process):
            opened = self.loop.create_task(self.door.start())
        while not opened.done():
            await asyncio.sleep(0.01)
        opened.result()
        for fault in self.plan.faults:
            self.loop.schedule(self.loop.world, START_NS + fault.at_ms * MS, self.befalls.befall, fault)
        end_ns = START_NS + self.plan.lasts_ms * MS
        while self.loop.now_ns < end_ns or self.befalls.pending:
            await self._look()
        await self.rest()

    async def _look(self) -> None:
        """What the owner does every tenth of a second: start what should run and does not."""
        life = self.life
        if life is not None and life.over and not life.seen:
            life.seen = True
            self._ended(life)
        due = self.start_at_ns is not None and self.loop.now_ns >= self.start_at_ns
        if due and self.wanted and not self.refused and (life is None or life.over):
            self.start_at_ns = None
            self.start()
        life = self.life
        if self.befalls.resume_due and life is not None and life.trading:
            self.befalls.resume_due = not self.ask("resume")  # refused: he asks again
        await asyncio.sleep(0.1)

    def _ended(self, life: Life) -> None:
        self.note("owner", f"{life.process.name} is over: {life.said or 'in order'}")
        self.checks.on_end(life)
        if self.start_at_ns is None:
            self.start_at_ns = self.loop.now_ns + int(RETRY_S * S)

    @property
    def life(self) -> Life | None:
        """The newest process of the engine."""
        return self.lives[-1] if self.lives else None

    # --- the engine's processes -----------------------------------------------------------------------------------

    def start(self) -> Life:
        """Start the engine in a process of its own, as `emp run` does."""
        self.loop.network.host_is_back()
        self.unlit = False
        if self.befalls.crash_next_start is not None:
            self.disk.crash_in, self.befalls.crash_next_start = self.befalls.crash_next_start, None
            self.power_fails_at_io = False
        life = Life(Process(f"engine {len(self.lives) + 1}"), self.loop.now_ns)
        self.lives.append(life)
        self.assemble(life)
        return life

    def assemble(self, life: Life) -> None:
        """Put an engine together and let it run; what goes wrong with it is its end."""
        self.note("owner", f"starts {life.process.name}")
        with self.loop.inside(life.process):
            try:
                watched = watched_access(self.door.access(self.clock), life, self.checks)
                board = Board(self.clock)
                life.running = assemble_live(
                    self.config,
                    list(self.instruments),
                    Models(eager_model(), None),
                    watched,
                    board,
                    self.clock,
                )
                life.board = board
                self.checks.on_assembled(life)
                life.task = self.loop.create_task(life.running.live.run())
            except Died:
                return
            except Exception as error:
                if life.process.dead:  # what is said by the dead is no word of the engine
                    return
                life.said = f"{type(error).__name__}: {error}"
                if not isinstance(error, EmpError):
                    self.checks.violated("unhandled", life.said)
                self.let_go(life)

    def die(self, process: Process, *, power: bool) -> None:
        """End a process of the engine without a word; with `power` the whole box."""
        if process.dead:
            return
        self.note("world", f"{process.name} {'loses its power' if power else 'is killed'}")
        life = next((one for one in self.lives if one.process is process), None)
        if life is None:  # a second engine, which was not let at the account
            self.loop.kill(process, host_gone=False)
            if power and self.life is not None:
                self.die(self.life.process, power=True)
            return
        self.checks.on_death(life)
        life.said = life.said or ("power lost" if power else "killed")
        for other in self.lives if power else [life]:
            self.loop.kill(other.process, host_gone=power)
        self.loop.schedule(self.loop.world, self.loop.now_ns, self._bury, life, power)

    def _bury(self, life: Life, power: bool) -> None:
        for other in self.lives if power else [life]:
            self.let_go(other)
        if power:
            self.unlit = True
            for path in self.home.rglob("*-shm"):
                path.unlink()
            for words in self.disk.power_lost():
                self.note("disk", f"lost: {words}")

    def let_go(self, life: Life) -> None:
        """What a dead process had open is closed, without a byte more being written."""
        process = life.process
        process.dead = True
        with self.loop.inside(process):
            self.loop.bury(process)
            if life.running is not None:
                with contextlib.suppress(Exception):
                    life.running.live._ledger._db.close()
        life.running = None
        life.task = None
        life.buried = True
        with self.loop.inside(process):
            gc.collect()  # a connection that is left goes now: SQLite writes otherwise while one is open
        self.disk.process_died(process)

    def _forget(self) -> None:
        for life in self.lives:
            if not life.buried:
                self.let_go(life)

    # --- the end --------------------------------------------------------------------------------------------------

    async def rest(self) -> None:
        """No fault any more: it must trade again, or be flat and say why; then it is ended in order and looked at."""
        self.befalls.lift()
        self.note("world", "no fault from here on")
        self.checks.rest.begin()
        end_ns = self.loop.now_ns + int(QUIET_S * S)
        while not self.checks.rest.is_alive() and self.loop.now_ns < end_ns and not self.refused:
            await self._look()
        if self.befalls.tampered:  # old rows are read while it trades already
            await self._until(lambda: False, 10.0)
        self.checks.rest.at_rest()
        await self._until(lambda: self.life is not None and self.life.trading, 30.0)
        if not self.refused:
            self.ask("halt")
            await self._until(self.checks.rest.is_settled, 20.0)
            if self.exchange.others:  # somebody has traded without a word: positions are asked for in time
                await self._until(lambda: self.checks.rest.is_settled() and self.checks.rest.agrees(), 20.0)
            self.checks.rest.when_settled()
            self.wanted = False
            if self.life is not None and self.life.running is not None:
                with self.loop.inside(self.life.process):
                    self.life.running.live.owner.stop()
            await self._until(lambda: self.life is not None and self.life.over, 30.0)
            if self.life is not None and self.life.over and not self.life.seen:
                self.life.seen = True
                self.checks.on_end(self.life)
        self.checks.at_end()

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        end_ns = self.loop.now_ns + int(seconds * S)
        while not condition() and self.loop.now_ns < end_ns and not self.refused:
            await self._look()

    def ask(self, action: Any) -> str:
        """The owner asks something of the engine that runs, if one does; what it answers."""
        life = self.life
        if life is None or life.over or life.running is None:
            return ""
        self.checks.afresh()
        with self.loop.inside(life.process):
            try:
                answer = life.running.live.owner.ask(action, "drill", "")
            except Died:
                return ""
            except EmpError as error:  # he knows that it does not outlast this process
                self.note("owner", f"{action}: refused: {error}")
                return ""
        self.note("owner", f"{action}: {answer}")
        self.checks.on_asked(action, life)
        return answer

    def _outcome(self) -> Outcome:
        checks = self.checks
        return Outcome(
            seed=self.plan.seed,
            violations=checks.violations,
            faults=dict(self.befalls.counts),
            ended=checks.rest.ended,
            virtual_s=(self.loop.now_ns - START_NS) / S,
            starts=len(self.lives),
            orders=checks.orders,
            fills=self.exchange.fills,
            action_log=checks.action_log(),
            told=checks.told(),
            timeline=self.timeline,
        )


def warm_up(scratch: Path) -> None:
    """Compile, once in a process, whatever a world runs, and let no collection of garbage walk what is there then."""
    for door in DOORS:
        folder = scratch / door
        folder.mkdir()
        plan = Plan(0, door, 0, 4_000, 1 << 31, 1e9, 1e9, (), instruments=len(INSTRUMENTS), watched=True)
        World(plan, folder, guard=False).run()
    gc.collect()
    gc.freeze()
